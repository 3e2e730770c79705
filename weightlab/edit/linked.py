"""What an edit does not reach by itself: a BatchNorm that still speaks for a zeroed filter, a frozen copy."""

from __future__ import annotations

import math
import sys

from torch import nn

from weightlab.edit.operations import Edit
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree

_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def norm_behind(tree: ParameterTree, edit: Edit) -> tuple[str, Region] | None:
    """The norm layer after the edited layer, and its channels, where whole output units were edited.

    Children of one module count in the order in which they were registered, as in conv1, bn1, conv2, bn2.

    Returns:
        Dotted path of the norm and the region of its [channels] tensors, or None.
    """
    path, _, local = edit.name.rpartition(".")
    parent, _, child = path.rpartition(".")
    region = edit.region
    if local != "weight" or not child or len(region.shape) < 2 or parent not in tree.modules:
        return None
    channels = _channels(region)
    if channels is None:
        return None
    names = list(tree.module(parent)._modules)
    if child not in names or names.index(child) + 1 >= len(names):
        return None
    follower = f"{parent}.{names[names.index(child) + 1]}" if parent else names[names.index(child) + 1]
    norm = tree.modules.get(follower)
    if not isinstance(norm, _NORMS) or norm.num_features != region.shape[0]:
        return None
    return follower, channels


def _channels(region: Region) -> Region | None:
    """The output units of which all cells are named; None where some are named in part."""
    units = (region.shape[0],)
    if region.is_box:
        rest = zip(region.axes[1:], region.shape[1:], strict=True)
        return Region(units, region.axes[:1], (False,)) if all(axis == (0, size, 1) for axis, size in rest) else None
    assert region.cells is not None
    each = math.prod(region.shape[1:])
    found, counts = (region.cells.flatten().unique() // max(each, 1)).unique(return_counts=True)
    return Region.of_cells(units, found) if found.numel() and bool((counts == each).all()) else None


def linked_edits(tree: ParameterTree, edit: Edit) -> list[Edit]:
    """Zero scale, shift and running mean of those channels, so that nothing of them is left."""
    found = norm_behind(tree, edit)
    if found is None:
        return []
    path, region = found
    names = [f"{path}.{local}" for local in ("weight", "bias", "running_mean")]
    return [Edit(name, region, "zero_") for name in names if name in tree and tree[name].editable]


def is_zero(value: object) -> bool:
    """Whether an argument is the number 0."""
    return isinstance(value, int | float | complex) and value == 0


def zeroes(edit: Edit) -> bool:
    """Whether nothing but zeros is left of the cells."""
    return edit.op == "zero_" or (edit.op in ("fill_", "mul_") and is_zero(edit.args["value"]))


def advice(tree: ParameterTree, edit: Edit) -> list[str]:
    """Sentences on what a zeroed filter's BatchNorm still puts out, and on a compiled model's frozen copy."""
    found = norm_behind(tree, edit) if zeroes(edit) else None
    notes = (
        []
        if found is None
        else [f"{found[0]} behind it still puts out its shift there; zero_(linked=True) sets that to 0 too"]
    )
    if _is_frozen(tree.model):
        notes.append("the model was compiled with freezing and holds a frozen copy of its weights: compile it anew")
    return notes


def _is_frozen(model: nn.Module) -> bool:
    """Whether inductor may have made constants of the weights (rule J13)."""
    if not getattr(sys.modules.get("torch._inductor.config"), "freezing", False):
        return False
    return any(type(module).__name__ == "OptimizedModule" for module in (model, *model.modules()))
