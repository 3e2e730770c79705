"""Nothing arrives from the loss: the Ops that received a gradient and passed exactly none on, and why (towards the loss)."""

from __future__ import annotations

from torch import Tensor

from weightlab.check.dead import dead_relu
from weightlab.check.evidence import MATRIX, MULTIPLY, SATURATING, Cause, Evidence, Found, number
from weightlab.check.flat import FLAT_ENDS, is_far_out, saturated
from weightlab.check.gates import shut_gate
from weightlab.check.measures import RELU, Op
from weightlab.check.unfed import dropped, made_zero, multiplied
from weightlab.check.zeros import mixes, replace_affects, zero_weight


def blocked(evidence: Evidence, found: Found, name: str, op: Op, mask: Tensor | None) -> None:
    """Nothing arrives at `op` (in the units of the mask): find who lets nothing through."""
    for blocker, units in _blockers(evidence, op, mask, {op.index}):
        cause = _classify(evidence, name, blocker, units)
        if cause is not None:
            found.add(cause)


def _blockers(evidence: Evidence, op: Op, mask: Tensor | None, seen: set[int]) -> list[tuple[Op, Tensor | None]]:
    """Ops towards the loss that received a gradient and passed none on. A mask [units] of None means all units."""
    result: list[tuple[Op, Tensor | None]] = []
    # The way from an Op to one that takes it, the next one last; None: the Op itself is a result. A deep model is a long way.
    ways: list[tuple[Op, int | None, Tensor | None]] = []

    def onward(op: Op, mask: Tensor | None) -> None:
        ways.extend((op, index, mask) for index in reversed(evidence.users[op.index]))

    onward(op, mask)
    while ways:
        op, index, mask = ways.pop()
        if index is None:
            result.append((op, mask))
            continue
        user = evidence.ops[index]
        if index in seen:
            continue
        seen.add(index)
        if user.is_view:
            onward(user, mask)
            continue
        if not user.grads:
            continue
        wide = mask
        if mask is not None and user.outs:
            # Behind a flatten, channel c is the block of columns [c * k, (c + 1) * k).
            last = user.outs[0].last.numel()
            flattened = user.outs[0].second is None and user.name not in MATRIX and last % mask.numel() == 0
            wide = mask.repeat_interleave(last // mask.numel()) if flattened else mask
        kept = not mixes(user) or _keeps_units(evidence, user) or _gives_units(evidence, op, user)
        units = user.grads[0].per_unit(wide.numel()) if wide is not None and kept else None
        if all(grad.zero for grad in user.grads):
            onward(user, wide)
        elif wide is None or units is None:
            result.append((user, wide))
        else:  # unit by unit: some end here, others further on
            further = wide & (units.cpu() == 0)
            if bool((wide & ~further).any()):
                ways.append((user, None, wide & ~further))
            if bool(further.any()):
                onward(user, further)
    return result


def _gives_units(evidence: Evidence, op: Op, user: Op) -> bool:
    """Whether this is a computed weight or bias of the other Op, so that row c of it is unit c there."""
    taken = user.name == "linear" or (user.name.startswith("conv") and "transpose" not in user.name)
    return op.index in user.shift_ops or (taken and evidence.weightlike(op))


def _keeps_units(evidence: Evidence, op: Op) -> bool:
    """Whether a constant matrix, such as a graph's links, mixes samples or places here, and each unit stays itself."""
    return op.name in MATRIX and not evidence.weights(op) and len(evidence.data(op)) == 1


def _classify(evidence: Evidence, name: str, op: Op, mask: Tensor | None) -> Cause | None:
    """The cause at an Op that received a gradient and passed on exactly zero."""
    if _satisfied(evidence, op):
        text = "the loss is exactly 0 on this batch, its least value: nothing is left to learn from it."
        return Cause(
            "zero_path", "", (name,), "info", text, (f"{op.name} puts out 0",), None, "The loss is 0", op=op.index
        )
    if op.name in RELU and op.highest is not None:
        if bool(op.highest.isnan().any()):
            return None  # NaN is neither above nor below 0: what made it is the cause
        if not bool(op.highest.any()):  # fed exactly 0: by whom?
            zeros = (made_zero(evidence, source, set()) for source in evidence.data(op))
            product = next((zero for zero in zeros if zero is not None and _is_product(evidence, zero)), None)
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
        return dropped(name, op)
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
            op=op.index,
        )
    if op.name in MULTIPLY or (op.name in MATRIX and len(evidence.data(op)) > 1):
        for source in evidence.data(op):
            zero = made_zero(evidence, source, set(), mask)
            # The other factor, and what made it zero; where that is a constant, the product is the place.
            if zero is not None and (zero.kind != "zero_path" or source.inputs):
                return replace_affects(zero, name)
    if op.name in MULTIPLY:
        return multiplied(evidence, name, op, mask, came)
    if mask is None or bool(mask.all()):
        stopped = _stopped_before(evidence, name, op)
        if stopped is not None:
            return stopped
        text = f"{op.where}: a gradient arrives here and none is passed on."
        title = f"Gradient ends at {op.where}"
        return Cause(
            "zero_path", op.path, (name,), "warning", text, (came,), None, title, op=op.index, basis="unexplained"
        )
    # Some silent units on one batch are common in trained networks: worth knowing, no alarm.
    units = mask.nonzero().flatten().tolist()
    shown = ", ".join(map(str, units[:6])) + (", …" if len(units) > 6 else "")
    where = f"{len(units)} of {mask.numel()} units ({shown})"
    text = f"{op.where}: in {where} a gradient arrives, and exactly none is passed on to {name}."
    title = f"{where} get nothing through {op.where}"
    return Cause("zero_path", op.path, (name,), "info", text, (came,), None, title, op=op.index)


def _is_product(evidence: Evidence, cause: Cause) -> bool:
    return cause.kind == "zero_path" and cause.op is not None and evidence.ops[cause.op].name in MULTIPLY


def _satisfied(evidence: Evidence, op: Op) -> bool:
    """Whether the loss itself is 0, or a term of it: a margin that all samples keep."""
    if op.name.endswith("_loss") and op.outs and all(out.zero for out in op.outs):
        return True
    if op.name in MULTIPLY:
        return False
    end = evidence.ops[-1 if evidence.end is None else evidence.end]
    while end.is_view and end.inputs:
        end = evidence.ops[end.inputs[0]]
    if not end.outs or not end.outs[0].zero:
        return False
    # Behind a model that makes its loss itself nobody else has a say; a ReLU in it that is followed by a layer is no loss.
    return not op.module_type or (bool(end.module_type) and not _layer_behind(evidence, op))


def _layer_behind(evidence: Evidence, op: Op) -> bool:
    waiting, seen = list(evidence.users[op.index]), set[int]()
    while waiting:
        user = evidence.ops[waiting.pop()]
        if user.index not in seen:
            seen.add(user.index)
            if mixes(user) and evidence.weights(user):
                return True
            waiting += evidence.users[user.index]
    return False


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
