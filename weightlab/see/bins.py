"""Bins of cells: mean, extremes, root mean square, and whether NaN or inf are among them.

Two ways lead to the same bins. On the CPU `reading.py` takes all in one compiled pass. Here torch does, on any device: rows
are reduced before columns, since summing whole contiguous rows runs at memory speed and leaves a fraction of the cells for
the slower reduction along a row. Extremes, flags and counts of both are equal; means and rms agree within 1e-5 of the largest
magnitude in the bin (torch sums float32 in float32, which is what a GPU does at the speed of its memory).

On CUDA the four reductions of a piece read it four times, but a piece of `CHUNK` cells stays in the second-level cache
meanwhile, so that memory is read about once.

What is done with bins afterwards is little work. On the CPU NumPy does it: operations of torch on more than 32,768 numbers
wake its other threads, and on a busy machine waiting for those takes longer than the work (the levels above a base of
512 x 512 bins, beside a browser on two cores: 2 ms, and 20 to 200 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import apart
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


def reduce(cells: Tensor, tall: int, wide: int, real: Tensor | None = None, worth: int = reading.WORTH_CELLS) -> Bins:
    """Bins of `tall` x `wide` cells; those at the lower and right edge may hold fewer.

    Args:
        cells: [rows, columns] of any real dtype; complex ones are reduced by magnitude.
        real: which cells exist; None for all.
        worth: how many cells are worth the compiled pass; 0 for a part of what it took before, to have the same bits.
    """
    if real is None and tall * wide == 1 and cells.dtype is torch.float32 and cells.device.type == "cpu":
        array = apart(cells).numpy()
        if np.isfinite(array).all():
            return Bins(cells, cells, cells, torch.from_numpy(np.abs(array)), torch.ones(1).expand(cells.shape), None)
    if real is None:
        read = reading.planes(cells, tall, wide, worth=worth)
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
        return dtypes.real(cells)
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
    rows, columns = shape
    bins, low, near = (-(-rows // tall), -(-columns // wide)), rows % tall or tall, columns % wide or wide
    on_cpu = device.type == "cpu"
    counts: Any = (
        np.full(bins, float(tall * wide), np.float32) if on_cpu else torch.full(bins, float(tall * wide), device=device)
    )
    counts[-1:] = low * wide
    counts[:, -1:] = tall * near
    counts[-1:, -1:] = low * near
    return torch.from_numpy(counts) if on_cpu else counts


def halve(bins: Bins, axis: int) -> Bins:
    """Pairs of neighbours along an axis become one bin; the last may stay alone.

    Each pair by itself, so that a part of the bins gives the same part of the result, to the bit. A mean weighs by cells,
    m = a s + b (1 - s) with s = n_a / (n_a + n_b), which cannot overflow; rms alike, by way of hypot.
    """
    planes: list[Any] = [*_planes(bins), bins.flags]
    if bins.count.device.type != "cpu":
        return Bins(*_halved(torch, axis, planes))
    arrays = [None if plane is None else apart(plane).numpy() for plane in planes]
    with np.errstate(all="ignore"):
        made: list[Any] = _halved(np, axis, arrays)
    made = [None if array is None else torch.from_numpy(array) for array in made]
    return Bins(*made)


def _planes(bins: Bins) -> tuple[Tensor, ...]:
    return bins.mean, bins.min, bins.max, bins.rms, bins.count


def _halved(xp: Any, axis: int, planes: list[Any]) -> list[Any]:
    """By torch or NumPy: what is used of the two is spelled alike."""
    mean, low, high, rms, count, flags = planes
    size = count.shape[axis]
    even = size // 2 * 2
    before = (slice(None),) * axis
    one, other, last = (*before, slice(0, even, 2)), (*before, slice(1, even, 2)), (*before, slice(even, size))

    def ended(plane: Any, whole: Any) -> Any:
        return plane if even == size else xp.concatenate([plane, whole[last]], axis)

    total = count[one] + count[other]
    share = count[one] / xp.clip(total, 1, None)
    rest = 1 - share
    if flags is not None:
        some = count > 0
        mean, rms = xp.where(some, mean, 0.0), xp.where(some, rms, 0.0)
        low, high = xp.where(some, low, xp.inf), xp.where(some, high, -xp.inf)
    mean = ended(mean[one] * share + mean[other] * rest, mean)
    rms = ended(xp.hypot(rms[one] * xp.sqrt(share), rms[other] * xp.sqrt(rest)), rms)
    low, high = ended(xp.minimum(low[one], low[other]), low), ended(xp.maximum(high[one], high[other]), high)
    count = ended(total, count)
    if flags is not None:
        some = count > 0
        mean, low, high, rms = (xp.where(some, plane, xp.nan) for plane in (mean, low, high, rms))
        flags = ended(flags[one] | flags[other], flags)
    made = [mean, low, high, rms, count]
    if xp is np:  # NumPy 1 makes float64 of float32 beside a number
        made = [plane.astype(old.dtype, copy=False) for plane, old in zip(made, planes, strict=False)]
    return [*made, flags]


def stack(parts: list[Bins]) -> Bins:
    """Rectangles of bins, one below the other."""
    if len(parts) == 1:
        return parts[0]
    mean, low, high, rms, count = (_joined(planes) for planes in zip(*map(_planes, parts), strict=True))
    flags = None
    if any(part.flags is not None for part in parts):
        flags = _joined(
            [p.count.new_zeros(p.count.shape, dtype=torch.uint8) if p.flags is None else p.flags for p in parts]
        )
    return Bins(mean, low, high, rms, count, flags)


def _joined(planes: Sequence[Tensor]) -> Tensor:
    if planes[0].device.type != "cpu":
        return torch.cat(list(planes))
    return torch.from_numpy(np.concatenate([apart(plane).numpy() for plane in planes]))
