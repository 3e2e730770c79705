"""Which cells a message means, and what an edit of them would do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from weightlab.edit.operations import Edit
from weightlab.edit.readback import asked_values
from weightlab.edit.trial import Trial, tried
from weightlab.errors import BadMessage, EditRefused, UnknownName
from weightlab.lab import Lab
from weightlab.model import dtypes, storage
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, TensorInfo
from weightlab.see.numbers import parse_number

SHOWN_CELLS = 20_000


def target_region(lab: Lab, info: TensorInfo, fields: Mapping[str, Any], buffers: Sequence[Any]) -> Region:
    """The cells of a checked message's target; a condition looks at the view that it names.

    Raises:
        BadMessage: cell indices that are no indices.
        EditRefused: a region or a condition that does not fit.
    """
    if "cells" in fields:
        flat = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float64) if len(buffers[0]) else torch.empty(0)
        if not bool((flat == flat.trunc()).all()):
            raise BadMessage(f"{info.title}: cell indices must be whole numbers.")
        return Region.of_cells(info.shape, flat.to(torch.int64).unique(), info.title)
    region = Region.parse(fields["region"], info.shape, info.title)
    if "where" not in fields:
        return region
    kind, value = fields["where"]["kind"], fields["where"]["value"]
    looked_at = lab.view(info.name, fields["where"].get("view", "value"))
    unreadable = storage.why_not_readable(looked_at)
    if unreadable:
        raise EditRefused(f"{info.title}: no cell can be chosen by its value: {unreadable}")
    cells = storage.read(looked_at, region)
    return region.index(_picked(cells, kind, value, info.title), info.title)


def typed_values(values: list[int | float], region: Region, info: TensorInfo) -> Tensor:
    """The numbers that somebody typed as a tensor for the region: as many as it has cells, row by row, or what broadcasts."""
    exact = torch.float64 if info.dtype.is_floating_point or any(isinstance(v, float) for v in values) else torch.int64
    try:
        made = torch.tensor(values, dtype=exact, device="cpu")
    except (OverflowError, RuntimeError) as error:
        raise EditRefused(f"{info.title}: a number is too large: {error}.") from error
    if made.numel() == region.numel:
        return made.view(region.view_shape)
    last = region.view_shape[-1] if region.view_shape else 1
    if made.numel() not in (1, last):
        everything = region.numel == math.prod(info.shape)
        narrowed = f"{region.numel} {'cell is' if region.numel == 1 else 'cells are'} selected: {region}"
        selected = f"the tensor has {region.numel} cells" if everything else narrowed
        more = "" if everything else ", or clear the region to mean the whole tensor"
        raise EditRefused(
            f"{info.title}: {selected}, got {made.numel()} numbers. Give {region.numel}, or one for all{more}."
        )
    return made


def values_from(values: Mapping[str, Tensor], args: Mapping[str, Any], region: Region, info: TensorInfo) -> Tensor:
    """The cells of another model's tensor that a message means: those of `part`, else the ones at the same place.

    Raises:
        UnknownName: the other has no such tensor.
        EditRefused: a part that does not fit it, or none is given and the shapes do not tell which.
    """
    wanted = [args["tensor"]] if args.get("tensor") else [info.name, *info.aliases]
    name = next((each for each in wanted if each in values), None)
    if name is None:
        close = get_close_matches(wanted[0], list(values), n=1, cutoff=0.0)
        raise UnknownName(f"{args['source']}: it has no tensor '{wanted[0]}'. Closest: {', '.join(map(repr, close))}.")
    theirs = values[name].detach()
    title = f"{args['source']}: {name} {list(theirs.shape)}"
    reason = storage.why_not_readable(theirs)
    if reason:
        raise EditRefused(f"{title}: {reason}")
    part = args.get("part", "").strip()
    if part:
        return storage.read(theirs, Region.parse(part, theirs.shape, title))
    if tuple(theirs.shape) == info.shape:
        return storage.read(theirs, region)
    if not region.is_box:
        raise EditRefused(f"{title}: another shape than {info.title}. Say which part of it is meant.")
    return storage.read(theirs, Region.parse(str(region), theirs.shape, title))


def _picked(cells: Tensor, kind: str, value: Any, title: str) -> Tensor:
    """Mask of the cells that a condition names; by magnitude where it is about size."""
    if kind == "nan":
        return cells.isnan()
    if kind == "zero":
        return cells == 0
    if value is None:
        raise EditRefused(f"{title}: '{kind}' needs a number. Write for example 0.001.")
    if kind in ("between", "size_between"):
        low, high = (parse_number(end, title) for end in value)
        signed = kind == "between" and not cells.is_complex() and cells.dtype is not torch.uint64
        values = dtypes.ordered(cells) if signed else dtypes.magnitude(cells)
        return (values >= low) & (values <= high)
    number = parse_number(value, title)
    size = dtypes.magnitude(cells)
    if kind in ("below", "above"):
        return size < number if kind == "below" else size > number
    if not isinstance(number, int) or not 0 <= number <= cells.numel():
        raise EditRefused(f"{title}: '{kind}' needs a number of cells from 0 to {cells.numel()}, got {number}.")
    flat = (
        size.flatten().nan_to_num(math.inf if kind == "smallest" else -math.inf)
        if size.is_floating_point()
        else size.flatten()
    )
    order = flat.argsort(descending=kind == "largest", stable=True)[:number]
    mask = torch.zeros(flat.shape, dtype=torch.bool, device=flat.device)
    mask[order] = True
    return mask.view(cells.shape)


def preview(tree: ParameterTree, edit: Edit) -> tuple[dict[str, Any], bytes]:
    """What an edit would do, on a copy of its cells: numbers, and the picked cells as flat indices.

    Raises:
        EditRefused: what `Lab.apply` would refuse.
    """
    trial = tried(tree, edit)
    before, after, region = trial.before, trial.after, edit.region
    flat = region.cells
    axes = region.axes if region.is_box else [(start, stop, 1) for start, stop in region.bounds]
    told = {
        "text": trial.prepared.text,
        "cells": region.numel,
        "changed": int(storage.differing(before, after).count_nonzero()) if region.numel else 0,
        "before": _range(before),
        "after": _range(after),
        **_rounding(trial),
        "region": {"text": str(region), "numel": region.numel, "axes": [list(axis) for axis in axes]},
        "truncated": flat is not None and flat.numel() > SHOWN_CELLS,
    }
    return told, shown_cells(region)


def _rounding(trial: Trial) -> dict[str, Any]:
    """How many cells would be stored otherwise than asked, and the first of them as texts (rule J7)."""
    asked = asked_values(trial.prepared, trial.before)
    if asked is None or not asked.numel():
        return {"rounded": 0, "requested": "", "stored": ""}
    stored = trial.after.to(asked.dtype)
    missed = ((stored != asked) & ~(stored.isnan() & asked.isnan())).flatten()
    if not bool(missed.any()):
        return {"rounded": 0, "requested": "", "stored": ""}
    first = int(missed.int().argmax())
    # NumPy's text is the shortest that reads back as the same number.
    texts = [str(values.flatten()[first].cpu().numpy()[()]) for values in (asked, stored)]
    return {"rounded": int(missed.count_nonzero()), "requested": texts[0], "stored": texts[1]}


def shown_cells(region: Region) -> bytes:
    """The first cells of a region that lists them, as flat float64 indices for the page; nothing of a box."""
    flat = region.cells
    return b"" if flat is None else flat.flatten()[:SHOWN_CELLS].double().cpu().numpy().tobytes()


def _range(cells: Tensor) -> list[float] | None:
    values = dtypes.real(cells).double()
    good = values[values.isfinite()]
    return [float(good.min()), float(good.max())] if good.numel() else None
