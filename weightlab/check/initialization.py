"""`diagnose`: what is wrong with a model before, or instead of, training it (rules G4, G7 and G8).

It runs the gradient check with measurements of the signal, where that can run, and reads the structure and the weights in any
case. One finding per origin: what follows from it stands in `affects`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from weightlab.check import broken as broken_rules
from weightlab.check import held, norms, rank, scale, structure, symmetry, vanishing
from weightlab.check.depth import shrinks_by_depth
from weightlab.check.evidence import Cause, Found, names_text
from weightlab.check.expected import Layer, Scheme, layers_by_type
from weightlab.check.experts import not_chosen
from weightlab.check.finding import Diagnosis, Finding
from weightlab.check.gates import shut_gate
from weightlab.check.gradients import Observation, observe
from weightlab.check.layers import Heard, layers_that_ran
from weightlab.check.listening import Listening
from weightlab.check.origins import join_causes
from weightlab.check.probe import Probe
from weightlab.check.recurrence import grows
from weightlab.check.repair import Repair
from weightlab.check.repairs import not_finite
from weightlab.check.roles import Roles
from weightlab.check.shut import shut as zero_cuts
from weightlab.check.signal import Signal, signal
from weightlab.check.sizes import weak
from weightlab.edit.operations import Edit
from weightlab.errors import ProbeFailed
from weightlab.model.nested import tensors_in
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.progress import report, share


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
    look = _look(tree, probe, keep, take)
    found = _structure(tree, probe, optimizer, look)
    found += _weights(tree, look)
    _tell(95, "causes")
    if look.seen is None or not look.seen.evidence.names("nonfinite"):  # else the causes tell of them
        found += _not_finite(tree, look.layers, look.scheme)
    if look.seen is None or look.roles is None or look.heard is None or look.listening is None:
        found += _batch_not_finite(probe, look.layers)
        return Diagnosis(found + _frozen(tree), Signal(), None, look.failure)
    evidence = look.seen.evidence
    found += _batch_of_zeros(probe, look.seen, look.layers)
    named = {finding.name for finding in found if finding.severity != "info"}
    cuts = zero_cuts(tree, look.layers, look.scheme, evidence, look.roles, look.listening)
    found += [finding for finding in cuts if finding.name not in named]
    shut = (shut_gate(evidence, "", op, closing=True) for op in evidence.ops)
    causes = (*filter(None, shut), *look.seen.report.causes, *_also_weak(tree, look.seen))
    join_causes(found, causes, tree, look.layers, look.scheme, evidence)
    not_chosen(found, evidence)
    if not any(finding.kind in ("vanishing", "scale_low") for finding in found):
        found += shrinks_by_depth(tree, look.layers, evidence, look.roles, look.heard)
    found += _frozen(tree)
    measured = signal(evidence, look.listening, look.roles, look.layers)
    told = {name for f in found if f.severity != "info" for name in (f.name, f.at, *f.affects) if name}
    return Diagnosis(found, measured.noted_at(told), look.seen.report)


@dataclass(slots=True)
class _Look:
    """What a run showed, None where there was none, and the layers with the rule that they follow."""

    layers: list[Layer]
    scheme: Scheme
    seen: Observation | None = None
    roles: Roles | None = None
    listening: Listening | None = None
    heard: Heard | None = None
    failure: str = ""


def _look(
    tree: ParameterTree, probe: Probe, keep: tuple[str, ...], take: Callable[[Observation], None] | None
) -> _Look:
    try:
        with share(0.0, 0.7):
            seen = observe(tree, probe, Listening, keep)
        if take is not None:
            take(seen)
    except ProbeFailed as error:
        layers = layers_by_type(tree)
        return _Look(layers, _scheme(layers), failure=str(error))
    assert isinstance(seen.recording, Listening)
    roles = Roles(seen.evidence)
    layers = layers_that_ran(seen.evidence, seen.recording, roles)
    known = {layer.name for layer in layers}
    layers += [layer for layer in layers_by_type(tree) if layer.name not in known and _alone(tree, layer, known)]
    return _Look(layers, _scheme(layers), seen, roles, seen.recording, Heard(seen.recording, roles))


def _scheme(layers: list[Layer]) -> Scheme:
    return Scheme([layer for layer in layers if layer.size > 0])


def _structure(
    tree: ParameterTree, probe: Probe, optimizer: torch.optim.Optimizer | None, look: _Look
) -> list[Finding]:
    """What is no parameter, has a wrong shape, or is not the optimizer's; layers of a wrong shape are looked at no further."""
    _tell(70, "structure")
    found = structure.unregistered(tree, look.listening.mixing if look.listening else set())
    found += structure.shapes(tree, True if look.seen else None if not look.failure else False)
    broken = {finding.name for finding in found if finding.kind == "shape_broken"}
    look.layers = [layer for layer in look.layers if layer.name not in broken]
    if optimizer is not None:
        found += held.optimizer(tree, probe, optimizer)
    return found


def _weights(tree: ParameterTree, look: _Look) -> list[Finding]:
    """Rows alike, lost rank, wrong sizes, and the activations that these drive to their ends."""
    seen, layers, scheme = look.seen, look.layers, look.scheme
    evidence = seen.evidence if seen else None
    _tell(75, "symmetry")
    alike = symmetry.symmetry(tree, layers, scheme, evidence, seen.gradients if seen else {})
    passed = {finding.name for finding in alike if finding.kind == "symmetric_units"}
    _tell(80, "rank")
    flat = rank.rank(tree, layers, scheme, passed)
    collapsed = {finding.name for finding in flat}
    # In a matrix of rank 1 some rows agree by chance: what they have in common is the rank.
    found = [finding for finding in alike if finding.kind == "symmetric_units" or finding.name not in collapsed]
    found += flat
    _tell(90, "scale")
    sized = [layer for layer in layers if layer.name not in passed]
    found += scale.scale(tree, sized, evidence, look.roles, look.heard)
    if seen and look.heard:
        large = {finding.name for finding in found if finding.kind == "scale_high"}
        grown = grows(tree, seen.evidence, look.heard, seen.gradients, layers, scheme)
        found += [finding for finding in grown if finding.name not in large]
    found += norms.zero_scales(tree, evidence, look.roles)
    if seen and look.listening and look.roles:
        pushed = norms.saturated(tree, seen.evidence, look.listening, look.roles, layers, scheme)
        ops = seen.evidence.ops
        told = {ops[c.op].place for c in seen.report.causes if c.kind == "saturated" and c.op is not None}
        found += [finding for finding in pushed if finding.op is None or ops[finding.op].place not in told]
    return found


def _tell(share_done: int, words: str) -> None:
    report(share_done, 100, f"diagnosing: {words}")


def _alone(tree: ParameterTree, layer: Layer, known: set[str]) -> bool:
    """Whether a layer that no recorded function took stands for itself: not an original of a computed weight."""
    path = layer.name.rpartition(".")[0]
    return ".parametrizations." not in f".{path}." and not any(name.startswith(f"{path}.") for name in known)


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
            text = f"{info.name}: {bad} of {info.numel} values {'is' if bad == 1 else 'are'} NaN or infinite."
            seen = (f"{int(value.isnan().sum())} NaN, {int(value.isinf().sum())} infinite",)
            title = f"{bad} value{'s' if bad != 1 else ''} not finite"
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
    title, advice = "The input is zero", "Check the batch."
    return [Finding("zero_path", at, (), "error", text, (count,), None, title, at, None, advice, basis="input")]


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
    found = Found(seen.evidence.ops)
    vanishing.weak(replace(seen.evidence, status=status, cancelled=set(), exploding={}), found)
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
