"""Figures of a check and of a diagnosis: what the page draws under "Flow", for papers and for hosts without scripts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from weightlab.see.figures import LabFigure

if TYPE_CHECKING:
    from weightlab.check.report import GradientReport
    from weightlab.check.signal import Signal

NAMED = 60  # places that have room for their names
DECADES = 24  # deeper than that an axis would press all that is healthy into one line
_GREY, _BLUE, _PURPLE, _RED = "#8a93a2", "#3b6ea5", "#8a4f9e", "#b3261e"


def plot_norms(report: GradientReport) -> LabFigure:
    """Norms of weights and gradients in the model's order, and below them their ratio.

    The sign and colour of a gradient is its status; one without a positive norm stands on the floor.
    """
    from weightlab.check.report import SIGNS

    rows = report.rows
    figure = _figure(len(rows), 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    places = range(len(rows))
    floor = _floor([value for row in rows for value in (row.norm, row.weight)])
    above.plot(places, [_positive(row.weight) for row in rows], color=_GREY, marker="s", ms=3.5, lw=1, label="weight")
    above.plot(places, [_positive(row.norm) for row in rows], color=_BLUE, lw=1, alpha=0.6)
    for status, (_, colour, marker) in SIGNS.items():
        at = [place for place, row in enumerate(rows) if row.status == status]
        if at:
            shown = [_positive(rows[place].norm, floor) for place in at]
            above.scatter(at, shown, c=colour, marker=marker, label=f"{status} ({len(at)})", zorder=3)
    _logarithmic(above, floor, "norm")
    title = f"loss {report.loss:.4g}" + (f" ({report.note})" if report.note else "")
    above.set_title(title, loc="left", fontsize=10)
    ratio = [row.norm / row.weight if row.norm and row.weight else math.nan for row in rows]
    below.scatter(places, [_positive(value) for value in ratio], c=_GREY, marker="D", s=14)
    _logarithmic(below, _floor(ratio), "gradient / weight")
    _name(below, [row.name for row in rows], "parameter, in the model's order")
    if rows:
        above.legend(fontsize=8)
    return figure


def plot_signal(signal: Signal, marked: Collection[str] = ()) -> LabFigure:
    """Bars of |activation| and |gradient| per layer on logarithmic axes, their root mean squares beside the expected ones.

    Args:
        marked: names of layers and parameters to point out, beside those where the signal dies.
    """
    rows = list(signal)
    figure = _figure(len(rows), 5.4)
    above, below = figure.subplots(2, 1, sharex=True)
    _bars(above, [row.activation for row in rows], [row.variance for row in rows], _BLUE, "|activation|")
    _bars(below, [row.gradient for row in rows], [row.gradient_variance for row in rows], _PURPLE, "|gradient|")
    _expected(above, [row.expected for row in rows], 0.0)
    # What is expected of a gradient is that at the layer's input: between it and the one before.
    _expected(below, [row.expected_gradient for row in rows], -0.5)
    told = ""
    for place, row in enumerate(rows):
        if row.note:
            for axes in (above, below):
                axes.axvline(place, color=_RED, alpha=0.6, linestyle="--", linewidth=1)
            if row.note != told:
                above.annotate(
                    f"✕ {row.note}", (place, 1.0), (3, 2), xycoords=("data", "axes fraction"),
                    textcoords="offset points", color=_RED, fontsize=8,
                )  # fmt: skip
        elif row.name in marked or row.weight in marked:
            below.plot(place, 0, marker="^", color=_RED, transform=below.get_xaxis_transform(), clip_on=False, zorder=4)
        told = row.note
    for axes in (above, below):
        if rows:
            axes.legend(fontsize=8)
    _name(below, [f"{row.name} {row.op}".strip() for row in rows], "layer, in order of execution")
    return figure


def _figure(count: int, height: float) -> LabFigure:
    return LabFigure(figsize=(max(6.0, min(16.0, 0.3 * count + 2)), height), layout="constrained")


def _bars(
    axes: Axes,
    quantiles: Sequence[tuple[float, ...] | None],
    squares: Sequence[float | None],
    colour: str,
    label: str,
) -> None:
    sizes = [math.nan if square is None else math.sqrt(square) for square in squares]
    # Of what is typical: a few cells near zero would take the room of all others.
    floor = _floor([*sizes, *(five[3] for five in quantiles if five)])
    for low, high, alpha, words in ((0, 4, 0.18, "5 to 95 %"), (1, 3, 0.3, "25 to 75 %")):
        at = [place for place, five in enumerate(quantiles) if five and math.isfinite(five[high])]
        bottoms = [_positive(five[low], floor, floor) for five in quantiles if five and math.isfinite(five[high])]
        tops = [_positive(five[high], floor, floor) for five in quantiles if five and math.isfinite(five[high])]
        heights = [top - bottom for top, bottom in zip(tops, bottoms, strict=True)]
        axes.bar(at, heights, 0.72, bottoms, color=colour, alpha=alpha, linewidth=0, label=words)
    shown = [_positive(size) for size in sizes]
    axes.plot(range(len(sizes)), shown, color=colour, marker=".", lw=1.2, label="root mean square")
    _logarithmic(axes, floor, label)


def _expected(axes: Axes, squares: Sequence[float | None], shift: float) -> None:
    at = [place + shift for place, square in enumerate(squares) if square]
    sizes = [math.sqrt(square) for square in squares if square]
    if at:
        axes.scatter(at, sizes, marker="_", c="black", s=60, label="expected", zorder=3)


def _logarithmic(axes: Axes, floor: float, label: str) -> None:
    axes.set_yscale("log")
    axes.margins(y=0.1)  # the highest marker is whole in low axes, too
    axes.set_ylim(bottom=floor / 1.5)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _name(axes: Axes, names: Sequence[str], otherwise: str) -> None:
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    else:
        axes.set_xlabel(otherwise)


def _floor(values: Sequence[float | None]) -> float:
    """Where what is not positive stands: a decade below the rest."""
    found = [value for value in values if value and value > 0 and math.isfinite(value)]
    return max(min(found), max(found) * 10.0**-DECADES) / 10 if found else 0.1


def _positive(value: float | None, otherwise: float = math.nan, least: float = 0.0) -> float:
    return max(value, least) if value and value > 0 and math.isfinite(value) else otherwise
