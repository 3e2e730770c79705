"""Layouts and profiles as messages ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.jupyter.wire import LIMIT
from weightlab.lab import Lab
from weightlab.model.tree import TensorInfo
from weightlab.see.groups import following_norm
from weightlab.see.layout import Layout
from weightlab.see.profiles import profile

_FLOAT_MAX = torch.finfo(torch.float32).max


def layout_asked(lab: Lab, fields: Mapping[str, Any]) -> Layout:
    """The layout that a message asks for; orders by the token that `open` gave.

    Raises:
        EditRefused: it does not fit the tensor, or an order is not kept any more.
    """
    name, asked = fields["name"], fields.get("layout", {})
    roles = {role: asked.get(role) for role in ("rows", "columns", "facets")}
    fixed, sort = (dict(map(tuple, asked.get(key, ()))) for key in ("fixed", "sort"))
    layout = lab.layout(name, **roles, fixed=fixed, sort=sort, view=fields.get("view", "value"))
    kept = [lab.order(name, token) for token in asked.get("orders", ())]
    return replace(layout, orders=(*kept, *layout.orders)) if kept else layout


def profile_bytes(lab: Lab, info: TensorInfo, shown: Tensor, axis: int, stat: str) -> bytes:
    """One little-endian float32 per index of an axis: a statistic, or what the norm layer behind holds for it.

    Raises:
        EditRefused: there is no such axis or norm layer, or it is too long for a reply.
    """
    if axis < len(info.shape) and info.shape[axis] * 4 > LIMIT:
        raise EditRefused(
            f"{info.title}: axis {axis} is too long for the page. Call lab['{info.name}'].profile({axis})."
        )
    if stat in ("scale", "shift"):
        values = _beside(lab, info, axis, "weight" if stat == "scale" else "bias")
    else:
        values = getattr(profile(shown, axis), stat)
    return values.double().clamp(-_FLOAT_MAX, _FLOAT_MAX).to("cpu", torch.float32).numpy().tobytes()


def _beside(lab: Lab, info: TensorInfo, axis: int, local: str) -> Tensor:
    name = f"{following_norm(info, lab.tree.modules)}.{local}"
    if axis != 0 or name not in lab.tree:
        raise EditRefused(
            f"{info.title}: no norm layer with a {local} for each index of axis {axis} follows it. Ask for norm or mean."
        )
    return lab.view(name)
