"""matplotlib figures of tensors: for papers, and for hosts that run no scripts.

Figures are made without pyplot, so that no global state grows; `LabFigure` shows itself in a notebook all the same.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model.region import Region
from weightlab.model.tree import TensorInfo
from weightlab.see.figure_axes import LONG, draw_edges, label_axes, name_of
from weightlab.see.figure_look import (
    BLANK_COLOUR,
    LARGEST,
    REDUCTIONS,
    Look,
    Seen,
    ends,
    finite_extremes,
    legend,
    look_at,
    marks,
    paint,
)
from weightlab.see.figure_rgb import colour_axis, mixed
from weightlab.see.layout import Layout, layout_of
from weightlab.see.summary import Summary, summarize

_PIXELS = 300  # what the axes have at 100 dots per inch: of more bins than that matplotlib would leave some out
_TITLE = 60  # letters of a line that do not run into the histogram
EDGES = ("norm", "mean", "zeros", "largest")


class LabFigure(Figure):
    """A Figure that a notebook shows when it is the last value of a cell."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def plot_tensor(
    tensor: Tensor,
    info: TensorInfo,
    region: Region,
    view: str = "value",
    layout: Layout | None = None,
    *,
    look: Look | None = None,
    signed: bool = True,
    extent: tuple[float, float] | None = None,
    rgb: bool = False,
    edges: str | None = None,
) -> LabFigure:
    """Heatmap of the whole tensor, the region framed, and a histogram of the region's values.

    Args:
        tensor: values of the view, shaped `info.shape`.
        region: framed where it is a part; its cells make the histogram.
        layout: axes in their roles; by default by shape alone.
        look: range, scale, map and reduction; by default symmetric about 0 and linear.
        signed: whether values on both sides of 0 are to be expected.
        extent: what the range "shared" reaches over.
        rgb: three inputs as red, green and blue; the layout has them fixed at one index (see `figure_rgb.coloured`).
        edges: a statistic of each row and column along the sides.

    Returns:
        Figure with two axes, and one for the colour bar. A tensor of more than 300 cells a side is drawn by the cell of
        largest magnitude per bin, and the title says so. NaN, inf and -inf have colours of their own, at every level of
        reduction, and a line with their counts. Groups (heads, gates, q, k and v, groups of a convolution) are set apart
        by lines and labelled.

    Raises:
        EditRefused: the layout is that of another tensor, or something that was asked is not known.
    """
    layout, look = layout or layout_of(info), (look or Look()).checked(info.title)
    if layout.shape != info.shape:
        raise EditRefused(
            f"{info.title}: the layout is for {list(layout.shape)}. Make one with lab['{info.name}'].layout()."
        )
    _edges_checked(edges, layout, rgb, info.title)
    figure = LabFigure(figsize=(8, 4.2), layout="constrained")
    heat, side = figure.subplots(1, 2, width_ratios=(3.2, 1))
    title = f"{info.name} {list(info.shape)}" + ("" if view == "value" else f" · {view}")
    inputs = colour_axis(layout) if rgb else None
    for axis, index in layout.fixed:
        title += f" · {name_of(layout, axis)}" + (" as RGB" if axis == inputs else f" = {index}")
    label_axes(heat, layout)
    if 0 in layout.sheet:
        heat.text(0.5, 0.5, "no cells", ha="center", transform=heat.transAxes)
    elif inputs is not None:
        title += _draw_rgb(heat, tensor, layout, inputs)
    else:
        title += _draw(heat, tensor, layout, look, signed, extent)
    if edges and 0 not in layout.sheet:
        if max(layout.sheet) > 3 * min(layout.sheet):
            heat.set_aspect("auto")  # bars need the width
        draw_edges(heat, layout, tensor, edges)
    heat.set_title(_lines(title), loc="left", fontsize=10, y=1.2 if edges else None)
    if not region.is_whole and region.numel:
        top, bottom, left, right = layout.box(region.bounds)
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="black", lw=1.2)
        if top < bottom:
            heat.add_patch(frame)
    _histogram(side, summarize(tensor[region.slices]) if region.is_box else summarize(tensor.flatten()[region.cells]))
    return figure


def _lines(title: str) -> str:
    """The title in lines that do not run into the histogram; a shape stays in one piece."""
    whole = title.replace(", ", ",\u00a0")
    lines = [each for line in whole.split("\n") for each in textwrap.wrap(line, _TITLE, subsequent_indent="  ")]
    return "\n".join(lines).replace("\u00a0", " ")


def _edges_checked(edges: str | None, layout: Layout, rgb: bool, title: str) -> None:
    if edges is None:
        return
    if not isinstance(edges, str) or edges not in EDGES:
        raise EditRefused(f"{title}: there are no edges {edges!r:.60}. Known: {', '.join(map(repr, EDGES))}.")
    if layout.facets or rgb:
        what = "filters as RGB have" if rgb else "a contact sheet has"
        raise EditRefused(f"{title}: {what} no edges. Give a layout without facets: lab[...].layout(facets=[]).")


def _draw(
    axes: Axes, tensor: Tensor, layout: Layout, look: Look, signed: bool, extent: tuple[float, float] | None
) -> str:
    """The heatmap with its colour bar; what has to be said about it in the title."""
    seen = look_at(tensor, layout, look.reduction, _PIXELS)
    low, high = ends(look, summarize(tensor, exact=False), signed, extent)
    colours = paint(look, low, high, signed)
    values = np.abs(seen.values) if look.scale == "log" else seen.values
    shown = np.ma.masked_array(values, (seen.flags > 0) | ~np.isfinite(values))
    image = axes.imshow(shown, cmap=colours.cmap, norm=colours.norm, **_placed(layout))
    _draw_marks(axes, seen, layout)
    least, most = finite_extremes(replace(seen, values=values))
    past = ("min" if least < low else "") + ("max" if most > high else "")
    figure = _figure(axes)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, extend={"": "neither", "minmax": "both"}.get(past, past))
    if colours.ticks is not None:
        bar.set_ticks(colours.ticks, labels=[f"{tick:.2g}" for tick in colours.ticks])
        bar.ax.minorticks_off()
    what = {"linear": "", "symlog": "symlog", "log": "|w|, logarithmic"}[look.scale]
    bar.set_label(", ".join(filter(None, (what, "" if isinstance(look.range, tuple | list) else _RANGE[look.range]))))
    cells = seen.tall * seen.wide
    return f"\neach pixel: {REDUCTIONS[look.reduction]} of {seen.tall} x {seen.wide} cells" if cells > 1 else ""


_RANGE = {"symmetric": "", "full": "", "robust": "99 % of the cells", "shared": "range of all parameters"}


def _draw_rgb(axes: Axes, tensor: Tensor, layout: Layout, inputs: int) -> str:
    """Three inputs as red, green and blue; what has to be said about it in the title."""
    picture, seen = mixed(tensor, layout, inputs, _PIXELS)
    axes.imshow(picture, **_placed(layout))
    _draw_marks(axes, seen, layout)
    reduced = f", mean of {seen.tall} x {seen.wide} cells" if seen.tall * seen.wide > 1 else ""
    return f"\ngrey is 0, each filter by its largest |w|{reduced}"


def _placed(layout: Layout) -> dict[str, Any]:
    """Where an image of the sheet stands, in cells."""
    height, width = layout.sheet
    long = max(height, width) > LONG * min(height, width)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    return {"interpolation": "nearest", "extent": extent, "aspect": "auto" if long else "equal"}


def _draw_marks(axes: Axes, seen: Seen, layout: Layout) -> None:
    """NaN and inf over the picture, their counts below it; places without a cell in the colour of paper in shade."""
    if seen.blank:
        axes.set_facecolor(BLANK_COLOUR)
    if any(seen.counts):
        axes.imshow(marks(seen.flags), **_placed(layout))
        handles = list(legend(seen.counts))
        _figure(axes).legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)


def _figure(axes: Axes) -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def _histogram(axes: Axes, summary: Summary) -> None:
    histogram = summary.histogram
    low, high = (max(-LARGEST, min(end, LARGEST)) for end in (histogram.low, histogram.high))
    edges = np.linspace(low, high, len(histogram.counts) + 1)
    if low == high:
        half = max(0.5, abs(low) * 1e-3)
        edges = np.linspace(low - half, low + half, len(histogram.counts) + 1)
    axes.stairs(np.asarray(histogram.counts, dtype=float), edges, fill=True, color="#8a94a6")
    axes.set_yticks([])
    # Below and not above: a long title of the picture would run into it.
    axes.set_xlabel(f"mean {summary.mean:.3g}\nstd {summary.std:.3g}", fontsize=9, loc="left")
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)
