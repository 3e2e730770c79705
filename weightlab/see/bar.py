"""Counts for the colour bar: how many cells stand in each of its rows, and how many lie outside the range of the colours.

The histogram of a summary reaches from the smallest to the largest cell. Beside one huge outlier all other cells stand in one
bin of it, and nothing can be read off about the range that is looked at. Hence a count by the edges of what is seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import writing
from weightlab.progress import report
from weightlab.see.pieces import pieces
from weightlab.see.sample import spread

EXACT_UP_TO = 1 << 28  # more cells take over a second
SAMPLE = 1 << 18  # a search among edges takes a hundred times as long a cell as a comparison


@dataclass(frozen=True, slots=True)
class Bar:
    """Finite cells by row of the bar, from its lower end on, and those outside the range.

    Attributes:
        exact: whether every cell entered `above` and `below`.
        sampled: how many cells `counts` were taken from, scaled up to the whole.
    """

    counts: tuple[int, ...]
    above: int
    below: int
    exact: bool
    sampled: int


def bar(tensor: Tensor, edges: Sequence[float], low: float, high: float, *, size: bool = False) -> Bar:
    """Count cells as they are drawn: rounded to float32, complex ones by magnitude.

    Args:
        tensor: any real or complex dtype, any device; only counts leave it.
        edges: ascending. Row i is `edges[i] <= x < edges[i + 1]`, the last one with its end.
        low, high: ends of the colours; what equals one is inside.
        size: by magnitude.

    Raises:
        Cancelled: nobody waits for it any more.
    """
    with writing(tensor):
        tensor = tensor.detach()
        few = tensor if tensor.numel() <= SAMPLE else spread(tensor, SAMPLE)
        exact = tensor.numel() <= EXACT_UP_TO
        looked = tensor if exact else few
        above = below = done = 0
        for piece in pieces(looked):
            report(done, looked.numel(), f"counting {looked.numel():,} cells")
            done += piece.numel()
            drawn = _drawn(piece, size)
            above += int((drawn > high).sum()) - int((drawn == math.inf).sum()) + _overflown(piece, drawn, size, 1)
            below += int((drawn < low).sum()) - int((drawn == -math.inf).sum()) + _overflown(piece, drawn, size, -1)
        rows = _rows(few, edges, size)
    scale = tensor.numel() / few.numel() if few.numel() else 1.0
    beyond = 1.0 if exact else scale
    counts = tuple(round(count * scale) for count in rows)
    return Bar(counts, round(above * beyond), round(below * beyond), exact, few.numel())


def _drawn(cells: Tensor, size: bool) -> Tensor:
    cells = dtypes.real(cells)
    cells = cells.to(torch.float32)
    return cells.abs() if size else cells


def _overflown(cells: Tensor, drawn: Tensor, size: bool, sign: int) -> int:
    """Finite cells of one sign that are no finite float32."""
    if cells.dtype not in (torch.float64, torch.complex128):
        return 0
    return int((cells.isfinite() & (drawn == sign * math.inf)).sum())


def _rows(cells: Tensor, edges: Sequence[float], size: bool) -> list[float]:
    """Compared in float64: an edge between two float32 numbers is not moved to one of them."""
    drawn = _drawn(cells, size).reshape(-1).to(torch.float64)
    inside = drawn[(drawn >= edges[0]) & (drawn <= edges[-1])]
    ends = torch.tensor(edges, dtype=torch.float64, device=inside.device)
    row = (torch.bucketize(inside, ends, right=True) - 1).clamp_(0, len(edges) - 2)
    made: list[float] = torch.bincount(row, minlength=len(edges) - 1).tolist()
    return made
