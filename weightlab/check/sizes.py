"""What is kept of each parameter's gradient, and which of them are too small or too large against the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from weightlab.check.measures import Op, largest, wide
from weightlab.model.sharded import is_sharded
from weightlab.model.tree import ParameterTree
from weightlab.see.sample import spread

# A gradient is weak when its root mean square is below this share of the largest one that arrived before it, that is
# nearer to the loss: the machine epsilon of float32. With the learning rate at which that parameter moves by its own
# size, this one moves by less than a rounding step. Depth alone explains such a ratio only by a product of many small
# factors (Hochreiter et al. 2001, "Gradient flow in recurrent nets", section 2).
WEAK = 2.0**-23
# A sum of n terms with a relative error of eps each: below this multiple of eps times the sum that terms of this size
# could have, a bias gradient is rounding noise (Higham 2002, "Accuracy and Stability", section 4.2; 32 leaves room for n).
CANCELLED = 32.0
SAMPLE = 1 << 16


class Gradient:
    """What is kept of one parameter's gradient: a vector with one number per output unit, and its norm."""

    __slots__ = ("_norm", "axis", "largest", "order")

    def __init__(self, gradient: Tensor, axis: int, order: int) -> None:
        values = gradient.detach()
        self.order, self.axis = order, axis
        if values.layout is not torch.strided:
            values = values.coalesce()
            rows = torch.zeros(gradient.shape[0], dtype=values.values().dtype, device=values.device)
            inner = values.values()
            rows[values.indices()[0]] = largest(inner, 0) if inner.ndim > 1 else inner.abs()
            self.largest, self._norm = rows, _norm(inner)
        else:
            self.largest = largest(values, axis) if values.ndim else values.abs().reshape(1)
            self._norm = _norm(values)

    @property
    def norm(self) -> float:
        """Euclidean norm. Read after the backward only: it waits for the device."""
        return float(self._norm)

    def add(self, other: Gradient) -> None:
        """Another part of the same gradient: by a closure beside the alias. The parts add up to at most this."""
        self.largest = torch.maximum(self.largest, other.largest)
        self._norm = torch.hypot(self._norm, other._norm)


def weight_norm(tensor: Tensor) -> float | None:
    """Euclidean norm of a parameter, from at most about 65,536 evenly spread cells; None where its values are not here."""
    if tensor.device.type == "meta" or tensor.layout is not torch.strided or is_sharded(tensor):
        return None
    looked = spread(tensor.detach(), SAMPLE)
    return float(_norm(looked)) * math.sqrt(tensor.numel() / looked.numel()) if looked.numel() else 0.0


def unit_axis(tree: ParameterTree, name: str) -> int:
    """The axis of output units: 0, but 1 for the weight [in, out / groups, *kernel] of an ungrouped ConvTranspose."""
    path, _, local = name.rpartition(".")
    module = tree.module(path)
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1
    return 1 if transposed and local.startswith("weight") and len(tree[name].shape) > 1 else 0


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm; in float32 for half types, and in float64 only where float32 over- or underflows."""
    if values.numel() == 0:
        return torch.zeros(())
    double = torch.complex128 if values.is_complex() else torch.float64
    # On CUDA at once: to look whether it is needed would wait for the device.
    norm: Tensor = torch.linalg.vector_norm(values, dtype=double if values.is_cuda else wide(values))
    if values.device.type not in ("cuda", "mps") and float(norm) in (0.0, math.inf):
        norm = torch.linalg.vector_norm(values.to(double))
    return norm


def weak(tree: ParameterTree, gradients: dict[str, Gradient], ops: list[Op]) -> tuple[set[str], set[str]]:
    """Names whose gradient is far below those nearer to the loss, and names whose gradient cancels by construction."""
    weak: set[str] = set()
    reference = 0.0
    for name, gradient in sorted(gradients.items(), key=lambda item: item[1].order):
        size = gradient.norm / math.sqrt(max(1, tree[name].numel))
        if math.isfinite(size):
            if 0.0 < size < WEAK * reference:
                weak.add(name)
            reference = max(reference, size)
    cancelled: set[str] = set()
    for name in {op.bias for op in ops if op.bias in gradients}:
        held = [op for op in ops if op.bias == name]
        terms, epsilon = sum(op.terms for op in held), max(op.epsilon for op in held)
        spread = math.hypot(*(float(norm) for op in held for norm in op.spread))
        # The absolute sum of n terms is at most sqrt(n) times their Euclidean norm (Cauchy-Schwarz), and terms of
        # random sign add up to about that norm itself: far above what counts as cancelled.
        limit = min(CANCELLED * epsilon * math.sqrt(terms), 0.01) * spread
        only = all(op.bias == name for op in ops if name in op.parameters)
        if only and terms > 1 and gradients[name].norm <= limit and spread > 0:
            cancelled.add(name)
    return weak | cancelled, cancelled


def cancelled_units(gradients: dict[str, Gradient], ops: list[Op]) -> dict[str, Tensor]:
    """Units of biases that get exactly zero although a gradient arrives there, bool [units]: its terms cancel.

    That it arrives is seen at the weight of the same call, whose row is not zero. The key part of a packed attention
    bias is such a case: what its sum leaves is rounding noise, some of it exactly zero.
    """
    found: dict[str, Tensor] = {}
    for op in ops:
        bias = gradients.get(op.bias)
        if bias is None or bool(bias.largest.all()):
            continue
        for name in op.parameters:
            weight = gradients.get(name)
            if name != op.bias and weight is not None and weight.largest.shape == bias.largest.shape:
                units = ((bias.largest == 0) & (weight.largest > 0)).cpu()
                found[op.bias] = found[op.bias] | units if op.bias in found else units
    return {name: units for name, units in found.items() if bool(units.any())}


def exploding(tree: ParameterTree, gradients: dict[str, Gradient]) -> dict[str, float]:
    """Names whose gradient is above that of the last layer by more than the reciprocal of WEAK, and how many times."""
    inward = sorted(gradients.items(), key=lambda item: item[1].order)
    sizes = {name: gradient.norm / math.sqrt(max(1, tree[name].numel)) for name, gradient in inward}
    last = [size for size in list(sizes.values())[:2] if math.isfinite(size)]
    reference = max(last, default=0.0)
    if reference == 0.0:
        return {}
    return {name: size / reference for name, size in sizes.items() if math.isfinite(size) and size > reference / WEAK}
