"""Recurrent weights that multiply their state at each step: what that does over the length of a sequence.

Through h_t = f(W h_{t-1} + u_t), u_t = U x_t + b, the state is multiplied by W and by f's slope at each step. A W that keeps
sizes (norm 1, such as the identity of Le et al. 2015, "A simple way to initialize recurrent networks of rectified linear
units", section 3, or an orthogonal one) with slopes of at most 1 lets T steps only add up:

    |h_t| <= |u_1| + ... + |u_t|,  so that  E|h|^2 <= T^2 E|u|^2         forward
    |δ_t| <= |g_t| + ... + |g_T|,  so that  |db| <= N T^2 sqrt(E|g|^2)    back, g the gradient that arrives at the states

What is measured beyond these by more than healthy layers may multiply up to (`FAR_IN_ALL`) has grown from step to step, and a
spectral radius above 1 says by whose doing: W multiplies by its T-th power (Pascanu et al. 2013, "On the difficulty of training
recurrent neural networks", section 2.1), less what f's slopes take: √½ through ReLUs of which half are open. tanh bounds the
states themselves, not what comes back through them. Gates (LSTM, GRU) are left out: what they let through is no power of W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weightlab.check.evidence import Evidence, number
from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.layers import Heard
from weightlab.check.measures import Op
from weightlab.check.repairs import rescale
from weightlab.check.roles import COMPOSITE
from weightlab.check.scale import FAR_IN_ALL
from weightlab.check.shrinking import SLOPES
from weightlab.check.sizes import Gradient
from weightlab.model.tree import ParameterTree

LEAST = 6  # steps of a recurrence that is written out
EXACT = 512  # up to this many units the eigenvalues themselves


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a recurrent module, in one direction: the names of its weights, and their norms."""

    recurrent: str
    shift: str  # the bias whose gradient sums up what comes back; "" without one
    radius: float
    entry: float  # largest factor by which its input enters
    bias: float


def grows(
    tree: ParameterTree,
    evidence: Evidence,
    heard: Heard,
    gradients: dict[str, Gradient],
    layers: list[Layer],
    scheme: Scheme,
) -> list[Finding]:
    """`scale_high` where the states grow from step to step, `exploding` where only what comes back does."""
    found: list[Finding] = []
    for path in dict.fromkeys(op.path for op in evidence.ops if op.name.startswith("rnn_")):
        ops = [op for op in evidence.ops if op.path == path and op.name.startswith("rnn_")]
        module = tree.modules.get(path)
        if isinstance(module, (nn.RNN, nn.RNNCell)) and ops[0].outs and len(ops[0].outs[0].shape) >= 1:
            finding = _grows(tree, path, module, ops, heard, gradients, layers, scheme)
            if finding is not None:
                found.append(finding)
    return found + _written_out(tree, evidence, heard, layers, scheme)


def _written_out(
    tree: ParameterTree, evidence: Evidence, heard: Heard, layers: list[Layer], scheme: Scheme
) -> list[Finding]:
    """`scale_high` of a linear layer that a forward applies to its own result, step by step.

    What is added at each step is not known here: the state of the first step stands for it. Steps that only add up make the
    last state at most T times as large.
    """
    found: list[Finding] = []
    for layer in layers:
        ops = [evidence.ops[index] for index in layer.ops if evidence.ops[index].name not in COMPOSITE]
        if len(ops) < LEAST or len(layer.shape) != 2 or layer.shape[0] != layer.shape[1] or not layer.size > 0:
            continue
        fed = [size for size in (heard.fed(op) for op in ops) if size]  # the first state may be zeros
        if len(fed) < LEAST or not fed[0] < math.inf or not fed[-1] > FAR_IN_ALL * len(fed) * fed[0]:
            continue
        largest = radius(tree.tensor(layer.name).detach().double().cpu())
        if not largest > 1 or not _comes_from(evidence, ops[-1], ops[0]):
            continue
        text = (
            f"{layer.name}: its spectral radius is {number(largest)} and {len(ops)} steps apply it to what it made; the states are "
            f"{number(fed[-1] / fed[0])} times larger at the end, where steps that only add up reach {len(fed)} times."
        )
        seen = (f"root mean square of the state {number(fed[0])} at first, {number(fed[-1])} at last",)
        repair = rescale(tree, [(layer, min(scheme.right_size(layer), layer.size / largest))])
        title = f"{layer.name} grows at each step"
        found.append(Finding("scale_high", layer.name, (layer.name,), "warning", text, seen, repair, title, layer.name))
    return found


def _comes_from(evidence: Evidence, op: Op, source: Op) -> bool:
    """Whether an Op was fed what another made, however far before."""
    waiting, seen = list(op.inputs), set[int]()
    while waiting:
        index = waiting.pop()
        if index == source.index:
            return True
        if index not in seen and index > source.index:
            seen.add(index)
            waiting += evidence.ops[index].inputs
    return False


def _grows(
    tree: ParameterTree,
    path: str,
    module: nn.RNN | nn.RNNCell,
    ops: list[Op],
    heard: Heard,
    gradients: dict[str, Gradient],
    layers: list[Layer],
    scheme: Scheme,
) -> Finding | None:
    ways = _steps(tree, path, module)
    worst = max((step for way in ways for step in way), key=lambda step: step.radius, default=None)
    if worst is None or not worst.radius > 1:
        return None
    length, samples = _length(module, ops)
    forward = _forward(module, ways, ops, heard, length)
    back = _back(module, ways, ops, heard, gradients, length, samples)
    beyond = max(forward, back)
    if not beyond > FAR_IN_ALL:
        return None
    slope = SLOPES.get(module.nonlinearity, 1.0)
    each = f"{number(worst.radius * slope)} to {number(worst.radius)}" if slope < 1 else f"up to {number(worst.radius)}"
    signal = "states are" if forward > FAR_IN_ALL else "gradient that comes back is"
    far = f"{number(beyond)} times" if math.isfinite(beyond) else "infinitely"
    text = (
        f"{worst.recurrent}: its spectral radius is {number(worst.radius)}, so that each of {length} steps multiplies by "
        f"{each}; the {signal} {far} larger than any weight that keeps sizes would make them."
    )
    power = length * math.log10(worst.radius)
    seen = (
        f"{number(worst.radius)} to the power of {length} is about 1e{power:.0f}",
        f"{module.nonlinearity}, {module.hidden_size} units",
    )
    layer = next((layer for layer in layers if layer.name == worst.recurrent), None)
    repair = None
    if layer is not None and layer.size > 0:
        repair = rescale(tree, [(layer, min(scheme.right_size(layer), layer.size / worst.radius))])
    affects = tuple(info.name for info in tree if info.kind == "parameter" and info.name.rpartition(".")[0] == path)
    kind = "scale_high" if forward > FAR_IN_ALL else "exploding"
    title = f"{worst.recurrent} grows at each step"
    advice = "" if repair else "Scale it down until its spectral radius is at most 1."
    return Finding(kind, worst.recurrent, affects, "warning", text, seen, repair, title, worst.recurrent, advice=advice)


def _forward(module: nn.RNN | nn.RNNCell, ways: list[list[Step]], ops: list[Op], heard: Heard, length: int) -> float:
    """How many times larger the states are than steps that only add up make them; 0 where that was not measured."""
    fed, out = heard.fed(ops[0]), heard.out(ops[-1])
    if fed is None or out is None or not math.isfinite(fed):
        return 0.0
    if not math.isfinite(out):
        return math.inf
    # The first step of a cell takes a state of zeros beside its input.
    size = fed * math.sqrt(module.input_size * (2 if isinstance(module, nn.RNNCell) else 1))
    for way in ways:
        size = length * math.hypot(*(step.entry * size + step.bias for step in way))
    return out * math.sqrt(module.hidden_size * len(ways[-1])) / size if size > 0 else 0.0


def _back(
    module: nn.RNN | nn.RNNCell,
    ways: list[list[Step]],
    ops: list[Op],
    heard: Heard,
    gradients: dict[str, Gradient],
    length: int,
    samples: int,
) -> float:
    """As `_forward`, of what comes back to the states."""
    arrives = heard.gradient(ops[-1])
    if not arrives or not math.isfinite(arrives):
        return 0.0
    size, beyond = arrives * math.sqrt(module.hidden_size * len(ways[-1])), 0.0
    for way in reversed(ways):
        for step in way:
            got = gradients.get(step.shift)
            if got is not None and size > 0:
                beyond = max(beyond, got.norm / (samples * length**2 * size))
        size = length * math.hypot(*(step.entry * size for step in way))
    return beyond if math.isfinite(beyond) else 0.0


def _steps(tree: ParameterTree, path: str, module: nn.RNN | nn.RNNCell) -> list[list[Step]]:
    """By layer, its directions; [] where a weight is not the module's own."""
    ends = (
        [[""]]
        if isinstance(module, nn.RNNCell)
        else [
            [f"_l{layer}{way}" for way in (("", "_reverse") if module.bidirectional else ("",))]
            for layer in range(module.num_layers)
        ]
    )
    before = f"{path}." if path else ""
    found: list[list[Step]] = []
    for layer in ends:
        found.append([])
        for end in layer:
            names = [f"{before}{word}{end}" for word in ("weight_hh", "weight_ih", "bias_ih", "bias_hh")]
            held = [tree.tensor(name).detach().double().cpu() for name in names if name in tree]
            if len(held) not in (2, 4) or not all(bool(value.isfinite().all()) for value in held):
                return []
            bias = float(torch.linalg.vector_norm(held[2] + held[3])) if len(held) == 4 else 0.0
            entry = float(torch.linalg.matrix_norm(held[1], 2))
            found[-1].append(Step(names[0], names[2] if len(held) == 4 else "", radius(held[0]), entry, bias))
    return found


def _length(module: nn.RNN | nn.RNNCell, ops: list[Op]) -> tuple[int, int]:
    """Steps and samples of one forward pass. Packed sequences give their cells in one row: both count as many."""
    shape = ops[-1].outs[0].shape
    if isinstance(module, nn.RNNCell):
        return len(ops), shape[0] if len(shape) > 1 else 1
    if len(shape) < 3:
        return shape[0], 1
    return (shape[1], shape[0]) if module.batch_first else (shape[0], shape[1])


def radius(matrix: Tensor) -> float:
    """Largest absolute eigenvalue; of large ones by how a vector grows in the long run."""
    if len(matrix) <= EXACT:
        return float(torch.linalg.eigvals(matrix).abs().max())
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(matrix), generator=generator, dtype=matrix.dtype)
    grown: list[float] = []
    for _ in range(96):
        vector = matrix @ (vector / torch.linalg.vector_norm(vector).clamp_min(1e-300))
        grown.append(math.log(max(float(torch.linalg.vector_norm(vector)), 1e-300)))
    return math.exp(sum(grown[32:]) / len(grown[32:]))
