"""Counts for the rows of the colour bar (rule S1): against a plain loop, over dtypes, far ends and what is not finite."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from weightlab.see import bar as see_bar
from weightlab.see.bar import Bar, bar

EDGES = [-2.0, -1.0, -0.25, 0.0, 0.5, 2.0]


def by_hand(tensor: Tensor, edges: list[float], low: float, high: float, size: bool) -> Bar:
    counts = [0] * (len(edges) - 1)
    above = below = 0
    for cell in tensor.reshape(-1).tolist():
        value = abs(cell) if isinstance(cell, complex) else float(cell)
        if not math.isfinite(value):
            continue
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
        value = abs(value) if size else value
        above += value > high
        below += value < low
        for row, (start, end) in enumerate(itertools.pairwise(edges)):
            last = row == len(counts) - 1
            counts[row] += start <= value < end or (last and value == end)
    return Bar(tuple(counts), above, below, True, tensor.numel())


@pytest.mark.parametrize("size", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.complex64]
)
def test_counts_are_those_of_a_plain_loop(dtype: torch.dtype, size: bool) -> None:
    torch.manual_seed(0)
    cells = (torch.randn(7, 5, 3) * 1.5).to(dtype).transpose(0, 2)
    edges = [0.125, 0.5, 1.0, 1.5] if size else EDGES
    assert bar(cells, edges, edges[0], edges[-1], size=size) == by_hand(cells, edges, edges[0], edges[-1], size)


def test_beside_a_huge_outlier_the_rest_is_counted_and_what_is_not_finite_is_left_out() -> None:
    cells = torch.tensor([1e30, -0.5, 0.25, -2.0, 2.0, 2.5, math.nan, math.inf, -math.inf], dtype=torch.float64)
    assert bar(cells, EDGES, -2.0, 2.0) == Bar((1, 1, 0, 1, 1), 2, 0, True, 9)
    assert bar(cells * 1e278, EDGES, -2.0, 2.0).above == 4  # past float32 they are drawn as above


def test_what_rounds_to_an_end_of_the_range_is_inside_as_it_is_drawn() -> None:
    high = float(np.float32(0.3))
    cells = torch.tensor([0.3, 0.3 + 1e-9, 0.31], dtype=torch.float64)
    assert bar(cells, [0.0, high], 0.0, high).above == 1


def test_rows_of_a_large_tensor_are_sampled_and_say_so_and_what_is_outside_is_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(see_bar, "SAMPLE", 50)
    cells = torch.linspace(-1, 1, 1001)
    cells[501] = 9.0
    seen = bar(cells, [-1.0, 0.0, 1.0], -0.5, 0.5)
    assert seen.sampled <= 50
    assert sum(seen.counts) == pytest.approx(1001, rel=0.02)
    assert (seen.exact, seen.above, seen.below) == (True, int((cells > 0.5).sum()), int((cells < -0.5).sum()))
    monkeypatch.setattr(see_bar, "EXACT_UP_TO", 100)
    assert not bar(cells, [-1.0, 0.0, 1.0], -0.5, 0.5).exact


def test_nothing_is_in_the_rows_of_an_empty_tensor() -> None:
    assert bar(torch.empty(0, 3), [0.0, 1.0], 0.0, 1.0) == Bar((0,), 0, 0, True, 0)
    assert bar(torch.tensor(0.5), [0.0, 1.0], 0.0, 1.0) == Bar((1,), 0, 0, True, 1)
