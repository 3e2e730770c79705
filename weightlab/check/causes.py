"""Why a gradient is zero, missing, weak or not finite (rules G3 and G4).

The gradient of a weight is what arrives from the loss times what the layer was fed, so a zero has one of two origins.
Nothing arrives: walk from the parameter towards the loss to the first Op that received a gradient and passed on none;
that Op, or a zero weight in it, is the cause (`blocked`). Something arrives: then what was fed is zero; walk towards
the input to the first Op that made zeros from something else (`unfed`). One cause per origin; everything that follows
from it is in `affects`. Where no rule knows the origin, the cause says what was measured and does not guess.
"""

from __future__ import annotations

from dataclasses import replace

from weightlab.check import broken, silent, vanishing
from weightlab.check.evidence import SEVERITIES, Basis, Cause, Evidence, Found, Severity
from weightlab.check.roles import Roles

__all__ = ["Cause", "find_causes", "last_resort"]


def find_causes(evidence: Evidence) -> tuple[Cause, ...]:
    """At least one cause for each row that is neither flowing nor frozen; errors first."""
    found = Found(evidence.ops)
    broken.nonfinite(evidence, found)
    broken.cut_off(evidence, found)
    silent.unused(evidence, found)
    silent.silent(evidence, found)
    vanishing.weak(evidence, found)
    missing = [
        name
        for name, status in evidence.status.items()
        if status not in ("flowing", "frozen") and name not in found.explained()
    ]
    broke = next((key for key, cause in found.causes.items() if cause.kind.startswith("nonfinite_")), None)
    for name in missing:
        if broke is not None:  # what NaN does to a gradient is no origin of its own
            cause = found.causes[broke]
            found.causes[broke] = replace(cause, affects=(*cause.affects, name))
            continue
        found.add(key_bias(evidence, name) or last_resort(evidence, name))
    return tuple(sorted(found.causes.values(), key=lambda cause: SEVERITIES.index(cause.severity)))


def key_bias(evidence: Evidence, name: str) -> Cause | None:
    """Units of a projection's bias that get rounding noise, some of it exactly zero, because they shift all keys alike."""
    if evidence.status[name] != "partial":
        return None
    roles = Roles(evidence)
    if not any(op.bias == name and "attention" in roles.after(op) for op in evidence.consumers(name)):
        return None
    zero = evidence.zero[name]
    text = (
        f"{name}: what all keys share does not change attention (softmax ignores it), so some units get exactly zero."
    )
    seen = (f"{int(zero.sum())} of {zero.numel()} units get exactly zero", "its output enters attention")
    return Cause("invariant", name, (name,), "info", text, seen, None, "Key bias has no effect", name)


def last_resort(evidence: Evidence, name: str) -> Cause:
    """What was measured around a parameter for which no rule fits."""
    status = evidence.status[name]
    seen = []
    for op in evidence.consumers(name)[:3]:
        arriving = max((grad.largest for grad in op.grads), default=None)
        fed = max((out.largest for source in evidence.data(op) for out in source.outs), default=None)
        seen.append(
            f"{op.where}: largest gradient at its output {'none' if arriving is None else f'{arriving:.3g}'}, "
            f"largest value fed to it {'unknown' if fed is None else f'{fed:.3g}'}"
        )
    seen = seen or ["no function that took it was seen"]
    kind = "nonfinite_gradient" if status == "nonfinite" else "vanishing" if status == "weak" else "zero_path"
    got = {"partial": "some units get exactly zero", "zero": "its gradient is exactly zero"}.get(
        status, f"it is {status}"
    )
    text = f"{name}: {got}, and no single origin was found. {seen[0]}."
    # Some silent units on one batch are common, in trained networks too: worth knowing, no alarm.
    severity: Severity = "info" if status == "partial" else "warning"
    basis: Basis = "unexplained" if kind == "zero_path" else "origin"
    title = f"{name} is {status}"
    return Cause(kind, name, (name,), severity, text, tuple(seen), None, title, name, basis=basis)
