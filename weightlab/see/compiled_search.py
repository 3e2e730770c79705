"""Loops of `quantiles.py` and `find.py` for numba: one pass each, that looks for cells instead of summing them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from weightlab.see.compiled import LANES, PLAIN, _load

Array = Any


@njit(nogil=True, cache=True)
def digits(
    codes: Array, start: int, stop: int, shift: int, top: int, slots: Array, prefixes: Array, counts: Array
) -> None:
    """Count the 16 bits of each code from bit `shift` on, of those codes that begin with one of the prefixes.

    Args:
        codes: cells as unsigned integers.
        top: how far the highest 16 bits are shifted.
        slots: by the highest 16 bits: 1 + the first prefix that begins with them, 0 for none.
        prefixes: ascending; what is left of a code above bit `shift + 16`. None: all codes count, in row 0.
        counts: [prefixes, 65536] int32.
    """
    cells = codes[start:stop]
    own = codes.dtype.type  # in the codes' own width: arithmetic on 64 bits takes twice as long
    low, high, most, mask = own(shift), own(shift + 16), own(top), np.uint32(0xFFFF)
    if prefixes.size == 0:
        for j in range(cells.size):
            counts[0, (cells[j] >> low) & mask] += 1
        return
    for j in range(cells.size):
        slot = slots[cells[j] >> most]
        if slot == 0:
            continue
        prefix = np.uint64(cells[j] >> high)
        for k in range(slot - 1, prefixes.size):
            if prefixes[k] == prefix:
                counts[k, (cells[j] >> low) & mask] += 1
                break


@njit(nogil=True, cache=True)
def best(
    source: Array, kind: int, table: Array, start: int, stop: int,
    mode: int, value: float, sign: float, limit: float, after: int, out: Array,
) -> None:  # fmt: skip
    """The cell with the largest key among those that are behind `limit`: out = key, index; index -1 for none.

    Args:
        mode: the key is 0: x, 1: -x, 2: |x|, 3: -|x - value|; times `sign`.
        sign: -1 turns the order round: of the cells alike the last is taken, not the first.
        limit: keys have to be below; equal ones count when their index is behind `after` (before it, if the order is turned).
    """
    kept = np.empty(LANES, np.float32)
    bits = kept.view(np.uint32)
    found, place = -np.inf, -1
    for at in range(start, stop, LANES):
        m = min(LANES, stop - at)
        if kind == PLAIN:
            found, place = _best(source[at : at + m], at, mode, value, sign, limit, after, found, place)
        else:
            _load(source, at, m, kind, table, kept, bits)
            found, place = _best(kept[:m], at, mode, value, sign, limit, after, found, place)
    out[0], out[1] = found, place


@njit(nogil=True, cache=True)
def _best(
    cells: Array, at: int, mode: int, value: float, sign: float, limit: float, after: int, found: float, place: int
) -> tuple[float, int]:
    for j in range(cells.size):
        x = np.float64(cells[j])
        key = x if mode == 0 else -x if mode == 1 else abs(x) if mode == 2 else -abs(x - value)
        key *= sign
        if not (key > found or (sign < 0 and key == found and place >= 0)) or not key <= limit or not np.isfinite(x):
            continue
        i = at + j
        if key < limit or (i > after if sign > 0 else i < after):
            found, place = key, i
    return found, place
