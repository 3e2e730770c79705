"""Weights that are exactly zero, and what that does to the gradients of others."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from weightlab.check.evidence import (
    MATRIX,
    MULTIPLY,
    REPARAMETRIZES,
    Cause,
    Evidence,
    number,
    region_text,
    slice_word,
    units_text,
)
from weightlab.check.measures import NORMS, Op
from weightlab.check.roles import COMPOSITE
from weightlab.model.tree import TensorInfo

SUMS = {"add", "__add__", "__radd__", "__iadd__"}


def zero_weight(evidence: Evidence, name: str, op: Op, mask: Tensor | None) -> Cause | None:
    """A weight of this Op that is zero in the columns that the masked units pass through, or altogether."""
    for weight, cell_by_cell in factors(evidence, op).items():
        value = evidence.tree.tensor(weight).detach()
        if weight == name or not value.numel():
            continue
        if not bool(value.any()):
            return replace_affects(
                weight_cause(
                    evidence.tree[weight],
                    torch.ones(value.shape[0] if value.ndim else 1, dtype=torch.bool),
                    0,
                    "so no gradient passes it",
                ),
                name,
            )
        if mask is None or not cell_by_cell:
            continue
        axis = 1 if value.ndim > 1 and mixes(op) and value.shape[1] > 1 else 0
        size = value.shape[axis]
        if size % mask.numel() == 0 and size:
            wide = mask.repeat_interleave(size // mask.numel())
            zero = all_zero_along(value, axis).cpu()
            wide = wide & _fed(evidence, op, size)
            if bool(wide.any()) and bool((zero | ~wide).all()):
                return replace_affects(
                    weight_cause(evidence.tree[weight], wide, axis, "so no gradient passes there"), name
                )
    return None


def multiplies(op: Op) -> bool:
    """Whether this Op takes weights as factors: behind one that is zero is nothing. A sum goes on beside a zero."""
    known = op.name in MATRIX or op.name in MULTIPLY or op.name in NORMS or op.name in COMPOSITE or op.name == "prelu"
    # A module whose function of its own was not seen.
    return known or op.name.startswith("conv") or op.name == op.module_type.lower()


def factors(evidence: Evidence, op: Op) -> dict[str, bool]:
    """The parameters that are zeros of this Op where they are zero; True where that holds for each cell, and not only for all.

    What it adds is none of them, nor is what was added up before: `linear(x, base + delta)` passes where delta is 0.
    """
    if not multiplies(op):
        return {}
    held = {name: True for name in op.parameters if name not in op.shifts and not _beside(evidence, op, name)}
    for index in op.inputs:
        source = evidence.ops[index]
        if index not in op.shift_ops and evidence.weightlike(source):
            held |= {name: each for name, each in _behind(evidence, source).items() if name not in held}
    return held


def shifts(evidence: Evidence, op: Op) -> list[str]:
    """Vectors that this Op adds as they are: a term of a sum that was made before says little about the sum."""
    known = set(op.shifts)
    for index in op.shift_ops:
        known |= set(_as_they_are(evidence, evidence.ops[index]))
    return [
        name
        for name in (
            *op.parameters,
            *(name for index in op.inputs for name in _as_they_are(evidence, evidence.ops[index])),
        )
        if (name in known or op.name in SUMS or name.endswith("bias")) and len(evidence.tree[name].shape) == 1
    ]


def _as_they_are(evidence: Evidence, op: Op) -> list[str]:
    if not op.is_view or not evidence.weightlike(op):
        return []
    return [*op.parameters, *(name for index in op.inputs for name in _as_they_are(evidence, evidence.ops[index]))]


def _beside(evidence: Evidence, op: Op, name: str) -> bool:
    """Whether a parameter of a composite Op is its bias, or what multiplies its own state: the input passes without it."""
    if op.name in NORMS:
        return name.endswith("bias")
    shape = evidence.tree[name].shape
    return op.name in COMPOSITE and (len(shape) < 2 or "weight_hh" in name)


def _behind(evidence: Evidence, op: Op) -> dict[str, bool]:
    """The same for a weight that was computed by this Op."""
    cell_by_cell = op.is_view or op.name in REPARAMETRIZES or op.name in MULTIPLY
    if not cell_by_cell and not (op.outs and op.outs[0].zero):
        return {}
    held = dict.fromkeys(op.parameters, cell_by_cell)
    for index in op.inputs:
        for name, each in _behind(evidence, evidence.ops[index]).items():
            held.setdefault(name, each and cell_by_cell)
    return held


def _fed(evidence: Evidence, op: Op, units: int) -> Tensor:
    """In which units this Op is fed anything but 0, bool [units]. Columns that are fed nothing stay as they began, be it zero."""
    sources = evidence.data(op)
    while len(sources) == 1 and sources[0].is_view:
        sources = evidence.data(sources[0])
    for source in sources:
        largest = source.outs[0].per_unit(units) if source.outs else None
        if largest is not None:
            return largest.cpu() != 0
    return torch.ones(units, dtype=torch.bool)


def all_zero_along(value: Tensor, axis: int) -> Tensor:
    """Which indices of the axis hold zeros only, bool [shape[axis]]."""
    return (value != 0).movedim(axis, 0).flatten(1).any(1).logical_not() if value.ndim > 1 else value == 0


def weight_cause(info: TensorInfo, mask: Tensor, axis: int, so: str) -> Cause:
    weight, word = info.name, slice_word(info, axis)
    region = region_text(mask, axis)
    whole = bool(mask.all())
    place = weight if whole else f"{weight}{region}" if region else f"{units_text(mask, word)} of {weight}"
    text = f"{place} is exactly zero, {so}."
    many, verb = int(mask.sum()), "is" if int(mask.sum()) == 1 else "are"
    of = f"{word}s" if mask.numel() != 1 else word
    seen = (f"{many} of {mask.numel()} {of} of {weight} {verb} exactly zero",)
    repair = f"Initialise {place} again, for example with small random values."
    return Cause("zero_weight", weight, (), "warning", text, seen, repair, f"{place} is zero", weight, region)


def replace_affects(cause: Cause, name: str) -> Cause:
    return replace(cause, affects=(name,) if name else cause.affects)


def upstream(evidence: Evidence, op: Op) -> list[Op]:
    """The chain of Ops that feed this one, nearest first, as long as each has one data input."""
    chain: list[Op] = []
    while True:
        sources = evidence.data(op)
        if len(sources) != 1 or len(chain) > 8:
            return chain
        op = sources[0]
        chain.append(op)


def mixes(op: Op) -> bool:
    """Whether output unit c is made of other input units than c."""
    return op.name in MATRIX or op.name.startswith("conv") or op.name in ("lstm", "gru", "multi_head_attention_forward")


def arriving_text(op: Op) -> str:
    return number(max((grad.largest for grad in op.grads), default=0.0))
