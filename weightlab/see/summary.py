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

from weightlab.model.storage import apart, writing
from weightlab.progress import report
from weightlab.see import reading
from weightlab.see.ends import Ends
from weightlab.see.ends import ends as ends_of
from weightlab.see.pieces import chunks, real
from weightlab.see.quantiles import quantiles, ranks
from weightlab.see.sample import spread

BINS = 64
SAMPLE = 1 << 16
QUANTILES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
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
        quantiles: `(q, value)`, values that cells have: the least one with at least the share q of the finite cells up to it.
        exact: whether every cell entered everything.
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
        whole = looked is tensor
        low, high = counted.low, counted.high
        if not whole:
            seen = ends or ends_of(tensor)
            low, high = (seen.low, seen.high) if isinstance(seen, Ends) else seen
        histogram = _histogram(looked, counted, low, high, bins, tensor.numel() / max(looked.numel(), 1))
        told = quantiles(tensor, QUANTILES) if whole and tensor.numel() > SAMPLE else _quantiles(finite)
    return Summary(
        **_numbers(tensor, looked, counted, low, high),
        quantiles=tuple(zip(QUANTILES, told, strict=True)) if told else (),
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

    def scaled() -> Iterator[Tensor]:
        done = 0
        for chunk in chunks(looked):
            report(done, looked.numel(), f"counting {looked.numel():,} cells")
            done += chunk.numel()
            yield chunk[chunk.isfinite()] / scale

    sums, squared = [], []
    for part in scaled():
        sums.append(float(part.sum()))
        squared.append(float(part.dot(part)))
    mean, squares = math.fsum(sums) / number, math.fsum(squared)
    centred = math.fsum(float(part.sub_(mean).square_().sum()) for part in scaled())
    return mean * scale, math.sqrt(centred / number) * scale, math.sqrt(squares) * scale


def _line(cells: Tensor) -> Any:
    """A few cells as float64 in a row, as an array of its own."""
    if cells.device.type == "cpu" and cells.dtype in _AS_THEY_ARE:
        return apart(cells).numpy().astype(np.float64).reshape(-1)
    if cells.device.type == "cpu" and cells.dtype is torch.bfloat16:  # the upper half of a float32
        bits = apart(cells.view(torch.int16)).numpy().astype(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64).reshape(-1)
    return np.array(real(cells).cpu().numpy())


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


def _quantiles(finite: Any) -> list[float]:
    """Of few cells. No number between two of them: what is told is there, and the outermost may be the extremes."""
    if not finite.size:
        return []
    places = ranks(QUANTILES, finite.size)
    told: list[float] = (np.partition(finite, sorted(set(places)))[places] + 0.0).tolist()
    return told
