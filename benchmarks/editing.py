"""What does an edit cost beside plain torch, in time and in memory?

Every ratio is measured side by side in one run, interleaved, as the median of several rounds.

    python benchmarks/editing.py [--write] [--size 4096] [--repeat 9]

Goals: clamp_ of 16.8 million cells at most 1.5 times torch's own plus one copy of the old bytes; a small edit under 300
microseconds; an undo entry at most 1.1 times its cells plus 2 KB; a hold on 1 % of 85 million parameters slows a training
step by less than 3 %; 1,000 brush strokes inside the budget for undo.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import weightlab

RESULTS = Path(__file__).with_name("RESULTS.md")
MIB = 2**20


class Row(tuple[str, str, str, bool]):
    """Question, measured, goal, met."""


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def interleaved(repeat: int, *runs: Callable[[], object]) -> list[float]:
    """The median seconds of each, taken in turns so that a busy machine slows all alike."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(repeat + 1):
        for run, times in zip(runs, taken, strict=True):
            times.append(seconds(run))
    return [statistics.median(times[1:]) for times in taken]  # the first round warms up


def clamp(size: int, repeat: int) -> list[Row]:
    weight = torch.randn(size, size)
    lab = weightlab.Lab(_holder(weight.clone()), undo_bytes=2**40)
    handle, tensor = lab["weight"], lab.tree.tensor("weight")
    bound = [2.0]

    def ours() -> None:
        handle.clamp_(-bound[0], bound[0])

    def bare() -> None:
        with torch.no_grad():
            kept.append(tensor.detach().clone())
            tensor.clamp_(-bound[0], bound[0])

    kept: list[torch.Tensor] = []
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat + 1):
        for run, taken in ((ours, times[0]), (bare, times[1])):
            with torch.no_grad():
                tensor.copy_(weight)
            taken.append(seconds(run))
            kept.clear()
        lab.journal._entries.clear()
        lab.journal._position = 0
    mine, torchs = (statistics.median(taken[1:]) for taken in times)
    text = f"{mine * 1e3:.0f} ms against {torchs * 1e3:.0f} ms: {mine / torchs:.2f} times"
    return [Row((f"clamp_ of {size} x {size}", text, "1.5 times", mine / torchs <= 1.5))]


def small_edit(repeat: int) -> list[Row]:
    lab = weightlab.Lab(nn.Linear(16, 16))
    handle = lab["weight"][3]

    def many() -> None:
        for number in range(200):
            handle.fill_(number * 0.5)

    (taken,) = interleaved(repeat, many)
    each = taken / 200 * 1e6
    return [Row(("fixed cost of a small edit", f"{each:.0f} µs", "300 µs", each < 300))]


def entry_size() -> list[Row]:
    lab = weightlab.Lab(_holder(torch.randn(4096, 4096)))
    lab["weight"][100:500, 200:600].zero_()
    cells = 400 * 400 * 4
    rows = [_sized("undo entry of 400 x 400 cells", lab.history[-1], cells, "1.1 times + 2 KB, 1 MB", most=10**6)]
    lab["weight"][torch.randperm(4096)[:40]].neg_()
    rows.append(_sized("undo entry of 40 listed rows", lab.history[-1], 40 * 4096 * 4, "1.1 times + 2 KB"))
    lab["weight"][:40].copy_(torch.randn(40, 4096))
    values = 40 * 4096 * 4  # of copy_, which the recipe needs whatever becomes of the cells
    rows.append(_sized("undo entry of copy_ to 40 rows", lab.history[-1], 2 * values, "1.1 times both + 2 KB"))
    return rows


def _sized(question: str, entry: weightlab.Entry, cells: int, goal: str, most: float = float("inf")) -> Row:
    text = f"{entry.nbytes:,} bytes for {cells:,}: {entry.nbytes / cells:.3f} times"
    return Row((question, text, goal, entry.nbytes <= min(1.1 * cells + 2048, most)))


Which = Callable[[weightlab.Lab, weightlab.TensorInfo], weightlab.WeightRef]


def leading_rows(lab: weightlab.Lab, info: weightlab.TensorInfo) -> weightlab.WeightRef:
    return lab[info.name][: max(1, info.shape[0] // 100)]


def scattered(lab: weightlab.Lab, info: weightlab.TensorInfo) -> weightlab.WeightRef:
    """1 % of the cells, as a pruning mask has them."""
    generator = torch.Generator().manual_seed(0)
    return lab[info.name][torch.rand(info.shape, generator=generator) < 0.01]


def held_step(repeat: int) -> list[Row]:
    """85 million parameters in twelve blocks, as in a small GPT; 1 % of the cells of every weight are held."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(768, 4608), nn.GELU(), nn.Linear(4608, 768)) for _ in range(12)))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    lab = weightlab.Lab(model, optimizer=optimizer)
    count = sum(p.numel() for p in model.parameters())
    inputs = torch.randn(64, 768)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs).square().mean().backward()
        optimizer.step()

    step()
    bounded = {"min": -1.0, "max": 1.0}
    cases: dict[str, tuple[Which, dict[str, float]]] = {
        "keep": (leading_rows, {}),
        "clamp": (leading_rows, bounded),
        "keep, cells of a mask": (scattered, {}),
        "clamp, cells of a mask": (scattered, bounded),
    }
    rows = []
    for kind, (which, bounds) in cases.items():
        free, held = [], []
        for _ in range(repeat):
            free.append(seconds(step))
            holds = [which(lab, info).hold(**bounds) for info in lab.tree if info.kind == "parameter"]
            held.append(seconds(step))
            for hold in holds:
                hold.release()
        for info in lab.tree:
            which(lab, info).hold(**bounds)
        direct = statistics.median(seconds(lab.step) for _ in range(2 * repeat))
        slow = direct / statistics.median(free)
        text = (
            f"{direct * 1e3:.1f} ms on a step of {statistics.median(free) * 1e3:.0f} ms: {slow:.1%} "
            f"(whole steps {statistics.median(held) / statistics.median(free) - 1:+.1%})"
        )
        rows.append(Row((f"hold ({kind}) on 1 % of {count / 1e6:.0f} M parameters", text, "3 %", slow < 0.03)))
        for hold in lab.constraints:
            hold.release()
    return rows


def strokes() -> list[Row]:
    budget = 4 * MIB
    lab = weightlab.Lab(_holder(torch.randn(2048, 2048)), undo_bytes=budget)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(1000):
            at = (number * 37) % 1900
            with lab.stroke(f"brush {number}"):
                for move in range(4):
                    lab["weight"][at + move : at + move + 16, at : at + 24].fill_(float(number))
    taken = time.perf_counter() - start
    text = f"{lab.journal.nbytes / MIB:.2f} MB of {budget / MIB:.0f} MB in memory, {taken:.2f} s in all"
    return [Row(("1,000 brush strokes of four marks", text, "the budget", lab.journal.nbytes <= budget))]


def _holder(tensor: torch.Tensor) -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(tensor)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = [
        *clamp(options.size, options.repeat), *small_edit(options.repeat), *entry_size(), *held_step(options.repeat), *strokes(),
    ]  # fmt: skip
    head = (
        f"\n## Editing, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}\n\n{os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n"
    )
    lines = ["| question | measured | goal | met |", "|---|---|---|---|"]
    lines += [f"| {question} | {text} | {goal} | {'yes' if met else 'no'} |" for question, text, goal, met in rows]
    table = "\n".join([head, *lines]) + "\n"
    print(table)
    if options.write:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(table)


if __name__ == "__main__":
    main()
