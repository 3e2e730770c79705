"""What other libraries take to show the same matrix, and what they send for it: the second table of seeing.py."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor


def timed(run: Callable[[Tensor], int], weight: Tensor) -> tuple[float, int]:
    """Seconds, and bytes sent."""
    start = time.perf_counter()
    sent = run(weight)
    return time.perf_counter() - start, sent


def rivals(size: int, ours: Callable[[Tensor], int]) -> list[tuple[str, float, float]]:
    """Milliseconds and KB of each library for the same matrix, in this process, with its defaults.

    Each has drawn a small matrix before, so that no import is counted; the better of two.
    """

    def matplotlib(weight: Tensor) -> int:
        from matplotlib.figure import Figure

        figure = Figure()
        figure.subplots().imshow(weight)
        file = io.BytesIO()
        figure.savefig(file)
        return len(file.getvalue())

    def plotly(weight: Tensor) -> int:
        import plotly.express

        return len(plotly.express.imshow(weight.numpy()).to_json())

    def tensor_visualizer(weight: Tensor) -> int:
        from tensor_visualizer import TensorVisualizer

        return len(json.dumps(TensorVisualizer(weight).tensor_data))

    def treescope(weight: Tensor) -> int:
        import treescope

        # NumPy: it raises on tensors of recent versions of torch.
        return len(treescope.render_array(weight.numpy())._repr_html_())

    def lovely_tensors(weight: Tensor) -> int:
        import lovely_tensors

        return len(str(lovely_tensors.lovely(weight)))

    small, weight = torch.randn(64, 64), torch.randn(size, size)
    ours(weight)  # its loops are compiled at the first large tensor
    measured = []
    for name, run in (
        ("WeightLab", ours), ("matplotlib imshow", matplotlib), ("plotly imshow", plotly),
        ("tensor-visualizer", tensor_visualizer), ("treescope", treescope), ("lovely-tensors (text)", lovely_tensors),
    ):  # fmt: skip
        try:
            run(small)
        except ImportError:
            print(f"{name}: not installed (pip install '.[bench]')")
            continue
        taken, sent = min(timed(run, weight) for _ in range(2))
        measured.append((name, taken * 1e3, sent / 1e3))
    return measured


def table_of_rivals(measured: list[tuple[str, float, float]]) -> str:
    """Markdown, with everything in relation to WeightLab."""
    _, base, sent = measured[0]
    lines = ["| | ms | KB sent | time / WeightLab's | bytes / WeightLab's |", "|---|---:|---:|---:|---:|"]
    return "\n".join(
        [*lines, *(f"| {n} | {t:,.1f} | {b:,.1f} | {t / base:,.2f} | {b / sent:,.2f} |" for n, t, b in measured)]
    )
