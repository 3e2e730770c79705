"""`diagnose`: what is wrong with a model before, or instead of, training it (rules G4, G7 and G8).

It runs the gradient check with measurements of the signal, where that can run, and reads the structure and the weights in any
case. One finding per origin: what follows from it stands in `affects`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from weightlab.check import broken as broken_rules
from weightlab.check import held, norms, rank, scale, structure, symmetry
from weightlab.check.depth import shrinks_by_depth
from weightlab.check.evidence import SEVERITIES, Cause, Evidence, Found, names_text
from weightlab.check.expected import Layer, Scheme, layers_by_type
from weightlab.check.finding import Diagnosis, Finding
from weightlab.check.gates import shut_gate
from weightlab.check.gradients import Observation, observe
from weightlab.check.layers import Heard, layers_that_ran
from weightlab.check.listening import Listening
from weightlab.check.measures import tensors_in
from weightlab.check.mending import repair_of
from weightlab.check.probe import Probe
from weightlab.check.repair import Repair
from weightlab.check.repairs import not_finite
from weightlab.check.roles import Roles
from weightlab.check.shut import shut as zero_cuts
from weightlab.check.signal import Signal, signal
from weightlab.check.sizes import weak
from weightlab.check.zeros import all_zero_along
from weightlab.edit.operations import Edit
from weightlab.errors import ProbeFailed
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.progress import report, share

# What a weight of a wrong scale does to the gradients is not an origin of its own.
FOLLOWS = {
    # Through equal rows δ comes back as its sum, and over the classes of a softmax that is 0.
    "vanishing": ("scale_low", "scale_high", "saturated", "symmetric_units"),
    # A BatchNorm that is fed a constant divides by the root of its eps, on the way back too.
    "exploding": ("scale_high", "zero_weight", "zero_norm_scale"),
    "nonfinite_activation": ("scale_high", "nonfinite_weight"),
    "zero_path": ("not_a_parameter",),
}
ZEROS = "The input is zero"
# Zero gradients of which the check found no origin follow from one of these where there is one.
SILENCING = (
    *("zero_norm_scale", "zero_weight", "dead_relu", "symmetric_units", "saturated", "not_a_parameter"),
    *("zero_path", "detached", "nonfinite_weight"),
)


def diagnose(
    tree: ParameterTree,
    probe: Probe,
    optimizer: torch.optim.Optimizer | None = None,
    keep: tuple[str, ...] = (),
    take: Callable[[Observation], None] | None = None,
) -> Diagnosis:
    """All findings about a model; it is left as it was (rule G1).

    Works before any training step, on the meta device, and where the forward raises: then without what only a run can show.
    Cost: one check, a few passes over each weight, and singular values of matrices up to 256 x 256 cells of each.

    Args:
        keep, take: names whose gradients are handed over with the check, as in `observe`, and who takes them.
    """
    try:
        with share(0.0, 0.7):
            seen: Observation | None = observe(tree, probe, Listening, keep)
        failure = ""
        if take is not None and seen is not None:
            take(seen)
    except ProbeFailed as error:
        seen, failure = None, str(error)
    found: list[Finding] = []
    evidence = seen.evidence if seen else None
    roles = Roles(evidence) if evidence else None
    listening = seen.recording if seen and isinstance(seen.recording, Listening) else None
    heard = Heard(listening, roles) if listening and roles else None
    if evidence and listening and roles:
        layers = layers_that_ran(evidence, listening, roles)
        known = {layer.name for layer in layers}
        layers += [layer for layer in layers_by_type(tree) if layer.name not in known and _alone(tree, layer, known)]
    else:
        layers = layers_by_type(tree)
    usable = [layer for layer in layers if layer.size > 0]
    scheme = Scheme(usable)

    _tell(70, "structure")
    found += structure.unregistered(tree, listening.mixing if listening else set())
    found += structure.shapes(tree, True if seen else None if not failure else False)
    broken = {finding.name for finding in found if finding.kind == "shape_broken"}
    layers = [layer for layer in layers if layer.name not in broken]
    if optimizer is not None:
        found += held.optimizer(tree, probe, optimizer)
    _tell(75, "symmetry")
    alike = symmetry.symmetry(tree, layers, scheme, evidence, seen.gradients if seen else {})
    passed = {finding.name for finding in alike if finding.kind == "symmetric_units"}
    _tell(80, "rank")
    flat_ones = rank.rank(tree, layers, scheme, passed)
    collapsed = {finding.name for finding in flat_ones}
    # In a matrix of rank 1 some rows agree by chance: what they have in common is the rank.
    found += [finding for finding in alike if finding.kind == "symmetric_units" or finding.name not in collapsed]
    found += flat_ones
    _tell(90, "scale")
    found += scale.scale(tree, [layer for layer in layers if layer.name not in passed], evidence, roles, heard)
    found += norms.zero_scales(tree, evidence, roles)
    if evidence and listening and roles:
        flat = norms.saturated(tree, evidence, listening, roles, layers, scheme)
        named = {cause.at for cause in seen.report.causes if cause.kind == "saturated"} if seen else set()
        found += [finding for finding in flat if finding.at not in named]
    _tell(95, "causes")
    if not evidence or not evidence.names("nonfinite"):  # else the causes tell of them
        found += _not_finite(tree, layers, scheme)
    if seen is None:
        found += _batch_not_finite(probe, layers)
    else:
        shut = (shut_gate(seen.evidence, "", op, closing=True) for op in seen.evidence.ops)
        found += _batch_of_zeros(probe, seen, layers)
        causes = (*filter(None, shut), *seen.report.causes, *_also_weak(tree, seen))
        if roles is not None:
            named = {finding.name for finding in found if finding.severity != "info"}
            found += [f for f in zero_cuts(tree, layers, scheme, seen.evidence, roles) if f.name not in named]
        told = [_of_cause(cause, tree, layers, scheme, seen.evidence) for cause in causes]
        for finding in sorted(told, key=_lost):  # origins first
            _join(found, finding)
        _stuck_behind(found)
        if roles is not None and heard is not None and not any(f.kind in ("vanishing", "scale_low") for f in found):
            found += shrinks_by_depth(tree, layers, seen.evidence, roles, heard)
    found += _frozen(tree)
    shown = signal(evidence, listening, roles, layers) if evidence and listening and roles else Signal()
    return Diagnosis(found, shown, seen.report if seen else None, failure)


def _tell(share_done: int, words: str) -> None:
    report(share_done, 100, f"diagnosing: {words}")


def _alone(tree: ParameterTree, layer: Layer, known: set[str]) -> bool:
    """Whether a layer that no recorded function took stands for itself: not an original of a computed weight."""
    path = layer.name.rpartition(".")[0]
    return ".parametrizations." not in f".{path}." and not any(name.startswith(f"{path}.") for name in known)


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


def _not_finite(tree: ParameterTree, layers: list[Layer], scheme: Scheme) -> list[Finding]:
    """NaN and inf in weights and buffers of a model that could not be run."""
    by_name = {layer.name: layer for layer in layers}
    found = []
    for info in tree:
        if (
            info.kind == "computed"
            or not info.dtype.is_floating_point
            or info.device.type == "meta"
            or not info.editable
        ):
            continue
        value = tree.tensor(info.name).detach()
        if bool(value.sum().isfinite()) or (info.kind == "buffer" and broken_rules.masks(value)):
            continue
        bad = int((~value.isfinite()).sum())
        if bad:
            layer = by_name.get(info.name)
            repair = not_finite(tree, info.name, scheme.right_size(layer) if layer else 0.02)
            text = f"{info.name}: {bad} of {info.numel} values are NaN or infinite."
            seen = (f"{int(value.isnan().sum())} NaN, {int(value.isinf().sum())} infinite",)
            title = f"{bad} values not finite"
            found.append(
                Finding("nonfinite_weight", info.name, (info.name,), "error", text, seen, repair, title, info.name)
            )
    return found


def _batch_of_zeros(probe: Probe, seen: Observation, layers: list[Layer]) -> list[Finding]:
    """A batch of which every input is exactly 0: nothing but biases gets a gradient that says anything."""
    inputs = probe.batch[0] if isinstance(probe.batch, (tuple, list)) and len(probe.batch) == 2 else probe.batch
    held = list(tensors_in((inputs,)))
    if probe.synthetic or not held or any(not t.is_floating_point() or bool((t != 0).any()) for t in held):
        return []
    fed = (op.path for op in seen.evidence.ops if op.outside_zero and op.parameters)
    at = next(fed, layers[0].name.rpartition(".")[0] if layers else "")
    text = "the batch: every value of its inputs is exactly 0, so that weights that read them get no gradient."
    count = f"{sum(t.numel() for t in held)} values in {len(held)} input{'s' if len(held) > 1 else ''}, all of them 0"
    return [Finding("zero_path", at, (), "error", text, (count,), None, ZEROS, at, None, "Check the batch.")]


def _batch_not_finite(probe: Probe, layers: list[Layer]) -> list[Finding]:
    """NaN and inf in the batch, which some losses refuse before anything can be measured."""
    count = sum(int((~tensor.isfinite()).sum()) for tensor in tensors_in(probe.batch) if tensor.is_floating_point())
    if not count:
        return []
    text = f"the batch: {count} of its values are NaN or infinite, so that nothing behind it is finite."
    # Nothing ran, so that it is the first layer of the model that is taken to be fed with it.
    first = layers[0].name.rpartition(".")[0] if layers else ""
    title, advice = "NaN in the batch", "Clean the batch."
    return [Finding("nonfinite_activation", first, (), "error", text, (), None, title, first, None, advice)]


def _also_weak(tree: ParameterTree, seen: Observation) -> tuple[Cause, ...]:
    """Vanishing gradients of parameters that have dead units beside: the report tells of these."""
    faint, cancelled = weak(tree, seen.gradients, seen.recording.ops)
    # A bias may be rounding noise by construction, also in some units only; a weight is not.
    hidden = {
        name for name in faint - cancelled if seen.evidence.status.get(name) == "partial" and len(tree[name].shape) > 1
    }
    if not hidden or any(cause.kind == "vanishing" for cause in seen.report.causes):
        return ()
    status = {name: "weak" if name in hidden else held for name, held in seen.evidence.status.items()}
    found = Found()
    broken_rules.weak(replace(seen.evidence, status=status, cancelled=set(), exploding={}), found)
    return tuple(found.causes.values())


def _frozen(tree: ParameterTree) -> list[Finding]:
    """Which parameters do not learn because of `requires_grad`: nothing wrong, and good to know."""
    names = [
        info.name
        for info in tree
        if info.kind == "parameter" and not info.requires_grad and info.dtype.is_floating_point
    ]
    if not names:
        return []
    edits = tuple(Edit(name, Region.whole(tree[name].shape), "requires_grad_", {"flag": True}) for name in names)
    text = (
        f"{names_text(names)}: frozen (requires_grad is False), so no gradient is computed for "
        f"{'it' if len(names) == 1 else 'them'}."
    )
    repair = Repair(f"Unfreeze {names_text(names)}.", edits)
    return [Finding("frozen", names[0], tuple(names), "info", text, (), repair, f"{len(names)} frozen", names[0])]
