"""One finding per origin: which causes are another sight of what was found already, and which only follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from weightlab.check.evidence import SEVERITIES, Cause, Evidence
from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.mending import repair_of
from weightlab.check.zeros import all_zero_along
from weightlab.model.tree import ParameterTree

# What a weight of a wrong scale does to the gradients is not an origin of its own.
FOLLOWS = {
    # Through equal rows δ comes back as its sum, and over the classes of a softmax that is 0.
    "vanishing": ("scale_low", "scale_high", "saturated", "symmetric_units"),
    # A BatchNorm that is fed a constant divides by the root of its eps, on the way back too.
    "exploding": ("scale_high", "zero_weight", "zero_norm_scale", "exploding"),
    "nonfinite_activation": ("scale_high", "nonfinite_weight"),
    "zero_path": ("not_a_parameter",),
}
# Zero gradients of which the check found no origin follow from one of these where there is one.
SILENCING = (
    *("zero_norm_scale", "zero_weight", "dead_relu", "symmetric_units", "saturated", "not_a_parameter"),
    *("zero_path", "detached", "nonfinite_weight"),
)


def join_causes(
    found: list[Finding],
    causes: Iterable[Cause],
    tree: ParameterTree,
    layers: list[Layer],
    scheme: Scheme,
    evidence: Evidence,
) -> None:
    """Add the causes to what was found."""
    told = [_of_cause(cause, tree, layers, scheme, evidence) for cause in causes]
    for finding in sorted(told, key=_unexplained):  # origins first
        _join(found, finding, evidence)
    _stuck_behind(found)


def _of_cause(cause: Cause, tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence) -> Finding:
    repair = repair_of(cause, tree, layers, scheme, evidence)
    name = cause.name or cause.at
    severity = cause.severity
    if cause.kind == "zero_weight" and severity == "warning" and _long_silent(cause, tree, evidence):
        severity = "info"
    return Finding(
        cause.kind,
        name,
        cause.affects,
        severity,
        cause.text,
        cause.evidence,
        repair,
        cause.title,
        cause.at,
        cause.region,
        str(cause.repair or ""),
        cause.op,
        cause.basis,
    )


def _long_silent(cause: Cause, tree: ParameterTree, evidence: Evidence) -> bool:
    """Whether zero filters have been zero for long: the running variance of the BatchNorm behind them has forgotten all else.

    Weight decay does that to filters that a trained network has no use for; it is no accident of today's.
    """
    value = tree.tensor(cause.name).detach() if cause.name is not None and cause.name in tree else None
    if value is None or value.ndim < 2:
        return False
    zero = all_zero_along(value, 0).cpu()
    for op in evidence.consumers(cause.name or ""):
        for user in (evidence.ops[index] for index in evidence.users[op.index]):
            variance = getattr(tree.modules.get(user.path), "running_var", None)
            if isinstance(variance, Tensor) and variance.numel() == zero.numel():
                silent = variance.detach().cpu()
                typical = silent[~zero].median() if bool((~zero).any()) else torch.zeros(())
                return bool((silent[zero] < 1e-3 * typical).all())
    return False


def _join(found: list[Finding], finding: Finding, evidence: Evidence) -> None:
    """Add a cause, unless it is another sight of an origin that was found already: then that one gets its victims."""
    nothing = next((place for place, other in enumerate(found) if other.basis == "input"), None)
    if nothing is not None and finding.severity != "info" and finding.kind in ("zero_path", "vanishing", "dead_relu"):
        other = found[nothing]
        found[nothing] = replace(other, affects=tuple(dict.fromkeys((*other.affects, *finding.affects))))
        return
    for place, other in enumerate(found):
        loud = other.severity != "info" and other.kind in SILENCING and not _unexplained(other)
        if _unexplained(finding) and loud and _explains(evidence, other, finding):
            found[place] = replace(other, affects=tuple(dict.fromkeys((*other.affects, *finding.affects))))
            return
        same = _same_place(evidence, other, finding)
        same &= finding.kind in ("zero_weight", "zero_path", "unreached", other.kind)
        follows = other.kind in FOLLOWS.get(finding.kind, ()) and other.severity != "info"
        # Behind an infinite bias an activation is at its end.
        follows |= (
            finding.kind == "saturated" and other.kind == "nonfinite_weight" and _module(other) == _module(finding)
        )
        # A plain factor that pushes an activation to its end is told at the factor.
        follows |= (
            finding.kind == "saturated"
            and other.kind == "scale_high"
            and other.name not in other.affects
            and not set(other.affects).isdisjoint(finding.affects)
        )
        if (same and other.kind not in ("optimizer_stale", "optimizer_missing")) or follows:
            worse = min(other.severity, finding.severity, key=SEVERITIES.index) if follows else other.severity
            affects = tuple(dict.fromkeys((*other.affects, *finding.affects)))
            seen = (*other.evidence, f"{finding.kind}: {finding.title or finding.text}") if follows else other.evidence
            found[place] = replace(other, severity=worse, affects=affects, evidence=seen)
            return
    found.append(finding)


def _unexplained(finding: Finding) -> bool:
    return finding.basis == "unexplained"


def _same_place(evidence: Evidence, one: Finding, other: Finding) -> bool:
    """Whether two findings are about one tensor, or one line of the forward: modules share a line with nobody else."""
    if one.name and one.name == other.name and (one.name in evidence.tree or one.op is None or other.op is None):
        return True
    if one.op is None or other.op is None:
        return False
    return evidence.ops[one.op].place == evidence.ops[other.op].place and (
        one.name == other.name or one.name not in evidence.tree or other.name not in evidence.tree
    )


def _explains(evidence: Evidence, origin: Finding, finding: Finding) -> bool:
    """Whether an origin is why something else was silent. Where a gradient ends that did arrive, it has passed all further on."""
    op = None if finding.op is None else evidence.ops[finding.op]
    if op is None or all(grad.zero for grad in op.grads):
        return all(_silences(evidence, origin, name) for name in finding.affects)
    at = _ops_at(evidence, origin)
    return not at or (origin.kind != "detached" and not at.isdisjoint(_walk(evidence, {op.index}, forward=False)))


def _silences(evidence: Evidence, origin: Finding, name: str) -> bool:
    """Whether what gets to this parameter, or the gradient that comes back, has to pass the origin.

    A parameter that gets a gradient in some units only has another way for the rest. What is detached still goes forward.
    """
    at = _ops_at(evidence, origin)
    consumers = {op.index for op in evidence.consumers(name)}
    if not at or not consumers or not at.isdisjoint(consumers):
        return True
    if origin.kind != "detached" and not at.isdisjoint(_walk(evidence, consumers, forward=False)):
        return True
    if at.isdisjoint(_walk(evidence, consumers, forward=True)):
        return False
    past = _walk(evidence, consumers, forward=True, without=at)
    end = len(evidence.ops) - 1 if evidence.end is None else evidence.end
    return end not in past or evidence.status.get(name) == "partial"


def _ops_at(evidence: Evidence, finding: Finding) -> set[int]:
    """The functions that stand where a finding lies; {} where that is not known."""
    found = {finding.op} if finding.op is not None else set[int]()
    for place in {finding.name, finding.at} - {""}:
        if place in evidence.tree:
            found |= {op.index for op in evidence.consumers(place)}
        elif finding.op is None:
            found |= {op.index for op in evidence.ops if op.path == place or op.path.startswith(f"{place}.")}
    return found


def _walk(evidence: Evidence, start: set[int], forward: bool, without: Iterable[int] = ()) -> set[int]:
    """All Ops that are led to from these, or that lead to them, but for what lies behind those that are left out."""
    seen, waiting = set(without), [index for index in start if index not in set(without)]
    found: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            found.add(index)
            waiting += evidence.users[index] if forward else evidence.ops[index].inputs
    return found


def _stuck_behind(found: list[Finding]) -> None:
    """Weights that would leave zero by their gradient, were it not for another origin: they are its victims."""
    for place, finding in enumerate(found):
        if finding.kind != "zero_weight" or finding.region != "[...]" or finding.severity == "info":
            continue
        for other in found:
            if other.severity != "info" and other.kind != "zero_weight" and finding.name in other.affects:
                found[place] = replace(finding, severity="info")


def _module(finding: Finding) -> str:
    return finding.name.rpartition(".")[0]
