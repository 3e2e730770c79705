"""How much of a gradient's way back a standard initialisation explains (rule G8).

Back through y = W f(x) with n_out terms of mean square s² the gradient is multiplied by s √n_out times f's slope (He et al.
2015, section 2.2, equation 14). torch's own s = 1 / sqrt(3 n_in) makes that 1/√6 a layer through ReLU, in everybody's model on
its first day. What a scheme does by itself is worth knowing and no fault of this model; what goes beyond it is one.

Slopes count where the scheme is what makes them: ReLU's share of open units, and that of GELU, softplus and their like at 0,
where signals arrive that shrink on their way; He's rule, made for their other end, heals them all. That a sigmoid passes a
quarter at most is no scheme's doing, and no healthy one heals it (Glorot 2010, section 3.1): nothing of that is explained.
So the line for a sigmoid net as torch makes it lies where 1/√3 a layer and a quarter a sigmoid, 0.144 together, fall below `WEAK`,
2^-23: at eight layers. From there on float32 cannot train the first layer beside the last one, and it is a true finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from weightlab.check.evidence import MATRIX, Evidence
from weightlab.check.expected import Layer, layer_of
from weightlab.check.measures import Op
from weightlab.check.sizes import WEAK

# The root mean square of f' under a signal that is symmetric (ReLU: half of the units are open) or has shrunk to about 0.
SLOPES = {
    **dict.fromkeys(
        ("relu", "relu6", "threshold", "clamp", "clamp_min", "leaky_relu", "prelu", "rrelu"), math.sqrt(0.5)
    ),
    **dict.fromkeys(("gelu", "silu", "hardswish", "softplus"), 0.5),
    "mish": 0.6,
}
# A weight has a scheme's size when it is off by at most a tenth, as the first steps of training leave it, and three standard
# errors of a sampled standard deviation: at most 0.71 / sqrt(N), that of normal cells.
NEAR, ERRORS = 0.1, 3 * math.sqrt(0.5)


@dataclass(frozen=True, slots=True)
class Shrinking:
    """What lies between one Op and the loss.

    Attributes:
        measured: logarithm of how many times smaller the gradient is there than at the end.
        explained: that of how many times smaller the schemes of the layers between make it.
        layers: the layers between.
        below: those smaller than any healthy scheme has them, but for the last one: heads are small on purpose.
        ops: the Ops that use them.
    """

    measured: float
    explained: float
    layers: tuple[Layer, ...]
    below: tuple[Layer, ...]
    ops: tuple[Op, ...]

    @property
    def by_scheme(self) -> bool:
        """Whether the schemes are the larger part of it, and what they leave would count as flowing."""
        left = self.measured - self.explained
        return not self.below and self.explained >= self.measured / 2 > 0 and left < -math.log(WEAK)


@dataclass(slots=True)
class _Way:
    """The way of least loss from an Op's output to the loss."""

    explained: float
    end: float
    passed: tuple[tuple[Op, Layer], ...] = ()


def shrinking(evidence: Evidence, names: tuple[str, ...]) -> Shrinking | None:
    """What happens between the loss and the one of these parameters that gets the least; None where no way was seen."""
    starts = [op for name in names for op in evidence.consumers(name) if op.grads and op.grads[0].finite]
    starts = [op for op in starts if op.grads[0].largest > 0]
    if not starts:
        return None
    start = min(starts, key=lambda op: op.grads[0].largest)
    way = _ways(evidence).get(start.index)
    if way is None or way.end <= 0:
        return None
    ops, layers = tuple(op for op, _ in way.passed), tuple(layer for _, layer in way.passed)
    below = tuple(layer for layer in layers[:-1] if not follows(layer) and layer.gain < layer.low)
    measured = math.log(way.end / start.grads[0].largest)
    return Shrinking(measured, way.explained, layers, below, ops)


def idle_norms(evidence: Evidence) -> list[str]:
    """BatchNorms that ran on running statistics of no batch, a mean of 0 and a variance of 1: they let all through as it is.

    Trained ones divide by the size of what they get, forward and, by that, back (Ioffe and Szegedy 2015, section 3.3).
    """
    modules = evidence.tree.modules
    found = []
    for op in evidence.ops:
        module = modules.get(op.path)
        if op.name == "batch_norm" and isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training:
            count = module.num_batches_tracked
            if count is not None and int(count) == 0:
                found.append(op.path)
    return found


def follows(layer: Layer) -> bool:
    """Whether a weight has the size of a standard scheme, within sampling error."""
    off = NEAR + ERRORS / math.sqrt(math.prod(layer.shape))
    return layer.size > 0 and any(abs(math.log(layer.size / size)) < off for size in layer.sizes())


def _ways(evidence: Evidence) -> dict[int, _Way]:
    """By Op, for those that a gradient arrived at. Of several users the one counts that passes on the most: the sum is its size."""
    modules = evidence.tree.modules
    known: dict[str, Layer | None] = {}
    ways: dict[int, _Way] = {}
    for op in reversed(evidence.ops):
        if not op.is_view and not (op.grads and op.grads[0].finite):
            continue
        behind = []
        for user in (evidence.ops[index] for index in evidence.users[op.index]):
            way = ways.get(user.index)
            if way is None or not user.module_type:
                continue
            layer = _layer(evidence, user, known, modules)
            lost = _lost(user, layer, modules)
            passed = ((user, layer), *way.passed) if layer is not None else way.passed
            behind.append(_Way(way.explained + lost, way.end, passed))
        if behind:
            ways[op.index] = min(behind, key=lambda way: way.explained)
        elif op.module_type and op.grads:
            ways[op.index] = _Way(0.0, op.grads[0].largest)
    return ways


def _layer(
    evidence: Evidence, op: Op, known: dict[str, Layer | None], modules: Mapping[str, nn.Module]
) -> Layer | None:
    if op.name not in MATRIX and not op.name.startswith("conv"):
        return None
    name = next((name for name in op.parameters if len(evidence.tree[name].shape) > 1), None)
    if name is None:
        return None
    if name not in known:
        known[name] = layer_of(evidence.tree, evidence.tree[name], op.name, modules.get(name.rpartition(".")[0]))
    return known[name]


def _lost(op: Op, layer: Layer | None, modules: Mapping[str, nn.Module]) -> float:
    """Logarithm of how many times smaller an Op makes the gradient by what its scheme or its slope is; 0 where neither is known."""
    if layer is None:
        return -math.log(SLOPES[op.name]) if op.name in SLOPES else 0.0
    if (op.name != "linear" and not op.name.startswith("conv")) or not follows(layer):
        return 0.0
    # How many outputs an input goes to: the fan_out of its own group, of which a stride leaves a part.
    terms = float(layer.fans[0] if "transpose" in op.name else layer.fans[1])
    module = modules.get(layer.name.rpartition(".")[0])
    if "transpose" not in op.name:
        terms /= getattr(module, "groups", 1) * math.prod(getattr(module, "stride", ()))
    return -math.log(layer.size * math.sqrt(terms))
