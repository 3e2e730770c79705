"""Level-of-detail pyramid of one tensor's picture.

A bin of level `(row_level, column_level)` covers 2**row_level x 2**column_level cells of the sheet and carries their
mean, min, max and root mean square over finite values, and whether NaN or inf are among them. Small tensors are reduced
on demand. For big ones the first request builds a base level in one pass on the tensor's own device; each coarser level is
made from the one below it, finer tiles straight from the cells that they show. An edit makes only the bins stale that it
touched, on every level.

A base has no more bins than it needs: memory that a process has not touched before costs more than the pass over the cells
does (5 planes of 1024 x 1024 bins and what coarser levels are made by: 10,000 page faults, 20 to 100 ms, beside 5 ms for
the pass over 4096 x 4096 cells).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model.storage import apart, writing
from weightlab.progress import report
from weightlab.see.bins import CHUNK, Bins, halve, reduce, stack
from weightlab.see.layout import Layout
from weightlab.see.reading import WORTH_CELLS

TILE = 128
BASE_BINS = 1 << 20  # at most; what has no more cells has no base
ENOUGH_BINS = 1 << 18  # for one that is quickly passed again: a screen of finer bins costs at most one pass
CELLS_A_BIN = 64  # from there on a pass takes longer, and the base may be finer
KEPT_BYTES = 1 << 22  # of tiles as they were sent
TOGETHER = 8  # tiles that are reduced at a time: their planes find memory that was used before

At = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """Bins of one level: planes [rows, columns] float32 on the CPU, at most `TILE` on a side.

    Attributes:
        at: `(row_level, column_level, row, column)`, the last two in tiles.
        mean, min, max, rms: over the finite cells of each bin, NaN where there are none; at level (0, 0) all are the cells.
        flags: uint8 [rows, columns], bits `NAN`, `POSITIVE`, `NEGATIVE` for what else the bin holds; None for nothing.
        revision: of the model that it shows.
    """

    at: At
    mean: Tensor
    min: Tensor
    max: Tensor
    rms: Tensor
    flags: Tensor | None
    revision: int


class Pyramid:
    """Tiles of one tensor; *state*: holds the base level, never a copy of the tensor.

    Args:
        tensor: returns the live tensor.
        layout: of its picture.
    """

    def __init__(self, tensor: Callable[[], Tensor], layout: Layout) -> None:
        self._tensor = tensor
        self.layout = layout
        height, width = layout.sheet
        # Reduce the longer side first, rows when in doubt: that is the cheap direction.
        levels = [0, 0]
        most = BASE_BINS
        if height * width > BASE_BINS:
            most = min(BASE_BINS, max(ENOUGH_BINS, height * width // CELLS_A_BIN))
        while _ceil(height, levels[0]) * _ceil(width, levels[1]) > most:
            levels[0 if height >> levels[0] >= width >> levels[1] else 1] += 1
        self.base_level = (levels[0], levels[1])
        # The base and levels above it, each made whole when first asked for, after the finer one that it is made from.
        self._levels: dict[tuple[int, int], Bins] = {}
        self._stale: list[tuple[int, int, int, int]] = []
        self._kept: dict[Any, tuple[Any, int]] = {}  # what was made of tiles, last used last, and its bytes
        self._kept_bytes = 0

    @property
    def has_base(self) -> bool:
        """Whether the tensor is big enough for a base level."""
        return self.base_level != (0, 0)

    def shape(self, row_level: int, column_level: int) -> tuple[int, int]:
        """Bins of a level: [rows, columns]."""
        height, width = self.layout.sheet
        return _ceil(height, row_level), _ceil(width, column_level)

    def extremes(self) -> tuple[float, float] | None:
        """The smallest and the largest finite value of the tensor, where the base level tells them."""
        bins = self._levels.get(self.base_level)
        if bins is None or self._stale or self.layout.fixed or not self._tensor().is_floating_point():
            return None  # a slice does not tell of the whole, nor float32 of wide integers
        with writing(bins.min):
            low, high = (end.numpy() for end in (bins.min.cpu(), bins.max.cpu()))
        return float(np.fmin.reduce(low, axis=None)), float(np.fmax.reduce(high, axis=None))  # they pass over NaN

    def invalidate(self, bounds: Sequence[tuple[int, int]]) -> None:
        """Cells inside these tensor bounds changed: the next request computes the base bins that cover them anew."""
        box = self.layout.box(bounds)
        for key in [key for key in self._kept if self._meets(key[0], box)]:
            self._forget(key)
        if self._levels and box[0] < box[1] and box[2] < box[3]:
            self._stale.append(box)

    def kept(self, key: tuple[At, str, tuple[str, ...]]) -> tuple[dict[str, Any], bytes] | None:
        """What was made of the tile `key[0]` before, if none of its cells changed: a page that comes back asks again."""
        found = self._kept.pop(key, None)
        if found is None:
            return None
        self._kept[key] = found
        return found[0]  # type: ignore[no-any-return]

    def keep(self, key: tuple[At, str, tuple[str, ...]], made: tuple[dict[str, Any], bytes]) -> None:
        """Keep what was made of a tile, in place of what was not asked for the longest."""
        if not self.has_base:
            return  # quickly made, and made anew true also of cells that were written behind autograd's back
        self._forget(key)
        self._kept[key] = made, len(made[1])
        self._kept_bytes += len(made[1])
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Any) -> None:
        found = self._kept.pop(key, None)
        self._kept_bytes -= found[1] if found else 0

    def _meets(self, at: At, box: tuple[int, int, int, int]) -> bool:
        tall, wide = TILE << at[0], TILE << at[1]
        top, left = at[2] * tall, at[3] * wide
        return top < box[1] and box[0] < top + tall and left < box[3] and box[2] < left + wide

    def tile(self, at: At, revision: int = 0) -> Tile:
        """One tile.

        Raises:
            IndexError: there is no such tile.
        """
        return next(self.tiles([at], revision))

    def tiles(self, wanted: Sequence[At], revision: int = 0) -> Iterator[Tile]:
        """Several tiles, in any order: neighbours are reduced together, and what is not taken is not made.

        Raises:
            IndexError: there is no such tile.
        """
        for row_level, column_level, row, column in wanted:
            rows, columns = self.shape(row_level, column_level)
            if not (0 <= row * TILE < rows and 0 <= column * TILE < columns and min(row_level, column_level) >= 0):
                raise IndexError(
                    f"tile {(row_level, column_level, row, column)} is outside level ({row_level}, {column_level}) "
                    f"of {rows} x {columns} bins"
                )
        return itertools.chain.from_iterable(self._block(*block, revision) for block in _blocks(wanted))

    def _block(self, level: tuple[int, int], tiles: tuple[int, int, int, int], revision: int) -> list[Tile]:
        """A rectangle of tiles, as views of common planes."""
        first, last, left, right = tiles
        rows, columns = self.shape(*level)
        top, near = first * TILE, left * TILE
        with writing(self._tensor()):
            bins = self._bins(*level, top, min(last * TILE, rows), near, min(right * TILE, columns))
            planes = [_float32(plane) for plane in (bins.mean, bins.min, bins.max, bins.rms)]
            flags = None if bins.flags is None else bins.flags.cpu()
            made = []
            for row, column in itertools.product(range(first, last), range(left, right)):
                down, across = row * TILE - top, column * TILE - near
                part = (slice(down, down + TILE), slice(across, across + TILE))
                mean, low, high, rms = (plane[part] for plane in planes)
                bad = None if flags is None else flags[part]
                made.append(Tile((*level, row, column), mean, low, high, rms, bad, revision))
        return made

    def _bins(self, row_level: int, column_level: int, top: int, bottom: int, left: int, right: int) -> Bins:
        base_rows, base_columns = self.base_level
        if self.has_base and row_level >= base_rows and column_level >= base_columns:
            self._freshen()
            return self._level(row_level, column_level).cut(top, bottom, left, right)
        return self._reduced(row_level, column_level, top, bottom, left, right)

    def _reduced(self, row_level: int, column_level: int, top: int, bottom: int, left: int, right: int) -> Bins:
        """Bins straight from the tensor, in horizontal strips that keep the working memory small."""
        tensor, (height, width) = self._tensor(), self.layout.sheet
        first, last = left << column_level, min(right << column_level, width)
        strip = max(1, CHUNK // max(1, (last - first) << row_level))
        worth = 0 if self.has_base else WORTH_CELLS  # a patch has the bits that the whole would have there
        parts = []
        for start in range(top, bottom, strip):
            stop = min(start + strip, bottom)
            report(start - top, bottom - top, f"reading {tensor.numel():,} cells")
            cells, real = self.layout.cut(tensor, start << row_level, min(stop << row_level, height), first, last)
            parts.append(reduce(cells, 1 << row_level, 1 << column_level, real, worth))
        return stack(parts)

    def _level(self, row_level: int, column_level: int) -> Bins:
        level = (row_level, column_level)
        if level not in self._levels:
            if level == self.base_level:
                self._levels[level] = self._reduced(*level, 0, self.shape(*level)[0], 0, self.shape(*level)[1])
            else:
                self._levels[level] = self._halved(level, self._level(*self._finer(level)))
        return self._levels[level]

    def _finer(self, level: tuple[int, int]) -> tuple[int, int]:
        """The level that another is made from: half as coarse on both axes, as far as the base."""
        return max(level[0] - 1, self.base_level[0]), max(level[1] - 1, self.base_level[1])

    def _halved(self, level: tuple[int, int], bins: Bins) -> Bins:
        for axis in (0, 1):
            if level[axis] > self.base_level[axis]:
                bins = halve(bins, axis)
        return bins

    def _freshen(self) -> None:
        """Compute anew what edits have touched: bins of the base from the cells, coarser ones from those."""
        try:
            self._patch()
        except BaseException:  # cancelled half-way: what is there shows cells of two moments
            self._levels.clear()
            raise
        finally:
            self._stale = []

    def _patch(self) -> None:
        for top, bottom, left, right in self._stale:
            for level in self._levels:  # finer ones first: they were made first
                up, down = top >> level[0], _ceil(bottom, level[0])
                near, far = left >> level[1], _ceil(right, level[1])
                if level == self.base_level:
                    fresh = self._reduced(*level, up, down, near, far)
                else:
                    finer = self._finer(level)
                    (tall, wide), bins = (a - b for a, b in zip(level, finer, strict=True)), self._levels[finer]
                    rows, columns = self.shape(*finer)
                    part = bins.cut(up << tall, min(down << tall, rows), near << wide, min(far << wide, columns))
                    fresh = self._halved(level, part)
                self._levels[level] = _patched(self._levels[level], fresh, (slice(up, down), slice(near, far)))


def _patched(old: Bins, fresh: Bins, part: tuple[slice, slice]) -> Bins:
    for name in ("mean", "min", "max", "rms", "count"):
        getattr(old, name)[part] = getattr(fresh, name)
    if old.flags is None and fresh.flags is None:
        return old
    flags = torch.zeros_like(old.count, dtype=torch.uint8) if old.flags is None else old.flags
    flags[part] = 0 if fresh.flags is None else fresh.flags
    return Bins(old.mean, old.min, old.max, old.rms, old.count, flags)


def _blocks(wanted: Sequence[At]) -> Iterator[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """Levels, and rectangles [first, last) x [left, right) of tiles, that cover each tile once and no other."""
    open_: dict[tuple[int, int, int, int], list[int]] = {}  # by level, left and right: rows
    for row_level, column_level, row, left, right in _runs(wanted):
        key = row_level, column_level, left, right
        rows = open_.setdefault(key, [row, row])
        if rows[1] != row or (row - rows[0] + 1) * (right - left) > TOGETHER:
            yield key[:2], (rows[0], rows[1], left, right)
            rows = open_[key] = [row, row]
        rows[1] = row + 1
    for (row_level, column_level, left, right), (first, last) in open_.items():
        yield (row_level, column_level), (first, last, left, right)


def _runs(wanted: Sequence[At]) -> Iterator[tuple[int, int, int, int, int]]:
    """Level, row, and the stretch of neighbours in that row."""
    begun: tuple[int, int, int, int, int] | None = None
    for row_level, column_level, row, column in sorted(set(wanted)):
        if (
            begun
            and begun[:3] == (row_level, column_level, row)
            and begun[4] == column
            and column - begun[3] < TOGETHER
        ):
            begun = (*begun[:4], column + 1)
            continue
        if begun:
            yield begun
        begun = row_level, column_level, row, column, column + 1
    if begun:
        yield begun


def _float32(plane: Tensor) -> Tensor:
    """A plane for the picture, for NumPy too: finite numbers past float32's range stay finite, at its end."""
    if plane.dtype is torch.float64:
        largest = torch.finfo(torch.float32).max
        plane = plane.clamp(-largest, largest)
    return apart(plane.to("cpu", torch.float32))


def _ceil(size: int, level: int) -> int:
    return -(-size // (1 << level))
