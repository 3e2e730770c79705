"""Units behind a ReLU that no sample reaches, and what keeps them there."""

from __future__ import annotations

from torch import Tensor

from weightlab.check.evidence import (
    Cause,
    Evidence,
    Severity,
    number,
    region_text,
    units_text,
)
from weightlab.check.measures import NORMS, RELU, Op
from weightlab.check.zeros import all_zero_along, arriving_text, replace_affects, upstream, weight_cause

# Far from the output of a deep plain ReLU net all samples look alike, and about half of the units are off for all of
# them, healthy as they may be (Lu et al. 2019, "Dying ReLU and initialization", section 3); nearly all is different.
MOSTLY = 0.9


def dead_relu(evidence: Evidence, name: str, op: Op, mask: Tensor | None) -> Cause:
    """A ReLU-like Op with no cell in its linear range, and what keeps it there."""
    assert op.highest is not None
    highest = op.highest.cpu().float()
    dead = highest <= 0
    meant = dead & mask if mask is not None and mask.numel() == dead.numel() else dead
    if not bool(meant.any()):
        came = f"largest gradient at its output {arriving_text(op)}, at its input exactly 0"
        text = f"{op.where}: every cell that matters is outside its linear range, where the derivative is 0."
        # Some units of a batch without a gradient are common; all of them are not.
        severity: Severity = "warning" if mask is None or bool(mask.all()) else "info"
        return Cause("saturated", op.path, (name,), severity, text, (came,), None, f"{op.where} is saturated")
    weight = _never_above_zero(evidence, op, meant)
    if weight is not None:
        return replace_affects(weight, name)
    earlier = _dead_before(evidence, op, meant, highest)
    if earlier is not None:
        return dead_relu(evidence, name, earlier, meant)
    word = "channel" if op.outs and len(op.outs[0].shape) >= 4 else "unit"
    top = float(highest[dead].max())
    side = "below 0" if top < 0 else "at or below 0"
    bias = _pushing_bias(evidence, op, dead, highest)
    because = f", because {bias[1]}" if bias else ""
    text = f"{op.where}: {op.samples} of {op.samples} samples {side} in {units_text(dead, word)}{because}."
    seen = (f"highest input of these {word}s is {number(top)}", *(bias[2] if bias else ()))
    severity = "info"
    if bool(dead.all()):
        severity = "error"
    elif float(dead.float().mean()) > MOSTLY or (bias and bias[3]):
        severity = "warning"
    repair = f"Raise {bias[0]} there, for example to 0." if bias else None
    return Cause(
        kind="dead_relu",
        at=op.path,
        affects=(name,) if name else (),
        severity=severity,
        text=text,
        evidence=seen,
        repair=repair,
        title=f"{int(dead.sum())} of {dead.numel()} {word}s are dead",
        name=bias[0] if bias else None,
        region=region_text(dead) if bias else None,
    )


def _dead_before(evidence: Evidence, op: Op, dead: Tensor, highest: Tensor) -> Op | None:
    """A ReLU further up that is dead in the same units, where this one gets exactly 0 and is no origin."""
    if bool((highest[dead] < 0).any()):
        return None
    for source in upstream(evidence, op):
        if source.name in RELU and source.highest is not None and source.highest.numel() == dead.numel():
            above = source.highest.cpu()
            return source if bool(((above <= 0) | ~dead).all()) else None
    return None


def _never_above_zero(evidence: Evidence, op: Op, dead: Tensor) -> Cause | None:
    """A weight that is zero in the dead units, behind shifts that are not above 0: what the ReLU gets is a constant."""
    shifts: list[str] = []
    for source in upstream(evidence, op):
        for name in evidence.weights(source):
            value = evidence.tree.tensor(name).detach()
            axis = 1 if source.name.startswith("conv_transpose") and value.ndim > 1 else 0
            if not value.ndim or value.shape[axis] != dead.numel():
                continue
            if _is_shift(source, name, value):
                # A shift before a normalisation is subtracted again; one right before the ReLU decides.
                if not any(evidence.ops[user].name in NORMS for user in evidence.users[source.index]):
                    dead = dead & (value.cpu() <= 0)
                    if not bool(dead.any()):
                        return None
                    shifts.append(name)
            elif value.ndim > 1 or source.name in NORMS:
                silent = all_zero_along(value, axis).cpu() & dead
                if bool(silent.any()):  # of several dead units, those that the others' luck does not explain
                    stays = f", {shifts[-1]} is not above 0 there" if shifts else ""
                    so = f"so {op.where} gets nothing above 0{stays}, and its derivative there is 0"
                    return weight_cause(name, silent, axis, so)
                if source.name not in NORMS and value.shape[1:2] != (1,):  # a depthwise kernel keeps units apart
                    return None
    return None


def _pushing_bias(
    evidence: Evidence, op: Op, dead: Tensor, highest: Tensor
) -> tuple[str, str, tuple[str, ...], bool] | None:
    """(name, "conv1.bias is −5", evidence, stands out) of a bias without which most dead units would be alive."""
    for source in upstream(evidence, op):
        for name in evidence.weights(source):
            value = evidence.tree.tensor(name).detach()
            if value.ndim != 1 or value.numel() != dead.numel() or not _is_shift(source, name, value):
                continue
            shift = value.cpu().float()
            alive = (highest[dead] - shift[dead] > 0) & (shift[dead] < 0)
            if float(alive.float().mean()) < 0.5:
                return None
            low, high = float(shift[dead].min()), float(shift[dead].max())
            said = f"{name} is {number(low)}" if low == high else f"{name} is between {number(low)} and {number(high)}"
            others = shift[~dead].abs()
            # A few dead units are ordinary; a shift that is nothing like those of the living ones is not.
            stands_out = bool(others.numel()) and -low > 4 * float(others.max())
            seen = f"without {name}, {int(alive.sum())} of these {alive.numel()} would get inputs above 0"
            return name, said, (seen,), stands_out
        if evidence.weights(source):
            return None
    return None


def _is_shift(op: Op, name: str, value: Tensor) -> bool:
    return value.ndim == 1 and (op.bias == name or name.endswith("bias"))
