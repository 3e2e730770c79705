"""Gradients that shrink or grow on their way back, or are rounding noise by construction: where, and by how much."""

from __future__ import annotations

import math

from weightlab.check.evidence import Cause, Evidence, Found, Severity, names_text, number, region_text, units_text
from weightlab.check.measures import NORMS, Op
from weightlab.check.shrinking import Shrinking, idle_norms, shrinking

# A branch that is scaled by less than this starts quietly on purpose (LayerScale; Touvron et al. 2021, section 2).
SMALL_SCALE = 1e-3
SHRINKS = "the gradient shrinks on its way back to below 1.2e−7 of what it is nearer to the loss"


def weak(evidence: Evidence, found: Found) -> None:
    """Gradients that are rounding noise by construction, that grew, or that shrank on their way."""
    _without_effect(evidence, found)
    _exploding(evidence, found)
    rest = [name for name in evidence.names("weak") if name not in evidence.cancelled]
    for name in [name for name in rest if _divided_out(evidence, name)]:
        text = f"{name}: gradients pass it and are far larger before it: what follows divides this scale out again."
        seen = ("parameters further from the loss get an ordinary gradient",)
        found.add(Cause("invariant", name, (name,), "info", text, seen, None, f"{name} has no effect", name))
        rest.remove(name)
    if rest:
        found.add(_behind_small_scale(evidence, tuple(rest)) or _vanishing(evidence, tuple(rest)))


def _without_effect(evidence: Evidence, found: Found) -> None:
    """`invariant`: biases, or units of them, whose gradient cancels."""
    for name in sorted(evidence.cancelled):
        op = next(op for op in evidence.ops if op.bias == name)
        norm = next((evidence.ops[user] for user in evidence.users[op.index] if evidence.ops[user].name in NORMS), None)
        by = f": {norm.where} subtracts the mean again" if norm is not None else ""
        text = f"{name}: adding a constant there does not change the loss{by}, so its gradient is rounding noise."
        seen = (
            f"the {op.terms} terms of its gradient cancel to below {number(32 * op.epsilon)} of what they could add up to",
        )
        repair = f"Leave it out (bias=False): it has no effect before {norm.where}." if norm is not None else None
        found.add(Cause("invariant", name, (name,), "info", text, seen, repair, f"{name} has no effect", name))
    for name, units in evidence.cancelled_units.items():
        if name in evidence.cancelled:
            continue
        these = units_text(units, "unit")
        text = f"{name}: a gradient arrives at {these}, and its terms cancel: adding a constant there does not change the loss."
        seen = ("the weight beside it gets a gradient in these units, the bias exactly 0",)
        region = region_text(units)
        title = f"{int(units.sum())} of {units.numel()} units have no effect"
        found.add(Cause("invariant", name, (name,), "info", text, seen, None, title, name, region))


def _exploding(evidence: Evidence, found: Found) -> None:
    if not evidence.exploding:
        return
    worst = max(evidence.exploding, key=lambda name: evidence.exploding[name])
    text = f"{worst}: the gradient grows on its way back, {number(evidence.exploding[worst])} × the last layer's"
    seen = (f"{len(evidence.exploding)} parameters get more than 8e6 times what the last layer gets",)
    repair = "Scale the weights down (for example kaiming_normal_), or add a normalisation."
    at, name = worst, worst
    steps = [(op, op.grads[0].largest) for op in evidence.ops if op.module_type and op.grads and op.grads[0].finite]
    widest = _widest(evidence, steps)
    if widest is not None:
        op, factor = widest
        at, name = op.path, ""
        text += (
            f"; the largest single step, {number(factor)} ×, is in the backward of {op.where}, and no weight makes it"
        )
        repair = f"Look at what the backward of {op.where} multiplies by."
    cause = Cause(
        *("exploding", at, tuple(evidence.exploding), "warning"), f"{text}.", seen, repair, "Exploding gradient", name
    )
    found.add(cause)


def _widest(evidence: Evidence, steps: list[tuple[Op, float]]) -> tuple[Op, float] | None:
    """The Op whose backward multiplies the gradient the most, where it does more than all others and by no weight of its own."""
    best: tuple[Op, Op, float] | None = None
    sizes = [size for _, size in steps if size > 0]
    for op, size in steps:
        users = _users_with_gradient(evidence, op)
        arrived = sum(user.grads[0].largest for user in users)
        if users and 0 < arrived < math.inf and (best is None or size / arrived > best[2]):
            best = op, max(users, key=lambda user: user.grads[0].largest), size / arrived
    if best is None or best[2] < math.sqrt(max(sizes) / min(sizes)):
        return None
    op, user, factor = best
    if user.name in NORMS or factor <= _most(evidence, user):
        return None
    # A custom function that hands on what it took looks like a view, and views are not measured.
    between = (evidence.ops[index] for index in evidence.users[op.index] if evidence.ops[index].is_view)
    own = next((view for view in between if view.path not in (op.path, user.path)), None)
    return own or user, factor


def _most(evidence: Evidence, op: Op) -> float:
    """By how much the weights of an Op can multiply the largest cell of a gradient: the most that |w| adds up to in one cell."""
    most = 0.0
    for name in evidence.weights(op):
        value = evidence.tree.tensor(name).detach().abs().float()
        if value.ndim > 1:
            most = max(most, *(float(value.transpose(0, axis).flatten(1).sum(1).max()) for axis in (0, 1)))
        elif value.numel():
            most = max(most, float(value.max()))
    return most


def _behind_small_scale(evidence: Evidence, rest: tuple[str, ...]) -> Cause | None:
    for name in evidence.scales:
        size = float(evidence.tree.tensor(name).detach().abs().max())
        if 0 < size < SMALL_SCALE:
            text = (
                f"{name}: a branch is scaled by at most {number(size)}, so the gradients behind it are that small too."
            )
            seen = (f"largest |{name}| {number(size)}",)
            return Cause("vanishing", name, rest, "info", text, seen, None, "Behind a small scale", name)
    return None


def _vanishing(evidence: Evidence, rest: tuple[str, ...]) -> Cause:
    # What the loss itself divides by is no fault of the model.
    steps = [(op, op.grads[0].largest) for op in evidence.ops if op.module_type and op.grads and op.grads[0].finite]
    at, drop, each = _narrowest(evidence, steps)
    where = at.where if at is not None else ""
    ends = [size for _, size in steps if size > 0]
    seen = (
        f"the largest gradient of an activation is {number(max(ends, default=0.0))}, "
        f"the smallest {number(min(ends, default=0.0))}",
    )
    text = f"{names_text(rest)}: {SHRINKS}"
    if each > 1:
        text += f"; {each} functions like {where} take a share each, the largest leaves {number(drop)} of it."
    else:
        text += f"; the largest single drop, to {number(drop)} of it, is at {where}." if where else "."
    repair = "Use a normalisation, a residual path, or an activation that does not saturate."
    severity: Severity = "warning"
    title = "Vanishing gradient"
    way = shrinking(evidence, rest)
    if way is not None and way.by_scheme:
        severity, title = "info", "Vanishing by its initialisation"
        text = _by_scheme(rest, way)
        repair = "Use He's rule for ReLU and its like, Glorot's for tanh, a normalisation or a residual path."
    elif (idle := idle_norms(evidence)) and (way is None or not way.below):
        severity, title = "info", "Before its BatchNorms have seen a batch"
        text = (
            f"{names_text(rest)}: {SHRINKS}; {len(idle)} BatchNorms like {idle[0]} run in eval mode on statistics of no "
            "batch, so that they normalise nothing."
        )
        repair = "Train for some steps, or check in train mode."
    elif way is not None and 0 < len(way.below) <= len(way.layers) // 2:
        # Few weights among healthy ones are the place, however much the others take together.
        least = min(way.below, key=lambda layer: layer.gain / layer.low)
        at = way.ops[way.layers.index(least)]
        text = (
            f"{names_text(rest)}: {SHRINKS}; the gain of {least.name} is {number(least.gain)}, "
            f"{number(least.low / least.gain)} times below the least of the healthy schemes."
        )
    return Cause("vanishing", at.path if at is not None else "", rest, severity, text, seen, repair, title)


def _by_scheme(rest: tuple[str, ...], way: Shrinking) -> str:
    return (
        f"{names_text(rest)}: by its standard initialisation {len(way.layers)} layers make the gradient "
        f"{number(math.exp(way.explained))} times smaller on its way back; it is {number(math.exp(way.measured))} times "
        "smaller."
    )


def _divided_out(evidence: Evidence, name: str) -> bool:
    """Whether a vector gets next to nothing although gradients pass it: a scale before a depthwise layer and its BatchNorm.

    What vanishes on its way back is small for all that comes before.
    """
    if len(evidence.tree[name].shape) != 1:
        return False
    waiting = [index for op in evidence.consumers(name) for index in op.inputs]
    seen: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        op = evidence.ops[index]
        if any(evidence.status.get(other) == "flowing" for other in op.parameters):
            return True
        waiting += op.inputs
    return False


def _narrowest(evidence: Evidence, steps: list[tuple[Op, float]]) -> tuple[Op | None, float, int]:
    """Where the gradient shrinks the most: the Op, the share that it passes on, and how many of its kind do alike.

    One narrow place, or many that each take a share, as twenty sigmoids do: shares of functions of one name multiply.
    """
    drops: dict[str, dict[int, float]] = {}
    for op, size in steps:
        for user in _users_with_gradient(evidence, op):
            passed = size / max(user.grads[0].largest, 1e-300)
            if size > 0 and passed < 1:
                held = drops.setdefault(user.name, {})
                held[user.index] = min(passed, held.get(user.index, 1.0))
    if not drops:
        return None, 1.0, 0
    name = min(drops, key=lambda name: sum(math.log(passed) for passed in drops[name].values()))
    index = min(drops[name], key=lambda index: drops[name][index])
    total = sum(math.log(passed) for passed in drops[name].values())
    alone = math.log(drops[name][index]) < total / 2
    return evidence.ops[index], drops[name][index], 1 if alone else len(drops[name])


def _users_with_gradient(evidence: Evidence, op: Op) -> list[Op]:
    """The model's functions that take what an Op made, also behind views of it."""
    found: list[Op] = []
    waiting, seen = list(evidence.users[op.index]), set[int]()
    while waiting:
        index = waiting.pop()
        user = evidence.ops[index]
        if index in seen or not user.module_type:
            continue
        seen.add(index)
        if user.is_view:
            waiting += evidence.users[index]
        elif user.grads:
            found.append(user)
    return found
