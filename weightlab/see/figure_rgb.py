"""Filters with three input channels as coloured pictures, in a figure: red, green and blue are the weights on the three inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.see.figure_look import Seen, look_at
from weightlab.see.layout import Layout
from weightlab.see.profiles import profile


def colour_axis(layout: Layout) -> int | None:
    """The axis of three inputs that can be colours: that of a convolution's weight."""
    axis = layout.labels.index("in") if "in" in layout.labels else -1
    return axis if len(layout.shape) > 2 and axis >= 0 and layout.shape[axis] == 3 else None


def coloured(layout: Layout, title: str, *, sheet: bool) -> Layout:
    """The layout with the inputs fixed; with `sheet` also a block for each filter.

    Raises:
        EditRefused: there are no three inputs.
    """
    inputs = colour_axis(layout)
    if inputs is None:
        raise EditRefused(f"{title}: RGB is for the weight of a convolution with three inputs. Leave rgb out.")
    fixed = {**dict(layout.fixed), inputs: 0}
    orders = [order for order in layout.orders if order.axis != inputs]
    roles = [layout.rows, layout.columns, layout.facets]
    if sheet:
        out, last = layout.labels.index("out"), len(layout.shape) - 1
        roles = [tuple(axis for axis in range(last) if axis != out), (last,), (out,)]
    rows, columns, facets = ([axis for axis in role if axis != inputs] for role in roles)
    return layout.arranged(rows, columns, facets, fixed, orders, title)


def mixed(tensor: Tensor, layout: Layout, inputs: int, most: int) -> tuple[np.ndarray, Seen]:
    """RGBA bytes of the sheet, and what is not finite in it.

    Grey is 0, and each filter is scaled by its own largest magnitude: 127.5 + 127.5 * w / max|w|. The three inputs of a layer
    are a small tensor: it is copied to the CPU.
    """
    out = layout.labels.index("out")
    limits = profile(tensor, out).largest
    limits = limits.where(limits > 0, 1.0).reshape([-1 if axis == out else 1 for axis in range(tensor.ndim)])
    scaled = tensor.detach().cpu().double() / limits
    channels = []
    for index in range(3):
        fixed = tuple((axis, index if axis == inputs else at) for axis, at in layout.fixed)
        channels.append(look_at(scaled, replace(layout, fixed=fixed), "mean", most))
    first, second, third = channels
    nan, positive, negative = np.sum([seen.counts for seen in channels], axis=0).tolist()
    flags = first.flags | second.flags | third.flags
    shares = np.nan_to_num(np.stack([seen.values for seen in channels], -1)).clip(-1, 1)
    picture = np.zeros((*flags.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.rint(127.5 + 127.5 * shares)
    picture[..., 3] = np.where(np.isfinite(first.values) | (flags > 0), 255, 0)
    return picture, replace(first, flags=flags, counts=(nan, positive, negative))
