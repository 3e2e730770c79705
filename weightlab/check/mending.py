"""The repair for each cause of the gradient check, where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from weightlab.check.dead import pushing_bias
from weightlab.check.evidence import Cause, Evidence, slice_word, units_text
from weightlab.check.expected import Layer, Scheme
from weightlab.check.flat import FLAT_ENDS, shifted
from weightlab.check.measures import Op
from weightlab.check.repair import Action, Repair
from weightlab.check.repairs import draw, fill, not_finite, redraw, region_of, rescale
from weightlab.check.zeros import all_zero_along, shifts, upstream
from weightlab.edit.operations import Edit
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree

# Kinds of causes that have a repair in most cases; for others only the user's own code can be changed.
MENDED = frozenset({"nonfinite_weight", "zero_weight", "dead_relu", "saturated", "vanishing", "exploding"})


def mends(cause: Cause) -> bool:
    """Whether `repair_of` looks for a repair that is worth a button: of faults, and of a scheme that lets the gradient vanish."""
    # Behind a small scale, which is named, nothing is to be mended.
    by_scheme = cause.kind == "vanishing" and cause.name is None
    return cause.kind in MENDED and (cause.severity != "info" or by_scheme)


def repair_of(
    cause: Cause, tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence
) -> Repair | None:
    """What would mend the origin that a cause names; None where only the user's own code can."""
    by_name = {layer.name: layer for layer in layers}
    if cause.name is not None and cause.name in tree and not tree[cause.name].editable:
        return None
    if cause.kind == "nonfinite_weight" and cause.name is not None:
        layer = by_name.get(cause.name)
        return not_finite(tree, cause.name, scheme.right_size(layer) if layer else 0.02)
    if cause.kind == "zero_weight" and cause.name is not None:
        return drawn_where_zero(cause.name, tree, by_name, scheme)
    if cause.kind == "dead_relu":
        return _revive(cause, tree, layers, scheme, evidence)
    if cause.kind == "saturated":
        return _unsaturate(cause, tree, layers, scheme, evidence)
    if cause.kind in ("vanishing", "exploding") and mends(cause):
        names = tuple(
            layer.name for layer in layers if layer.trained and layer.direct and tree[layer.name].kind == "parameter"
        )
        if names:
            text = f"LSUV: scale {len(names)} weights so that each layer puts out unit variance on the probe batch."
            return Repair(text, actions=(Action("lsuv", names),))
    return None


def drawn_where_zero(name: str, tree: ParameterTree, by_name: dict[str, Layer], scheme: Scheme) -> Repair | None:
    """Rows or columns that are zero are drawn at random; zero cells of a vector are set to 1."""
    value = tree.tensor(name).detach()
    if value.ndim < 2:
        zero = (value == 0).flatten().cpu()
        return (
            fill(tree, name, zero, 1.0, f"Set {int(zero.sum())} zero cells of {name} to 1.")
            if value.ndim == 1
            else None
        )
    layer = by_name.get(name)
    if layer is None:
        return None
    for axis in (0, 1):
        zero = all_zero_along(value, axis).cpu()
        if bool(zero.any()):
            size = scheme.right_size(layer)
            return Repair(
                f"Draw {units_text(zero, slice_word(tree[name], axis))} of {name} from N(0, {size:.3g}²).",
                (draw(name, region_of(tree, name, zero, axis), size),),
            )
    return None


def _revive(
    cause: Cause, tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence
) -> Repair | None:
    """Units of a ReLU that no sample reaches: the bias that holds them back goes to 0, else their weights are drawn anew."""
    op = _op_of(cause, evidence)
    if op is None or op.highest is None:
        return None
    dead = op.highest.cpu() <= 0
    if cause.name is not None:
        push = pushing_bias(evidence, op, dead, op.highest.cpu().float())
        held = push.units if push is not None and push.bias == cause.name else dead
        return fill(tree, cause.name, held, 0.0, f"Set {cause.name} to 0 in {units_text(held, 'unit')}.")
    layer = _layer_before(evidence, op, layers)
    if layer is None or layer.axis is None or layer.shape[layer.axis] != dead.numel():
        return None
    fresh = redraw(tree, layer, scheme, dead, "Revive dead units")
    bias = layer.name.removesuffix("weight") + "bias"
    if fresh is not None and bias in tree and tree[bias].shape == (dead.numel(),) and tree[bias].editable:
        zero = Edit(bias, region_of(tree, bias, dead), "fill_", {"value": 0.0})
        fresh = Repair(f"{fresh.text.rstrip('.')}, and set their bias to 0.", (*fresh.edits, zero))
    return fresh


def _op_of(cause: Cause, evidence: Evidence) -> Op | None:
    return None if cause.op is None else evidence.ops[cause.op]


def _unsaturate(
    cause: Cause, tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence
) -> Repair | None:
    """The shift before the activation goes to 0 where it is large, and the weight gets its right size where that is too large."""
    op = _op_of(cause, evidence)
    if cause.name is not None and op is not None and op.name in FLAT_ENDS and tree.tensor(cause.name).ndim == 1:
        units = shifted(evidence, op, cause.name)
        if units is not None and bool(units.any()):
            return fill(tree, cause.name, units, 0.0, f"Set {cause.name} to 0 in {units_text(units, 'unit')}.")
    if cause.name is not None and cause.region is not None and tree.tensor(cause.name).ndim == 1:
        region = Region.parse(cause.region, tree[cause.name].shape, cause.name)
        fill_ = Edit(cause.name, region, "fill_", {"value": 0.0})
        return Repair(f"Set {cause.name}{cause.region} to 0.", (fill_,))
    if op is None:
        return None
    edits: list[Edit] = []
    said: list[str] = []
    for source in upstream(evidence, op):
        for name in (each for each in shifts(evidence, source) if _is_large(tree.tensor(each))):
            edits.append(Edit(name, region_of(tree, name, None), "fill_", {"value": 0.0}))
            said.append(f"set {name} to 0")
        if evidence.weights(source):
            break
    layer = _layer_before(evidence, op, layers)
    if layer is not None and layer.gain > 2 * layer.high:
        smaller = rescale(tree, [(layer, scheme.right_size(layer))])
        if smaller is not None:
            edits += smaller.edits
            said.append(f"give {layer.name} its right size")
    if not edits:
        return None
    text = ", and ".join(said)
    return Repair(text[0].upper() + text[1:] + ".", tuple(edits))


def _is_large(value: Tensor) -> bool:
    return bool(torch.linalg.vector_norm(value.detach().float()) > 3 * value.numel() ** 0.5)


def _layer_before(evidence: Evidence, op: Op, layers: list[Layer]) -> Layer | None:
    of_op = {index: layer for layer in layers for index in layer.ops}
    return next((of_op[source.index] for source in upstream(evidence, op) if source.index in of_op), None)
