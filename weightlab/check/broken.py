"""Gradients that are missing or not finite: where the graph is cut, where a NaN is born."""

from __future__ import annotations

from torch import Tensor, nn

from weightlab.check.evidence import (
    CUTS,
    Cause,
    Evidence,
    Found,
    finite,
    number,
)
from weightlab.check.measures import Op

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
            verb = "is" if count == 1 else "are"
            text = f"{info.name}: {count} of {info.numel} values {verb} NaN or infinite, first at {region or '()'}."
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
                    f"{count} value{'s' if count != 1 else ''} not finite",
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
    title = "NaN or inf in the forward"
    found.add(Cause("nonfinite_activation", op.path, affected, "error", text, seen, None, title, op=op.index))


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
            _add_born(evidence, found, affected, sources or users or [op])
            return
    for name in affected:
        consumers = evidence.consumers(name)
        if consumers:
            _add_born(evidence, found, (name,), consumers[:1])


def _add_born(evidence: Evidence, found: Found, affected: tuple[str, ...], origins: list[Op]) -> None:
    likely = [op for op in origins if op.name in FINITE_BACKWARD] or origins
    op = likely[0]
    # An overflow that a later function makes finite again: exp(-exp(100)) is exp(-inf), which is 0.
    over = next((each for each in _before(evidence, op) if each.outs and not each.outs[0].finite), None)
    if over is not None:
        fed = max((out.largest for source in over.inputs for out in evidence.ops[source].outs), default=0.0)
        fed = max([fed, *(float(evidence.tree.tensor(name).detach().abs().max()) for name in over.parameters)])
        text = (
            f"{over.where}: what it puts out is not finite, from values of up to {number(fed)}. {op.where} makes it finite again, "
            "but the backward multiplies by it."
        )
        counts = (f"largest |input| of {over.where} {number(fed)}, largest |output| {number(over.outs[0].largest)}",)
        advice = f"Keep the input of {over.where} in range, for example with clamp(max=...) before it."
        title = f"{over.where} overflows"
        found.add(Cause("nonfinite_activation", over.path, affected, "error", text, counts, advice, title))
        return
    text = (
        f"{op.where}: values and weights are finite, and its derivative is not: NaN or inf is born in its backward. "
        "A masked branch (torch.where) does not hide an infinite derivative."
    )
    seen = tuple(f"largest gradient at its output {number(grad.largest)}" for grad in op.grads[:1])
    repair = "Keep its input away from where the derivative is infinite, for example with clamp(min=eps) before it."
    title = f"NaN born in {op.where}"
    found.add(Cause("nonfinite_gradient", op.path, affected, "error", text, seen, repair, title, op=op.index))


def _before(evidence: Evidence, op: Op) -> list[Op]:
    """The Op itself, and what it was made from in a row with nothing else joined on the way, nearest first."""
    found: list[Op] = []
    waiting = [op.index]
    while waiting and len(found) < 8:
        each = evidence.ops[waiting.pop(0)]
        found.append(each)
        waiting += each.inputs if len(each.inputs) == 1 else ()
    return found


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
            title = f"The graph is cut at {op.where}"
            found.add(Cause("detached", op.path, (name,), "warning", text, (why,), repair, title, op=op.index))


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
