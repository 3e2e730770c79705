"""Units behind a ReLU that no sample reaches, and what keeps them there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from weightlab.check.evidence import (
    Cause,
    Evidence,
    Severity,
    number,
    region_text,
    units_text,
)
from weightlab.check.expected import fans
from weightlab.check.measures import NORMS, RELU, Op
from weightlab.check.zeros import (
    all_zero_along,
    arriving_text,
    factors,
    mixes,
    replace_affects,
    shifts,
    upstream,
    weight_cause,
)

# Far from the output of a deep plain ReLU net all samples look alike, and about half of the units are off for all of
# them, healthy as they may be (Lu et al. 2019, "Dying ReLU and initialization", section 3); nearly all is different.
MOSTLY = 0.9
# Of evenly drawn shifts n are all below a quarter of another one by chance in 4^-n of the cases: from five on in less than 0.1 %.
FEW = 5
# Where all samples look alike, n units are all off in 2^-n of the starts: below this share that is no chance.
CHANCE = 0.01


class Push(NamedTuple):
    """A bias that holds units below 0: its name, the units [units], "conv1.bias is −5", and what was measured.

    `stands_out`: its values there are nothing like those of the units that are alive.
    """

    bias: str
    units: Tensor
    said: str
    seen: str
    stands_out: bool


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
        title = f"{op.where} is saturated"
        return Cause("saturated", op.path, (name,), severity, text, (came,), None, title, op=op.index)
    weight = _never_above_zero(evidence, op, meant)
    if weight is not None:
        return replace_affects(weight, name)
    earlier = _dead_before(evidence, op, meant, highest)
    if earlier is not None:
        return dead_relu(evidence, name, earlier, meant)
    word = op.word
    top = float(highest[dead].max())
    side = "below 0" if top < 0 else "at or below 0"
    push = pushing_bias(evidence, op, dead, highest)
    because = f", because {push.said}" if push else ""
    if push and push.stands_out and not bool((push.units == dead).all()):
        because += f" in {units_text(push.units, word)}"
    text = f"{op.where}: {op.samples} of {op.samples} samples {side} in {units_text(dead, word)}{because}."
    seen = (f"highest input of these {word}s is {number(top)}", *((push.seen,) if push else ()))
    severity = "info"
    if bool(dead.all()):
        chance = not (push and push.stands_out) and _by_chance(evidence, op, dead.numel())
        severity = "info" if chance else "error"
    elif float(dead.float().mean()) > MOSTLY or (push and push.stands_out):
        severity = "warning"
    repair = f"Raise {push.bias} there, for example to 0." if push else None
    return Cause(
        kind="dead_relu",
        at=op.path,
        affects=(name,) if name else (),
        severity=severity,
        text=text,
        evidence=seen,
        repair=repair,
        title=f"{int(dead.sum())} of {dead.numel()} {word}s are dead",
        name=push.bias if push else None,
        region=region_text(push.units) if push else None,
        op=op.index,
        basis="unexplained" if push is None and top == 0 else "origin",  # fed exactly 0: by whom?
    )


def _by_chance(evidence: Evidence, op: Op, units: int) -> bool:
    """Whether a fresh start leaves all units off now and then, and what feeds them learns by another way, so that they come back.

    Such is the density of a radiance field, one unit beside the colours.
    """
    if 0.5**units < CHANCE:
        return False
    mixing = [source for source in upstream(evidence, op) if evidence.weights(source)]
    further = [name for source in mixing[1:] for name in evidence.weights(source)]
    return any(evidence.status.get(name) == "flowing" for name in further)


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
    told: list[str] = []
    for source in upstream(evidence, op):
        added, multiplied = shifts(evidence, source), factors(evidence, source)
        for name in evidence.weights(source):
            if name not in added and not multiplied.get(name):
                continue
            value = evidence.tree.tensor(name).detach()
            axis = 1 if source.name.startswith("conv_transpose") and value.ndim > 1 else 0
            if not value.ndim or value.shape[axis] != dead.numel():
                continue
            if name in added:
                # A shift before a normalisation is subtracted again; one right before the ReLU decides.
                if not any(evidence.ops[user].name in NORMS for user in evidence.users[source.index]):
                    dead = dead & (value.cpu() <= 0)
                    if not bool(dead.any()):
                        return None
                    told.append(name)
            elif value.ndim > 1 or source.name in NORMS:
                silent = all_zero_along(value, axis).cpu() & dead
                if bool(silent.any()):  # of several dead units, those that the others' luck does not explain
                    stays = f", {told[-1]} is not above 0 there" if told else ""
                    so = f"so {op.where} gets nothing above 0{stays}, and its derivative there is 0"
                    return weight_cause(evidence.tree[name], silent, axis, so)
                if source.name not in NORMS and value.shape[1:2] != (1,):  # a depthwise kernel keeps units apart
                    return None
        if evidence.weights(source) and mixes(source) and not any(multiplied.values()):
            return None  # a weight that was computed: its own zeros say nothing
    return None


def pushing_bias(evidence: Evidence, op: Op, dead: Tensor, highest: Tensor) -> Push | None:
    """A bias without which most dead units would be alive, or some of them whose bias stands out."""
    for source in upstream(evidence, op):
        for name in evidence.weights(source):
            value = evidence.tree.tensor(name).detach()
            if name not in shifts(evidence, source) or value.numel() != dead.numel():
                continue
            shift = value.cpu().float()
            alive = dead & (highest - shift > 0) & (shift < 0) & (highest < 0)  # what is exactly 0 no bias pushed there
            others = shift[~dead].abs()
            # A few dead units are ordinary; a shift that is nothing like those of the living ones is not.
            far = alive & (-shift > 4 * others.max()) if others.numel() else torch.zeros_like(dead)
            if others.numel() < FEW:
                far &= -shift > _drawn_up_to(evidence, source)
            stands_out = bool(far.any())
            if not stands_out and 2 * int(alive.sum()) < int(dead.sum()):
                return None
            held = far if stands_out else alive
            low, high = float(shift[held].min()), float(shift[held].max())
            said = f"{name} is {number(low)}" if low == high else f"{name} is between {number(low)} and {number(high)}"
            seen = f"without {name}, {int(alive.sum())} of these {int(dead.sum())} would get inputs above 0"
            return Push(name, far if stands_out else dead, said, seen, stands_out)
        if evidence.weights(source):
            return None
    return None


def _drawn_up_to(evidence: Evidence, op: Op) -> float:
    """The largest bias that torch's own initialisation draws beside this weight: 1 / sqrt(fan_in)."""
    shapes = [evidence.tree[name].shape for name in evidence.weights(op)]
    return max((fans(shape)[0] ** -0.5 for shape in shapes if len(shape) > 1), default=0.0)
