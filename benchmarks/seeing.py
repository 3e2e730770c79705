"""How long until a weight is seen, how many bytes travel for it, and what do others take for the same?

In the kernel everything goes through the `Session.handle` that the page talks to. Ratios are to one pass of
`torch.linalg.vector_norm` over the same tensor in the same run, a floor for anything that looks at every cell; both are the
best of several, taken in turns, since a busy machine only ever adds. The rows about the page run in a live JupyterLab
(seeing_live.py), beside bare pings of the same session. Rivals do what they do by default.

    python benchmarks/seeing.py [--write] [--quick] [--no-browser] [--no-rivals]

Goals: the column of that name. `--quick` takes smaller tensors, to see that everything runs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the live rows use the drivers of the browser tests

import weightlab
from benchmarks.rivals import rivals, table_of_rivals
from weightlab.jupyter.built import built
from weightlab.jupyter.protocol import Session

SCREEN = (600, 1000)  # height and width in pixels
CLOSER = (2, 6, 16)  # pixels a cell, closer than one
EXACT = 6  # pixels of a cell from which on the page asks for exact numbers
TILE = 128  # bins along each side
RESULTS = Path(__file__).with_name("RESULTS.md")


class Row(NamedTuple):
    """Question, measured, goal, whether it is met; None where nothing was measured."""

    question: str
    measured: str
    goal: str
    met: bool | None


class Kernel:
    """The kernel's side of a page."""

    def __init__(self, model: nn.Module) -> None:
        self.session = Session(weightlab.Lab(model))
        self.bytes = 0

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """A reply; what travels in both directions is counted."""
        message = {"v": 1, "id": "1", "op": op, **fields}
        reply, buffers = self.session.handle(message, [])
        if not reply["ok"]:
            raise SystemExit(f"{op}: {reply['error']}")
        self.bytes += sum(memoryview(buffer).nbytes for buffer in buffers)
        self.reply = message, reply
        return reply

    def tiles(self, tiles: list[list[int]], encoding: str = "q8", planes: tuple[str, ...] = ("extreme",)) -> None:
        """All of them, in as many requests as it takes; like a page, only the plane that is drawn."""
        while tiles:
            asked = {"tiles": tiles[:64], "encoding": encoding, "planes": list(planes)}
            tiles = [*tiles[64:], *self.ask("tiles", name="weight", **asked)["left"]]


def holder(weight: Tensor) -> nn.Module:
    """A model with this one weight."""
    made = nn.Module()
    made.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
    return made


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(repeat: int, *runs: Callable[[], object]) -> list[float]:
    """The least seconds of each, taken in turns; the first round warms up."""
    rounds = [[seconds(run) for run in runs] for _ in range(repeat + 1)]
    return [min(each) for each in zip(*rounds[1:], strict=True)]


def norm_of(weight: Tensor) -> Callable[[], float]:
    """One look at every cell."""
    return lambda: torch.linalg.vector_norm(weight).item()


def overview_level(rows: int, columns: int) -> tuple[int, int]:
    """Per axis the finest level with at most one bin per pixel, for the whole sheet on the screen: the page's own rule."""
    return tuple(max(0, math.ceil(math.log2(n / pixels))) for n, pixels in zip((rows, columns), SCREEN, strict=True))  # type: ignore[return-value]


def tiles_of(
    rows: int, columns: int, level: tuple[int, int], top: int = 0, left: int = 0, pixels_a_bin: int = 1
) -> list[list[int]]:
    """Tiles of a level that a screen shows whose upper left cell is given."""
    spans = [(start, min(start + (pixels // pixels_a_bin << up), n), TILE << up) for start, pixels, n, up in
             zip((top, left), SCREEN, (rows, columns), level, strict=True)]  # fmt: skip
    down, across = (range(start // span, -(-stop // span)) for start, stop, span in spans)
    return [[*level, r, c] for r in down for c in across]


def peak_beyond(run: Callable[[], object]) -> float:
    """Megabytes of memory at the peak of a call beyond what was there before it; nan where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 1e3
    except OSError:
        run()
        return math.nan


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


# ---- the rows


def first_overview(rows: int, columns: int) -> list[Row]:
    """Of a weight that no Lab has seen, to its tiles."""
    weight = torch.randn(rows, columns)
    level = overview_level(rows, columns)

    def ours() -> None:
        kernel = Kernel(holder(weight))
        kernel.ask("open", name="weight")
        kernel.tiles(tiles_of(rows, columns, level), planes=("mean", "min", "max"))

    ours()
    extra = peak_beyond(ours)
    norm, taken = in_turns(3, norm_of(weight), ours)
    size = f"[{rows}, {columns}] float32 ({weight.nbytes / 1e9:.1f} GB)"
    return [
        Row(f"first overview of {size} with mean, min, max", times(taken, norm), "5 passes", taken <= 5 * norm),
        Row("... peak of extra memory", f"{extra:.0f} MB", "300 MB", extra < 300),
    ]


def screens(size: int, repeat: int) -> list[Row]:
    """Pan and zoom, bytes of a screen, an edit."""
    weight = torch.randn(size, size)
    kernel = Kernel(holder(weight))
    kernel.ask("hello")
    kernel.tiles(tiles_of(size, size, overview_level(size, size)))
    chance = random.Random(0)
    fresh, again, sent = [], [], []
    seen: set[tuple[int, ...]] = set()
    for _ in range(40 * repeat):
        zoom = chance.randrange(-len(CLOSER), overview_level(size, size)[0] + 1)
        level, large = ((zoom, zoom), 1) if zoom >= 0 else ((0, 0), CLOSER[zoom])
        corner = [
            chance.randrange(max(1, size - (pixels // large << up))) for pixels, up in zip(SCREEN, level, strict=True)
        ]
        shown = tiles_of(size, size, level, *corner, large)
        # As a page does: what it has is not asked for again, and only cells that are looked at alone travel exactly.
        new = [at for at in shown if tuple(at) not in seen]
        encoding = "f32" if large >= EXACT else "q8"
        if new:
            fresh.append(seconds(lambda new=new, encoding=encoding: kernel.tiles(new, encoding)))
        kernel.bytes = 0
        again.append(seconds(lambda shown=shown, encoding=encoding: kernel.tiles(shown, encoding)))
        sent.append(kernel.bytes)
        seen.update(map(tuple, shown))
        if len(seen) > 200:
            seen.clear()
            kernel.session.lab.refresh()
            kernel.tiles(tiles_of(size, size, overview_level(size, size)))
    late, usual = statistics.quantiles(fresh, n=20)[-1], statistics.median(fresh)
    [norm] = in_turns(5, norm_of(weight))
    cells = f"{size * size / 1e6:.1f} M cells"
    edits = []
    level = overview_level(size, size)
    kernel.tiles(tiles_of(size, size, level))
    for turn in range(5 * repeat):
        at = turn * 64 % (size - 64)
        kernel.ask(
            "edit", name="weight", region=f"[{at}:{at + 64}, {at}:{at + 64}]", edit="fill_", args={"value": turn}
        )
        span = TILE << level[0]
        touched = {(r, c) for r in (at, at + 63) for c in (at, at + 63)}
        tiles = sorted({(*level, r // span, c // span) for r, c in touched})
        edits.append(seconds(lambda tiles=tiles: kernel.tiles([list(each) for each in tiles])))
    most, typical = max(sent) / 1e3, statistics.median(sent) / 1e3
    edited, cached = statistics.median(edits), statistics.median(again)
    unseen = f"p95 {late * 1e3:.1f} ms, p50 {usual * 1e3:.1f} ms (a pass of vector_norm: {norm * 1e3:.1f} ms)"
    return [
        Row(f"pan or zoom to tiles not seen yet, {cells}, in the kernel", unseen, "15 ms", late < 0.015),
        Row("... seen before: a whole screen asked for again", f"p50 {cached * 1e3:.2f} ms", "2 ms", cached < 0.002),
        Row(f"bytes of a screen of {SCREEN[1]} x {SCREEN[0]}", f"{typical:.0f} KB, at most {most:.0f} KB", "400 KB, 1.5 MB",
            typical < 400 and most <= 1500),
        Row("tiles of an edit of 64 x 64 cells", f"p50 {edited * 1e3:.2f} ms", "3 ms", edited < 0.003),
    ]  # fmt: skip


def statistics_of(size: int, repeat: int) -> list[Row]:
    """Exact and sampled."""
    weight = torch.randn(size, size)
    lab = weightlab.Lab(holder(weight))
    sampled = Kernel(holder(weight))
    norm, exact, quick = in_turns(
        repeat, norm_of(weight), lab["weight"].summary, lambda: sampled.ask("open", name="weight")
    )
    return [
        Row(f"exact summary with histogram, {size * size / 1e6:.1f} M cells", times(exact, norm), "12 passes", exact <= 12 * norm),
        Row("... a sampled one first", f"{quick * 1e3:.1f} ms", "20 ms", quick < 0.02),
    ]  # fmt: skip


def many_tensors(count: int) -> list[Row]:
    """A long tree, and one on the meta device."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(count // 2)))
    kernel = Kernel(model)
    first = seconds(lambda: kernel.ask("hello"))
    later = min(seconds(lambda: kernel.ask("hello")) for _ in range(3))
    size = len(json.dumps(kernel.reply[1])) / 1e6
    experts = 20_000 * count // 50_000

    begun = time.perf_counter()
    with torch.device("meta"):
        mixture = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(64, 64, bias=False) for name in ("up", "gate", "down", "router")})
            for _ in range(experts // 4)
        )
    made = time.perf_counter() - begun

    def open_it() -> None:
        page = Kernel(mixture)
        page.ask("hello")
        reply, _ = page.session.handle({"v": 1, "id": "1", "op": "open", "name": "7.up.weight"}, [])
        assert reply["error"]["kind"] == "NoValues", reply

    opened = seconds(open_it)
    return [
        Row(f"hello of {count:,} parameters", f"{first * 1e3:.0f} ms, later {later * 1e3:.0f} ms; {size:.1f} MB",
            "300 ms, 3 MB", first < 0.3 and size < 3),
        Row(f"mixture of experts on the meta device, {experts:,} tensors: opened, says that values are not there",
            f"{opened:.2f} s (torch makes the modules in {made:.2f} s)", "2 s", opened < 2),
    ]  # fmt: skip


def on_a_gpu() -> list[Row]:
    """The first overview of a bfloat16 weight, in reads at the copy bandwidth."""
    question, goal = "first overview of [131072, 4096] bfloat16 on a GPU", "2 reads, 5 % memory"
    if not torch.cuda.is_available():
        return [Row(question, "no GPU here", goal, None)]
    weight = torch.randn(131072, 4096, dtype=torch.bfloat16, device="cuda")
    other = torch.empty_like(weight)

    def copy() -> None:
        other.copy_(weight)
        torch.cuda.synchronize()

    def ours() -> None:
        Kernel(holder(weight)).tiles(
            tiles_of(131072, 4096, overview_level(131072, 4096)), planes=("mean", "min", "max")
        )

    ours()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ours()
    extra = (torch.cuda.max_memory_allocated() - before) / weight.nbytes
    copied, taken = in_turns(5, copy, ours)
    read = copied / 2
    return [Row(question, f"{taken / read:.1f} reads, {extra:.1%} memory", goal, taken <= 2 * read and extra < 0.05)]


def first_picture(weight: Tensor) -> int:
    """Opens a tensor that no Lab has seen; the bytes of all that is sent for it."""
    kernel = Kernel(holder(weight))
    kernel.ask("open", name="weight", screen={"rows": SCREEN[0], "columns": SCREEN[1], "planes": ["extreme"]})
    return kernel.bytes + len(json.dumps(kernel.reply[1]))


def script() -> list[Row]:
    """What a saved widget stores, and what the kernel hands over beside it: the panels around the first picture."""
    size, second = (built(name).stat().st_size / 1e3 for name in ("widget.js", "extra.js"))
    shown = (
        f"{size:.0f} KB minified, stored with the widget; {second:.0f} KB more come from the kernel when it is shown"
    )
    return [Row("page script", shown, "120 KB", size <= 120)]


# ---- the table


def times(taken: float, norm: float) -> str:
    """In passes of vector_norm."""
    return f"{taken * 1e3:.0f} ms: {taken / norm:.1f} passes of {norm * 1e3:.1f} ms"


def table(rows: list[Row]) -> str:
    """Markdown."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    lines = ["| question | measured | goal | met |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {r.question} | {r.measured} | {r.goal} | {words[r.met]} |" for r in rows)])


def machine() -> str:
    """Processor, cores, versions and how busy it is."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{os.cpu_count()} cores ({next(named, platform.machine())}), torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads{load}"
    )


def main() -> None:
    """Measure, print, and write down when asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="append the tables to RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="smaller tensors, fewer repetitions")
    parser.add_argument("--no-browser", action="store_true", help="leave the rows of the page out")
    parser.add_argument("--no-rivals", action="store_true", help="leave the other libraries out")
    arguments = parser.parse_args()
    quick = arguments.quick
    size, repeat = (1024, 2) if quick else (4096, 5)
    where = machine()
    torch.manual_seed(0)
    rows: list[Row] = []
    parts: list[Callable[[], list[Row]]] = [
        lambda: first_overview(16384 if quick else 131072, 4096),
        on_a_gpu,
        lambda: screens(size, repeat),
        lambda: statistics_of(size, repeat),
        lambda: many_tensors(5_000 if quick else 50_000),
        script,
    ]
    if not arguments.no_browser:
        from benchmarks import seeing_live

        parts.append(lambda: [Row(*each) for each in seeing_live.rows(size, 5_000 if quick else 50_000)])
    for part in parts:
        made = part()
        rows += made
        print(table(made).partition("|---|---|---|---|\n")[2], flush=True)
    report = f"\n{table(rows)}\n"
    if not arguments.no_rivals:
        others = table_of_rivals(rivals(size, first_picture))
        report += f"\n{size} x {size} float32 in the kernel, each with its defaults:\n\n{others}\n"
    print(report)
    if arguments.write:
        today = datetime.datetime.now(tz=datetime.timezone.utc).date()
        with RESULTS.open("a") as file:
            file.write(f"\n## Seeing, {today}\n\n`benchmarks/seeing.py`: {where}.\n{report}")


if __name__ == "__main__":
    main()
