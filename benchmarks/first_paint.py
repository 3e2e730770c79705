"""How long, and how many bytes, until a large tensor is drawn?

From `open` to the last visible tile of a 4096 x 4096 float32 matrix on a stage of 700 x 400 pixels, in the kernel,
through the same `Session.handle` that the page talks to. Beside it: one pass of `torch.linalg.vector_norm` (a floor for
anything that looks at every cell), and what two other libraries do with the same tensor in the same process.

    python benchmarks/first_paint.py [--write] [--size 4096] [--repeat 5]

Goals: under 300 KB, under 150 ms on two cores, at least 10 times faster and 100 times smaller than both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import weightlab
from weightlab.jupyter.protocol import Session

STAGE = (400, 700)  # height and width in pixels
TILE = 128  # bins along each side
RESULTS = Path(__file__).with_name("RESULTS.md")


class Cost(NamedTuple):
    """What one way of showing the tensor takes."""

    name: str
    milliseconds: float
    bytes: int


def visible_tiles(rows: int, columns: int) -> list[list[int]]:
    """The tiles that a page asks for first: square cells fitted into the stage, at most one bin per pixel."""
    cells_per_pixel = max(rows / STAGE[0], columns / STAGE[1])
    level = max(0, math.ceil(math.log2(cells_per_pixel)))
    span = TILE << level
    return [[level, level, r, c] for r in range(math.ceil(rows / span)) for c in range(math.ceil(columns / span))]


def median(repeat: int, run: Callable[[], tuple[float, int]], name: str) -> Cost:
    """The middle one of several runs, each of which says its seconds and bytes."""
    costs = [run() for _ in range(repeat)]
    return Cost(name, statistics.median(seconds for seconds, _ in costs) * 1000, costs[-1][1])


def ours(weight: torch.Tensor) -> tuple[float, int]:
    """A Lab that has never seen the tensor; both directions of the wire are counted."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(weight)
    session = Session(weightlab.Lab(layer))
    sent = 0

    def ask(op: str, **fields: Any) -> dict[str, Any]:
        nonlocal sent
        message = {"v": 1, "id": str(sent), "op": op, **fields}
        reply, buffers = session.handle(message, [])
        if not reply["ok"]:
            raise SystemExit(f"{op}: {reply['error']}")
        sent += len(json.dumps(message)) + len(json.dumps(reply)) + sum(memoryview(buffer).nbytes for buffer in buffers)
        return reply

    ask("hello")
    sent = 0
    start = time.perf_counter()
    layout = ask("open", name="weight")["layout"]
    missing = visible_tiles(layout["shape"][layout["rows"][0]], layout["shape"][layout["columns"][0]])
    while missing:
        missing = ask("tiles", name="weight", tiles=missing, encoding="q8")["left"]
    return time.perf_counter() - start, sent


def norm(weight: torch.Tensor) -> tuple[float, int]:
    """One look at every cell."""
    start = time.perf_counter()
    torch.linalg.vector_norm(weight).item()
    return time.perf_counter() - start, 0


def tensor_visualizer(weight: torch.Tensor) -> tuple[float, int]:
    """The tensor as one message, which the widget sends when its page asks; without the 0.25 MB of its own script."""
    from tensor_visualizer import TensorVisualizer

    start = time.perf_counter()
    sent = len(json.dumps(TensorVisualizer(weight).tensor_data))
    return time.perf_counter() - start, sent


def treescope(weight: torch.Tensor) -> tuple[float, int]:
    """The HTML of the whole array. NumPy, as it raises on tensors of recent versions of torch."""
    import treescope

    array = weight.numpy()
    start = time.perf_counter()
    html = treescope.render_array(array)._repr_html_()
    return time.perf_counter() - start, len(html)


def table(costs: list[Cost]) -> str:
    """Markdown, with everything in relation to WeightLab."""
    base = next(cost for cost in costs if cost.name == "WeightLab")
    lines = ["| | ms | KB sent | time / WeightLab's | bytes / WeightLab's |", "|---|---:|---:|---:|---:|"]
    for cost in costs:
        size = f"{cost.bytes / 1000:,.0f} | " if cost.bytes else "| "
        ratio = f"{cost.bytes / base.bytes:,.0f}" if cost.bytes else ""
        lines.append(
            f"| {cost.name} | {cost.milliseconds:,.1f} | {size}{cost.milliseconds / base.milliseconds:,.2f} | {ratio} |"
        )
    return "\n".join(lines)


def processor() -> str:
    """Name of the CPU where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure, print, and write down when asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="append the table to RESULTS.md")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    weight = torch.randn(arguments.size, arguments.size)
    costs = [
        median(arguments.repeat, lambda: norm(weight), "one vector_norm pass"),
        median(arguments.repeat, lambda: ours(weight), "WeightLab"),
    ]
    for rival in (tensor_visualizer, treescope):
        try:
            costs.append(median(1, lambda rival=rival: rival(weight), rival.__name__))
        except ImportError:
            print(f"{rival.__name__}: not installed (pip install '.[bench]')")

    report = table(costs)
    print(f"{arguments.size} x {arguments.size} float32, stage {STAGE[1]} x {STAGE[0]}\n\n{report}")
    if arguments.write:
        machine = (
            f"{os.cpu_count()} cores ({processor()}), torch {torch.__version__}, {torch.get_num_threads()} threads"
        )
        with RESULTS.open("a") as file:
            file.write(
                f"\n## First paint, {datetime.datetime.now(tz=datetime.timezone.utc).date()}\n\n"
                f"`benchmarks/first_paint.py`: {arguments.size} x {arguments.size} float32, {machine}.\n\n{report}\n"
            )


if __name__ == "__main__":
    main()
