"""Statistics and histogram of a tensor, exact or from a sample.

Moments are over finite values and accumulate in float64: sums of float32 squares lose digits from some 10**7 cells on
and overflow from 1.8e19. Nothing larger than a few million cells is copied at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.model.storage import writing
from weightlab.progress import report

BINS = 64
SAMPLE = 1 << 16
QUANTILES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)
_CHUNK = 1 << 21


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
        quantiles: `(q, value)`; always from at most `SAMPLE` cells evenly spread when there are more.
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


def summarize(tensor: Tensor, *, exact: bool = True, bins: int = BINS) -> Summary:
    """Count, extremes, moments, quantiles and histogram.

    Args:
        tensor: any real or complex dtype, any strides and device; only numbers leave the device.
        exact: look at every cell. Otherwise at most `SAMPLE` cells are (with the exact extremes, which cost one fast
            pass), and counts are scaled up to the whole.
        bins: of the histogram.

    Returns:
        Summary; `exact` is True too when the tensor is so small that the sample is all of it.
    """
    with writing(tensor):
        tensor = tensor.detach()
        sample = _spread(tensor, SAMPLE)
        whole = sample.numel() == tensor.numel()
        looked = tensor if exact or whole else sample
        shown = _real(sample)
        finite = shown[shown.isfinite()]
        low, high = _extremes(tensor)
        edges = (low, high) if math.isfinite(low) else (0.0, 0.0)
        counts = torch.zeros(bins, dtype=torch.float64)
        nan = inf = zero = number = 0
        total = 0.0
        for chunk in _chunks(looked):
            report(number + nan + inf, 2 * looked.numel(), f"counting {looked.numel():,} cells")
            good = chunk if bool(chunk.sum().isfinite()) else chunk[chunk.isfinite()]
            if good is not chunk:
                missing = int(chunk.isnan().sum())
                nan, inf = nan + missing, inf + chunk.numel() - missing - good.numel()
            number += good.numel()
            zero += good.numel() - int(good.count_nonzero())
            total += float(good.sum())
            if good.numel():
                counts += _histogram(good, *edges, bins)
        mean = total / number if number else math.nan
        squares, spread = _second_moments(looked, mean, max(abs(low), abs(high)))
        scale = tensor.numel() / looked.numel() if looked.numel() else 1.0
    return Summary(
        count=tensor.numel(),
        nan=round(nan * scale),
        inf=round(inf * scale),
        zero=round(zero * scale),
        min=low,
        max=high,
        mean=mean,
        std=spread / math.sqrt(number) if number else math.nan,
        l2=squares * math.sqrt(scale) if number else math.nan if tensor.numel() else 0.0,
        quantiles=_quantiles(finite),
        histogram=Histogram(*edges, tuple(int(c) for c in (counts * scale).round())),
        exact=looked.numel() == tensor.numel(),
        sampled=looked.numel(),
    )


def _second_moments(looked: Tensor, mean: float, largest: float) -> tuple[float, float]:
    """Root of the sum of squares, and of squares about the mean; scaled by a power of two, since 1e200 has no square."""
    if not largest > 0 or not math.isfinite(largest):
        return 0.0 if largest == 0 else math.nan, 0.0
    scale = 2.0 ** (math.frexp(largest)[1] - 1)
    squares = centred = 0.0
    done = looked.numel()
    for chunk in _chunks(looked):
        report(done, 2 * looked.numel(), f"counting {looked.numel():,} cells")
        done += chunk.numel()
        good = chunk if bool(chunk.sum().isfinite()) else chunk[chunk.isfinite()]
        scaled = good / scale
        squares += float(scaled.dot(scaled))
        scaled -= mean / scale
        centred += float(scaled.dot(scaled))
    return math.sqrt(squares) * scale, math.sqrt(centred) * scale


def _real(cells: Tensor) -> Tensor:
    cells = cells.abs() if cells.is_complex() else cells
    return cells.reshape(-1).to(torch.float64)


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    """The cells as 1-D float64 pieces, without a copy of the whole."""
    if tensor.numel() <= _CHUNK:
        if tensor.numel():
            yield _real(tensor)
        return
    if tensor.is_contiguous():
        for piece in tensor.view(-1).split(_CHUNK):
            yield _real(piece)
        return
    axis = max(range(tensor.ndim), key=lambda a: tensor.shape[a])
    for piece in tensor.split(max(1, tensor.shape[axis] * _CHUNK // tensor.numel()), axis):
        yield _real(piece)


def _spread(tensor: Tensor, most: int) -> Tensor:
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
    if not tensor.is_complex() and tensor.dtype.itemsize > 1 and tensor.dtype not in _NO_MINMAX:
        low, high = (float(end) for end in torch.aminmax(tensor))
        if math.isfinite(low) and math.isfinite(high):
            return low, high
    ends = [(float(good.min()), float(good.max())) for c in _chunks(tensor) if (good := c[c.isfinite()]).numel()]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (math.nan, math.nan)


_NO_MINMAX = (torch.uint16, torch.uint32, torch.uint64)


def _histogram(good: Tensor, low: float, high: float, bins: int) -> Tensor:
    if low == high:
        counts = torch.zeros(bins, dtype=torch.float64)
        counts[bins // 2] = good.numel()
        return counts
    # By index instead of torch.histc: the same on every device, and safe where high - low overflows.
    where = ((good / 2 - low / 2) * (bins / (high / 2 - low / 2))).long().clamp_(0, bins - 1)
    return torch.bincount(where, minlength=bins).cpu().double()


def _quantiles(finite: Tensor) -> tuple[tuple[float, float], ...]:
    if not finite.numel():
        return ()
    values = finite.quantile(torch.tensor(QUANTILES, dtype=finite.dtype, device=finite.device))
    return tuple(zip(QUANTILES, values.tolist(), strict=True))
