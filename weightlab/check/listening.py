"""A `Recording` that also measures the size of activations and of their gradients, for the diagnosis.

Of each tensor at most `CELLS` cells are looked at, a regular grid of them: five quantiles of |x|, the root mean
square, and for bounded activations how many cells lie on the flat part. Nothing else is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from weightlab.check.evidence import MATRIX
from weightlab.check.measures import Op, measurable
from weightlab.check.recording import Recording

CELLS = 8192
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# |output| beyond which the slope is below a hundredth of its largest: tanh' = 1 - t^2, sigmoid' = s (1 - s).
FLAT = {"tanh": math.sqrt(0.99), "sigmoid": 0.5 + 0.5 * math.sqrt(0.99)}


@dataclass(slots=True)
class Size:
    """The size of one tensor's cells: tensors until they are read, since reading waits for the device."""

    square: Tensor
    bands: Tensor

    @property
    def rms(self) -> float:
        return math.sqrt(max(0.0, float(self.square)))

    @property
    def quantiles(self) -> tuple[float, ...]:
        return tuple(self.bands.tolist())


@dataclass(slots=True)
class Heard:
    """What was measured at one Op: its output, its gradient, and what it took from outside the model."""

    out: Size | None = None
    gradient: Size | None = None
    outside: list[Size] = field(default_factory=list)
    flat: Tensor | None = None  # share of cells where the activation hardly has a slope
    uneven: Tensor | None = None  # variance between samples as a share of the mean square


class Listening(Recording):
    """See the module's text; `heard` is by the index of the Op."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: dict[int, Heard] = {}
        self._mixed: set[int] = set()
        self._outside: list[Size] = []

    @property
    def mixing(self) -> set[int]:
        """Ids of plain tensors of the model, neither parameters nor buffers, that units were mixed with as with a weight."""
        return {original for original, copy in self._sandbox.stand_ins() if id(copy) in self._mixed}

    def restart(self) -> None:
        super().restart()
        self.heard.clear()

    def _called(self, name: str, taken: list[Tensor], args: Any, kwargs: dict[str, Any]) -> Op:
        op = super()._called(name, taken, args, kwargs)
        if name in MATRIX or name.startswith("conv"):
            self._mixed |= {id(tensor) for tensor in taken if self._sandbox.is_buffer(tensor) and weightlike(tensor)}
        if op.outside and all(map(measurable, taken)):
            found = [
                measure(tensor)
                for tensor in taken
                if tensor.is_floating_point()
                and self._sandbox.stands_for(tensor) is None
                and not self._sandbox.is_buffer(tensor)
                and id(tensor) not in self._makers
            ]
            self._outside = [size for size in found if size is not None]
        else:
            self._outside = []
        return op

    def _finish(self, op: Op, made: list[Tensor]) -> None:
        outside, self._outside = self._outside, []
        super()._finish(op, made)
        if op.is_view or not op.outs:
            if outside:  # the batch, flattened or transposed before its first layer
                self.heard[op.index] = Heard(outside=outside)
            return
        first = next((tensor for tensor in made if tensor.is_floating_point()), None)
        if first is None or first.is_meta or not measurable(first):
            return
        heard = self.heard[op.index] = Heard(out=measure(first), outside=outside)
        if op.name in FLAT:
            cells = sampled(first).abs() if op.name == "tanh" else (sampled(first) - 0.5).abs() + 0.5
            heard.flat = (cells > FLAT[op.name]).float().mean()
        if first.ndim >= 2 and first.shape[0] >= 2:
            heard.uneven = between_samples(first)
        if first.requires_grad and not first.is_leaf:
            first.register_hook(self._hear(heard))

    def _hear(self, heard: Heard) -> Callable[[Tensor | None], None]:
        def hook(gradient: Tensor | None) -> None:
            # None where a function of several results gets a gradient at another one: slogdet's sign beside its logarithm.
            if gradient is not None and not self.live and measurable(gradient):
                heard.gradient = measure(gradient)

        return hook


def weightlike(tensor: Tensor) -> bool:
    """Whether its values could be weights: of both signs, about zero, none exactly zero. Masks, graphs and one-hots are not."""
    if not tensor.is_floating_point() or tensor.ndim < 2 or not tensor.numel():
        return False
    values = tensor.detach()
    return bool((values != 0).all()) and bool(values.mean().abs() < values.std(correction=0))


def sampled(tensor: Tensor) -> Tensor:
    """At most about `CELLS` cells of a tensor, in float32, 1-D, spread over all of it."""
    values = tensor.detach()
    if values.layout is not torch.strided:
        values = values.coalesce().values() if values.layout is torch.sparse_coo else values.to_dense()
    values = values.reshape(-1)
    # An odd step, so that it does not always meet the same column of a table with an even number of them.
    step = max(1, values.numel() // CELLS) | 1
    return values[::step].float()


def measure(tensor: Tensor) -> Size | None:
    """Size of a floating tensor; None where there is nothing to measure."""
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() == 0:
        return None
    cells = sampled(tensor)
    bands = torch.quantile(cells.abs(), torch.tensor(QUANTILES, device=cells.device))
    return Size(cells.double().square().mean() if cells.device.type != "mps" else cells.square().mean(), bands)


def between_samples(tensor: Tensor) -> Tensor:
    """Variance over axis 0 as a share of the mean square: 0 where all samples look alike."""
    values = tensor.detach().flatten(1)
    step = max(1, values.shape[1] * min(values.shape[0], 64) // CELLS) | 1
    values = values[:64, ::step].float()
    return values.var(0, correction=0).mean() / values.square().mean().clamp_min(1e-30)
