"""Edits of computed weights: parametrized, weight-normed and pruned ones (rule J10).

Such a weight is made anew at each forward, so that a value written into it is lost. The edit goes to the originals
instead, is read back through the computation, and stands only if every cell holds exactly what was asked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from weightlab.edit.operations import Edit, prepare
from weightlab.edit.step import TORCH_SAYS_NO, refusal, target_of
from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree

if TYPE_CHECKING:
    from weightlab.edit.entry import Entry
    from weightlab.edit.journal import Journal

Originals = dict[str, Tensor]


def apply_through_originals(journal: Journal, edit: Edit, moments: str | None) -> Entry | None:
    """Apply an edit of a computed weight to what it is computed from, as one entry.

    Raises:
        EditRefused: no originals give exactly the asked values; nothing was changed.
    """
    tree, info = journal.tree, journal.tree[edit.name]
    current = tree.tensor(info.name).detach()
    if edit.op == "requires_grad_" or current.is_meta:
        raise EditRefused(f"{info.title}: {info.reason}")
    asked = current.clone()
    with storage.writing(asked):
        try:
            prepared = prepare(edit, target_of(info, asked, edit.region), "weight")
            storage.write(asked, edit.region, prepared.change)
        except TORCH_SAYS_NO as error:
            raise refusal(info, edit, error) from error
    if not bool(storage.differing(asked, current).any()):
        return None
    path, _, local = info.name.rpartition(".")
    module = tree.module(path)
    prefix = f"{path}." if path else ""
    for originals in _candidates(module, local, asked, edit):
        if any(not bool(value.isfinite().all()) for value in originals.values()) and bool(asked.isfinite().all()):
            continue
        made = _try(
            journal, prepared.text, info.name, {prefix + name: v for name, v in originals.items()}, asked, moments
        )
        if made is not None:
            return made[0] if made else None
    raise EditRefused(f"{info.title}: {info.reason} No values of those give exactly what was asked.")


def _try(
    journal: Journal, text: str, name: str, originals: Originals, asked: Tensor, moments: str | None
) -> list[Entry] | None:
    """The entry in a list, empty inside a stroke; None when the weight does not come out as asked."""
    tree = journal.tree
    edits = [_copy(original, tree.tensor(original), values) for original, values in originals.items()]
    edits = [edit for edit in edits if edit.region.numel > 0]
    try:
        with journal.stroke(f"{text}, through {' and '.join(edit.name for edit in edits)}") as made:
            for edit in edits:
                journal.apply(edit, moments)
            recompute(tree, name)
            if bool(storage.differing(tree.tensor(name).detach() + 0, asked + 0).any()):  # -0.0 counts as 0
                raise _NotExact
    except _NotExact:
        recompute(tree, name)
        return None
    return made


def _copy(name: str, tensor: Tensor, values: Tensor) -> Edit:
    """An edit of the cells that get other bytes, and of no others: undo and the optimizer's moments are theirs alone."""
    region = Region.whole(tuple(values.shape))
    if tensor.shape == values.shape and tensor.dtype == values.dtype:
        differ = storage.differing(storage.read(tensor, region), values.contiguous()).cpu()
        cells = differ.flatten().nonzero().flatten()
        listed = Region.of_cells(region.shape, cells)
        box = replace(region, axes=tuple((start, stop, 1) for start, stop in listed.bounds))
        region = box if box.numel == listed.numel else listed
    picked = values if region.is_whole else storage.read(values, region)
    return Edit(name, region, "copy_", {"values": picked})


class _NotExact(Exception):
    """The originals were put back."""


def _candidates(module: nn.Module, local: str, asked: Tensor, edit: Edit) -> Iterator[Originals]:
    """Values for the originals, by their name below the module, most likely ones first."""
    held = {**module._parameters, **module._buffers}
    magnitude, direction = held.get(f"{local}_g"), held.get(f"{local}_v")
    if parametrize.is_parametrized(module, local):
        inner = f"parametrizations.{local}"
        chain = module.get_submodule(inner)
        g, v = getattr(chain, "original0", None), getattr(chain, "original1", None)
        if isinstance(g, Tensor) and isinstance(v, Tensor):
            yield from _normed(f"{inner}.original0", g, f"{inner}.original1", v, asked, edit)
        inverse = _right_inverse(chain, asked)
        if inverse is not None:
            yield {f"{inner}.{name}": value for name, value in inverse.items()}
    elif magnitude is not None and direction is not None:
        yield from _normed(f"{local}_g", magnitude, f"{local}_v", direction, asked, edit)
    elif held.get(f"{local}_orig") is not None and held.get(f"{local}_mask") is not None:
        # Under a pruning mask the weight is original * mask: cells under a 0 keep their original.
        original, mask = held[f"{local}_orig"], held[f"{local}_mask"]
        assert original is not None
        assert mask is not None
        yield {f"{local}_orig": torch.where(mask == 0, original.detach(), asked)}


def _normed(g_name: str, g: Tensor, v_name: str, v: Tensor, asked: Tensor, edit: Edit) -> Iterator[Originals]:
    """Weight = g * v / |v|: a slice of zeros is g = 0 with v as it was; other values are v = w and g = |w|."""
    axes = [axis for axis in range(g.ndim) if g.shape[axis] == 1 and v.shape[axis] != 1]
    norms = torch.linalg.vector_norm(asked, dim=axes, keepdim=True) if axes else asked.abs()
    norms = norms.view(g.shape) if norms.numel() == g.numel() else asked.norm().view(g.shape)
    changed = torch.zeros(asked.shape, dtype=torch.bool, device=asked.device)
    storage.write(changed, edit.region, _mark)
    touched = (
        changed.any(dim=axes, keepdim=True).view(g.shape) if axes and g.ndim else torch.ones_like(g, dtype=torch.bool)
    )
    # Slices that were not touched keep both originals, to the byte. The last bit of a norm depends on who sums it.
    for sized in (norms, _own_norms(asked, g)):
        if sized is not None:
            yield {
                g_name: torch.where(touched, sized, g.detach()),
                v_name: torch.where(touched & (sized != 0), asked, v.detach()),
            }


def _own_norms(asked: Tensor, g: Tensor) -> Tensor | None:
    """The norms by which torch's kernel of weight_norm itself would divide."""
    kept = [axis for axis in range(g.ndim) if g.shape[axis] != 1]
    if len(kept) != 1 or kept[0] not in (0, asked.ndim - 1) or g.ndim != asked.ndim or not asked.is_floating_point():
        return None
    found = torch._weight_norm_interface(asked.contiguous(), g.detach(), kept[0])[1]
    return found.to(g.dtype).view(g.shape) if found.numel() == g.numel() else None


def _mark(cells: Tensor) -> None:
    cells.fill_(True)


def _right_inverse(chain: nn.Module, asked: Tensor) -> Originals | None:
    """What the parametrization itself would assign for these values."""
    value: object = asked
    try:
        with torch.no_grad():
            # On a copy: orthogonal, for one, keeps a base that its right_inverse moves.
            for step in reversed(list(copy.deepcopy(chain).children())):
                value = step.right_inverse(value)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, RuntimeError, ValueError, TypeError):
        return None
    if isinstance(value, Tensor):
        return {"original": value}
    if isinstance(value, tuple | list) and all(isinstance(v, Tensor) for v in value):
        return {f"original{number}": v for number, v in enumerate(value)}
    return None


def follow(tree: ParameterTree, names: Iterable[str]) -> None:
    """Bring hook-based weights up to date with their originals, where some of these names are originals.

    The modules would do so at their next forward only; until then everybody would read the weight of before.
    """
    getattr(parametrize, "_cache", {}).clear()  # inside `parametrize.cached()`, where it is made anew on demand
    weights = set()
    for name in names:
        stem = next((name.removesuffix(end) for end in _ENDS if name.endswith(end)), "")
        if stem and stem in tree and name in tree and tree[stem].kind == "computed":
            weights.add(stem)
    for weight in weights:
        recompute(tree, weight)


_ENDS = ("_g", "_v", "_orig", "_mask", "_u")


def recompute(tree: ParameterTree, name: str) -> None:
    """Let hook-based weight_norm, spectral_norm and prune refresh the attribute that they only set at the next forward."""
    path, _, local = tree[name].name.rpartition(".")
    module = tree.module(path)
    for hook in module._forward_pre_hooks.values():
        if getattr(hook, "name", getattr(hook, "_tensor_name", None)) != local:
            continue
        with torch.no_grad():
            if hasattr(hook, "compute_weight") and module._parameters.get(f"{local}_g") is not None:
                setattr(module, local, hook.compute_weight(module))
            elif hasattr(hook, "compute_weight"):  # spectral_norm, without a step of its power iteration
                setattr(module, local, hook.compute_weight(module, do_power_iteration=False))
            elif hasattr(hook, "apply_mask"):
                setattr(module, local, hook.apply_mask(module))
