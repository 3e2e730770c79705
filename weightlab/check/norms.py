"""Normalisations whose scale is zero, and activations that are flat nearly everywhere."""

from __future__ import annotations

from torch import nn

from weightlab.check.evidence import Evidence, Severity, number, region_text, units_text
from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.layers import Heard
from weightlab.check.listening import Listening
from weightlab.check.measures import NORMS, Op
from weightlab.check.repairs import fill, rescale
from weightlab.check.roles import Roles
from weightlab.check.scale import FAR, by_factor
from weightlab.check.zeros import upstream
from weightlab.model.tree import ParameterTree

# An activation counts as saturated where the slope of this share of its cells is below a hundredth of the largest: the gradient's
# mean square then falls below a tenth of what inputs of unit variance leave (Glorot 2010, section 3; LeCun 1998, section 4.4).
MOSTLY_FLAT = 0.9
NORM_MODULES = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def zero_scales(tree: ParameterTree, evidence: Evidence | None, roles: Roles | None) -> list[Finding]:
    """`zero_norm_scale` where the scale of a normalisation is 0.

    Zero in the last normalisation of a residual branch is a deliberate start (Goyal et al. 2017, section 5.1): "info".
    """
    found = []
    modules = tree.modules
    for info in tree:
        path, _, local = info.name.rpartition(".")
        taken = [op for op in evidence.ops if op.name in NORMS and info.name in op.parameters] if evidence else []
        ops = [op for op in taken if info.name not in op.shifts]
        known = isinstance(modules.get(path), NORM_MODULES) and local == "weight"
        if info.kind != "parameter" or info.device.type == "meta" or not (known or (ops and local != "bias")):
            continue
        zero = (tree.tensor(info.name).detach() == 0).flatten().cpu()
        if not zero.numel() or not bool(zero.any()):
            continue
        meant = bool(zero.all()) and (not ops or roles is None or all(roles.ends_branch(op) for op in ops))
        count = int(zero.sum())
        text = f"{info.name}: the scale of {units_text(zero, 'channel')} is 0, so neither signal nor gradient passes there."
        if meant:
            text = f"{info.name}: its scale is 0 and the skip connection carries the signal: the branch starts switched off."
        if meant and not ops:
            text = f"{info.name}: its scale is 0; whether a skip connection goes around it is not known, as the model did not run."
        repair = fill(tree, info.name, zero, 1.0, f"Set the scale of {count} channels of {info.name} to 1.")
        found.append(
            Finding(
                "zero_norm_scale",
                info.name,
                (info.name,),
                "info" if meant else "error" if bool(zero.all()) else "warning",
                text,
                (f"{count} of {zero.numel()} cells of {info.name} are exactly 0",),
                None if meant else repair,
                f"{info.name} is zero",
                info.name,
                region_text(zero),
            )
        )
    return found


def saturated(
    tree: ParameterTree,
    evidence: Evidence,
    listening: Listening,
    roles: Roles,
    layers: list[Layer],
    scheme: Scheme,
) -> list[Finding]:
    """`saturated` tanh and sigmoid between layers: a gradient passes, a hundred times smaller than it should."""
    of_op = {index: layer for layer in layers for index in layer.ops}
    heard = Heard(listening, roles)
    found: list[Finding] = []
    told: set[tuple[str, str]] = set()  # a cell that is applied at each step is one place
    for op in evidence.ops:
        own = listening.heard.get(op.index)
        if own is None or own.flat is None or not op.module_type or roles.after(op) <= {"loss"}:
            continue
        share = float(own.flat)
        if not share > MOSTLY_FLAT:
            continue
        source = next((of_op[each.index] for each in upstream(evidence, op) if each.index in of_op), None)
        bias = _bias(tree, evidence, op)
        fed = heard.fed(op)
        text = f"{op.where}: {number(100 * share)} % of its cells are on the flat part, where the slope is below 1 % of the largest"
        repair = None
        name = None
        severity: Severity = "warning"
        if bias is not None and fed is not None and bias[1] > fed / 2:
            name = bias[0]
            text += f", because {name} is {number(bias[1])} on average"
            repair = fill(tree, name, None, 0.0, f"Set {name} to 0.")
        elif source is not None:
            if by_factor(source, scheme) and source.gain >= FAR * source.high:
                continue  # the factor is told of, as `scale_high`
            name = source.name
            given = heard.fed(evidence.ops[source.ops[0]])
            if source.gain > source.high or given is None:
                text += f", because {name} multiplies its input by {number(source.gain)}"
            else:
                text += f", because what {name} is fed has a root mean square of {number(given)}"
                # A weight of a healthy size that learned to open and shut: the signal itself passes beside the gate.
                if roles.after(op) <= {"gate"}:
                    severity = "info"
            repair = rescale(tree, [(source, scheme.right_size(source))])
        if (name or "", op.path) in told:
            continue
        told.add((name or "", op.path))
        led = _led_to(evidence, op)
        before = tuple(layer.name for layer in layers if not led.isdisjoint(layer.ops))
        seen = (f"root mean square of its input {number(fed or 0.0)}",)
        found.append(
            Finding("saturated", name or op.path, before, severity, text + ".", seen, repair,
                    f"{op.where} is saturated", op.path, op=op.index)
        )  # fmt: skip
    return found


def _led_to(evidence: Evidence, op: Op) -> set[int]:
    """The Ops that this one is made of, however far before."""
    found: set[int] = set()
    waiting = list(op.inputs)
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += evidence.ops[index].inputs
    return found


def _bias(tree: ParameterTree, evidence: Evidence, op: Op) -> tuple[str, float] | None:
    """The shift right before an activation, and its root mean square."""
    for source in upstream(evidence, op):
        for name in evidence.weights(source):
            value = tree.tensor(name).detach()
            if value.ndim == 1 and (name == source.bias or name.endswith("bias")):
                return name, float(value.float().square().mean().sqrt())
        if evidence.weights(source):
            return None
    return None
