"""What does a gradient check cost beside a plain forward and backward?

Both run in turns, so that a busy machine slows both alike; the ratio is that of the medians.

    python benchmarks/checking.py [--write] [--repeat 9]

Goals: at most 1.15 times on a transformer of 85 million parameters, at most twice on one of 0.8 million, while every gradient
flows. The rows below them have a dead unit, so that the check measures every activation to find out why.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab

RESULTS = Path(__file__).with_name("RESULTS.md")


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(samples, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(samples, tokens, width)
        x = x + self.out(mixed)
        hidden: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + hidden


class Decoder(nn.Module):
    def __init__(self, words: int, width: int, depth: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.words(x) + self.places)))
        return logits.transpose(1, 2)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(model: nn.Module, batch: tuple[Tensor, Tensor], repeat: int) -> tuple[float, float]:
    """Median seconds of a plain forward and backward, and of a check."""
    lab = weightlab.Lab(model, batch=batch, loss=F.cross_entropy)

    def plain() -> None:
        F.cross_entropy(model(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.grad = None

    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat + 1):
        for run, times in zip((plain, lab.check_gradients), taken, strict=True):
            times.append(seconds(run))
    first, second = (statistics.median(times[1:]) for times in taken)
    return first, second


def rows(repeat: int) -> list[str]:
    made = []
    sizes = ((256, 128, 4, 4, 8, 64, 2.0), (1000, 768, 12, 12, 4, 128, 1.15))
    for words, width, depth, heads, samples, tokens, goal in sizes:
        torch.manual_seed(0)
        model = Decoder(words, width, depth, heads, tokens)
        batch = torch.randint(words, (samples, tokens)), torch.randint(words, (samples, tokens))
        count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        for dead in (False, True):
            if dead:
                with torch.no_grad():
                    model.blocks[1].up.weight[5] = model.blocks[1].up.bias[5] = 0  # type: ignore[index, union-attr]
                    model.blocks[1].down.weight[:, 5] = 0  # type: ignore[index, union-attr]
            plain, check = ratio(model, batch, repeat)
            met = "" if dead else "yes" if check <= goal * plain else "no"
            what = f"{count:.1f} M parameters, {samples} x {tokens} tokens" + (", one unit dead" if dead else "")
            text = f"{check * 1e3:.0f} ms against {plain * 1e3:.0f} ms: {check / plain:.2f} times"
            made.append(f"| {what} | {text} | {'' if dead else f'{goal} times'} | {met} |")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    lines = ["| check of a decoder | measured | goal | met |", "|---|---|---|---|", *rows(options.repeat)]
    head = (
        f"\n## Checking, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}\n\n{os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, load {load:.1f}\n"
    )
    table = "\n".join([head, *lines]) + "\n"
    print(table)
    if options.write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(table)


if __name__ == "__main__":
    main()
