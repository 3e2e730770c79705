"""Bins of cells: mean, extremes, root mean square, and whether NaN or inf are among them.

Two ways lead to the same bins. On the CPU `reading.py` takes all in one compiled pass. Here torch does, on any device: rows
are reduced before columns, since summing whole contiguous rows runs at memory speed and leaves a fraction of the cells for
the slower reduction along a row. Extremes, flags and counts of both are equal; means and rms agree within 1e-5 of the largest
magnitude in the bin (torch sums float32 in float32, which is what a GPU does at the speed of its memory).

On CUDA the four reductions of a piece read it four times, but a piece of `CHUNK` cells stays in the second-level cache
meanwhile, so that memory is read about once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weightlab.see import reading

NAN, POSITIVE, NEGATIVE = 1, 2, 4
CHUNK = 1 << 22  # cells that are reduced at a time
PLANES = ("mean", "min", "max", "rms")


@dataclass(frozen=True, slots=True)
class Bins:
    """Planes of a rectangle of bins, and how many finite cells stand behind each mean; flags None for nothing but finite ones."""

    mean: Tensor
    min: Tensor
    max: Tensor
    rms: Tensor
    count: Tensor
    flags: Tensor | None

    def cut(self, top: int, bottom: int, left: int, right: int) -> Bins:
        """A rectangle of them, as views."""
        part = (slice(top, bottom), slice(left, right))
        flags = None if self.flags is None else self.flags[part]
        return Bins(self.mean[part], self.min[part], self.max[part], self.rms[part], self.count[part], flags)


def reduce(cells: Tensor, tall: int, wide: int, real: Tensor | None = None) -> Bins:
    """Bins of `tall` x `wide` cells; those at the lower and right edge may hold fewer.

    Args:
        cells: [rows, columns] of any real dtype; complex ones are reduced by magnitude.
        real: which cells exist; None for all.
    """
    if real is None and tall * wide == 1 and cells.dtype is torch.float32 and bool(cells.isfinite().all()):
        return Bins(cells, cells, cells, cells.abs(), cells.new_ones(()).expand(cells.shape), None)
    if real is None:
        read = reading.planes(cells, tall, wide)
        if read is not None:
            return _read(cells, tall, wide, *read)
    values = _displayed(cells)
    if real is None:
        # Extremes of a bin are finite only if all its cells are: NaN passes through both, inf through one.
        low = _pooled(values, tall, wide, torch.amin)
        high = _pooled(values, tall, wide, torch.amax) if tall * wide > 1 else low
        # Squares of the rest neither overflow nor vanish in the precision that they are summed in.
        largest = torch.maximum(low.abs(), high.abs())
        tame = ((largest < 1e15) & ((largest > 1e-15) | (largest == 0))).all()
        if bool(tame):
            count = _counts(values.shape, tall, wide, values.device)
            if tall * wide == 1:
                return Bins(low, low, low, low.abs(), count, None)
            mean = _pooled(values, tall, wide, torch.mean)
            norm = _pooled(values, tall, wide, torch.linalg.vector_norm)
            return Bins(mean, low, high, norm / count.sqrt(), count, None)
    finite = values.isfinite()
    if real is not None:
        finite &= real
    high = _pooled(values.where(finite, -torch.inf), tall, wide, torch.amax)
    low = _pooled(values.where(finite, torch.inf), tall, wide, torch.amin)
    count = _pooled(finite.float(), tall, wide, torch.sum)
    none = count == 0
    mean, rms = _scaled_means(values, finite, low, high, count, tall, wide)
    flags = torch.zeros(mean.shape, dtype=torch.uint8, device=values.device)
    for bit, bad in ((NAN, values.isnan()), (POSITIVE, values == torch.inf), (NEGATIVE, values == -torch.inf)):
        flags |= _pooled((bad if real is None else bad & real).float(), tall, wide, torch.amax).to(torch.uint8) * bit
    low, high = low.masked_fill(none, torch.nan), high.masked_fill(none, torch.nan)
    return Bins(mean, low, high, rms, count, flags if bool(flags.any()) or real is not None else None)


def _scaled_means(
    values: Tensor, finite: Tensor, low: Tensor, high: Tensor, count: Tensor, tall: int, wide: int
) -> tuple[Tensor, Tensor]:
    """Mean and rms in float64, of numbers divided by the largest of their bin: 1e200 has no square."""
    largest = torch.maximum(low.abs(), high.abs()).double()
    scale = largest.where((count > 0) & (largest > 0), 1.0)
    spread = scale.repeat_interleave(tall, 0)[: values.shape[0]].repeat_interleave(wide, 1)[:, : values.shape[1]]
    scaled = values.double().where(finite, 0) / spread
    mean = _pooled(scaled, tall, wide, torch.sum) / count * scale
    rms = (_pooled(scaled.square(), tall, wide, torch.sum) / count).sqrt() * scale
    return mean.to(values.dtype), rms.to(values.dtype)


def _read(
    cells: Tensor, tall: int, wide: int, mean: Any, low: Any, high: Any, rms: Any, flags: Any, missing: Any
) -> Bins:
    count = _counts(cells.shape, tall, wide, cells.device)
    if missing is not None:
        count = count - torch.from_numpy(missing)
    made = [torch.from_numpy(plane) for plane in (mean, low, high, rms)]
    return Bins(made[0], made[1], made[2], made[3], count, None if flags is None else torch.from_numpy(flags))


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


def halve(bins: Bins, axis: int) -> Bins:
    """Pairs of neighbours along an axis become one bin; the last may stay alone.

    Each pair by itself, so that a part of the bins gives the same part of the result, to the bit. A mean weighs by cells,
    m = a s + b (1 - s) with s = n_a / (n_a + n_b), which cannot overflow; rms alike, by way of hypot.
    """
    size = bins.count.shape[axis]
    even = size // 2 * 2

    def pair(plane: Tensor) -> tuple[Tensor, Tensor]:
        return plane.narrow(axis, 0, even)[_EVERY_OTHER[axis][0]], plane.narrow(axis, 0, even)[_EVERY_OTHER[axis][1]]

    def ended(plane: Tensor, last: Tensor) -> Tensor:
        return plane if even == size else torch.cat([plane, last.narrow(axis, even, 1)], axis)

    one, other = pair(bins.count)
    count = one + other
    share = one / count.clamp(min=1)
    rest = 1 - share
    mean, rms, low, high = bins.mean, bins.rms, bins.min, bins.max
    if bins.flags is not None:
        some = bins.count > 0
        mean, rms = mean.where(some, 0), rms.where(some, 0)
        low, high = low.where(some, torch.inf), high.where(some, -torch.inf)
    a, b = pair(mean)
    mean = ended(a * share + b * rest, mean)
    a, b = pair(rms)
    rms = ended(torch.hypot(a * share.sqrt(), b * rest.sqrt()), rms)
    low, high = ended(torch.minimum(*pair(low)), low), ended(torch.maximum(*pair(high)), high)
    count = ended(count, bins.count)
    if bins.flags is None:
        return Bins(mean, low, high, rms, count, None)
    a, b = pair(bins.flags)
    none = count == 0
    mean, low, high, rms = (plane.masked_fill(none, torch.nan) for plane in (mean, low, high, rms))
    return Bins(mean, low, high, rms, count, ended(a | b, bins.flags))


_EVERY_OTHER = (
    (slice(0, None, 2), slice(1, None, 2)),
    ((slice(None), slice(0, None, 2)), (slice(None), slice(1, None, 2))),
)


def stack(parts: list[Bins]) -> Bins:
    """Rectangles of bins, one below the other."""
    if len(parts) == 1:
        return parts[0]
    names = ("mean", "min", "max", "rms", "count")
    mean, low, high, rms, count = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    flags = None
    if any(part.flags is not None for part in parts):
        flags = torch.cat(
            [p.count.new_zeros(p.count.shape, dtype=torch.uint8) if p.flags is None else p.flags for p in parts]
        )
    return Bins(mean, low, high, rms, count, flags)
