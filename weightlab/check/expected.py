"""What fan, activation and the model's own scheme predict for the size of a weight.

A layer y = W x with independent weights of mean square s^2 and fan_in n multiplies the root mean square of its input by
its gain g = s sqrt(n), whatever the input's distribution (He et al. 2015, section 2.2, equation 6). Healthy schemes differ in the
g that they aim at; what lies between the least and the largest of them is healthy for a weight of these fans:

    He 2015, fan_in        s = sqrt(2 / n_in)          g = 1.41, keeps E[x^2] through ReLU (equation 10)
    He 2015, fan_out       s = sqrt(2 / n_out)         keeps the gradient instead (equation 14)
    LeCun 1998             s = 1 / sqrt(n_in)          g = 1, "Efficient BackProp", section 4.6
    Glorot 2010            s = sqrt(2 / (n_in + n_out)), equation 12; times 5/3 for tanh (LeCun 1998, section 4.4)
    Saxe 2014              orthogonal: s = 1 / sqrt(max(n_in, n_out))
    Kumar 2017             s = 3.6 / sqrt(n_in) before a sigmoid, whose slope is at most 1/4
    torch's own            s = 1 / sqrt(3 n_in): kaiming_uniform_(a=sqrt(5)) of Linear and Conv; 1 / sqrt(3 H) of recurrent layers
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from weightlab.check.roles import COMPOSITE, RECURRENT, Role
from weightlab.model.tree import ParameterTree, TensorInfo

# Gain that keeps E[x^2] = 1 through an activation f: 1 / sqrt(E f(z)^2) with z ~ N(0, 1) (He 2015; for tanh near 0 and
# saturating ones 1, as LeCun 1998 has it; GELU and SiLU by the same integral).
GAINS = {
    **dict.fromkeys(("relu", "leaky_relu", "prelu", "rrelu", "relu6", "threshold", "clamp", "clamp_min"), math.sqrt(2)),
    "gelu": 1.53,
    "silu": 1.68,
    "mish": 1.49,
    "elu": 1.25,
    "celu": 1.25,
    "hardswish": 1.6,
    **dict.fromkeys(
        ("sin", "cos"), math.sqrt(2)
    ),  # E sin² = 1/2 from a spread of 1 on (Sitzmann et al. 2020, theorem 1.8)
}
# What torch's own layers call a weight that mixes units: weight, in_proj_weight, q_proj_weight, weight_ih_l0; their originals too.
OWN_WEIGHT = r"^(weight|\w+_proj_weight|weight_[ih][ihr]\w*)(_orig|_v)?$"
# A model has a scheme of its own when three quarters of its weights lie within this factor of one rule.
TIGHT = 1.5


@dataclass(slots=True)
class Layer:
    """One weight that mixes units.

    Attributes:
        name: of the tensor.
        fan_in: how many inputs each output sums over; stride of transposed convolutions counted.
        fans: (fan_in, fan_out) as torch.nn.init counts them.
        axis: that of output units; None where it is not known.
        blocks: separate parts along the axis, such as gates or groups.
        size: root mean square of the cells.
        gain: by which the signal's size is multiplied.
        roles: where the output arrives.
        activation: what it enters first.
        first: it is fed by the data itself, no other layer before it.
        ops: indices of the Ops that use it; () where the model did not run.
        factor: the Op of the largest plain factor behind it, and by how much that multiplies; None without one.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: float
    fans: tuple[int, int]
    axis: int | None
    blocks: int
    size: float
    gain: float
    trained: bool
    direct: bool = True
    kind: str = "linear"
    roles: set[Role] = field(default_factory=set)
    activation: str = "linear"
    first: bool = False
    ops: tuple[int, ...] = ()
    factor: tuple[int, float] | None = None

    @property
    def own_gain(self) -> float:
        """The gain of the weight alone, without the plain factors behind it."""
        return self.size * math.sqrt(self.fan_in)

    @property
    def frequencies(self) -> bool:
        """Whether its cells are frequencies of the data (Sitzmann et al. 2020, section 3.2): how high they are is a choice."""
        return self.first and self.activation in ("sin", "cos")

    @property
    def pattern(self) -> tuple[str, tuple[int, ...]]:
        """Alike for the same weight in other blocks: `blocks.*.fc.weight`."""
        return re.sub(r"\d+", "*", self.name), self.shape

    def sizes(self) -> list[float]:
        """The s of all schemes of the module's text."""
        into, out = self.fans
        found = [math.sqrt(2 / into), math.sqrt(2 / out), 1 / math.sqrt(into), math.sqrt(2 / (into + out))]
        rows = self.shape[0] if self.axis in (0, 1, None) else self.shape[-1]
        found += [1 / math.sqrt(max(rows, math.prod(self.shape) / rows)), 1 / math.sqrt(3 * into)]
        if self.kind in RECURRENT:
            found.append(1 / math.sqrt(3 * max(1, self.shape[0] // self.blocks)))
        return found

    @property
    def low(self) -> float:
        """The least gain of a healthy scheme for these fans."""
        return min(self.sizes()) * math.sqrt(self.fan_in)

    @property
    def high(self) -> float:
        """The largest one, the gain of its activation among them. He's fan_out rule counts for convolutions only."""
        into, out = self.fans
        found = [math.sqrt(2 / into), 5 / 3 * math.sqrt(2 / (into + out)), self.right_gain / math.sqrt(into)]
        if self.activation == "sigmoid":
            found.append(3.6 / math.sqrt(into))
        if self.kind == "conv":
            found.append(math.sqrt(2 / out))
        return max(found) * math.sqrt(self.fan_in)

    @property
    def amplified(self) -> float:
        """Gain per size: sqrt(fan_in), times a plain factor that the forward multiplies by."""
        return self.gain / self.size if self.size > 0 and self.gain > 0 else math.sqrt(self.fan_in)

    @property
    def right_gain(self) -> float:
        """The gain that keeps the signal's size through this layer and its activation."""
        return GAINS.get(self.activation, 1.0)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) as torch.nn.init counts them, at least 1."""
    field_size = math.prod(shape[2:])
    return max(1, shape[1] * field_size), max(1, shape[0] * field_size)


def measure(tensor: Tensor) -> float:
    """Root mean square of the finite cells, in float64; 0.0 where there is none."""
    values = tensor.detach()
    if values.numel() == 0 or values.is_meta or not values.is_floating_point():
        return 0.0
    size = float(torch.linalg.vector_norm(values.to(torch.float32)).double()) / math.sqrt(values.numel())
    if math.isfinite(size) and size > 0:
        return size
    wide = values.to("cpu", torch.float64)
    wide = wide[wide.isfinite()]
    return float(wide.square().mean().sqrt()) if wide.numel() else 0.0


def layer_of(tree: ParameterTree, info: TensorInfo, kind: str, module: nn.Module | None) -> Layer | None:
    """The layer of a weight, from its shape and its module alone; None for what mixes nothing."""
    shape = info.shape
    if len(shape) < 2 or math.prod(shape) == 0 or not info.dtype.is_floating_point or info.device.type == "meta":
        return None
    axis: int | None = 0
    blocks, into, counted = 1, float(fans(shape)[0]), fans(shape)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        axis = 1 if module.groups == 1 else None
        into = shape[0] / module.groups * math.prod(shape[2:]) / math.prod(module.stride)
    elif isinstance(module, nn.modules.conv._ConvNd):
        blocks = module.groups
    elif isinstance(module, nn.RNNBase):
        blocks = {"LSTM": 4, "GRU": 3}.get(module.mode, 1) if "_hr_" not in info.name else 1
    elif isinstance(module, nn.RNNCellBase):
        blocks = {nn.LSTMCell: 4, nn.GRUCell: 3}.get(type(module), 1)
    elif isinstance(module, nn.MultiheadAttention):
        if len(shape) > 2:
            return None  # bias_k and bias_v
        blocks = 3 if info.name.endswith("in_proj_weight") else 1
    elif isinstance(module, nn.Bilinear):
        axis, into, counted = None, float(shape[1] * shape[2]), (shape[1] * shape[2], shape[0])
    elif len(shape) > 2 and kind != "conv":  # a stack of matrices [n, in, out]
        axis, into, counted = None, float(shape[-2]), (shape[-2], shape[-1])
    size = measure(tree.tensor(info.name))
    word = "conv" if isinstance(module, nn.modules.conv._ConvNd) or kind.startswith("conv") else kind
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        word = "lstm"
    return Layer(
        info.name, shape, into, counted, axis, blocks, size, size * math.sqrt(into), info.requires_grad, kind=word
    )


def layers_by_type(tree: ParameterTree) -> list[Layer]:
    """Layers of torch's own modules, without running the model."""
    found = []
    modules = tree.modules
    mixing = (
        nn.Linear,
        nn.Bilinear,
        nn.modules.conv._ConvNd,
        nn.RNNBase,
        nn.RNNCellBase,
        nn.MultiheadAttention,
    )
    for info in tree:
        module = modules.get(info.name.rpartition(".")[0])
        if info.kind == "buffer" or not isinstance(module, mixing) or _has_computed(tree, info):
            continue
        # Its own weight: what a subclass adds (a gain for each channel [out, 1, 1, 1], an adapter) is used as nobody knows.
        if not re.search(OWN_WEIGHT, info.name.rpartition(".")[2]):
            continue
        layer = layer_of(tree, info, "linear", module)
        if layer is not None:
            found.append(layer)
    return found


def _has_computed(tree: ParameterTree, info: TensorInfo) -> bool:
    """Whether this is an original that a computed weight is made of."""
    return any(info.name.endswith(end) for end in ("_orig", "_v", "_g")) and info.kind == "parameter"


class Scheme:
    """The rule that a model's own weights follow, if one does: s = c * rule(fans)."""

    RULES: tuple[Callable[[Layer], float], ...] = (
        lambda layer: 1 / math.sqrt(layer.fans[0]),
        lambda layer: math.sqrt(2 / sum(layer.fans)),
        lambda layer: 1.0,
        lambda layer: 1 / math.sqrt(layer.fans[1]),
        lambda layer: 1 / math.sqrt(max(layer.shape[0], math.prod(layer.shape) / layer.shape[0])),
    )

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = [layer for layer in layers if layer.size > 0 and layer.direct and math.prod(layer.shape) >= 16]

    def peers(self, layer: Layer) -> list[Layer]:
        """The same weight in other blocks."""
        return [other for other in self._layers if other.pattern == layer.pattern and other.name != layer.name]

    def predicts(self, layer: Layer, least: int = 3) -> float | None:
        """The size that the others' rule gives this weight; None where they follow none, or are fewer than `least`."""
        size, spread = self.fit(layer, least)
        return size if size is not None and spread <= TIGHT else None

    def fit(self, layer: Layer, least: int = 3) -> tuple[float | None, float]:
        """The size by the rule that fits the others best, and the factor within which three quarters of them lie."""
        peers = [other.size for other in self.peers(layer)]
        if len(peers) >= 2 and max(peers) < TIGHT**2 * min(peers):
            return statistics.median(peers), 1.0
        others = [other for other in self._layers if other.name != layer.name]
        if len(others) < least:
            return None, math.inf
        best: tuple[float, float] | None = None
        for rule in self.RULES:
            shares = sorted(math.log(other.size / rule(other)) for other in others)
            middle = statistics.median(shares)
            off = sorted(abs(share - middle) for share in shares)
            spread = off[math.ceil(0.75 * len(off)) - 1]
            if best is None or spread < best[0]:
                best = spread, math.exp(middle) * rule(layer)
        assert best is not None
        return best[1], math.exp(best[0])

    def right_size(self, layer: Layer) -> float:
        """The size to give a weight: as the model's own scheme has it, else He's or LeCun's for its activation."""
        predicted = self.predicts(layer, least=1)
        if predicted is not None and layer.low / 2 <= predicted * math.sqrt(layer.fan_in) <= 2 * layer.high:
            return predicted
        # A size that all others agree on is a rule, such as GPT-2's 0.02, where no plain chain multiplies gains.
        rule = self.predicts(layer)
        if rule is not None and layer.roles and layer.roles != {"layer"}:
            return rule
        if layer.kind in COMPOSITE or layer.kind == "lstm":
            return 1 / math.sqrt(3 * max(1, layer.shape[0] // layer.blocks))
        return layer.right_gain / layer.amplified

    def fresh_size(self, layer: Layer) -> float:
        """The size for a weight that is drawn anew: in a plain chain by the rule for its activation, elsewhere as its peers."""
        if layer.roles == {"layer"} and layer.kind != "lstm" and not self.peers(layer):
            return layer.right_gain / layer.amplified
        return self.right_size(layer)

    def size_for(self, shape: tuple[int, ...]) -> float | None:
        """The size that the others' rule gives a weight of this shape; LeCun's where they follow none; None for a vector."""
        if len(shape) < 2:
            return None
        counted = fans(shape)
        layer = Layer("", shape, float(counted[0]), counted, 0, 1, 0.0, 0.0, True)
        return self.predicts(layer, least=1) or 1 / math.sqrt(counted[0])
