"""Gradients that are exactly zero: who blocks them, or who feeds zeros."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from weightlab.check.dead import dead_relu
from weightlab.check.evidence import (
    MATRIX,
    MULTIPLY,
    SATURATING,
    Cause,
    Evidence,
    Found,
    Severity,
    number,
    region_text,
)
from weightlab.check.flat import FLAT_ENDS, is_far_out, saturated
from weightlab.check.gates import shut_gate
from weightlab.check.measures import LOOKUPS, NORMS, RELU, Op
from weightlab.check.roles import Roles
from weightlab.check.zeros import (
    all_zero_along,
    mixes,
    replace_affects,
    upstream,
    weight_cause,
    zero_weight,
)

PRODUCT = "Multiplied by zero"


def unused(evidence: Evidence, found: Found) -> None:
    """Rows of an embedding, or of a sliced parameter, that this batch does not ask for."""
    for name, zero in evidence.zero.items():
        if not bool(zero.any()) or evidence.tree[name].shape[:1] != (zero.numel(),):
            continue
        taken = [op for op in evidence.ops if name in op.parameters]
        lookups = [op for op in taken if op.used_rows is not None]
        slices = [
            op for op in taken if op.name in ("__getitem__", "narrow", "select", "index_select", "gather", "split")
        ]
        if not taken or len(lookups) + len(slices) < len(taken) or bool(zero.all()):
            continue
        used = torch.zeros_like(zero)
        for op in lookups:
            assert op.used_rows is not None
            used |= op.used_rows
        rows = zero & ~used
        if bool(rows.any()):
            count = int(rows.sum())
            text = f"{name}: {count} of {zero.numel()} rows are not used by this batch, so they get no gradient."
            found.add(
                Cause(
                    "unused_rows",
                    name,
                    (name,),
                    "info",
                    text,
                    (f"{zero.numel() - count} rows are used",),
                    None,
                    f"{count} of {zero.numel()} rows unused",
                    name,
                    region_text(rows),
                )
            )


def silent(evidence: Evidence, found: Found) -> None:
    """Every row whose gradient is zero, wholly or in some units."""
    for status in ("zero", "partial"):
        for name in evidence.names(status):
            if name in evidence.cancelled:
                continue
            zero = evidence.zero[name]
            for op in evidence.consumers(name):
                _explain(evidence, found, name, op, zero)
    for key, cause in found.causes.items():
        if cause.kind == "zero_weight" and cause.region == "[...]" and _leaves_zero(evidence, cause.at):
            # Heads, last norms and LoRA factors start like this on purpose.
            text = f"{cause.text} It gets a gradient itself, so training leaves zero at the first step."
            found.causes[key] = replace(cause, severity="info", text=text)


def _leaves_zero(evidence: Evidence, name: str) -> bool:
    """Whether a weight that is zero gets a gradient; in some units is enough where a path beside it carries the signal."""
    status = evidence.status.get(name)
    roles = Roles(evidence)
    return status == "flowing" or (
        status == "partial" and all(roles.ends_branch(op) for op in evidence.consumers(name))
    )


def _explain(evidence: Evidence, found: Found, name: str, op: Op, zero: Tensor) -> None:
    if op.name in LOOKUPS and op.used_rows is not None and op.used_rows.numel() == zero.numel():
        zero = zero & op.used_rows
        if not bool(zero.any()):
            return
        # What arrives is per cell of the output, not per row of the table: only a wholly silent output is walked.
        if op.grads and all(grad.zero for grad in op.grads):
            _blocked(evidence, found, name, op, None)
        return
    arriving = op.grads[0] if op.grads else None
    if arriving is None:
        return
    if op.name == "multi_head_attention_forward" and name.endswith("in_proj_bias"):
        third = zero.numel() // 3
        keys = torch.zeros_like(zero)
        keys[third : 2 * third] = True
        if not bool((zero & ~keys).any()):
            text = (
                f"{name}: the key part does not change attention (softmax ignores what all keys share): it gets none."
            )
            seen = (f"{int(zero.sum())} of the {third} key units get exactly zero, the rest rounding noise",)
            region = f"[{third}:{2 * third}]"
            found.add(
                Cause("invariant", name, (name,), "info", text, seen, None, "Key bias has no effect", name, region)
            )
            return
    if arriving.zero:
        _blocked(evidence, found, name, op, None if bool(zero.all()) else zero)
        return
    units = arriving.per_unit(zero.numel())
    quiet = (units.cpu() == 0) & zero if units is not None else torch.zeros_like(zero)
    if bool(quiet.any()):
        _blocked(evidence, found, name, op, None if bool(quiet.all()) else quiet)
    rest = zero & ~quiet
    if bool(rest.any()):
        _unfed(evidence, found, name, op, rest)


def _blocked(evidence: Evidence, found: Found, name: str, op: Op, mask: Tensor | None) -> None:
    """Nothing arrives at `op` (in the units of the mask): find who lets nothing through."""
    for blocker, units in _blockers(evidence, op, mask, {op.index}):
        cause = _classify(evidence, name, blocker, units)
        if cause is not None:
            found.add(cause)


def _blockers(evidence: Evidence, op: Op, mask: Tensor | None, seen: set[int]) -> list[tuple[Op, Tensor | None]]:
    """Ops towards the loss that received a gradient and passed none on. A mask [units] of None means all units."""
    result: list[tuple[Op, Tensor | None]] = []
    for index in evidence.users[op.index]:
        user = evidence.ops[index]
        if index in seen:
            continue
        seen.add(index)
        if user.is_view:
            result += _blockers(evidence, user, mask, seen)
            continue
        if not user.grads:
            continue
        wide = mask
        if mask is not None and user.outs:
            # Behind a flatten, channel c is the block of columns [c * k, (c + 1) * k).
            last = user.outs[0].last.numel()
            flattened = user.outs[0].second is None and user.name not in MATRIX and last % mask.numel() == 0
            wide = mask.repeat_interleave(last // mask.numel()) if flattened else mask
        units = (
            None
            if wide is None or (mixes(user) and not _keeps_units(evidence, user))
            else user.grads[0].per_unit(wide.numel())
        )
        if all(grad.zero for grad in user.grads):
            result += _blockers(evidence, user, wide, seen)
        elif wide is None or units is None:
            result.append((user, wide))
        else:  # unit by unit: some end here, others further on
            further = wide & (units.cpu() == 0)
            if bool(further.any()):
                result += _blockers(evidence, user, further, seen)
            if bool((wide & ~further).any()):
                result.append((user, wide & ~further))
    return result


def _keeps_units(evidence: Evidence, op: Op) -> bool:
    """Whether a constant matrix, such as a graph's links, mixes samples or places here, and each unit stays itself."""
    return op.name in MATRIX and not evidence.weights(op) and len(evidence.data(op)) == 1


def _classify(evidence: Evidence, name: str, op: Op, mask: Tensor | None) -> Cause | None:
    """The cause at an Op that received a gradient and passed on exactly zero."""
    if not op.module_type and op.name not in MULTIPLY and _satisfied(evidence):
        text = "the loss is exactly 0 on this batch, its least value: nothing is left to learn from it."
        return Cause("zero_path", "", (name,), "info", text, (f"{op.name} puts out 0",), None, "The loss is 0")
    if op.name in RELU and op.highest is not None:
        if bool(op.highest.isnan().any()):
            return None  # NaN is neither above nor below 0: what made it is the cause
        if not bool(op.highest.any()):  # fed exactly 0: by whom?
            zeros = (_made_zero(evidence, source, set()) for source in evidence.data(op))
            product = next((zero for zero in zeros if zero is not None and zero.title == PRODUCT), None)
            if product is not None:
                return replace_affects(product, name)
        return dead_relu(evidence, name, op, mask)
    shut = shut_gate(evidence, name, op)
    if shut is not None:
        return shut
    weight = zero_weight(evidence, name, op, mask)
    if weight is not None:
        return weight
    if "dropout" in op.name and op.probability >= 1.0:
        text = f"{op.where}: p = 1 drops everything: neither signal nor gradient passes."
        return Cause(
            "zero_path", op.path, (name,), "error", text, ("p = 1",), "Use p below 1.", "Dropout drops everything"
        )
    grads = max(grad.largest for grad in op.grads)
    came = f"largest gradient at its output {number(grads)}, at its input exactly 0"
    if op.name in FLAT_ENDS and is_far_out(evidence, op):
        return saturated(evidence, name, op, mask, came)
    if (op.name in SATURATING and op.name not in FLAT_ENDS) or op.name in RELU:
        made = max((out.largest for out in op.outs), default=0.0)
        text = f"{op.where}: saturated; its derivative is exactly 0 in every cell that matters."
        return Cause(
            "saturated",
            op.path,
            (name,),
            "warning",
            text,
            (came, f"largest |output| {number(made)}"),
            None,
            f"{op.where} is saturated",
        )
    if op.name in MULTIPLY or (op.name in MATRIX and len(evidence.data(op)) > 1):
        for source in evidence.data(op):
            zero = _made_zero(evidence, source, set(), mask)
            # The other factor, and what made it zero; where that is a constant, the product is the place.
            if zero is not None and (zero.kind != "zero_path" or source.inputs):
                return replace_affects(zero, name)
    if op.name in MULTIPLY:
        return _multiplied(evidence, name, op, mask, came)
    if mask is None or bool(mask.all()):
        stopped = _stopped_before(evidence, name, op)
        if stopped is not None:
            return stopped
        text = f"{op.where}: a gradient arrives here and none is passed on."
        return Cause("zero_path", op.path, (name,), "warning", text, (came,), None, f"Gradient ends at {op.where}")
    # Some silent units on one batch are common in trained networks: worth knowing, no alarm.
    units = mask.nonzero().flatten().tolist()
    shown = ", ".join(map(str, units[:6])) + (", …" if len(units) > 6 else "")
    where = f"{len(units)} of {mask.numel()} units ({shown})"
    text = f"{op.where}: in {where} a gradient arrives, and exactly none is passed on to {name}."
    return Cause("zero_path", op.path, (name,), "info", text, (came,), None, f"{where} get nothing through {op.where}")


def _multiplied(evidence: Evidence, name: str, op: Op, mask: Tensor | None, came: str) -> Cause:
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
    return Cause("zero_path", op.path, affects, severity, text, (came,), None, PRODUCT)


def _satisfied(evidence: Evidence) -> bool:
    """Whether the loss itself is 0: a margin that all samples keep."""
    last = evidence.ops[-1]
    return not last.module_type and bool(last.outs) and last.outs[0].zero


def _stopped_before(evidence: Evidence, name: str, op: Op) -> Cause | None:
    """A layer further up that lets nothing through, so that what this Op gets does not depend on the input."""
    waiting, seen = list(op.inputs), set[int]()
    while waiting:
        source = evidence.ops[waiting.pop(0)]
        if source.index in seen or evidence.weightlike(source):
            continue
        seen.add(source.index)
        if source.name in RELU and source.highest is not None and bool((source.highest <= 0).all()):
            return dead_relu(evidence, name, source, None)
        waiting += source.inputs
    return None


def _unfed(evidence: Evidence, found: Found, name: str, op: Op, mask: Tensor) -> None:
    """A gradient arrives at `op`, so what multiplies it must be zero: find who made the zeros."""
    others = [other for other in evidence.weights(op) if other != name]
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
            Cause("zero_path", op.path, (name,), "error", text, ("the input is all zeros",), None, "The input is zero")
        )
        return
    for source in evidence.data(op):
        cause = _made_zero(evidence, source, set())
        if cause is not None:
            found.add(replace_affects(cause, name))
            return
    for other in others:  # inside a composite such as attention, the other weight stands between
        value = evidence.tree.tensor(other).detach()
        if value.numel() and value.ndim > 1 and not bool(value.any()):
            found.add(
                replace_affects(
                    weight_cause(
                        other, torch.ones(value.shape[0], dtype=torch.bool), 0, f"so nothing passes {op.where}"
                    ),
                    name,
                )
            )
            return


def _made_zero(evidence: Evidence, op: Op, seen: set[int], mask: Tensor | None = None) -> Cause | None:
    """Where the zeros come from that `op` puts out, in the units of the mask; None if it does not put out zeros only."""
    if op.index in seen:
        return None
    seen.add(op.index)
    sources = evidence.data(op)
    if op.is_view and op.outside_zero and not sources:
        text = f"{op.where}: the input is exactly 0 in every cell, so what it feeds gets no gradient. Check the batch."
        return Cause("zero_path", op.path, (), "error", text, ("the input is all zeros",), None, "The input is zero")
    if op.is_view:
        found = (_made_zero(evidence, source, seen, mask) for source in sources)
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
        text = f"{op.where}: p = 1 drops everything: neither signal nor gradient passes."
        return Cause("zero_path", op.path, (), "error", text, ("p = 1",), "Use p below 1.", "Dropout drops everything")
    for source in sources:
        cause = _made_zero(evidence, source, seen)
        if cause is not None:
            return cause
    if op.name in MULTIPLY:
        return _multiplied(evidence, "", op, None, "largest |output| is 0")
    if op.name == "zeros" and isinstance(evidence.tree.modules.get(op.path), nn.RNNBase):
        # Such as the reverse direction behind `output[:, -1]`: it has read one step by then.
        text = f"{op.where}: its state starts at 0, and what the loss sees comes one step later, so that no state has passed yet."
        counts = ("the initial state is all zeros",)
        return Cause("invariant", op.path, (), "info", text, counts, None, f"{op.where} has taken one step only")
    text = f"{op.where}: it puts out exactly 0 in every cell, so what it feeds gets no gradient."
    return Cause(
        "zero_path", op.path, (), "warning", text, ("largest |output| is 0",), None, f"{op.where} puts out zeros"
    )


def _made_zero_in(evidence: Evidence, op: Op, seen: set[int], mask: Tensor) -> Cause | None:
    """As `_made_zero`, for some units: behind what keeps units apart there is a ReLU that is dead in them."""
    if not op.outs or not op.outs[0].zero_where(mask):
        return None
    if op.name in RELU and op.highest is not None and op.highest.numel() == mask.numel():
        highest = op.highest.cpu()
        if bool(((highest <= 0) | ~mask).all()):
            earlier = (_made_zero(evidence, source, seen, mask) for source in evidence.data(op))
            return next((cause for cause in earlier if cause is not None), None) or dead_relu(evidence, "", op, mask)
    if mixes(op):
        return None
    found = (_made_zero(evidence, source, seen, mask) for source in evidence.data(op))
    return next((cause for cause in found if cause is not None), None)


def constant(evidence: Evidence, norm: Op, source: Op, mask: Tensor) -> Cause | None:
    """Why a channel that enters a normalisation is constant, so that its normalised signal is 0."""
    for weight in evidence.weights(source):
        value = evidence.tree.tensor(weight).detach()
        if value.ndim > 1 and value.shape[0] == mask.numel() and bool((all_zero_along(value, 0).cpu() | ~mask).all()):
            samples = f"for all {norm.samples} samples" if norm.samples > 1 else "for the sample"
            return weight_cause(
                weight, mask, 0, f"so the signal that {norm.where} normalises is constant and comes out 0 {samples}"
            )
    if source.name not in RELU or source.highest is None or source.highest.numel() != mask.numel():
        return None
    silent_there = bool(((source.highest.cpu() <= 0) | ~mask).all())
    return dead_relu(evidence, "", source, mask) if silent_there else None
