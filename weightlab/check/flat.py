"""Sigmoids and their like whose input lies so far out that their slope is exactly 0, and what pushed it there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from weightlab.check.evidence import MULTIPLY, Cause, Evidence, number, region_text, units_text
from weightlab.check.measures import Op
from weightlab.check.zeros import upstream

# erf reaches 1 in float32 first of all: its slope, 2/√π exp(-x²), is a rounding step of 1 at 4.
FAR_OUT = 4.0
# torch's own biases are below 1; this many times a signal of unit size they are an accident.
SHIFTED = 8.0
SCALES = {*MULTIPLY, "div", "__truediv__", "divide"}
# Functions of one cell each with a flat end on either side, or below.
FLAT_ENDS = {
    *("sigmoid", "tanh", "hardtanh", "hardsigmoid", "erf", "softsign"),
    *("gelu", "silu", "mish", "elu", "celu", "selu", "softplus", "hardswish", "logsigmoid"),
}


def is_far_out(evidence: Evidence, op: Op) -> bool:
    """Whether any cell is where a smooth function is flat: exp(-x) is below a rounding step of 1 only far from 0."""
    if op.name in ("hardtanh", "hardsigmoid", "hardswish"):
        return True
    fed = [out.largest for source in evidence.data(op) for out in source.outs]
    return not fed or max(fed) > FAR_OUT


def saturated(evidence: Evidence, name: str, op: Op, mask: Tensor | None, came: str) -> Cause:
    """An Op that got a gradient and passed exactly none on, in the units of the mask."""
    made = max((out.largest for out in op.outs), default=0.0)
    fed = [source.outs[0] for source in evidence.data(op) if source.outs]
    reach = max((scale.largest for scale in fed), default=None)
    units = mask.numel() if mask is not None else _units(evidence, op)
    where = mask if mask is not None else torch.ones(units, dtype=torch.bool)
    word = op.word
    said = f" in {units_text(where, word)}" if units else ""
    text = f"{op.where}: saturated{said}: its derivative is exactly 0 there for all {op.samples} samples"
    push = _shift(evidence, op, where) if units else None
    weight = None if push else next((n for n in _before(evidence, op) if evidence.tree.tensor(n).ndim > 1), None)
    far = _shift_further_up(evidence, op) if weight is not None else None
    if push is not None:
        text += f", because {push[1]}"
    elif far is not None:
        weight = far[0]
        text += f", because {far[1]}, further up"
    elif (factor := _factor(evidence, op)) is not None:
        weight = None
        text += f", because {factor.where} makes its input as large as {number(reach or 0.0)}"
    elif weight is not None and reach is not None:
        text += f", because {weight} makes its input as large as {number(reach)}"
    seen = [came, f"largest |output| {number(made)}"]
    if reach is not None:
        seen.insert(1, f"largest |input| {number(reach)}")
    return Cause(
        "saturated",
        op.path,
        (name,),
        "warning",
        f"{text}.",
        tuple(seen),
        None,
        f"{op.where} is saturated",
        push[0] if push else weight,
        region_text(where) if push else None,
        op.index,
    )


def _factor(evidence: Evidence, op: Op) -> Op | None:
    """A plain factor between the layer before and this Op that makes the signal far larger than that layer did."""
    for source in upstream(evidence, op):
        if evidence.weights(source):
            return None
        fed = max((out.largest for each in evidence.data(source) for out in each.outs), default=0.0)
        if source.name in SCALES and source.outs and fed > 0 and source.outs[0].largest > SHIFTED * fed:
            return source
    return None


def _shift_further_up(evidence: Evidence, op: Op) -> tuple[str, str] | None:
    """A bias before other layers that makes most of a signal which is too large for all that follow."""
    seen: set[int] = set()
    while True:
        sources = [source for source in evidence.data(op) if source.index not in seen]
        if not sources:
            return None
        op = max(sources, key=lambda source: source.outs[0].largest if source.outs else math.inf)
        seen.add(op.index)
        fed = max((out.largest for source in evidence.data(op) for out in source.outs), default=0.0)
        name = op.bias
        if not name or not op.outs:
            continue
        value = evidence.tree.tensor(name).detach()
        largest = float(value.abs().max())
        # Most of what this layer puts out, and more than it was fed.
        if 2 * largest > op.outs[0].largest and largest > max(SHIFTED, fed):
            low, high = float(value.min()), float(value.max())
            said = number(low) if low == high else f"between {number(low)} and {number(high)}"
            return name, f"{name} is {said}"


def _units(evidence: Evidence, op: Op) -> int:
    """How many units the layer right before puts out; 0 where that is not known."""
    for name in _before(evidence, op):
        value = evidence.tree.tensor(name)
        if value.ndim == 1:
            return value.numel()
    return 0


def _before(evidence: Evidence, op: Op) -> list[str]:
    """The parameters of the nearest Op before that has any."""
    return next((held for source in upstream(evidence, op) if (held := evidence.weights(source))), [])


def shifted(evidence: Evidence, op: Op, name: str) -> Tensor | None:
    """The units [units] that this bias alone brings more than half of the way to their largest input."""
    fed = next((source.outs[0] for source in evidence.data(op) if source.outs), None)
    value = evidence.tree.tensor(name).detach()
    reach = fed.per_unit(value.numel()) if fed is not None and value.ndim == 1 else None
    return None if reach is None else 2 * value.cpu().float().abs() > reach.cpu().float()


def _shift(evidence: Evidence, op: Op, where: Tensor) -> tuple[str, str] | None:
    """A bias that makes most of the input of these units: its name, and "fc.bias is 200"."""
    for name in _before(evidence, op):
        value = evidence.tree.tensor(name).detach()
        if value.ndim != 1 or value.numel() != where.numel() or not name.endswith("bias"):
            continue
        moved = shifted(evidence, op, name)
        if moved is None or not bool(moved[where].all()):
            return None
        shift = value.cpu().float()[where]
        low, high = float(shift.min()), float(shift.max())
        return (
            name,
            f"{name} is {number(low)}" if low == high else f"{name} is between {number(low)} and {number(high)}",
        )
    return None
