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
ZEROS = "The input is zero"
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
    for finding in sorted(told, key=_lost):  # origins first
        _join(found, finding)
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


def _join(found: list[Finding], finding: Finding) -> None:
    """Add a cause, unless it is another sight of an origin that was found already: then that one gets its victims."""
    lost = _lost(finding)
    nothing = next((place for place, other in enumerate(found) if other.title == ZEROS), None)
    if nothing is not None and finding.severity != "info" and finding.kind in ("zero_path", "vanishing", "dead_relu"):
        other = found[nothing]
        found[nothing] = replace(other, affects=tuple(dict.fromkeys((*other.affects, *finding.affects))))
        return
    for place, other in enumerate(found):
        if lost and other.severity != "info" and other.kind in SILENCING and not _lost(other):
            found[place] = replace(other, affects=tuple(dict.fromkeys((*other.affects, *finding.affects))))
            return
        same = other.name == finding.name and finding.kind in ("zero_weight", "zero_path", "unreached", other.kind)
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


def _lost(finding: Finding) -> bool:
    """Whether this is no origin where there is another: a ReLU or a loss that is fed exactly 0, and what nobody could explain."""
    if finding.kind == "dead_relu":
        return finding.name == finding.at and "at or below 0" in finding.text
    words = ("no single origin", "puts out exactly 0 in every cell", "and none is passed on")
    return finding.kind == "zero_path" and any(said in finding.text for said in words)


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
