"""The loops of `reading.py` for numba: every cell is loaded once, and all that is asked about it is taken on the way.

Written so that LLVM makes vector code of them without any loosening of the arithmetic. A running minimum of one number
is a chain that cannot be split (NaN forbids it); a minimum per lane of `LANES` columns can. So whole rows of lanes are
folded into each other first, four rows at a time to save stores, and the lanes into one another at the end, by halves.

No loop tests for NaN or infinity: either spoils the sum of its bin, which is looked at once per bin. Only bins with such
a sum are read again, cell by cell.

Sums are float64. Only this module and `compiled_lines` import numba; the import costs half a second, and is left to a thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

LANES = 512
PLAIN, BFLOAT, HALF, TABLE = 0, 1, 2, 3  # how cells become numbers: as they are, by their bits, or by a table of 256
NAN, POSITIVE, NEGATIVE = 1, 2, 4
_BAND = 128 * LANES

Array = Any


@njit(nogil=True, cache=True)
def _load(source: Array, start: int, n: int, kind: int, table: Array, out: Array, bits: Array) -> None:
    """Cells as float32; `bits` is `out` seen as uint32."""
    cells = source[start : start + n]  # indices from 0 need no test for the end that negative ones count from
    if kind == BFLOAT:
        # The upper half of a float32.
        for j in range(n):
            bits[j] = np.uint32(cells[j]) << np.uint32(16)
    elif kind == HALF:
        # 5 + 10 bits moved to where 8 + 23 are wanted; the exponents' biases differ by 127 - 15 = 112.
        for j in range(n):
            bits[j] = (np.uint32(cells[j]) & np.uint32(0x7FFF)) << np.uint32(13)
        for j in range(n):
            out[j] = out[j] * np.float32(2.0**112)
        for j in range(n):
            cell = np.uint32(cells[j])
            special = np.uint32(0x7F800000) if (cell & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
            bits[j] = bits[j] | ((cell & np.uint32(0x8000)) << np.uint32(16)) | special
    else:
        for j in range(n):
            out[j] = table[np.uint32(cells[j])]


@njit(nogil=True, cache=True)
def _reset(n: int, low: Array, high: Array, total: Array, squares: Array) -> None:
    for j in range(n):
        low[j] = np.inf
        high[j] = -np.inf
        total[j] = 0.0
        squares[j] = 0.0


@njit(nogil=True, cache=True, inline="always")
def _four(
    a: Array, b: Array, c: Array, d: Array, pivot: float, low: Array, high: Array, total: Array, squares: Array
) -> None:
    """Four rows of cells into the lanes. NaN fails every comparison, so it enters no extreme."""
    real = low.dtype.type
    for j in range(a.size):
        p, q, r, s = real(a[j]), real(b[j]), real(c[j]), real(d[j])
        least, most = low[j], high[j]
        least = min(least, p)
        least = min(least, q)
        least = min(least, r)
        least = min(least, s)
        most = max(most, p)
        most = max(most, q)
        most = max(most, r)
        most = max(most, s)
        low[j], high[j] = least, most
        dp, dq, dr, ds = np.float64(p) - pivot, np.float64(q) - pivot, np.float64(r) - pivot, np.float64(s) - pivot
        total[j] += (dp + dq) + (dr + ds)
        squares[j] += (dp * dp + dq * dq) + (dr * dr + ds * ds)


@njit(nogil=True, cache=True)
def _one(a: Array, pivot: float, low: Array, high: Array, total: Array, squares: Array) -> None:
    real = low.dtype.type
    for j in range(a.size):
        p = real(a[j])
        low[j] = min(low[j], p)
        high[j] = max(high[j], p)
        dp = np.float64(p) - pivot
        total[j] += dp
        squares[j] += dp * dp


@njit(nogil=True, cache=True)
def _halve(n: int, low: Array, high: Array, total: Array, squares: Array, side: int) -> int:
    """Neighbouring lanes of one side into half as many of the other; returns their number."""
    m = n // 2
    old, new = low[side], low[1 - side]
    for j in range(m):
        new[j] = min(old[2 * j + 1], old[2 * j])
    if n % 2:
        new[m] = old[n - 1]
    old, new = high[side], high[1 - side]
    for j in range(m):
        new[j] = max(old[2 * j + 1], old[2 * j])
    if n % 2:
        new[m] = old[n - 1]
    for sums in (total, squares):
        before, after = sums[side], sums[1 - side]
        for j in range(m):
            after[j] = before[2 * j] + before[2 * j + 1]
        if n % 2:
            after[m] = before[n - 1]
    return n - m


@njit(nogil=True, cache=True)
def _store(
    lows: Array, highs: Array, totals: Array, squares: Array, count: int,
    low: Array, high: Array, mean: Array, rms: Array,
) -> int:  # fmt: skip
    """Lanes that have become bins of `count` cells; returns how many have finite sums."""
    whole = 0
    for j in range(lows.size):
        total, square = totals[j], squares[j]
        low[j], high[j] = lows[j], highs[j]
        mean[j], rms[j] = total / count, np.sqrt(square / count)
        whole += (abs(total) < np.inf) & (square < np.inf)
    return whole


@njit(nogil=True, cache=True)
def planes(
    source: Array, stride: int, rows: int, columns: int, kind: int, table: Array,
    tall: int, steps: int, first: int, last: int,
    low: Array, high: Array, mean: Array, rms: Array, flags: Array, missing: Array,
) -> int:  # fmt: skip
    """Rows `first` to `last` of the bins of `tall` x 2**steps cells; returns how many hold NaN or infinities.

    Row i of the cells begins at `source[i * stride]`. `flags` and `missing` (cells that are not finite) come in as zeros.
    """
    wide = 1 << steps
    kept = np.empty((4, LANES), np.float32)
    bits = kept.view(np.uint32)
    lows, highs = np.empty((2, LANES), low.dtype), np.empty((2, LANES), low.dtype)
    totals, squares = np.empty((2, LANES), np.float64), np.empty((2, LANES), np.float64)
    spoilt = 0
    for r in range(first, last):
        top, bottom = r * tall, min((r + 1) * tall, rows)
        # Bins of more than LANES columns are gathered over several blocks of lanes.
        block = 0
        while block < columns:
            end = min(block + max(LANES, wide), columns)
            side = 0
            n = min(LANES, end - block)
            _reset(n, lows[0], highs[0], totals[0], squares[0])
            for start in range(block, end, LANES):
                m = min(LANES, end - start)
                i = top
                while i < bottom:
                    four = i + 4 <= bottom
                    at = i * stride + start
                    if kind == PLAIN:
                        if four:
                            _four(
                                source[at : at + m], source[at + stride : at + stride + m],
                                source[at + 2 * stride : at + 2 * stride + m], source[at + 3 * stride : at + 3 * stride + m],
                                0.0, lows[0], highs[0], totals[0], squares[0],
                            )  # fmt: skip
                        else:
                            _one(source[at : at + m], 0.0, lows[0], highs[0], totals[0], squares[0])
                    else:
                        for k in range(4 if four else 1):
                            _load(source, at + k * stride, m, kind, table, kept[k], bits[k])
                        if four:
                            _four(
                                kept[0, :m], kept[1, :m], kept[2, :m], kept[3, :m],
                                0.0, lows[0], highs[0], totals[0], squares[0],
                            )  # fmt: skip
                        else:
                            _one(kept[0, :m], 0.0, lows[0], highs[0], totals[0], squares[0])
                    i += 4 if four else 1
            reach = min(n, wide)
            while reach > 1:
                n = _halve(n, lows, highs, totals, squares, side)
                side = 1 - side
                reach = (reach + 1) // 2
            column = block >> steps
            count = (bottom - top) * wide
            whole = _store(
                lows[side, :n], highs[side, :n], totals[side, :n], squares[side, :n], count,
                low[r, column : column + n], high[r, column : column + n],
                mean[r, column : column + n], rms[r, column : column + n],
            )  # fmt: skip
            last_count = (bottom - top) * (end - ((column + n - 1) << steps))
            if last_count < count:
                mean[r, column + n - 1] = totals[side, n - 1] / last_count
                rms[r, column + n - 1] = np.sqrt(squares[side, n - 1] / last_count)
            if whole < n:
                for j in range(n):
                    if np.isfinite(totals[side, j]) and np.isfinite(squares[side, j]):
                        continue
                    left = (column + j) << steps
                    bad = _bin(
                        source, stride, top, bottom, left, min(left + wide, columns), kind, table, kept[0], bits[0],
                        low[r], high[r], mean[r], rms[r], flags[r], missing[r], column + j,
                    )  # fmt: skip
                    spoilt += 1 if bad else 0
            block = end
    return spoilt


@njit(nogil=True, cache=True)
def _bin(
    source: Array, stride: int, top: int, bottom: int, left: int, right: int, kind: int, table: Array, kept: Array,
    bits: Array, low: Array, high: Array, mean: Array, rms: Array, flags: Array, missing: Array, at: int,
) -> bool:  # fmt: skip
    """One bin with care: NaN and infinities are set aside, and numbers whose sums or squares overflow are scaled down."""
    least, most = np.inf, -np.inf
    flag, good = 0, 0
    share, size = 0.0, 0.0
    for turn in range(2):  # first the extremes, which say how to scale
        scale = max(abs(least), abs(most)) if turn and good else 1.0
        scale = scale if scale > 0 else 1.0
        for i in range(top, bottom):
            for start in range(left, right, LANES):
                m = min(LANES, right - start)
                if kind != PLAIN:
                    _load(source, i * stride + start, m, kind, table, kept, bits)
                for j in range(m):
                    cell = np.float64(source[i * stride + start + j]) if kind == PLAIN else np.float64(kept[j])
                    if np.isfinite(cell):
                        if turn:
                            share += cell / scale / good
                            size += (cell / scale) * (cell / scale) / good
                        else:
                            good += 1
                            least, most = min(least, cell), max(most, cell)
                    elif not turn:
                        flag |= NAN if np.isnan(cell) else POSITIVE if cell > 0 else NEGATIVE
    count = (bottom - top) * (right - left)
    flags[at], missing[at] = flag, count - good
    scale = max(abs(least), abs(most)) if good else 1.0
    low[at] = least if good else np.nan
    high[at] = most if good else np.nan
    mean[at] = share * scale if good else np.nan
    rms[at] = np.sqrt(size) * scale if good else np.nan
    return good < count


@njit(nogil=True, cache=True)
def moments(
    source: Array, kind: int, table: Array, start: int, stop: int, pivot: float, lanes: Array, out: Array
) -> None:
    """Cells `start` to `stop` into `out`: low, high, sum and squares about the pivot, zeros, NaN, +inf, -inf.

    `lanes` is empty; its dtype is the precision that extremes are kept in.
    """
    kept = np.empty((4, LANES), np.float32)
    bits = kept.view(np.uint32)
    low, high = np.empty((2, LANES), lanes.dtype), np.empty((2, LANES), lanes.dtype)
    total, squares = np.empty((2, LANES), np.float64), np.empty((2, LANES), np.float64)
    out[0], out[1] = np.inf, -np.inf
    out[2:] = 0.0
    for band in range(start, stop, _BAND):
        end = min(band + _BAND, stop)
        n = min(LANES, end - band)
        _reset(n, low[0], high[0], total[0], squares[0])
        zeros = 0
        at = band
        while at < end:
            four = at + 4 * LANES <= end
            m = LANES if four else min(LANES, end - at)
            if kind == PLAIN:
                if four:
                    _four(
                        source[at : at + m], source[at + m : at + 2 * m], source[at + 2 * m : at + 3 * m],
                        source[at + 3 * m : at + 4 * m], pivot, low[0], high[0], total[0], squares[0],
                    )  # fmt: skip
                    zeros += _zeros(source[at : at + 4 * m])
                else:
                    _one(source[at : at + m], pivot, low[0], high[0], total[0], squares[0])
                    zeros += _zeros(source[at : at + m])
            else:
                for k in range(4 if four else 1):
                    _load(source, at + k * m, m, kind, table, kept[k], bits[k])
                    zeros += _zeros(kept[k, :m])
                if four:
                    _four(kept[0], kept[1], kept[2], kept[3], pivot, low[0], high[0], total[0], squares[0])
                else:
                    _one(kept[0, :m], pivot, low[0], high[0], total[0], squares[0])
            at += 4 * m if four else m
        side = 0
        while n > 1:
            n = _halve(n, low, high, total, squares, side)
            side = 1 - side
        if np.isfinite(total[side, 0]):
            out[0], out[1] = min(out[0], low[side, 0]), max(out[1], high[side, 0])
            out[2] += total[side, 0]
            out[3] += squares[side, 0]
        else:
            for at in range(band, end, LANES):
                m = min(LANES, end - at)
                if kind == PLAIN:
                    _careful(source[at : at + m], pivot, out)
                else:
                    _load(source, at, m, kind, table, kept[0], bits[0])
                    _careful(kept[0, :m], pivot, out)
        out[4] += zeros


@njit(nogil=True, cache=True)
def _zeros(cells: Array) -> int:
    count = 0
    for j in range(cells.size):
        count += cells[j] == 0
    return count


@njit(nogil=True, cache=True)
def _careful(cells: Array, pivot: float, out: Array) -> None:
    for j in range(cells.size):
        cell = np.float64(cells[j])
        if np.isfinite(cell):
            out[0], out[1] = min(out[0], cell), max(out[1], cell)
            out[2] += cell - pivot
            out[3] += (cell - pivot) * (cell - pivot)
        else:
            out[5 if np.isnan(cell) else 6 if cell > 0 else 7] += 1


@njit(nogil=True, cache=True)
def histogram(
    source: Array, kind: int, table: Array, start: int, stop: int, half_low: float, scale: float, counts: Array
) -> None:
    """Finite cells of `start` to `stop` into equal bins; x falls into bin (x / 2 - half_low) * scale.

    Halves, because high - low of float64 may overflow. Four tables: neighbours of one bin need not wait for each other.
    """
    bins = counts.size
    kept = np.empty(LANES, np.float32)
    bits = kept.view(np.uint32)
    where = np.empty(LANES, np.uint32)
    several = np.zeros((4, bins + 1), np.int64)
    for at in range(start, stop, LANES):
        m = min(LANES, stop - at)
        if kind == PLAIN:
            _places(source[at : at + m], half_low, scale, bins, where)
        else:
            _load(source, at, m, kind, table, kept, bits)
            _places(kept[:m], half_low, scale, bins, where)
        even = m // 4 * 4
        for j in range(0, even, 4):
            several[0, where[j]] += 1
            several[1, where[j + 1]] += 1
            several[2, where[j + 2]] += 1
            several[3, where[j + 3]] += 1
        for j in range(even, m):
            several[0, where[j]] += 1
    for k in range(4):
        for j in range(bins):
            counts[j] += several[k, j]


@njit(nogil=True, cache=True)
def _places(cells: Array, half_low: float, scale: float, bins: int, where: Array) -> None:
    """The bin of each cell; `bins` for those that have none."""
    last = np.float64(bins - 1)
    for j in range(cells.size):
        place = (np.float64(cells[j]) * 0.5 - half_low) * scale
        inside = (place >= 0.0) and (place <= bins + 0.5)  # the highest may land on `bins`, or a rounding past it
        place = min(last, place)
        where[j] = np.uint32(np.int32(place)) if inside else np.uint32(bins)
