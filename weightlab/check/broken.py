"""Gradients that are missing, not finite or far too small: where the graph is cut, where a NaN is born."""

from __future__ import annotations

import math

from torch import Tensor, nn

from weightlab.check.evidence import (
    CUTS,
    Cause,
    Evidence,
    Found,
    Severity,
    finite,
    names_text,
    number,
    region_text,
    units_text,
)
from weightlab.check.measures import NORMS, Op
from weightlab.check.shrinking import idle_norms, shrinking

FINITE_BACKWARD = "divide", "div", "sqrt", "norm", "pow", "log", "where", "acos", "asin", "atan2", "std", "cdist"


def nonfinite(evidence: Evidence, found: Found) -> None:
    """The one place where NaN or inf came from: a weight, the input, a function, or the backward of one."""
    affected = tuple(evidence.names("nonfinite"))
    if not affected:
        return
    bad = False
    for info in evidence.tree:
        if info.kind == "computed":
            continue
        value = evidence.tree.tensor(info.name).detach()
        if not finite(value) and not (info.kind == "buffer" and masks(value)):
            bad = True
            cells = (~value.isfinite()).nonzero()
            first = ", ".join(str(index) for index in cells[0].tolist()) if value.ndim else ""
            region = f"[{first}]" if first else None
            count = len(cells)
            text = f"{info.name}: {count} of {info.numel} values are NaN or infinite, first at {region or '()'}."
            seen = (f"{int(value.isnan().sum())} NaN, {int(value.isinf().sum())} infinite",)
            repair = f"Set these cells of {info.name} to finite values."
            found.add(
                Cause(
                    "nonfinite_weight",
                    info.name,
                    affected,
                    "error",
                    text,
                    seen,
                    repair,
                    f"{count} values not finite",
                    info.name,
                    region,
                )
            )
    if bad:
        return
    op = _first_broken(evidence)
    if op is None:
        _born_in_backward(evidence, found, affected)
        return
    fed = [out for source in op.inputs for out in evidence.ops[source].outs]
    largest = max((out.largest for out in fed), default=0.0)
    text = f"{op.where}: the first NaN or inf of the forward pass; weights and what it was fed are finite."
    if op.outside and not fed:
        text = f"{op.where}: the first NaN or inf of the forward pass; look at the batch that it was fed."
    seen = (f"largest |input| {number(largest)}",)
    found.add(Cause("nonfinite_activation", op.path, affected, "error", text, seen, None, "NaN or inf in the forward"))


def masks(value: Tensor) -> bool:
    """Whether a buffer is finite but for -inf, as the masks of attention are."""
    return bool((value.isfinite() | value.isneginf()).all()) and bool(value.isfinite().any())


def _first_broken(evidence: Evidence) -> Op | None:
    """The first Op from which NaN or inf goes on to the end; else the first that makes a NaN.

    An infinity that is taken in again is no fault: the -inf of an attention mask is 0 behind the softmax.
    """
    broken = {op.index for op in evidence.ops if op.outs and not all(out.finite for out in op.outs)}
    goes_on: set[int] = set()
    for op in reversed(evidence.ops):
        users = evidence.users[op.index]
        carries = op.index in broken or not op.outs  # of a view its neighbours tell
        if carries and (any(user in goes_on for user in users) or (not users and op.index in broken)):
            goes_on.add(op.index)
    first = min((index for index in broken if index in goes_on), default=None)
    if first is None:
        nan = (op.index for op in evidence.ops if any(bool(out.last.isnan().any()) for out in op.outs))
        first = next(nan, None)
    return None if first is None else evidence.ops[first]


def _born_in_backward(evidence: Evidence, found: Found, affected: tuple[str, ...]) -> None:
    for op in reversed(evidence.ops):
        if op.grads and not all(grad.finite for grad in op.grads):
            users = [evidence.ops[user] for user in evidence.users[op.index]]
            sources = [
                user for user in users if not user.is_view and user.grads and all(grad.finite for grad in user.grads)
            ]
            _add_born(found, affected, sources or users or [op])
            return
    for name in affected:
        consumers = evidence.consumers(name)
        if consumers:
            _add_born(found, (name,), consumers[:1])


def _add_born(found: Found, affected: tuple[str, ...], origins: list[Op]) -> None:
    likely = [op for op in origins if op.name in FINITE_BACKWARD] or origins
    op = likely[0]
    text = (
        f"{op.where}: values and weights are finite, and its derivative is not: NaN or inf is born in its backward. "
        "A masked branch (torch.where) does not hide an infinite derivative."
    )
    seen = tuple(f"largest gradient at its output {number(grad.largest)}" for grad in op.grads[:1])
    repair = "Keep its input away from where the derivative is infinite, for example with clamp(min=eps) before it."
    found.add(Cause("nonfinite_gradient", op.path, affected, "error", text, seen, repair, f"NaN born in {op.where}"))


def cut_off(evidence: Evidence, found: Found) -> None:
    """Parameters that no gradient arrives at: never used, not led to the loss, or cut from it."""
    for name in evidence.names("unreached"):
        owner = name.rpartition(".")[0]
        taken = [op for op in evidence.ops if name in op.parameters]
        if not taken:
            ran = owner in evidence.ran or not owner
            owner = owner if ran else _not_called(evidence, owner)
            text = f"{name}: {owner or 'the model'} ran without using it." if ran else f"{owner}: it did not run."
            seen = "no function of this forward pass took it" if ran else f"{owner} was not called in this forward pass"
            at = name if ran else owner
            found.add(Cause("unreached", at, (name,), "warning", text, (seen,), None, f"{at} is not used", name))
            continue
        cut = _first_cut(evidence, taken)
        if cut is None:
            op = taken[0]
            text = f"{op.where}: it ran, but the loss does not use its output."
            seen, title = f"{op.name} ran, nothing leads from it to the loss", f"{op.where} does not reach the loss"
            found.add(Cause("unreached", op.path or name, (name,), "warning", text, (seen,), None, title, name))
        else:
            op, why = cut
            text = f"{op.where}: {why}, so nothing before it gets a gradient from the loss."
            repair = "Remove the cut if these parameters are meant to learn, or freeze them."
            found.add(
                Cause("detached", op.path, (name,), "warning", text, (why,), repair, f"The graph is cut at {op.where}")
            )


def _not_called(evidence: Evidence, path: str) -> str:
    """The outermost module around this one that was not called: an expert as a whole. Lists of modules are never called."""
    while (parent := path.rpartition(".")[0]) and parent not in evidence.ran:
        if isinstance(evidence.tree.modules.get(parent), (nn.ModuleList, nn.ModuleDict)):
            break
        path = parent
    return path


def _first_cut(evidence: Evidence, taken: list[Op]) -> tuple[Op, str] | None:
    """The first Op after these that saw a gradient path, or a parameter, and whose result has none."""
    waiting, seen = sorted(op.index for op in taken), set()
    while waiting:
        index = waiting.pop(0)
        if index in seen:
            continue
        seen.add(index)
        op = evidence.ops[index]
        if not op.tracked and (op.saw_gradient or op.parameters):
            if op.name in CUTS:
                return op, f"{op.name} cuts the graph"
            if not op.grad_enabled:
                return op, "it ran under no_grad"
            if not op.outs:
                return op, f"the result of {op.name} is not differentiable"
            return op, f"the result of {op.name} has no grad_fn"
        waiting = sorted({*waiting, *evidence.users[index]})
    return None


def weak(evidence: Evidence, found: Found) -> None:
    """Gradients that are rounding noise by construction, or that shrank on their way."""
    names = evidence.names("weak")
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
    if evidence.exploding:
        worst = max(evidence.exploding, key=lambda name: evidence.exploding[name])
        text = f"{worst}: the gradient grows on its way back, {number(evidence.exploding[worst])} × the last layer's."
        seen = (f"{len(evidence.exploding)} parameters get more than 8e6 times what the last layer gets",)
        repair = "Scale the weights down (for example kaiming_normal_), or add a normalisation."
        found.add(
            Cause(
                "exploding",
                worst,
                tuple(evidence.exploding),
                "warning",
                text,
                seen,
                repair,
                "Exploding gradient",
                worst,
            )
        )
    rest = tuple(name for name in names if name not in evidence.cancelled)
    for name in [name for name in rest if _divided_out(evidence, name)]:
        text = f"{name}: gradients pass it and are far larger before it: what follows divides this scale out again."
        seen = ("parameters further from the loss get an ordinary gradient",)
        found.add(Cause("invariant", name, (name,), "info", text, seen, None, f"{name} has no effect", name))
        rest = tuple(other for other in rest if other != name)
    if not rest:
        return
    small = [name for name in evidence.scales if 0 < float(evidence.tree.tensor(name).detach().abs().max()) < 1e-3]
    if small:
        size = float(evidence.tree.tensor(small[0]).detach().abs().max())
        text = (
            f"{small[0]}: a branch is scaled by at most {number(size)}, so the gradients behind it are that small too."
        )
        found.add(
            Cause(
                "vanishing",
                small[0],
                rest,
                "info",
                text,
                (f"largest |{small[0]}| {number(size)}",),
                None,
                "Behind a small scale",
                small[0],
            )
        )
        return
    # What the loss itself divides by is no fault of the model.
    steps = [(op, op.grads[0].largest) for op in evidence.ops if op.module_type and op.grads and op.grads[0].finite]
    at, drop, each = _narrowest(evidence, steps)
    where = at.where if at is not None else ""
    ends = [size for _, size in steps if size > 0]
    seen = (
        f"the largest gradient of an activation is {number(max(ends, default=0.0))}, "
        f"the smallest {number(min(ends, default=0.0))}",
    )
    text = f"{names_text(rest)}: the gradient shrinks on its way back to below 1.2e−7 of what it is nearer to the loss"
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
        text = (
            f"{names_text(rest)}: by its standard initialisation {len(way.layers)} layers make the gradient "
            f"{number(math.exp(way.explained))} times smaller on its way back; it is {number(math.exp(way.measured))} times "
            "smaller."
        )
        repair = "Use He's rule for ReLU and its like, Glorot's for tanh, a normalisation or a residual path."
    elif (idle := idle_norms(evidence)) and (way is None or not way.below):
        severity, title = "info", "Before its BatchNorms have seen a batch"
        text = (
            f"{names_text(rest)}: the gradient shrinks on its way back to below 1.2e−7 of what it is nearer to the loss; "
            f"{len(idle)} BatchNorms like {idle[0]} run in eval mode on statistics of no batch, so that they normalise nothing."
        )
        repair = "Train for some steps, or check in train mode."
    elif way is not None and 0 < len(way.below) <= len(way.layers) // 2:
        # Few weights among healthy ones are the place, however much the others take together.
        least = min(way.below, key=lambda layer: layer.gain / layer.low)
        at = way.ops[way.layers.index(least)]
        text = (
            f"{names_text(rest)}: the gradient shrinks on its way back to below 1.2e−7 of what it is nearer to the loss; "
            f"the gain of {least.name} is {number(least.gain)}, {number(least.low / least.gain)} times below the least of "
            "the healthy schemes."
        )
    found.add(Cause("vanishing", at.path if at is not None else "", rest, severity, text, seen, repair, title))


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
