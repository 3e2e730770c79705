"""How a figure colours its cells: range, curve and map as on the page, and colours of their own for NaN and inf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap, FuncNorm, ListedColormap, LogNorm, Normalize, to_rgb, to_rgba
from matplotlib.patches import Patch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import given
from weightlab.see.bins import NAN, NEGATIVE, POSITIVE, reduce
from weightlab.see.colours import MAPS
from weightlab.see.layout import Layout
from weightlab.see.summary import Summary

RANGES = ("symmetric", "full", "robust", "shared")
SCALES = ("linear", "symlog", "log")
REDUCTIONS = {"extreme": "largest |w|", "mean": "mean", "min": "smallest", "max": "largest", "rms": "root mean square"}
NAN_COLOUR, POSITIVE_COLOUR, NEGATIVE_COLOUR = "#e232c8", "#ffb000", "#009e8c"  # those of the page
BLANK_COLOUR = "#e6e8ed"  # places of a contact sheet where there is no cell
LARGEST = 1e306  # the difference of what is drawn must be a float64, and so must the margins that matplotlib adds
_MARKS = (
    (NEGATIVE, NEGATIVE_COLOUR),
    (POSITIVE, POSITIVE_COLOUR),
    (NAN, NAN_COLOUR),
)  # a bin shows the last that it holds
_DECADES = 1e-4  # of the largest magnitude: where a logarithmic scale begins
_KNEE = 0.01  # of the largest magnitude: where symlog bends
_LOGARITHMS = 1e-280, 1e290  # ticks of a logarithmic axis go a power past both ends


@dataclass(frozen=True, slots=True)
class Look:
    """What a figure is asked to look like; see `Handle.plot`."""

    range: str | tuple[float, float] = "symmetric"
    scale: str = "linear"
    cmap: str = "auto"
    reduction: str = "extreme"

    def checked(self, title: str) -> Look:
        """Itself, or refused.

        Raises:
            EditRefused: a word that is not known, or a range that is none.
        """
        for what, known in (("scale", SCALES), ("cmap", ("auto", *MAPS)), ("reduction", tuple(REDUCTIONS))):
            asked = getattr(self, what)
            if not isinstance(asked, str) or asked not in known:
                raise EditRefused(f"{title}: there is no {what} {asked!r:.60}. Known: {', '.join(map(repr, known))}.")
        if isinstance(self.range, str) and self.range in RANGES:
            return self
        if not isinstance(self.range, tuple | list) or len(self.range) != 2:
            ranges = ", ".join(map(repr, RANGES))
            raise EditRefused(f"{title}: there is no range {self.range!r:.60}. Known: {ranges}, or (low, high).")
        low, high = (given.real_number(end, f"{title}: an end of the range") for end in self.range)
        if not low < high or (self.scale == "log" and high <= 0):
            rule = "magnitudes, the higher above 0" if self.scale == "log" else "the lower below the higher"
            raise EditRefused(f"{title}: the ends of the range must be {rule}, got ({low:g}, {high:g}).")
        return Look((low, high), self.scale, self.cmap, self.reduction)


@dataclass(frozen=True, slots=True)
class Paint:
    """From values to colours."""

    norm: Normalize
    cmap: Colormap
    ticks: list[float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A tensor's sheet as bins of `tall` x `wide` cells.

    Attributes:
        values: float64 [rows, columns], NaN where a bin has no finite cell.
        flags: uint8 [rows, columns], bits of `bins` for what else it holds.
        counts: cells that are shown and NaN, inf and -inf.
        blank: whether there are places without a cell.
    """

    values: np.ndarray
    flags: np.ndarray
    counts: tuple[int, int, int]
    blank: bool
    tall: int
    wide: int


def look_at(tensor: Tensor, layout: Layout, reduction: str, most: int) -> Seen:
    """The sheet of a layout in at most `most` bins a side, read in strips: the whole never exists twice."""
    height, width = layout.sheet
    # Powers of two, which are read in one compiled pass: half a billion cells in a second and not in a minute.
    tall, wide = (1 << (-(-side // most) - 1).bit_length() for side in (height, width))
    values, flags, counts, blank = [], [], np.zeros(3, dtype=np.int64), False
    for top in range(0, height, tall * 64):
        cells, real = layout.cut(tensor, top, min(top + tall * 64, height), 0, width)
        bins = reduce(cells, tall, wide, real)
        shown = (
            bins.max.where((bins.max.abs() >= bins.min.abs()) | bins.min.isnan(), bins.min)
            if reduction == "extreme"
            else getattr(bins, reduction)
        )
        values.append(shown.double().clamp(-LARGEST, LARGEST).cpu().numpy())
        if bins.flags is None:
            flags.append(np.zeros(shown.shape, dtype=np.uint8))
        else:
            flags.append(bins.flags.cpu().numpy())
            if flags[-1].any():
                counts += _nonfinite(cells)
        blank |= real is not None
    nan, positive, negative = (int(count) for count in counts)
    return Seen(np.concatenate(values), np.concatenate(flags), (nan, positive, negative), blank, tall, wide)


def _nonfinite(cells: Tensor) -> np.ndarray:
    """How many cells are NaN, inf and -inf, a few million at a time."""
    counts = np.zeros(3, dtype=np.int64)
    for piece in cells.split(max(1, (1 << 22) // max(cells.shape[1], 1))):
        shown = piece.abs() if piece.is_complex() else piece.double()
        counts += [int(bad.sum()) for bad in (shown.isnan(), shown == torch.inf, shown == -torch.inf)]
    return counts


def ends(look: Look, summary: Summary, signed: bool, extent: tuple[float, float] | None) -> tuple[float, float]:
    """Ends of the colours in values, the lower first, never equal: by the rules of the page's `rangeOf`."""

    def around(low: float, high: float) -> tuple[float, float]:
        limit = max(abs(low), abs(high))
        return (-limit, limit) if signed else (min(low, 0.0), high)

    every = (summary.min, summary.max) if summary.min == summary.min else (0.0, 0.0)
    low, high = around(*every)
    if not isinstance(look.range, str):
        low, high = look.range
    elif look.range == "full":
        low, high = every
    elif look.range == "shared" and extent:
        low, high = around(*extent)
    elif look.range == "robust":
        # The outermost quantiles: about one percent of the cells lie outside.
        inner = around(summary.quantiles[0][1], summary.quantiles[-1][1])
        low, high = inner if inner[0] < inner[1] else (low, high)
    low, high = (max(-LARGEST, min(end, LARGEST)) for end in (low, high))
    if look.scale == "log":
        most = min(max(abs(low), abs(high)) or 1.0, _LOGARITHMS[1])
        most = max(most, _LOGARITHMS[0])
        typed = not isinstance(look.range, str) and 0 < low < most
        return (max(low, _LOGARITHMS[0]) if typed else most * _DECADES), most
    if low < high:
        return low, high
    return (-1.0 if signed else 0.0, 1.0) if low == 0 else (min(low, 0.0), max(low, 0.0))


def paint(look: Look, low: float, high: float, signed: bool) -> Paint:
    """Colours between two ends. In a diverging map equal distances from 0 are equally strong, also where one end is nearer."""
    name = ("RdBu_r" if signed and look.scale != "log" else "viridis") if look.cmap == "auto" else look.cmap
    limit = max(abs(low), abs(high))
    knee = limit * _KNEE

    def bend(value: Any) -> Any:
        return np.sign(value) * np.log1p(np.abs(value) / knee) if look.scale == "symlog" else value

    def unbend(value: Any) -> Any:
        return np.sign(value) * np.expm1(np.abs(value)) * knee

    ticks, first, last = None, 0.0, 1.0
    if look.scale == "log":
        norm: Normalize = LogNorm(low, high)
    elif look.scale == "symlog":
        norm = FuncNorm((bend, unbend), low, high)
        steps = [limit * 0.1**power for power in range(3)]
        ticks = [at for at in (*(-step for step in steps), 0.0, *reversed(steps)) if low <= at <= high]
    else:
        norm = Normalize(low, high)
    if MAPS[name] == "diverging" and look.scale != "log":
        first, last = (float(1 + bend(end) / bend(limit)) / 2 for end in (low, high))
    # An odd number: 0 has the middle of a symmetric range for itself.
    table = colormaps[name](np.linspace(first, last, 255))
    cmap = ListedColormap(list(table))
    marked = cmap.with_extremes(bad=(0, 0, 0, 0), over=_beyond(table[-1]), under=_beyond(table[0]))
    return Paint(norm, marked, ticks)


def _beyond(end: Any) -> Any:
    """Past the range: an end of the map, darker."""
    return tuple(0.55 * part + 0.45 * dark for part, dark in zip(to_rgb(end), to_rgb("#100c18"), strict=True))


def marks(flags: np.ndarray) -> np.ndarray:
    """RGBA bytes [rows, columns, 4]: the colours of NaN, inf and -inf, and nothing elsewhere."""
    made = np.zeros((*flags.shape, 4), dtype=np.uint8)
    for bit, colour in _MARKS:
        made[flags & bit > 0] = [round(part * 255) for part in to_rgba(colour)]
    return made


def legend(counts: tuple[int, int, int]) -> Iterator[Patch]:
    """A line of it for each kind that there is."""
    kinds = zip(counts, ("NaN", "inf", "-inf"), (NAN_COLOUR, POSITIVE_COLOUR, NEGATIVE_COLOUR), strict=True)
    return (Patch(color=colour, label=f"{count:,} {kind}") for count, kind, colour in kinds if count)


def finite_extremes(seen: Seen) -> tuple[float, float]:
    """Of what is drawn, NaN where nothing is."""
    finite = seen.values[np.isfinite(seen.values) & (seen.flags == 0)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
