"""Quantiles over every cell: values that cells have, the least with at least that share of the finite cells up to it.

Floating numbers are in the order of their bits, of negative ones in the reverse order. So the cells are counted by their highest
16 bits, then those that begin as a quantile does by the next 16, until the bits of each quantile are known (a radix select): two
passes for float32, one for narrower types, four for float64, whatever the cells are; a sort of them would need a second tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.progress import report
from weightlab.see import reading
from weightlab.see.pieces import chunks

_PIECE = 1 << 23  # a piece has a table of 65,536 counts for each prefix

Array = Any


def ranks(shares: Sequence[float], count: int) -> list[int]:
    """Places, from 0, of the quantiles among `count` cells in order."""
    return [max(math.ceil(share * count), 1) - 1 for share in shares]


def quantiles(tensor: Tensor, shares: Sequence[float]) -> list[float]:
    """The quantiles of the finite cells; complex ones by magnitude. Empty where no cell is finite.

    Raises:
        Cancelled: nobody waits for it any more.
    """
    source = reading.line(tensor)
    compiled = None if source is None else reading.ready(source, tensor.numel(), False)
    if source is not None and compiled is not None:
        if source.kind == "TABLE":
            return _of_table(source, shares)
        return _selected(_Codes(source), shares)
    return _selected(_Pieces(tensor), shares)


class _Codes:
    """Cells in one line of memory, counted by compiled loops."""

    def __init__(self, source: reading.Source) -> None:
        self.width = source.cells.dtype.itemsize * 8
        self.exponent = 0x7C00 if source.kind == "HALF" else 0x7FF0 if self.width == 64 else 0x7F80
        self.codes = source.cells.view(f"u{self.width // 8}")
        self.kind = source.kind

    def counts(self, shift: int, prefixes: Array) -> Array:
        return _counted(self.codes, self.width, shift, prefixes)

    def value(self, code: int) -> float:
        if self.width == 16:
            dtype = torch.float16 if self.kind == "HALF" else torch.bfloat16
            return float(torch.from_numpy(np.array([code], np.uint16).view(np.int16)).view(dtype).item())
        return _as_float(code, self.width)


class _Pieces:
    """Any other cells, as float32 where that holds them exactly and as float64 elsewhere, on their device."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        narrow = tensor.dtype.itemsize <= (4 if tensor.dtype.is_floating_point else 2) and not tensor.is_complex()
        self.width = 32 if narrow else 64
        self.exponent = 0x7F80 if narrow else 0x7FF0

    def counts(self, shift: int, prefixes: Array) -> Array:
        made = np.zeros((max(prefixes.size, 1), 1 << 16), np.int64)
        cells, done = self.tensor.numel(), 0
        above = (1 << (self.width - shift - 16)) - 1
        for chunk in chunks(self.tensor):
            report(done, cells, f"ranking {cells:,} cells")
            done += chunk.numel()
            bits = chunk.float().view(torch.int32) if self.width == 32 else chunk.view(torch.int64)
            if not prefixes.size:
                made[0] += _bincount(bits, shift)
                continue
            begins = (bits >> (shift + 16)) & above
            for row, prefix in enumerate(prefixes.tolist()):
                made[row] += _bincount(bits[begins == prefix], shift)
        return made

    def value(self, code: int) -> float:
        return _as_float(code, self.width)


def _bincount(bits: Tensor, shift: int) -> Array:
    return torch.bincount(((bits >> shift) & 0xFFFF).long(), minlength=1 << 16).cpu().numpy()


def _as_float(code: int, width: int) -> float:
    return float(np.array([code], f"u{width // 8}").view(f"f{width // 8}")[0])


def _counted(codes: Array, width: int, shift: int, prefixes: Array) -> Array:
    from weightlab.see import compiled_search

    top = max(width - 16, 0)
    slots = np.zeros(1 << 16, np.uint8)
    for row, prefix in reversed(list(enumerate(prefixes.tolist()))):
        slots[prefix >> (top - shift - 16)] = row + 1

    def part(first: int, last: int) -> Array:
        counts = np.zeros((max(prefixes.size, 1), 1 << 16), np.int32)
        compiled_search.digits(codes, first, last, shift, top, slots, prefixes, counts)
        return counts

    return reading.added(part, codes.size, _PIECE, f"ranking {codes.size:,} cells")


def _of_table(source: reading.Source, shares: Sequence[float]) -> list[float]:
    """Of one byte there are 256 values at most."""
    counts = _counted(source.cells, 8, 0, np.empty(0, np.uint64))[0, :256]
    finite = np.flatnonzero(np.isfinite(source.table))
    order = finite[source.table[finite].argsort(kind="stable")]
    sums = counts[order].cumsum()
    if not sums.size or not sums[-1]:
        return []
    return [float(source.table[order[np.searchsorted(sums, rank, "right")]]) for rank in ranks(shares, int(sums[-1]))]


def _selected(cells: _Codes | _Pieces, shares: Sequence[float]) -> list[float]:
    shift = cells.width - 16
    counts = cells.counts(shift, np.empty(0, np.uint64))[0]
    # The highest bits in the order of their numbers; an exponent of nothing but ones is no finite number.
    tops = np.arange(1 << 16)
    order = np.concatenate([tops[:0x7FFF:-1], tops[:0x8000]])
    order = order[(order & cells.exponent) != cells.exponent]
    sums = counts[order].cumsum()
    if not sums[-1]:
        return []
    wanted = ranks(shares, int(sums[-1]))
    found: list[
        tuple[int, int]
    ] = []  # the bits that are known of each quantile, and its place among the cells that have them
    for rank in wanted:
        at = int(np.searchsorted(sums, rank, "right"))
        found.append((int(order[at]), rank - int(sums[at] - counts[order[at]])))
    while shift:
        shift -= 16
        prefixes = np.unique(np.array([bits for bits, _ in found], np.uint64))
        rows = dict(zip(prefixes.tolist(), cells.counts(shift, prefixes), strict=True))
        sign = cells.width - shift - 17
        found = [_next(bits, rank, rows[bits], bool(bits >> sign & 1)) for bits, rank in found]
    return [cells.value(bits) + 0.0 for bits, _ in found]


def _next(bits: int, rank: int, counts: Array, negative: bool) -> tuple[int, int]:
    """Sixteen more bits of a quantile."""
    ordered = counts[::-1] if negative else counts
    sums = ordered.cumsum()
    at = int(np.searchsorted(sums, rank, "right"))
    return bits << 16 | (0xFFFF - at if negative else at), rank - int(sums[at] - ordered[at])
