"""The loop of `profiles.py` for numba: what stands on each index of one axis, in one pass over the memory of the tensor.

A dense tensor and one of its axes are [outer, size, inner]: cells of one index lie in runs of `inner`. Long runs are taken
by the loop of `compiled.py`, which is made of vector code; short ones cell by cell, side by side for all indices, so that
neighbours in memory are neighbours in the loop too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from weightlab.see.compiled import LANES, PLAIN, _load, moments

LONG = 64  # cells of a run that are worth the lanes of `moments`

Array = Any


@njit(nogil=True, cache=True)
def lines(
    source: Array, kind: int, table: Array, size: int, inner: int, lanes: Array,
    outer: int, last_outer: int, first: int, last: int, left: int, right: int, out: Array,
) -> None:  # fmt: skip
    """Add the cells [outer:last_outer, first:last, left:right] to columns `first` to `last` of `out`.

    Rows of `out` [5, size]: sum, sum of squares, largest magnitude (all over finite cells), zeros, cells that are not finite.
    """
    seen = np.empty(8)
    for o in range(outer, last_outer):
        start = o * size * inner
        if right - left >= LONG:
            for i in range(first, last):
                run = start + i * inner
                moments(source, kind, table, run + left, run + right, 0.0, lanes, seen)
                out[0, i] += seen[2]
                out[1, i] += seen[3]
                if seen[0] <= seen[1]:
                    out[2, i] = max(out[2, i], max(abs(seen[0]), abs(seen[1])))
                out[3, i] += seen[4]
                out[4, i] += seen[5] + seen[6] + seen[7]
        elif inner == 1:
            _single(source, kind, table, start, first, last, out)
        else:
            _short(source, kind, table, start + first * inner, start + last * inner, inner, left, right, first, out)


@njit(nogil=True, cache=True)
def _single(source: Array, kind: int, table: Array, start: int, first: int, last: int, out: Array) -> None:
    """Runs of one cell: neighbours belong to neighbouring indices."""
    kept = np.empty(LANES, np.float32)
    bits = kept.view(np.uint32)
    for at in range(first, last, LANES):
        m = min(LANES, last - at)
        part = out[:, at : at + m]
        if kind == PLAIN:
            _beside(source[start + at : start + at + m], part[0], part[1], part[2], part[3], part[4])
        else:
            _load(source, start + at, m, kind, table, kept, bits)
            _beside(kept[:m], part[0], part[1], part[2], part[3], part[4])


@njit(nogil=True, cache=True)
def _beside(cells: Array, total: Array, squares: Array, largest: Array, zeros: Array, bad: Array) -> None:
    for j in range(cells.size):
        cell = np.float64(cells[j])
        finite = abs(cell) < np.inf
        cell = cell if finite else 0.0
        total[j] += cell
        squares[j] += cell * cell
        largest[j] = max(largest[j], abs(cell))
        zeros[j] += 1.0 if finite and cell == 0.0 else 0.0
        bad[j] += 0.0 if finite else 1.0


@njit(nogil=True, cache=True)
def _short(
    source: Array, kind: int, table: Array, start: int, stop: int,
    inner: int, left: int, right: int, first: int, out: Array,
) -> None:  # fmt: skip
    """Runs that follow one another, from the beginning of the one of index `first`."""
    kept = np.empty(LANES, np.float32)
    bits = kept.view(np.uint32)
    index, within = first, 0
    for at in range(start, stop, LANES):
        m = min(LANES, stop - at)
        if kind != PLAIN:
            _load(source, at, m, kind, table, kept, bits)
        for j in range(m):
            if left <= within < right:
                cell = np.float64(source[at + j]) if kind == PLAIN else np.float64(kept[j])
                size = abs(cell)
                if size < np.inf:
                    out[0, index] += cell
                    out[1, index] += cell * cell
                    out[2, index] = max(out[2, index], size)
                    out[3, index] += cell == 0.0
                else:
                    out[4, index] += 1.0
            within += 1
            if within == inner:
                index, within = index + 1, 0
