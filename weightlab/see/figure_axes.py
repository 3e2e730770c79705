"""What stands along a figure's sides: indices of the axes, groups with their labels, filter numbers, and profiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from weightlab.see.layout import Layout
from weightlab.see.profiles import profile

_LINES = 100  # groups along one side that are set apart by lines
_TICKS = 24  # groups that have room for labels
_NUMBERS = 12  # indices that have room along one side
LONG = 6  # a picture so many times as long as wide fills its place, with cells that are no squares


def label_axes(axes: Axes, layout: Layout) -> None:
    """Names, indices and groups along both sides; of a contact sheet the numbers of its blocks."""
    if layout.facets:
        _label_blocks(axes, layout)
        return
    for role, rule, which in ((layout.rows, axes.axhline, axes.yaxis), (layout.columns, axes.axvline, axes.xaxis)):
        which.set_label_text(_axis_label(layout, role))
        _number(which, layout, role, _room(layout, role is layout.columns))
        _label_groups(which, rule, layout, role)


def name_of(layout: Layout, axis: int) -> str:
    """What an axis is called."""
    return layout.labels[axis] or f"axis {axis}"


def _axis_label(layout: Layout, axes: tuple[int, ...]) -> str:
    sorted_by = {order.axis: order.by for order in layout.orders}
    parts = []
    for axis in axes:
        by = sorted_by.get(axis)
        how = "" if by is None else ", alike side by side" if by == "similar" else f", sorted by {by}"
        parts.append(name_of(layout, axis) + how)
    return " × ".join(parts)


def _index_at(layout: Layout, axis: int, place: int) -> int:
    """Which index stands at a place of an axis."""
    return next((int(order.indices[place]) for order in layout.orders if order.axis == axis), place)


def _is_sorted(layout: Layout, axis: int) -> bool:
    return any(order.axis == axis for order in layout.orders)


def _room(layout: Layout, across: bool) -> int:
    """Indices that have room: below a narrow picture fewer have."""
    height, width = layout.sheet
    if not across or not height or max(height, width) > LONG * min(height, width):
        return _NUMBERS
    return max(2, min(_NUMBERS, 6 * width // height))


def _number(which: Any, layout: Layout, role: tuple[int, ...], most: int) -> None:
    """Indices of the outermost axis of a side, in the middle of what belongs to each."""
    if not role:
        which.set_ticks([])
        return
    inner = math.prod(layout.shape[axis] for axis in role[1:])
    if inner == 1 and not _is_sorted(layout, role[0]):
        which.set_major_locator(MaxNLocator(nbins=min(most, 8), integer=True))
        return
    places = range(0, layout.shape[role[0]], -(-layout.shape[role[0]] // most))
    labels = [str(_index_at(layout, role[0], place)) for place in places]
    which.set_ticks([(place + 0.5) * inner - 0.5 for place in places], labels=labels)


def _label_groups(which: Any, rule: Any, layout: Layout, role: tuple[int, ...]) -> None:
    """Lines between the groups of the outermost axis, the outermost groups with their labels."""
    found = [group for group in layout.groups if role and group.axis == role[0]]
    if not found or _is_sorted(layout, role[0]):
        return
    inner = math.prod(layout.shape[axis] for axis in role[1:])
    for depth, group in enumerate(found):
        # Lines closer than a few pixels would be a grey veil.
        if len(group.starts) <= _LINES:
            lw, alpha = (0.9, 0.8) if depth == 0 else (0.4, 0.5)
            for start in group.starts[1:]:
                rule(start * inner - 0.5, color="black", lw=lw, alpha=alpha)
    outer = next((group for group in found if len(group.starts) <= _TICKS), None)
    if outer is None:
        return
    stops = (*outer.starts[1:], layout.shape[role[0]])
    middles = [(start + stop) * inner / 2 - 0.5 for start, stop in zip(outer.starts, stops, strict=True)]
    which.set_ticks(middles, labels=list(outer.labels))
    which.set_tick_params(length=0)
    which.set_label_text(f"{which.get_label_text()} · {outer.name or '/'.join(outer.labels)}")


def _label_blocks(axes: Axes, layout: Layout) -> None:
    """Blocks of a contact sheet: lines between them, and which index each shows."""
    height, width = layout.sheet
    tall, wide = layout.block
    down, across = height // tall, width // wide
    count = math.prod(layout.shape[axis] for axis in layout.facets)
    inside = [f"{_axis_label(layout, layout.rows)} down"] if layout.rows else []
    inside += [f"{_axis_label(layout, layout.columns)} across"] if layout.columns else []
    axes.set_ylabel(f"{_axis_label(layout, layout.facets)}, a block each")
    axes.set_xlabel(f"in a block: {', '.join(inside)}")
    for size, step, rule in ((height, tall, axes.axhline), (width, wide, axes.axvline)):
        if size // step <= _LINES:
            for start in range(step, size, step):
                rule(start - 0.5, color="black", lw=0.6, alpha=0.6)
    plain = len(layout.facets) == 1 and not _is_sorted(layout, layout.facets[0])
    rows = range(0, down, -(-down // _NUMBERS))
    texts = [_block_text(layout, row * across) for row in rows]
    if plain and across > 1:
        texts = [f"{text}–{min((row + 1) * across, count) - 1}" for row, text in zip(rows, texts, strict=True)]
    axes.set_yticks([(row + 0.5) * tall - 0.5 for row in rows], labels=texts)
    columns = range(0, across, -(-across // _NUMBERS))
    if down == 1:
        names = [_block_text(layout, column) for column in columns]
    else:
        names = [f"+{column}" for column in columns] if plain else []
    middles = [(column + 0.5) * wide - 0.5 for column in columns] if names else []
    axes.set_xticks(middles, labels=names)
    if down == 1:
        axes.set_yticks([])
    axes.tick_params(length=0)
    if plain:
        _group_blocks(axes, layout, across, tall, wide)


def _block_text(layout: Layout, block: int) -> str:
    """Index of a block; of several axes one each, as in "2, 0"."""
    texts: list[str] = []
    for axis in reversed(layout.facets):
        block, place = divmod(block, layout.shape[axis])
        texts.insert(0, str(_index_at(layout, axis, place)))
    return ", ".join(texts)


def _group_blocks(axes: Axes, layout: Layout, across: int, tall: int, wide: int) -> None:
    """Strong lines where one group of blocks ends and the next begins; its label in the first block."""
    group = next((group for group in layout.groups if group.axis == layout.facets[0]), None)
    if group is None or len(group.starts) > _LINES:
        return
    for start in group.starts[1:]:
        # A group may begin inside a row of blocks: the border is a step.
        row, column = divmod(start, across)
        edge, top, bottom, width = column * wide - 0.5, row * tall - 0.5, (row + 1) * tall - 0.5, across * wide - 0.5
        path = [(width, top), (edge, top)] + ([(edge, bottom), (-0.5, bottom)] if column else [])
        axes.plot(*zip(*path, strict=True), color="black", lw=1.8, solid_capstyle="butt", gid="group")
    if len(group.starts) > _TICKS:
        return
    for start, label in zip(group.starts, group.labels, strict=True):
        row, column = divmod(start, across)
        axes.text(
            column * wide - 0.3, row * tall - 0.3, f"{group.name} {label}".strip(), va="top", fontsize=6, clip_on=True,
            bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 0.8},
        )  # fmt: skip


def draw_edges(axes: Axes, layout: Layout, tensor: Tensor, statistic: str) -> None:
    """A statistic of each index of the outermost axis of rows to the right, and of columns above, in the order shown."""
    slices = " of the whole tensor" if layout.fixed else ""
    for side, role in (("rows", layout.rows), ("columns", layout.columns)):
        axis = next((each for each in role if layout.shape[each] > 1), None)
        if axis is None:
            continue
        values = getattr(profile(tensor, axis), statistic).numpy()
        order = next((order.indices.numpy() for order in layout.orders if order.axis == axis), None)
        values = values if order is None else values[order]
        inner = math.prod(layout.shape[each] for each in role[role.index(axis) + 1 :])
        places = np.arange(len(values) + 1) * inner - 0.5
        down = side == "rows"
        edge = axes.inset_axes((1.02, 0, 0.16, 1) if down else (0, 1.02, 1, 0.16), gid=f"edge {side}")
        orientation: Literal["horizontal", "vertical"] = "horizontal" if down else "vertical"
        edge.stairs(values.clip(-1e300, 1e300), places, orientation=orientation, fill=True, color="#8a94a6")
        if down:
            edge.set(ylim=axes.get_ylim(), yticks=[])
            edge.set_xlabel(f"{statistic}\nof each {name_of(layout, axis)}{slices}", fontsize=7)
            edge.xaxis.set_major_locator(MaxNLocator(nbins=2, prune="lower"))
        else:
            edge.set(xlim=axes.get_xlim(), xticks=[])
            edge.set_ylabel(f"of each {name_of(layout, axis)}", fontsize=7, rotation=0, ha="right", va="center")
            edge.yaxis.set_major_locator(MaxNLocator(nbins=2, prune="lower"))
        edge.tick_params(labelsize=7)
        for spine in _ends(down):
            edge.spines[spine].set_visible(False)


def _ends(down: bool) -> Iterator[str]:
    return iter(("top", "right", "left") if down else ("top", "right", "bottom"))
