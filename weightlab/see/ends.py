"""The smallest and the largest finite cell, and how many are not finite: one fast pass, whatever is among the cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.model.storage import writing
from weightlab.progress import report
from weightlab.see import reading
from weightlab.see.pieces import pieces, real

_SMALL = 1 << 18  # cells that are looked at with care at a time
_COMPARED = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ends:
    """`low` and `high` are over finite cells, NaN where there are none; complex cells count by magnitude."""

    low: float
    high: float
    nan: int
    inf: int


def ends(tensor: Tensor) -> Ends:
    """What one pass over all cells of any real or complex dtype tells; pieces with NaN or inf are read a second time.

    Raises:
        Cancelled: nobody waits for it any more.
    """
    low, high, nan, inf, done = math.inf, -math.inf, 0, 0, 0
    with writing(tensor):
        cells = tensor.detach()
        for piece in pieces(cells):
            report(done, cells.numel(), f"reading {cells.numel():,} cells")
            done += piece.numel()
            found = _compared(piece) or _counted(piece)
            low, high = min(low, found.low), max(high, found.high)
            nan, inf = nan + found.nan, inf + found.inf
    return Ends(low, high, nan, inf) if low <= high else Ends(math.nan, math.nan, nan, inf)


def _compared(piece: Tensor) -> Ends | None:
    """By torch's own comparison, at the speed of memory; None where a cell is not finite, or torch cannot."""
    if piece.dtype is torch.bool:
        piece = piece.view(torch.uint8)
    if piece.dtype not in _COMPARED:
        return None
    low, high = (float(end) for end in torch.aminmax(piece))
    return Ends(low, high, 0, 0) if math.isfinite(low) and math.isfinite(high) else None


def _counted(piece: Tensor) -> Ends:
    """`low` is inf where no cell is finite."""
    made = reading.moments(piece, 0.0)
    if made is not None:
        return Ends(made.low, made.high, made.nan, made.positive + made.negative)
    low, high, nan, inf = math.inf, -math.inf, 0, 0
    for part in pieces(piece, _SMALL):
        cells = real(part)
        kept = cells[cells.isfinite()]
        if kept.numel():
            low, high = min(low, float(kept.min())), max(high, float(kept.max()))
        missing = int(cells.isnan().sum()) if kept.numel() < cells.numel() else 0
        nan, inf = nan + missing, inf + cells.numel() - kept.numel() - missing
    return Ends(low, high, nan, inf)
