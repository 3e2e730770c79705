"""Level-of-detail pyramid of one tensor's picture.

A bin of level `(row_level, column_level)` covers 2**row_level x 2**column_level cells of the sheet and carries their
mean, min and max over finite values, and whether NaN or inf are among them. Small tensors are reduced on demand. For
big ones the first request builds a base level in one pass on the tensor's own device; coarser tiles come from the base,
finer ones straight from the cells that they show. An edit makes only the base bins stale that it touched.

Rows are reduced before columns: summing whole contiguous rows runs at memory speed, and leaves a fraction of the cells
for the slower reduction along a row (4096 x 4096 float32 to 256 x 256: 12 ms in that order, 48 ms at once; two cores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.model.storage import writing
from weightlab.progress import report
from weightlab.see.layout import Layout

TILE = 128
BASE_BINS = 1 << 20
_CHUNK = 1 << 22

NAN, POSITIVE, NEGATIVE = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Tile:
    """Bins of one level: planes [rows, columns] float32 on the CPU, at most `TILE` on a side.

    Attributes:
        at: `(row_level, column_level, row, column)`, the last two in tiles.
        mean, min, max: over the finite cells of each bin, NaN where there are none; at level (0, 0) all are the cells.
        flags: uint8 [rows, columns], bits `NAN`, `POSITIVE`, `NEGATIVE` for what else the bin holds; None for nothing.
        revision: of the model that it shows.
    """

    at: tuple[int, int, int, int]
    mean: Tensor
    min: Tensor
    max: Tensor
    flags: Tensor | None
    revision: int


@dataclass(frozen=True, slots=True)
class Bins:
    """Planes of a rectangle of bins, and how many finite cells stand behind each mean."""

    mean: Tensor
    min: Tensor
    max: Tensor
    count: Tensor
    flags: Tensor | None


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
        while _ceil(height, levels[0]) * _ceil(width, levels[1]) > BASE_BINS:
            levels[0 if height >> levels[0] >= width >> levels[1] else 1] += 1
        self.base_level = (levels[0], levels[1])
        self._base: Bins | None = None
        self._stale: list[tuple[int, int, int, int]] = []
        self._coarse: dict[tuple[int, int], Bins] = {}  # levels above the base, each made whole when first asked for

    @property
    def has_base(self) -> bool:
        """Whether the tensor is big enough for a base level."""
        return self.base_level != (0, 0)

    def shape(self, row_level: int, column_level: int) -> tuple[int, int]:
        """Bins of a level: [rows, columns]."""
        height, width = self.layout.sheet
        return _ceil(height, row_level), _ceil(width, column_level)

    def invalidate(self, bounds: Sequence[tuple[int, int]]) -> None:
        """Cells inside these tensor bounds changed: the next request computes the base bins that cover them anew."""
        box = self.layout.box(bounds)
        if self._base is not None and box[0] < box[1] and box[2] < box[3]:
            self._stale.append(box)

    def tile(self, at: tuple[int, int, int, int], revision: int = 0) -> Tile:
        """One tile.

        Raises:
            IndexError: there is no such tile.
        """
        row_level, column_level, row, column = at
        rows, columns = self.shape(row_level, column_level)
        top, left = row * TILE, column * TILE
        if not (0 <= top < rows and 0 <= left < columns and min(at) >= 0):
            raise IndexError(f"tile {at} is outside level ({row_level}, {column_level}) of {rows} x {columns} bins")
        bottom, right = min(top + TILE, rows), min(left + TILE, columns)
        with writing(self._tensor()):
            bins = self._bins(row_level, column_level, top, bottom, left, right)
            mean, low, high = (_float32(plane) for plane in (bins.mean, bins.min, bins.max))
            flags = None if bins.flags is None else bins.flags.cpu()
        return Tile(at, mean, low, high, flags, revision)

    def _bins(self, row_level: int, column_level: int, top: int, bottom: int, left: int, right: int) -> Bins:
        base_rows, base_columns = self.base_level
        if self.has_base and row_level >= base_rows and column_level >= base_columns:
            base = self._fresh_base()
            level = (row_level, column_level)
            if level not in self._coarse:
                down, across = row_level - base_rows, column_level - base_columns
                self._coarse[level] = _coarsen(base, 1 << down, 1 << across)
            bins = self._coarse[level]
            part = (slice(top, bottom), slice(left, right))
            flags = None if bins.flags is None else bins.flags[part]
            return Bins(bins.mean[part], bins.min[part], bins.max[part], bins.count[part], flags)
        return self._reduced(row_level, column_level, top, bottom, left, right)

    def _reduced(self, row_level: int, column_level: int, top: int, bottom: int, left: int, right: int) -> Bins:
        """Bins straight from the tensor, in horizontal strips that keep the working memory small."""
        tensor, (height, width) = self._tensor(), self.layout.sheet
        first, last = left << column_level, min(right << column_level, width)
        strip = max(1, _CHUNK // max(1, (last - first) << row_level))
        parts = []
        for start in range(top, bottom, strip):
            stop = min(start + strip, bottom)
            report(start - top, bottom - top, f"reading {tensor.numel():,} cells")
            cells, real = self.layout.cut(tensor, start << row_level, min(stop << row_level, height), first, last)
            parts.append(reduce(cells, 1 << row_level, 1 << column_level, real))
        return _stack(parts)

    def _fresh_base(self) -> Bins:
        row_level, column_level = self.base_level
        rows, columns = self.shape(row_level, column_level)
        if self._base is None:
            self._base = self._reduced(row_level, column_level, 0, rows, 0, columns)
        stale, self._stale = self._stale, []
        if stale:
            self._coarse.clear()
        for top, bottom, left, right in stale:
            up, down = top >> row_level, _ceil(bottom, row_level)
            near, far = left >> column_level, _ceil(right, column_level)
            fresh = self._reduced(row_level, column_level, up, down, near, far)
            part = (slice(up, down), slice(near, far))
            for name in ("mean", "min", "max", "count"):
                getattr(self._base, name)[part] = getattr(fresh, name)
            if fresh.flags is not None and self._base.flags is None:
                old = self._base
                self._base = Bins(old.mean, old.min, old.max, old.count, torch.zeros_like(old.mean, dtype=torch.uint8))
            if self._base.flags is not None:
                self._base.flags[part] = 0 if fresh.flags is None else fresh.flags
        return self._base


def _float32(plane: Tensor) -> Tensor:
    """A plane for the picture: finite numbers past float32's range stay finite, at its end."""
    if plane.dtype is torch.float64:
        largest = torch.finfo(torch.float32).max
        plane = plane.clamp(-largest, largest)
    return plane.to("cpu", torch.float32)


def _ceil(size: int, level: int) -> int:
    return -(-size // (1 << level))


def reduce(cells: Tensor, tall: int, wide: int, real: Tensor | None = None) -> Bins:
    """Bins of `tall` x `wide` cells; those at the lower and right edge may hold fewer.

    Args:
        cells: [rows, columns] of any real dtype; complex ones are reduced by magnitude.
        real: which cells exist; None for all.
    """
    values = _displayed(cells)
    if real is None:
        # Extremes of a bin are finite only if all its cells are: NaN passes through both, inf through one.
        low = _pooled(values, tall, wide, torch.amin)
        high = _pooled(values, tall, wide, torch.amax) if tall * wide > 1 else low
        if not values.is_floating_point() or bool((low.isfinite() & high.isfinite()).all()):
            mean = _pooled(values, tall, wide, torch.mean) if tall * wide > 1 else low
            return Bins(mean, low, high, _counts(values.shape, tall, wide, values.device), None)
    finite = values.isfinite()
    if real is not None:
        finite &= real
    high = _pooled(values.where(finite, -torch.inf), tall, wide, torch.amax)
    low = _pooled(values.where(finite, torch.inf), tall, wide, torch.amin)
    count = _pooled(finite.float(), tall, wide, torch.sum)
    total = _pooled(values.double().where(finite, 0), tall, wide, torch.sum)
    none = count == 0
    mean = (total / count).to(values.dtype)
    flags = torch.zeros(mean.shape, dtype=torch.uint8, device=values.device)
    for bit, bad in ((NAN, values.isnan()), (POSITIVE, values == torch.inf), (NEGATIVE, values == -torch.inf)):
        flags |= _pooled((bad if real is None else bad & real).float(), tall, wide, torch.amax).to(torch.uint8) * bit
    return Bins(mean, low.masked_fill(none, torch.nan), high.masked_fill(none, torch.nan), count, flags)


def _displayed(cells: Tensor) -> Tensor:
    """Cells as float32 (float64 stays): what a picture can show."""
    if cells.is_complex():
        return cells.abs()
    return cells if cells.dtype in (torch.float32, torch.float64) else cells.to(torch.float32)


def _pooled(values: Tensor, tall: int, wide: int, how: Callable[..., Tensor]) -> Tensor:
    """Reduce blocks; the ragged last row and column of blocks are reduced by themselves."""
    return _along(_along(values, 0, tall, how), 1, wide, how)


def _along(values: Tensor, axis: int, step: int, how: Callable[..., Tensor]) -> Tensor:
    if step == 1:
        return values
    size = values.shape[axis]
    even = size // step * step
    parts = []
    if even:
        parts.append(how(values.narrow(axis, 0, even).unflatten(axis, (even // step, step)), dim=axis + 1))
    if even < size:
        parts.append(how(values.narrow(axis, even, size - even), dim=axis, keepdim=True))
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]


def _counts(shape: Sequence[int], tall: int, wide: int, device: torch.device) -> Tensor:
    lines = []
    for size, step in zip(shape, (tall, wide), strict=True):
        line = torch.full((-(-size // step),), float(step), device=device)
        if size % step:
            line[-1] = size % step
        lines.append(line)
    return lines[0][:, None] * lines[1][None, :]


def _coarsen(bins: Bins, down: int, across: int) -> Bins:
    """Coarser bins from finer ones; means weigh by the cells behind them."""
    if down == across == 1:
        return bins
    count = _pooled(bins.count, down, across, torch.sum)
    total = _pooled(bins.mean.where(bins.count > 0, 0) * bins.count, down, across, torch.sum)
    if bins.flags is None:
        low, high, flags = (
            _pooled(bins.min, down, across, torch.amin),
            _pooled(bins.max, down, across, torch.amax),
            None,
        )
    else:
        none = bins.count == 0
        low = _pooled(bins.min.masked_fill(none, torch.inf), down, across, torch.amin)
        high = _pooled(bins.max.masked_fill(none, -torch.inf), down, across, torch.amax)
        low, high = low.masked_fill(count == 0, torch.nan), high.masked_fill(count == 0, torch.nan)
        flags = torch.zeros(count.shape, dtype=torch.uint8, device=count.device)
        for bit in (NAN, POSITIVE, NEGATIVE):
            flags |= _pooled((bins.flags & bit).float(), down, across, torch.amax).to(torch.uint8)
    return Bins(total / count, low, high, count, flags)


def _stack(parts: list[Bins]) -> Bins:
    if len(parts) == 1:
        return parts[0]
    mean, low, high, count = (torch.cat([getattr(p, name) for p in parts]) for name in ("mean", "min", "max", "count"))
    flags = None
    if any(p.flags is not None for p in parts):
        flags = torch.cat([torch.zeros_like(p.mean, dtype=torch.uint8) if p.flags is None else p.flags for p in parts])
    return Bins(mean, low, high, count, flags)
