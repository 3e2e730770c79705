"""Weights that are far too small or too large for their fans, their place, and the model's own scheme."""

from __future__ import annotations

import math
import statistics

from weightlab.check.evidence import Evidence, names_text, number
from weightlab.check.expected import TIGHT, Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.layers import Heard
from weightlab.check.measures import Op
from weightlab.check.repairs import rescale
from weightlab.check.roles import Role, Roles
from weightlab.model.tree import ParameterTree

# Healthy schemes for one fan differ among themselves by up to sqrt(6) = 2.4 (torch's own against He's), and training moves
# a weight's size by a factor of two or three. Eight is both together: what lies outside is neither scheme nor training.
FAR = 8.0
# Behind a normalisation the size is divided out again; a weight s times too large only learns s^2 times more slowly
# (van Laarhoven 2017, "L2 regularization versus batch and weight normalization", section 3). Weights there grow as
# training goes on.
FAR_BEFORE_NORM = 32.0
# Several layers of a chain multiply. Each may be healthy on its own; together they must not leave this range.
FAR_IN_ALL = 16.0


def scale(
    tree: ParameterTree, layers: list[Layer], evidence: Evidence | None, roles: Roles | None, heard: Heard | None
) -> list[Finding]:
    """`scale_low` and `scale_high`, one finding per origin."""
    present = [layer for layer in layers if layer.size > 0 and math.isfinite(layer.gain) and layer.gain > 0]
    scheme = Scheme(present)
    found: dict[str, Finding] = {}
    for layer in present:
        if not layer.trained:
            continue
        finding = _alone(tree, layer, scheme, present, evidence, roles, heard)
        if finding is not None:
            found[layer.name] = _of_factor(finding, layer, scheme, evidence) or finding
    for kind in ("scale_low", "scale_high"):
        chained = _chain(present, evidence, roles, heard, kind)
        chained = [layer for layer in chained if layer.name not in found and layer.trained]
        if chained:
            finding = _together(tree, chained, scheme, kind)
            found[finding.name] = finding
    return list(found.values())


def _alone(
    tree: ParameterTree,
    layer: Layer,
    scheme: Scheme,
    present: list[Layer],
    evidence: Evidence | None,
    roles: Roles | None,
    heard: Heard | None,
) -> Finding | None:
    """What is wrong with this one weight, whatever the others do."""
    ran = bool(layer.ops)
    quiet_end = _ends_quietly(layer, evidence, roles) if ran else _may_end(layer, present)
    predicted, spread = scheme.fit(layer)
    # The looser the others follow their rule, the further off a weight must be to stand out.
    far = FAR * max(1.0, spread / TIGHT)
    # Heads and queries are often small on purpose: a uniform first output, uniform attention.
    if not quiet_end and "attention" not in layer.roles and layer.gain < layer.low:
        if layer.roles == {"layer"} and layer.low / layer.gain >= FAR and not renormed(layer, evidence, roles, heard):
            return _finding(
                tree, layer, scheme, "scale_low", layer.low / layer.gain, "the least of the healthy schemes"
            )
        # A rule that holds for this weight in every block is a rule, such as a residual projection's 1 / sqrt(2 L).
        lonely = all(peer.size > 2 * layer.size for peer in scheme.peers(layer))
        if predicted is not None and layer.direct and lonely and predicted / layer.size >= far:
            return _finding(tree, layer, scheme, "scale_low", predicted / layer.size, "the model's own scheme")
    if "norm" in layer.roles and evidence is not None and roles is not None and heard is not None:
        below = _drowned(tree, layer, evidence, roles, heard)
        if below is not None:
            return _finding(tree, layer, scheme, "scale_low", below, "what the normalisation's eps lets through")
    if layer.frequencies:
        return None
    limit = FAR_BEFORE_NORM if layer.roles == {"norm"} else FAR
    if layer.gain / layer.high >= limit:
        return _finding(
            tree, layer, scheme, "scale_high", layer.gain / layer.high, "the largest of the healthy schemes"
        )
    lonely = not any(peer.size > layer.size / 2 for peer in scheme.peers(layer))
    # Above by more than rounding: a repair gives a weight just this gain.
    above = layer.gain > 1.01 * layer.high
    if predicted is not None and layer.direct and lonely and layer.size / predicted >= far and above:
        return _finding(tree, layer, scheme, "scale_high", layer.size / predicted, "the model's own scheme")
    return None


def _may_end(layer: Layer, present: list[Layer]) -> bool:
    """Whether a layer that did not run may put out what the model does: no later one takes as many numbers as it has units.

    An actor and a critic stand side by side behind one body: each is a head, and only one of them is last.
    """
    units, place = layer.fans[1], present.index(layer)
    return not any(units == later.fans[0] for later in present[place + 1 :])


def by_factor(layer: Layer, scheme: Scheme) -> bool:
    """Whether a gain is off because of a plain factor: the weight is healthy without it, and no sibling is healthy with it."""
    if layer.factor is None or abs(math.log(layer.factor[1])) < math.log(FAR):
        return False
    for peer in scheme.peers(layer):  # SIREN's factor of 30 belongs to the gain of all its layers
        alike = peer.factor is not None and abs(math.log(peer.factor[1] / layer.factor[1])) < math.log(2)
        if alike and peer.low / FAR < peer.gain < peer.high * FAR:
            return False
    return layer.low / FAR < layer.own_gain < layer.high * FAR


def _of_factor(finding: Finding, layer: Layer, scheme: Scheme, evidence: Evidence | None) -> Finding | None:
    """The finding about a plain factor behind a weight that is of a healthy size itself: the place is who multiplies."""
    if evidence is None or layer.factor is None or not by_factor(layer, scheme):
        return None
    index, value = layer.factor
    op = evidence.ops[index]
    way = "small" if finding.kind == "scale_low" else "large"
    text = (
        f"{op.where}: it multiplies what {layer.name} puts out by {number(value)}; that weight's own gain of "
        f"{number(layer.own_gain)} is healthy."
    )
    seen = (f"healthy schemes for {layer.name} have a gain from {number(layer.low)} to {number(layer.high)}",)
    advice = f"Take the factor {number(value)} out of {op.path or 'the forward'}, or bring it nearer to 1."
    title = f"{op.where} makes its signal too {way}"
    return Finding(
        finding.kind, op.path, (layer.name,), finding.severity, text, seen, None, title, op.path, advice=advice
    )


def _ends_quietly(layer: Layer, evidence: Evidence | None, roles: Roles | None) -> bool:
    """Whether no other layer or normalisation takes what this one puts out, sums and products with other heads between."""
    if evidence is None or roles is None:
        return False
    waiting, seen = [evidence.ops[index] for index in layer.ops], set[int]()
    while waiting:
        for role, end in roles.ends(waiting.pop()):
            if role in ("layer", "norm", "attention"):
                return False
            if end.index not in seen and role != "loss":
                seen.add(end.index)
                waiting.append(end)
    return True


def _drowned(tree: ParameterTree, layer: Layer, evidence: Evidence, roles: Roles, heard: Heard) -> float | None:
    """How far a layer's output lies below the eps of the normalisation behind it, in standard deviations; None if above."""
    for index in layer.ops:
        for role, norm in roles.ends(evidence.ops[index]):
            if role != "norm":
                continue
            module = tree.modules.get(norm.path)
            eps = getattr(module, "eps", None) or 1e-5
            fed = heard.fed(norm)
            batch_statistics = norm.name != "batch_norm" or getattr(module, "training", True)
            if fed and batch_statistics and fed * FAR < math.sqrt(eps) and layer.gain < layer.low:
                return math.sqrt(eps) / fed
    return None


def renormed(layer: Layer, evidence: Evidence | None, roles: Roles | None, heard: Heard | None) -> bool:
    """Whether the chain behind a layer ends in a normalisation, which gives the signal its size back."""
    if evidence is None or roles is None:
        return False
    waiting = [evidence.ops[index] for index in layer.ops]
    seen: set[int] = set()
    while waiting:
        for role, end in roles.ends(waiting.pop()):
            if role == "norm":
                if heard is not None and _flat_before(end, evidence, heard):
                    return False
                continue
            if role != "layer":
                return False
            if end.index not in seen:
                seen.add(end.index)
                waiting.append(end)
    return True


def _flat_before(norm: Op, evidence: Evidence, heard: Heard) -> bool:
    """Whether what a BatchNorm gets hardly varies: its eps is most of what it divides by."""
    module = evidence.tree.modules.get(norm.path)
    varies = heard.varies(norm)
    if norm.name != "batch_norm" or varies is None or not getattr(module, "training", True):
        return False
    return bool(varies * FAR**2 < (getattr(module, "eps", None) or 1e-5))


def _chain(
    layers: list[Layer], evidence: Evidence | None, roles: Roles | None, heard: Heard | None, kind: str
) -> list[Layer]:
    """The layers of the chain in which deviations multiply up the most, if beyond what is healthy."""
    if evidence is None or roles is None:
        return []  # where the model does not run, what multiplies what is not known
    low = kind == "scale_low"
    of_op = {index: layer for layer in layers for index in layer.ops}
    # A signal that is too small can only starve what is behind it in a plain chain: a sum or the loss takes any size. One that is
    # too large overflows them all, up to the next normalisation.
    passes = {"layer"} if low else {"layer", "sum", "gate", "loss", "attention"}
    best: dict[int, tuple[float, tuple[Layer, ...]]] = {}
    for op in reversed(evidence.ops):
        layer = of_op.get(op.index)
        if layer is None:
            continue
        ends = roles.ends(op)
        if not {role for role, _ in ends} <= passes or (low and (not ends or renormed(layer, evidence, roles, heard))):
            best[op.index] = 0.0, ()
            continue
        behind = [best.get(end.index, (0.0, ())) for end in layers_behind(roles, ends)]
        total, chain = max(behind, key=lambda pair: pair[0], default=(0.0, ()))
        off = layer.low / layer.gain if low else layer.gain / layer.high
        off = max(0.0, math.log(off)) if low or not layer.frequencies else 0.0
        if any(other.name == layer.name for other in chain):
            off = 0.0  # a cell that is applied at each step is one weight
        best[op.index] = total + off, ((layer, *chain) if off > math.log(1.5) else chain)
    total, chain = max(best.values(), key=lambda pair: pair[0], default=(0.0, ()))
    if total < math.log(FAR if low else FAR_IN_ALL):
        return []
    return list({layer.name: layer for layer in chain}.values())


def layers_behind(roles: Roles, ends: list[tuple[Role, Op]]) -> list[Op]:
    """The next layers, also behind sums and gates."""
    found: list[Op] = []
    waiting, seen = list(ends), set[int]()
    while waiting:
        role, end = waiting.pop()
        if end.index in seen:
            continue
        seen.add(end.index)
        if role == "layer":
            found.append(end)
        elif role in ("sum", "gate", "attention"):
            waiting += roles.ends(end)
    return found


def _finding(tree: ParameterTree, layer: Layer, scheme: Scheme, kind: str, factor: float, against: str) -> Finding:
    low = kind == "scale_low"
    way = "below" if low else "above"
    text = f"{layer.name}: its gain is {number(layer.gain)}, {number(factor)} times {way} {against}."
    seen = (
        f"root mean square {number(layer.size)}, fan_in {layer.fan_in:.0f}: gain {number(layer.gain)}",
        f"healthy schemes for these fans have a gain from {number(layer.low)} to {number(layer.high)}",
    )
    title = f"{layer.name} is too {'small' if low else 'large'}"
    repair = rescale(tree, [(layer, scheme.right_size(layer))])
    return Finding(kind, layer.name, (layer.name,), "warning", text, seen, repair, title, layer.name)


def _together(tree: ParameterTree, layers: list[Layer], scheme: Scheme, kind: str) -> Finding:
    low = kind == "scale_low"
    off = {layer.name: layer.low / layer.gain if low else layer.gain / layer.high for layer in layers}
    worst = max(layers, key=lambda layer: off[layer.name])
    names = [layer.name for layer in layers]
    gain = statistics.geometric_mean(layer.gain for layer in layers)
    text = (
        f"{names_text(names)}: {'each makes' if len(names) > 1 else 'it makes'} the signal "
        f"{'smaller' if low else 'larger'} than any "
        f"healthy scheme would, by {number(math.prod(off.values()))} times in all."
    )
    seen = (f"mean gain {number(gain)}; healthy is {number(worst.low)} to {number(worst.high)} for {worst.name}",)
    repair = rescale(tree, [(layer, layer.right_gain / layer.amplified) for layer in layers])
    title = f"{len(names)} weights are too {'small' if low else 'large'}"
    return Finding(kind, worst.name, tuple(names), "warning", text, seen, repair, title, worst.name)
