"""A tensor at a glance: its numbers for a row of the tree, and its picture for a tile of the map.

Both cost about the same for a bias and for an embedding: a large tensor is looked at through a sample, and says so.
What must not be missed is not sampled: one fast pass finds the extremes and whether NaN or inf are among the cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import apart, writing
from weightlab.see.bins import reduce
from weightlab.see.ends import ends
from weightlab.see.layout import Layout
from weightlab.see.sample import spread, thinned

BARS = 24
SIDE = 32
SAMPLE = 1 << 14
NOT_FINITE, NO_CELL = 0, 1
_PICTURE_SAMPLE = 1 << 18
_REACH = 4.0  # standard deviations that the small histogram spans: one spike must not press all cells into one bar
_HEIGHT = 255


@dataclass(frozen=True, slots=True)
class Glance:
    """Numbers for one row of a list; complex cells enter by magnitude.

    Attributes:
        count: cells; `nan`, `inf` of all cells, `zero` of the sample, scaled up.
        min, max: over all finite cells, NaN where there are none.
        mean, std, l2: over the finite cells of the sample; `l2` scaled up to the whole.
        low, high: what `bars` spans: the extremes, but at most four standard deviations about the mean.
        bars: `BARS` bytes, the heights of a histogram, the highest 255; what lies outside is in the outermost.
        sampled: how many cells were looked at; `count` when it was all of them.
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
    low: float
    high: float
    bars: bytes
    sampled: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of at most `SIDE` x `SIDE` bins, each the cell of largest magnitude in it.

    Attributes:
        codes: rows * columns bytes: 128 is 0, 2 and 254 are -limit and +limit; `NOT_FINITE` where a bin holds NaN or inf,
            `NO_CELL` where it lies behind the last block of a contact sheet.
        limit: magnitude of the strongest colour: 99 of 100 bins lie within.
        sampled: whether cells were left out.
    """

    rows: int
    columns: int
    codes: bytes
    limit: float
    sampled: bool


def glance(tensor: Tensor) -> Glance:
    """The numbers of a tensor with values, of any real or complex dtype, on any device."""
    with writing(tensor):
        tensor = tensor.detach()
        count = tensor.numel()
        looked = spread(tensor, SAMPLE)
        cells = _numbers(looked)
        nan = inf = 0
        good = cells
        low = high = math.nan
        if looked.numel() == count:
            good = cells[np.isfinite(cells)]
            if good.size < cells.size:
                nan = int(np.isnan(cells).sum())
                inf = cells.size - good.size - nan
            if good.size:
                low, high = float(good.min()), float(good.max())
        else:
            found = ends(tensor)
            low, high, nan, inf = found.low, found.high, found.nan, found.inf
            if nan or inf:
                good = cells[np.isfinite(cells)]
    scale = count / looked.numel() if looked.numel() else 1.0
    mean = std = l2 = math.nan
    zero, left, right, bars = 0, 0.0, 0.0, bytes(BARS)
    if good.size:
        mean, std, l2 = _moments(good)
        zero = round((good.size - int(np.count_nonzero(good))) * scale)
        left, right = max(low, mean - _REACH * std), min(high, mean + _REACH * std)
        bars = _bars(good, left, right)
    l2 = 0.0 if not count else l2 * math.sqrt(scale)
    return Glance(count, nan, inf, zero, low, high, mean, std, l2, left, right, bars, looked.numel())


def _numbers(cells: Tensor) -> np.ndarray:
    """float64 cells in one row, on the CPU."""
    return apart(dtypes.real(cells).reshape(-1).to(torch.float64).cpu()).numpy()


def _moments(good: np.ndarray) -> tuple[float, float, float]:
    """Mean, standard deviation and norm; scaled by a power of two, since 1e200 has no square."""
    largest = max(abs(float(good.max())), abs(float(good.min())))
    if largest == 0.0:
        return 0.0, 0.0, 0.0
    unit = 2.0 ** (math.frexp(largest)[1] - 1)
    scaled = good / unit
    mean = float(scaled.mean())
    centred = scaled - mean
    return (
        mean * unit,
        math.sqrt(float(centred @ centred) / good.size) * unit,
        math.sqrt(float(scaled @ scaled)) * unit,
    )


def _bars(good: np.ndarray, low: float, high: float) -> bytes:
    if not high / 2 - low / 2 > BARS * 2.0**-1022:  # the inverse of what is less may be infinite
        return bytes(_HEIGHT if at == BARS // 2 else 0 for at in range(BARS))
    # Halves: high - low of float64 extremes may overflow.
    where = ((good / 2 - low / 2) * (BARS / (high / 2 - low / 2))).clip(0, BARS - 1).astype(np.int64)
    counts = np.bincount(where, minlength=BARS)
    heights = np.ceil(counts * (_HEIGHT / counts.max()))  # a bar with a cell in it can be seen
    return bytes(heights.astype(np.uint8))


def thumbnail(tensor: Tensor, layout: Layout) -> Thumbnail:
    """The tensor's picture in its layout, small.

    Axes of facets are kept whole and the others thinned, so that the tile looks like the picture.
    """
    with writing(tensor):
        tensor = tensor.detach()
        if not tensor.numel():
            return Thumbnail(0, 0, b"", 0.0, False)
        inner = (*layout.rows, *layout.columns)
        looked = thinned(tensor, _PICTURE_SAMPLE, inner if layout.facets else None)
        small = replace(layout, shape=tuple(looked.shape))
        height, width = small.sheet
        cells, real = small.cut(looked, 0, height, 0, width)
        bins = reduce(cells, -(-height // SIDE), -(-width // SIDE), real)
        extreme = bins.max.where(bins.max.abs() >= bins.min.abs(), bins.min).double().cpu()
        blank = np.zeros(tuple(extreme.shape), dtype=bool)
        if bins.flags is not None:
            odd = (bins.flags > 0).cpu()
            extreme = extreme.masked_fill(odd, math.nan)
            blank = ((bins.count == 0).cpu() & ~odd).numpy()
    values = extreme.numpy()
    finite = np.isfinite(values)
    sizes = np.sort(np.abs(values[finite]))
    limit = float(sizes[int((sizes.size - 1) * 0.99)]) if sizes.size else 0.0
    codes = np.full(values.shape, NOT_FINITE, dtype=np.uint8)
    codes[blank] = NO_CELL
    codes[finite] = 128 + np.round((values[finite] / (limit or 1.0)).clip(-1, 1) * 126)
    return Thumbnail(values.shape[0], values.shape[1], codes.tobytes(), limit, looked.numel() < tensor.numel())
