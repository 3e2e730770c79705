"""What a layer was fed is exactly zero: the Ops that made zeros from something else, and why (towards the input)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weightlab.check.dead import dead_relu
from weightlab.check.evidence import MULTIPLY, Cause, Evidence, Found, Severity
from weightlab.check.gates import shut_gate
from weightlab.check.measures import NORMS, RELU, Op
from weightlab.check.zeros import all_zero_along, factors, mixes, replace_affects, upstream, weight_cause, zero_weight


def unfed(evidence: Evidence, found: Found, name: str, op: Op, mask: Tensor) -> None:
    """A gradient arrives at `op`, so what multiplies it must be zero: find who made the zeros."""
    others = [other for other in factors(evidence, op) if other != name]
    if op.name in NORMS and mask.numel() == evidence.tree[name].numel:
        for source in upstream(evidence, op):
            cause = constant(evidence, op, source, mask)
            if cause is not None:
                found.add(replace_affects(cause, name))
                return
            if not (source.is_view or (source.outs and source.outs[0].zero_where(mask))):
                break
    if op.outside_zero and all(source.outs and source.outs[0].zero for source in evidence.data(op)):
        text = f"{op.where}: its input is exactly 0 in every cell, so {name} gets no gradient. Check the batch."
        found.add(
            Cause(
                "zero_path",
                op.path,
                (name,),
                "error",
                text,
                ("the input is all zeros",),
                None,
                "The input is zero",
                op=op.index,
                basis="input",
            )
        )
        return
    for source in evidence.data(op):
        cause = made_zero(evidence, source, set())
        if cause is not None:
            found.add(replace_affects(cause, name))
            return
    for other in others:  # inside a composite such as attention, the other weight stands between
        value = evidence.tree.tensor(other).detach()
        if value.numel() and not bool(value.any()):
            found.add(
                replace_affects(
                    weight_cause(
                        evidence.tree[other],
                        torch.ones(value.shape[0], dtype=torch.bool),
                        0,
                        f"so nothing passes {op.where}",
                    ),
                    name,
                )
            )
            return


def made_zero(evidence: Evidence, op: Op, seen: set[int], mask: Tensor | None = None) -> Cause | None:
    """Where the zeros come from that `op` puts out, in the units of the mask; None if it does not put out zeros only."""
    if op.index in seen:
        return None
    seen.add(op.index)
    sources = evidence.data(op)
    if op.is_view and op.outside_zero and not sources:
        text = f"{op.where}: the input is exactly 0 in every cell, so what it feeds gets no gradient. Check the batch."
        seen_zeros, title = ("the input is all zeros",), "The input is zero"
        return Cause("zero_path", op.path, (), "error", text, seen_zeros, None, title, op=op.index, basis="input")
    if op.is_view:
        found = (made_zero(evidence, source, seen, mask) for source in sources)
        return next((cause for cause in found if cause is not None), None)
    if mask is not None and not bool(mask.all()):
        return _made_zero_in(evidence, op, seen, mask)
    if not op.outs or not all(out.zero for out in op.outs[:1]):
        return None
    if op.name in RELU and op.highest is not None and bool((op.highest <= 0).all()) and bool((op.highest < 0).any()):
        return dead_relu(evidence, "", op, None)
    shut = shut_gate(evidence, "", op)
    if shut is not None:
        return shut
    weight = zero_weight(evidence, "", op, None)
    if weight is not None:
        return weight
    if "dropout" in op.name and op.probability >= 1.0:
        return dropped("", op)
    for source in sources:
        cause = made_zero(evidence, source, seen)
        if cause is not None:
            return cause
    if op.name in MULTIPLY:
        return multiplied(evidence, "", op, None, "largest |output| is 0")
    if op.name == "zeros" and isinstance(evidence.tree.modules.get(op.path), nn.RNNBase):
        # Such as the reverse direction behind `output[:, -1]`: it has read one step by then.
        text = f"{op.where}: its state starts at 0, and what the loss sees comes one step later, so that no state has passed yet."
        counts = ("the initial state is all zeros",)
        title = f"{op.where} has taken one step only"
        return Cause("invariant", op.path, (), "info", text, counts, None, title, op=op.index)
    text = f"{op.where}: it puts out exactly 0 in every cell, so what it feeds gets no gradient."
    return Cause(
        "zero_path",
        op.path,
        (),
        "warning",
        text,
        ("largest |output| is 0",),
        None,
        f"{op.where} puts out zeros",
        op=op.index,
        basis="unexplained",
    )


def _made_zero_in(evidence: Evidence, op: Op, seen: set[int], mask: Tensor) -> Cause | None:
    """As `_made_zero`, for some units: behind what keeps units apart there is a ReLU that is dead in them."""
    if not op.outs or not op.outs[0].zero_where(mask):
        return None
    if op.name in RELU and op.highest is not None and op.highest.numel() == mask.numel():
        highest = op.highest.cpu()
        if bool(((highest <= 0) | ~mask).all()):
            earlier = (made_zero(evidence, source, seen, mask) for source in evidence.data(op))
            return next((cause for cause in earlier if cause is not None), None) or dead_relu(evidence, "", op, mask)
    if mixes(op):
        return None
    found = (made_zero(evidence, source, seen, mask) for source in evidence.data(op))
    return next((cause for cause in found if cause is not None), None)


def multiplied(evidence: Evidence, name: str, op: Op, mask: Tensor | None, came: str) -> Cause:
    zeros = [source for source in evidence.data(op) if source.outs and source.outs[0].zero]
    by = (
        f" by the output of {zeros[0].where}, which is exactly 0"
        if zeros
        else " by exactly 0"
        if op.outside_zero
        else ""
    )
    text = f"{op.where}: the signal is multiplied{by or ' and its gradient vanishes'}, so no gradient passes."
    # Some silent units on one batch are common: worth knowing, no alarm.
    severity: Severity = "warning" if mask is None or bool(mask.all()) else "info"
    affects = (name,) if name else ()
    return Cause("zero_path", op.path, affects, severity, text, (came,), None, "Multiplied by zero", op=op.index)


def dropped(name: str, op: Op) -> Cause:
    """Dropout with p = 1."""
    text = f"{op.where}: p = 1 drops everything: neither signal nor gradient passes."
    affects = (name,) if name else ()
    title = "Dropout drops everything"
    return Cause("zero_path", op.path, affects, "error", text, ("p = 1",), "Use p below 1.", title, op=op.index)


def constant(evidence: Evidence, norm: Op, source: Op, mask: Tensor) -> Cause | None:
    """Why a channel that enters a normalisation is constant, so that its normalised signal is 0."""
    for weight in evidence.weights(source):
        value = evidence.tree.tensor(weight).detach()
        if value.ndim > 1 and value.shape[0] == mask.numel() and bool((all_zero_along(value, 0).cpu() | ~mask).all()):
            samples = f"for all {norm.samples} samples" if norm.samples > 1 else "for the sample"
            return weight_cause(
                evidence.tree[weight],
                mask,
                0,
                f"so the signal that {norm.where} normalises is constant and comes out 0 {samples}",
            )
    if source.name not in RELU or source.highest is None or source.highest.numel() != mask.numel():
        return None
    silent_there = bool(((source.highest.cpu() <= 0) | ~mask).all())
    return dead_relu(evidence, "", source, mask) if silent_there else None
