"""Weights that are zero and let nothing of the input reach the loss.

A zero weight that gets a gradient leaves zero at the first step, and many are zero on purpose: heads, last norms and
projections of residual branches, LoRA factors, gates, queries. What they have in common is that the signal goes on beside
them, or that nothing comes behind them. A zero weight that every way from the input to the loss leads through, with layers
behind it, is no such start: the model puts out the same for every sample, and what lies behind learns from its bias alone.
"""

from __future__ import annotations

from weightlab.check.evidence import Evidence
from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.listening import Listening
from weightlab.check.measures import Op
from weightlab.check.mending import drawn_where_zero
from weightlab.check.roles import Roles
from weightlab.check.zeros import factors
from weightlab.model.tree import ParameterTree

ALIKE = (
    1e-9  # variance between samples as a share of the mean square: rounding of a mean over 64 equal numbers, squared
)


def shut(
    tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence, roles: Roles, listening: Listening
) -> list[Finding]:
    """`zero_weight` for each of them."""
    found = []
    for layer in layers:
        if layer.size > 0 or not layer.ops or not layer.trained or not layer.direct:
            continue
        gone = {index for index in layer.ops if _passes_nothing(evidence, evidence.ops[index], layer.name, listening)}
        if not any(_layer_behind(roles, evidence, index) for index in gone) or not _cuts(evidence, gone):
            continue
        value = tree.tensor(layer.name)
        if bool(value.detach().any()):
            continue
        text = (
            f"{layer.name} is exactly zero, and every way from the input to the loss leads through it: the model puts out "
            "the same for every sample."
        )
        seen = (f"all {value.numel()} cells are 0", "without this layer nothing of the batch reaches the loss")
        repair = drawn_where_zero(layer.name, tree, {layer.name: layer}, scheme) if tree[layer.name].editable else None
        title = f"{layer.name} is zero"
        found.append(
            Finding("zero_weight", layer.name, (layer.name,), "warning", text, seen, repair, title, layer.name, "[...]")
        )
    return found


def _passes_nothing(evidence: Evidence, op: Op, name: str, listening: Listening) -> bool:
    """Whether this Op puts out the same for every sample, as a zero weight would have it.

    A low-rank factor that is added to a weight is zero and no wall, nor is the weight that multiplies a recurrent state.
    """
    heard = listening.heard.get(op.index)
    if heard is not None and heard.uneven is not None and float(heard.uneven) > ALIKE:
        return False
    return name in factors(evidence, op)


def _layer_behind(roles: Roles, evidence: Evidence, index: int) -> bool:
    """Whether any layer takes what this Op makes, however far behind."""
    waiting, seen = [evidence.ops[index]], {index}
    while waiting:
        for user in roles.users(waiting.pop()):
            if user.index not in seen:
                if roles.is_layer(user):
                    return True
                seen.add(user.index)
                waiting.append(user)
    return False


def _cuts(evidence: Evidence, gone: set[int]) -> bool:
    """Whether without these Ops nothing that the model puts out depends on what comes from outside."""
    fed: set[int] = set()
    for op in evidence.ops:
        if not op.module_type:
            continue  # the loss, which is fed the targets
        if op.index not in gone and (op.outside or any(index in fed for index in op.inputs)):
            fed.add(op.index)
    ends = [
        op.index
        for op in evidence.ops
        if op.module_type
        and op.tracked
        and not any(evidence.ops[user].module_type for user in evidence.users[op.index])
    ]
    return bool(ends) and not any(index in fed for index in ends)
