"""Which axis of a tensor counts units: what the layer that made it says, followed through all that keeps units apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weightlab.check.measures import LOOKUPS

TURNS = {"transpose", "swapaxes", "permute", "movedim", "t", "T", "mT"}
RESHAPES = {"view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"}
REDUCES = {
    *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "logsumexp", "norm", "prod", "any", "all", "median"),
    *("select", "unbind"),
}
CHANNELS = {"batch_norm", "instance_norm", "group_norm"}
LAST = {"linear", "bilinear", "mm", "addmm", "matmul", "__matmul__", "bmm", "baddbmm", *LOOKUPS}
LAST |= {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "multi_head_attention_forward"}


def kernel_axes(name: str) -> int:
    return next((axes for axes in (1, 2, 3) if name.endswith(f"{axes}d")), 2)


def unit_axis(
    name: str, args: Any, kwargs: dict[str, Any], fed: tuple[int, tuple[int, ...]] | None, shape: tuple[int, ...]
) -> int | None:
    """The axis of a result of this shape; None where that is not known.

    Args:
        fed: the axis and the shape of what the function took.
    """
    if not shape:
        return None
    if name.startswith("conv"):  # [N, C, *kernel] or [C, *kernel]
        return max(len(shape) - kernel_axes(name) - 1, 0)
    if name in CHANNELS:
        return min(1, len(shape) - 1)
    if name in LAST:
        first = args[0] if args else None
        turned = "matmul" in name and isinstance(first, Tensor) and first.is_leaf and first.requires_grad  # W @ x
        return len(shape) - (2 if turned and len(shape) > 1 else 1)
    if fed is None or name in ("einsum", "stack"):
        return None
    axis, before = fed
    if name in TURNS:
        return _turned(name, args, kwargs, axis, len(before))
    if name in RESHAPES:
        return _reshaped(axis, before, shape)
    if len(shape) == len(before):  # cell by cell, pooling, padding, concatenation
        return axis
    if name in ("expand", "expand_as") and len(shape) > len(before):
        return axis + len(shape) - len(before)
    return _reduced(args, kwargs, axis, len(before)) if name in REDUCES else None


def _turned(name: str, args: Any, kwargs: dict[str, Any], axis: int, count: int) -> int | None:
    """Where an axis goes: asked of a tensor without cells, whose sizes tell the axes apart."""
    marked = torch.empty([place + 2 for place in range(count)], device="meta")
    turned = getattr(marked, name) if name in ("T", "mT") else getattr(marked, name)(*args[1:], **kwargs)
    return list(turned.shape).index(axis + 2)


def _reshaped(axis: int, before: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """The axis of the same size with as many cells before it."""
    ahead = 1
    for size in before[:axis]:
        ahead *= size
    count = 1
    for place, size in enumerate(shape):
        if count == ahead and size == before[axis]:
            return place
        count *= size
    return None


def _reduced(args: Any, kwargs: dict[str, Any], axis: int, count: int) -> int | None:
    gone = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    gone = (gone,) if isinstance(gone, int) else gone
    if not isinstance(gone, (tuple, list)) or not all(isinstance(each, int) for each in gone):
        return None
    places = {each % count for each in gone}
    return None if axis in places else axis - sum(place < axis for place in places)
