"""What healthy gains do together, by depth: Xavier's through forty ReLUs, torch's own through eight.

Behind each ReLU half of the mean square is gone, so that a layer keeps g / √2 of the signal's size where He's gain keeps all
of it (He et al. 2015, section 2.2: with Glorot's rule their net of thirty layers did not learn). A scheme that is not made for
its activation is no fault of a few layers; n of them leave (g / √2)^n. Told as "info", with the repair, where less than
`LOST` of the signal is left.
"""

from __future__ import annotations

import math
import statistics

from weightlab.check.evidence import Evidence, names_text, number
from weightlab.check.expected import GAINS, Layer
from weightlab.check.finding import Finding
from weightlab.check.layers import Heard
from weightlab.check.repairs import rescale
from weightlab.check.roles import Roles
from weightlab.check.scale import layers_behind, renormed
from weightlab.check.signal import LOST
from weightlab.model.tree import ParameterTree


def shrinks_by_depth(
    tree: ParameterTree, layers: list[Layer], evidence: Evidence, roles: Roles, heard: Heard
) -> list[Finding]:
    """`scale_low`, "info", for the plain chain that loses the most of its signal, if it loses nearly all."""
    of_op = {index: layer for layer in layers for index in layer.ops}
    best: dict[int, tuple[float, tuple[Layer, ...]]] = {}
    for op in reversed(evidence.ops):
        layer = of_op.get(op.index)
        if layer is None:
            continue
        ends = roles.ends(op)
        if not ends or {role for role, _ in ends} != {"layer"} or renormed(layer, evidence, roles, heard):
            continue
        behind = (best[end.index] for end in layers_behind(roles, ends) if end.index in best)
        total, chain = max(behind, key=lambda pair: pair[0], default=(0.0, ()))
        if layer.activation in GAINS and layer.gain > 0 and all(layer.name != other.name for other in chain):
            total, chain = total + math.log(layer.right_gain / layer.gain), (layer, *chain)
        best[op.index] = max(total, 0.0), chain
    total, chain = max(best.values(), key=lambda pair: pair[0], default=(0.0, ()))
    held = [layer for layer in chain if layer.trained]
    if total < -math.log(LOST) or len(held) < 2:
        return []
    gain = statistics.geometric_mean(layer.gain for layer in chain)
    right = statistics.geometric_mean(layer.right_gain for layer in chain)
    names = tuple(layer.name for layer in chain)
    text = (
        f"{names_text(names)}: {len(chain)} layers with a gain of {number(gain)} before {chain[0].activation} keep "
        f"{number(gain / right)} of the signal's size each, {number(math.exp(-total))} in all."
    )
    seen = (f"the gain that keeps it through {chain[0].activation} is {number(chain[0].right_gain)} (He et al. 2015)",)
    repair = rescale(tree, [(layer, layer.right_gain / layer.amplified) for layer in held])
    title = f"{len(chain)} layers lose the signal by depth"
    return [Finding("scale_low", names[0], names, "info", text, seen, repair, title, names[0])]
