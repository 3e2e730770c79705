"""Statistics and histogram of a tensor, exact or from a sample.

Moments are over finite values and accumulate in float64: sums of float32 squares lose digits from some 10**7 cells on
and overflow from 1.8e19. On the CPU `reading.py` takes them in one compiled pass and the histogram in another; elsewhere
torch does, in pieces of a few million cells. Extremes and counts of both are equal, moments agree within 1e-12.

A sample becomes one line of float64 by NumPy: operations of torch on more than 32,768 cells wake its other threads, and on
a busy machine waiting for those takes longer than the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import apart, writing
from weightlab.progress import report
from weightlab.see import reading

BINS = 64
SAMPLE = 1 << 16
QUANTILES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
_CHUNK = 1 << 21
_LEAST = 2.0**-1022  # of float64 without loss: the inverse of what is less may be infinite


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of finite cells in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Numbers of one tensor or region; complex cells enter by magnitude.

    Attributes:
        count: cells; `nan`, `inf`, `zero`: how many of each.
        min, max, mean, std, l2: over finite cells, NaN where there are none. `std` is the standard deviation of the
            cells themselves (divided by n). With `exact` False the extremes are still over all cells.
        quantiles: `(q, value)`, values that cells have: the least one with at least the share q of the cells up to it. Always
            from at most `SAMPLE` cells evenly spread when there are more.
        exact: whether every cell entered everything but the quantiles.
        sampled: how many cells were looked at.
    """

    count: int
    nan: int
    inf: int
    zero: int
    min: float
    max: float
    mean: float
    std: float
    l2: float
    quantiles: tuple[tuple[float, float], ...]
    histogram: Histogram
    exact: bool
    sampled: int


def summarize(
    tensor: Tensor, *, exact: bool = True, bins: int = BINS, ends: tuple[float, float] | None = None
) -> Summary:
    """Count, extremes, moments, quantiles and histogram.

    Args:
        tensor: any real or complex dtype, any strides and device; only numbers leave the device.
        exact: look at every cell. Otherwise at most `SAMPLE` cells are (with the exact extremes, which cost one fast
            pass), and counts are scaled up to the whole.
        bins: of the histogram.
        ends: the smallest and the largest finite value, of who knows them already: they are not looked for again.

    Returns:
        Summary; `exact` is True too when the tensor is so small that the sample is all of it.

    Raises:
        Cancelled: nobody waits for it any more.
    """
    with writing(tensor):
        tensor = tensor.detach()
        sample = _line(spread(tensor, SAMPLE))
        looked = tensor if exact or sample.size == tensor.numel() else torch.from_numpy(sample)
        finite = sample[np.isfinite(sample)]
        with np.errstate(over="ignore"):  # an infinite pivot is none
            pivot = float(finite.mean()) if finite.size else 0.0
        counted = _counted(looked, pivot)
        low, high = (counted.low, counted.high) if looked is tensor else ends or _extremes(tensor)
        histogram = _histogram(looked, counted, low, high, bins, tensor.numel() / max(looked.numel(), 1))
    return Summary(
        **_numbers(tensor, looked, counted, low, high),
        quantiles=_quantiles(finite),
        histogram=histogram,
        exact=looked.numel() == tensor.numel(),
        sampled=looked.numel(),
    )


@dataclass(frozen=True, slots=True)
class _Counted:
    """One pass over the cells that were looked at; `low` is NaN where none is finite."""

    number: int  # finite cells
    nan: int
    inf: int
    zero: int
    low: float
    high: float
    mean: float
    std: float
    l2: float


def _counted(looked: Tensor, pivot: float) -> _Counted:
    """All but the histogram.

    With sums about a pivot p, t = sum (x - p) and q = sum (x - p)^2 over n cells: mean = p + t / n, the sum of squares
    about the mean is q - t^2 / n, that of squares q + 2 p t + n p^2. A pivot near the mean keeps the first subtraction
    from cancelling: where it takes more than half of the digits, the mean is the pivot of a second pass.
    """
    pivot = pivot + 0.0 if math.isfinite(pivot) else 0.0
    made = reading.moments(looked, pivot) or _moments(looked, pivot)
    missing = made.nan + made.positive + made.negative
    number = looked.numel() - missing
    low, high = (made.low, made.high) if number else (math.nan, math.nan)
    mean = std = l2 = math.nan
    if number:
        mean = min(max(pivot + made.total / number, low), high)
        about = made.squares - made.total / number * made.total
        largest = max(abs(low), abs(high))
        tame = largest == 0 or 1e-140 < largest < 1e140  # else squares overflow, or vanish
        if not tame:
            mean, std, l2 = _scaled(looked, low, high, number)
        elif low == high:
            std, l2 = 0.0, abs(low) * math.sqrt(number)
        elif about <= made.squares * 1e-7 and pivot != mean:
            return _counted(looked, mean)
        else:
            std = math.sqrt(max(about, 0.0) / number)
            l2 = math.sqrt(max(made.squares + pivot * (2 * made.total + number * pivot), 0.0))
    elif not looked.numel():
        l2 = 0.0
    return _Counted(number, made.nan, made.positive + made.negative, made.zero, low, high, mean, std, l2)


def _numbers(tensor: Tensor, looked: Tensor, counted: _Counted, low: float, high: float) -> dict[str, Any]:
    scale = tensor.numel() / looked.numel() if looked.numel() else 1.0
    return {
        "count": tensor.numel(),
        "nan": round(counted.nan * scale),
        "inf": round(counted.inf * scale),
        "zero": round(counted.zero * scale),
        "min": low,
        "max": high,
        "mean": counted.mean,
        "std": counted.std,
        "l2": counted.l2 * math.sqrt(scale),
    }


def _moments(looked: Tensor, pivot: float) -> reading.Moments:
    """`reading.moments` by torch: on any device, for any dtype."""
    low, high = math.inf, -math.inf
    total = squares = 0.0
    done = zero = nan = positive = negative = 0
    for chunk in chunks(looked):
        report(done, looked.numel(), f"counting {looked.numel():,} cells")
        done += chunk.numel()
        good = chunk if bool(chunk.sum().isfinite()) else chunk[chunk.isfinite()]
        if good.numel() < chunk.numel():
            nan += int(chunk.isnan().sum())
            positive += int((chunk == math.inf).sum())
            negative += int((chunk == -math.inf).sum())
        if good.numel():
            ends = torch.aminmax(good)
            low, high = min(low, float(ends.min)), max(high, float(ends.max))
            zero += good.numel() - int(good.count_nonzero())
            moved = good - pivot
            total += float(moved.sum())
            squares += float(moved.dot(moved))
    return reading.Moments(low, high, total, squares, zero, nan, positive, negative)


def _scaled(looked: Tensor, low: float, high: float, number: int) -> tuple[float, float, float]:
    """Mean, std and l2 of numbers divided by a power of two near the largest: 1e200 has no square, nor has 1e-200."""
    scale = math.ldexp(1.0, math.frexp(max(abs(low), abs(high)))[1] - 1)
    good = [chunk[chunk.isfinite()] / scale for chunk in chunks(looked)]
    mean = math.fsum(float(part.sum()) for part in good) / number
    squares = math.fsum(float(part.dot(part)) for part in good)
    centred = math.fsum(float((part - mean).square().sum()) for part in good)
    return mean * scale, math.sqrt(centred / number) * scale, math.sqrt(squares) * scale


def _real(cells: Tensor) -> Tensor:
    return dtypes.real(cells).reshape(-1).to(torch.float64)


def _line(cells: Tensor) -> Any:
    """A few cells as float64 in a row, as an array of its own."""
    if cells.device.type == "cpu" and cells.dtype in _AS_THEY_ARE:
        return apart(cells).numpy().astype(np.float64).reshape(-1)
    if cells.device.type == "cpu" and cells.dtype is torch.bfloat16:  # the upper half of a float32
        bits = apart(cells.view(torch.int16)).numpy().astype(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64).reshape(-1)
    return np.array(_real(cells).cpu().numpy())


_AS_THEY_ARE = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
)


def chunks(tensor: Tensor) -> Iterator[Tensor]:
    """The cells as 1-D float64 pieces, without a copy of the whole."""
    return map(_real, pieces(tensor))


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Views of a few million cells each."""
    if tensor.numel() <= _CHUNK:
        if tensor.numel():
            yield tensor
        return
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(_CHUNK)
        return
    axis = max(range(tensor.ndim), key=lambda a: tensor.shape[a])
    yield from tensor.split(max(1, tensor.shape[axis] * _CHUNK // tensor.numel()), axis)


def spread(tensor: Tensor, most: int) -> Tensor:
    """At most about `most` cells, evenly spread over every axis: a strided view."""
    steps = [1] * tensor.ndim
    while math.prod(-(-size // step) for size, step in zip(tensor.shape, steps, strict=True)) > most:
        axis = max(range(tensor.ndim), key=lambda a: -(-tensor.shape[a] // steps[a]))
        steps[axis] += 1 if steps[axis] < 8 else steps[axis] // 8
    return tensor[tuple(slice(None, None, step) for step in steps)]


def _extremes(tensor: Tensor) -> tuple[float, float]:
    """Smallest and largest finite value, in one fast pass where all are finite."""
    if not tensor.numel():
        return math.nan, math.nan
    if not tensor.is_complex() and tensor.dtype.itemsize > 1 and tensor.dtype not in dtypes.SIGNED:
        low, high = (float(end) for end in torch.aminmax(tensor))
        if math.isfinite(low) and math.isfinite(high):
            return low, high
    ends = [(float(good.min()), float(good.max())) for c in chunks(tensor) if (good := c[c.isfinite()]).numel()]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (math.nan, math.nan)


def _histogram(looked: Tensor, counted: _Counted, low: float, high: float, bins: int, scale: float) -> Histogram:
    """Counts, scaled up to the whole; x falls into bin (x / 2 - low / 2) (bins / (high / 2 - low / 2)).

    Extremes so near to each other that there is no such factor are one value to it.
    """
    if not counted.number:
        return Histogram(0.0, 0.0, (0,) * bins)
    if not high / 2 - low / 2 > bins * _LEAST:
        counts = torch.zeros(bins, dtype=torch.float64)
        counts[bins // 2] = counted.number
    else:
        read = reading.histogram(looked, low, high, bins)
        counts = _binned(looked, low, high, bins) if read is None else torch.from_numpy(read).double()
    return Histogram(low, high, tuple(int(c) for c in (counts * scale).round()))


def _binned(looked: Tensor, low: float, high: float, bins: int) -> Tensor:
    """By index instead of torch.histc: the same on every device, and safe where high - low overflows."""
    counts = torch.zeros(bins, dtype=torch.float64)
    done = 0
    for chunk in chunks(looked):
        report(done, looked.numel(), f"counting {looked.numel():,} cells")
        done += chunk.numel()
        good = chunk if bool(chunk.sum().isfinite()) else chunk[chunk.isfinite()]
        where = ((good * 0.5 - low / 2) * (bins / (high / 2 - low / 2))).long().clamp_(0, bins - 1)
        counts += torch.bincount(where, minlength=bins).cpu().double()
    return counts


def _quantiles(finite: Any) -> tuple[tuple[float, float], ...]:
    if not finite.size:
        return ()
    # No number between two cells: what is told is there, and of few cells the outermost are the extremes.
    ranks = [max(math.ceil(q * finite.size), 1) - 1 for q in QUANTILES]
    told = np.partition(finite, sorted(set(ranks)))[ranks]
    return tuple(zip(QUANTILES, told.tolist(), strict=True))
