"""The whole model as one figure: a tile per tensor, in order of depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from weightlab.see.figure_look import BLANK_COLOUR, NAN_COLOUR
from weightlab.see.figures import LabFigure
from weightlab.see.glance import NO_CELL, NOT_FINITE, Thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Colour = Literal["picture", "std", "zeros", "gradient norm", "update ratio", "status"]
COLOURS: tuple[str, ...] = get_args(Colour)
_STATUS = {
    "flowing": "#2e8b57", "weak": "#d9b45b", "partial": "#b87900", "zero": "#c8452d", "unreached": "#e79a8b",
    "frozen": "#5b8bb0", "nonfinite": "#7a1fa2",
}  # fmt: skip
_NONE = "#d5d9e0"
_TILE, _GAP = 1.0, 0.14


@dataclass(frozen=True, slots=True)
class Tile:
    """One tensor: its picture, or the number that colours it; None where there is none."""

    name: str
    shape: tuple[int, ...]
    picture: Thumbnail | None
    value: float | None
    status: str


def plot_model(title: str, tiles: Sequence[Tile], colour: str) -> LabFigure:
    """Tiles in rows, in the model's order; grey where there is nothing to show."""
    across = max(1, math.ceil(math.sqrt(len(tiles) * 1.7)))
    down = max(1, math.ceil(len(tiles) / across))
    figure = LabFigure(figsize=(min(12.0, 1.2 + across * 0.34), min(12.0, 0.9 + down * 0.34)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-_GAP, across * (_TILE + _GAP)), ylim=(down * (_TILE + _GAP), -_GAP), aspect="equal")
    axes.set_axis_off()
    axes.set_title(f"{title} · {len(tiles)} tensors · {colour}", loc="left", fontsize=9)
    if colour == "picture":
        _pictures(axes, tiles, across)
    else:
        _colours(figure, axes, tiles, across, colour)
    return figure


def _at(number: int, across: int) -> tuple[float, float]:
    return number % across * (_TILE + _GAP), number // across * (_TILE + _GAP)


def _pictures(axes: Axes, tiles: Sequence[Tile], across: int) -> None:
    from matplotlib.colors import to_rgba

    for number, tile in enumerate(tiles):
        left, top = _at(number, across)
        picture = tile.picture
        if picture is None or not picture.codes:
            axes.add_patch(_square(left, top, _NONE))
            continue
        codes = np.frombuffer(picture.codes, dtype=np.uint8).reshape(picture.rows, picture.columns)
        cells = _diverging()(codes.astype(np.float64) / 252 - 1 / 126, bytes=True)  # from code 2 to code 254: 0 to 1
        for code, colour in ((NOT_FINITE, NAN_COLOUR), (NO_CELL, BLANK_COLOUR)):
            cells[codes == code] = [round(part * 255) for part in to_rgba(colour)]
        extent = (left, left + _TILE, top + _TILE, top)
        axes.imshow(cells, interpolation="nearest", aspect="auto", extent=extent)
    # imshow moves the limits to its last image.
    down = math.ceil(len(tiles) / across)
    axes.set(xlim=(-_GAP, across * (_TILE + _GAP)), ylim=(down * (_TILE + _GAP), -_GAP), aspect="equal")


def _colours(figure: LabFigure, axes: Axes, tiles: Sequence[Tile], across: int, colour: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Patch

    if colour == "status":
        for number, tile in enumerate(tiles):
            axes.add_patch(_square(*_at(number, across), _STATUS.get(tile.status, _NONE)))
        seen = [status for status in _STATUS if any(tile.status == status for tile in tiles)]
        if seen:
            axes.legend(
                handles=[Patch(color=_STATUS[status], label=status) for status in seen],
                loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8,
            )  # fmt: skip
        else:
            axes.text(0, -0.02, "no check yet: lab.check_gradients()", transform=axes.transAxes, va="top", fontsize=8)
        return
    values = [tile.value for tile in tiles if tile.value is not None and math.isfinite(tile.value)]
    positive = [value for value in values if value > 0]
    logarithmic = colour != "zeros" and bool(positive)
    low, high = (min(positive), max(positive)) if logarithmic else (0.0, 1.0)
    # Ticks of a logarithmic axis go a power past both ends, where float64 has none: there the exponents are drawn.
    far = logarithmic and not (low > 1e-290 and high < 1e290)
    if far:
        norm: Normalize = Normalize(math.log10(low), math.log10(high) if high > low else math.log10(low) + 0.01)
    else:
        norm = LogNorm(low, high if high > low else low * 1.01) if logarithmic else Normalize(low, high)
    shade = ScalarMappable(norm, "viridis")
    for number, tile in enumerate(tiles):
        value = math.nan if tile.value is None else tile.value
        known = math.isfinite(value) and (value > 0 or not logarithmic)
        axes.add_patch(
            _square(
                *_at(number, across), shade.to_rgba(np.asarray(math.log10(value) if far else value)) if known else _NONE
            )
        )
    if values:
        figure.colorbar(shade, ax=axes, shrink=0.8, label=f"log10 of {colour}" if far else colour)


def _square(left: float, top: float, colour: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), _TILE, _TILE, color=colour, lw=0)


def _diverging() -> Any:
    import matplotlib

    return matplotlib.colormaps["RdBu_r"]
