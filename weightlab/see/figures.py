"""matplotlib figures of tensors: for papers, and for hosts that run no scripts.

Figures are made without pyplot, so that no global state grows; `LabFigure` shows itself in a notebook all the same.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model.region import Region
from weightlab.model.tree import TensorInfo
from weightlab.see.bins import reduce
from weightlab.see.layout import Layout, layout_of
from weightlab.see.summary import Summary, summarize

_PIXELS = 300  # what the axes have at 100 dots per inch: of more bins than that matplotlib would leave some out
_LARGEST = 1e306  # the difference of what is drawn must be a float64, and so must the margins that matplotlib adds
_LINES = 100  # groups along one side that are set apart by lines
_TICKS = 24  # groups that have room for labels


class LabFigure(Figure):
    """A Figure that a notebook shows when it is the last value of a cell."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def plot_tensor(
    tensor: Tensor, info: TensorInfo, region: Region, view: str = "value", layout: Layout | None = None
) -> LabFigure:
    """Heatmap of the whole tensor, the region framed, and a histogram of the region's values.

    Args:
        tensor: values of the view, shaped `info.shape`.
        region: framed where it is a part; its cells make the histogram.
        layout: axes in their roles; by default by shape alone.

    Returns:
        Figure with two axes. A tensor of more than 300 cells a side is drawn by the cell of largest magnitude per bin,
        and the title says so. Groups (heads, gates, q, k and v) are set apart by lines and labelled.

    Raises:
        EditRefused: the layout is that of another tensor.
    """
    layout, whole = layout or layout_of(info), summarize(tensor, exact=False)
    if layout.shape != info.shape:
        raise EditRefused(
            f"{info.title}: the layout is for {list(layout.shape)}. Make one with lab['{info.name}'].layout()."
        )
    figure = LabFigure(figsize=(8, 4.2), layout="constrained")
    heat, side = figure.subplots(1, 2, width_ratios=(3.2, 1))
    title = f"{info.name} {list(info.shape)}" + ("" if view == "value" else f" · {view}")
    title += "".join(f" · {_name(layout, axis)} = {index}" for axis, index in layout.fixed)
    heat.set_title(title + _draw(heat, tensor, layout, whole), loc="left", fontsize=10)
    if not region.is_whole and region.numel:
        top, bottom, left, right = layout.box(region.bounds)
        frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="black", lw=1.2)
        if top < bottom:
            heat.add_patch(frame)
    _histogram(side, summarize(tensor[region.slices]) if region.is_box else summarize(tensor.flatten()[region.cells]))
    return figure


def _draw(axes: Axes, tensor: Tensor, layout: Layout, summary: Summary) -> str:
    height, width = layout.sheet
    limit = min(max(abs(summary.min), abs(summary.max)), _LARGEST) if summary.min == summary.min else 1.0
    axes.set_xlabel(_axis_label(layout, layout.columns))
    axes.set_ylabel(_axis_label(layout, (*layout.facets, *layout.rows)))
    if not height or not width:
        axes.text(0.5, 0.5, "no cells", ha="center", transform=axes.transAxes)
        return ""
    # Powers of two, which are read in one compiled pass: half a billion cells in a second and not in a minute.
    tall, wide = (1 << (-(-side // _PIXELS) - 1).bit_length() for side in (height, width))
    # The sheet is reduced in strips: the whole never exists twice.
    strips = []
    for top in range(0, height, tall * 64):
        cells, real = layout.cut(tensor, top, min(top + tall * 64, height), 0, width)
        bins = reduce(cells, tall, wide, real)
        largest = bins.max.where(bins.max.abs() >= bins.min.abs(), bins.min)
        strips.append(largest.double().clamp(-_LARGEST, _LARGEST).cpu().numpy())
    image = axes.imshow(
        np.concatenate(strips), cmap="RdBu_r", vmin=-(limit or 1.0), vmax=limit or 1.0, interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="auto" if max(height, width) > 6 * min(height, width) else "equal",
    )  # fmt: skip
    _draw_groups(axes, layout)
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.colorbar(image, ax=axes, shrink=0.85)
    return f"\neach pixel: largest |w| of {tall} x {wide} cells" if tall * wide > 1 else ""


def _axis_label(layout: Layout, axes: tuple[int, ...]) -> str:
    sorted_by = {order.axis: order.by for order in layout.orders}
    parts = []
    for axis in axes:
        by = sorted_by.get(axis)
        how = "" if by is None else ", alike side by side" if by == "similar" else f", sorted by {by}"
        parts.append(_name(layout, axis) + how)
    return " × ".join(parts)


def _name(layout: Layout, axis: int) -> str:
    return layout.labels[axis] or f"axis {axis}"


def _draw_groups(axes: Axes, layout: Layout) -> None:
    """Lines between the groups of the outermost axis of rows and of columns, the outermost groups with their labels."""
    if layout.facets:
        height, width = layout.sheet
        tall, wide = (math.prod(layout.shape[axis] for axis in role) for role in (layout.rows, layout.columns))
        for size, step, rule in ((height, tall, axes.axhline), (width, wide, axes.axvline)):
            if size // step <= _LINES:
                for start in range(step, size, step):
                    rule(start - 0.5, color="black", lw=0.6, alpha=0.6)
        return
    for role, rule, which in ((layout.rows, axes.axhline, axes.yaxis), (layout.columns, axes.axvline, axes.xaxis)):
        found = [group for group in layout.groups if role and group.axis == role[0]]
        if not found or any(order.axis == role[0] for order in layout.orders):
            continue
        inner = math.prod(layout.shape[axis] for axis in role[1:])
        for depth, group in enumerate(found):
            # Lines closer than a few pixels would be a grey veil.
            if len(group.starts) <= _LINES:
                for start in group.starts[1:]:
                    rule(
                        start * inner - 0.5,
                        color="black",
                        lw=0.9 if depth == 0 else 0.4,
                        alpha=0.8 if depth == 0 else 0.5,
                    )
        outer = next((group for group in found if len(group.starts) <= _TICKS), None)
        if outer is None:
            continue
        stops = (*outer.starts[1:], layout.shape[role[0]])
        middles = [(start + stop) * inner / 2 - 0.5 for start, stop in zip(outer.starts, stops, strict=True)]
        which.set_ticks(middles, labels=list(outer.labels))
        which.set_tick_params(length=0)
        which.set_label_text(f"{which.get_label_text()} · {outer.name or '/'.join(outer.labels)}")


def _histogram(axes: Axes, summary: Summary) -> None:
    histogram = summary.histogram
    low, high = (max(-_LARGEST, min(end, _LARGEST)) for end in (histogram.low, histogram.high))
    edges = np.linspace(low, high, len(histogram.counts) + 1)
    if low == high:
        half = max(0.5, abs(low) * 1e-3)
        edges = np.linspace(low - half, low + half, len(histogram.counts) + 1)
    axes.stairs(np.asarray(histogram.counts, dtype=float), edges, fill=True, color="#8a94a6")
    axes.set_yticks([])
    axes.set_title(f"mean {summary.mean:.3g}\nstd {summary.std:.3g}", fontsize=9, loc="left")
    for name in ("top", "right", "left"):
        _spine(axes, name).set_visible(False)


def _spine(axes: Axes, name: str) -> Any:
    return axes.spines[name]
