"""What is kept of each function that ran: an `Op`, and the `Scale` of a tensor, which is all that is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

RELU = {"relu", "threshold", "relu6", "hardtanh", "clamp", "clamp_min", "clip"}
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
LOOKUPS = {"embedding", "embedding_bag"}
# The same cells in another arrangement: nothing is measured at these, the neighbours tell.
VIEWS = {
    *("view", "view_as", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "T", "mT", "swapaxes"),
    *("movedim", "squeeze", "unsqueeze", "expand", "expand_as", "contiguous", "clone", "to", "type_as", "float"),
    *("half", "bfloat16", "chunk", "split", "unbind", "select", "narrow", "cat", "stack", "requires_grad_"),
    "__getitem__",
}
CONTAINERS = {"", "Module", "Sequential", "ModuleList", "ModuleDict"}


@dataclass(slots=True)
class Scale:
    """Largest absolute value of a tensor per index of its last axis, and of axis 1 where it has three axes or more.

    `units` is that of the axis which counts units, where that is known.
    NaN where any cell is NaN, inf where any is infinite.
    """

    shape: tuple[int, ...]
    last: Tensor
    second: Tensor | None
    units: Tensor | None = None

    @classmethod
    def of(cls, tensor: Tensor, axis: int | None = None) -> Scale:
        """Measure a floating or complex tensor on its device; no copy of it."""
        values, shape = tensor.detach(), tuple(tensor.shape)
        if values.layout is not torch.strided:
            values = values.coalesce().values() if values.layout is torch.sparse_coo else values.to_dense()
        if values.numel() == 0 or values.ndim < 2:
            return cls(shape, values.reshape(-1).abs(), None)
        elsewhere = axis is not None and values.ndim == len(shape) and axis not in (1, values.ndim - 1)
        units = largest(values, axis) if axis is not None and elsewhere else None
        values = _magnitude(values, 0)
        if values.ndim == 1:
            return cls(shape, values, None, units)
        while values.ndim > 2:
            values = values.amax(1)
        last, second = values.amax(0), values.amax(1)
        if axis is not None and units is None:
            units = second if axis == 1 else last
        return cls(shape, last, second, units)

    def joined(self, other: Scale) -> Scale:
        """The scale of both together; `maximum` keeps NaN."""
        second = None
        if self.second is not None and other.second is not None and self.second.shape == other.second.shape:
            second = torch.maximum(self.second, other.second)
        units = None
        if self.units is not None and other.units is not None and self.units.shape == other.units.shape:
            units = torch.maximum(self.units, other.units)
        return Scale(self.shape, torch.maximum(self.last, other.last), second, units)

    @property
    def zero(self) -> bool:
        """Whether every cell is exactly zero."""
        return not bool(self.last.any())

    @property
    def finite(self) -> bool:
        return bool(self.last.isfinite().all())

    @property
    def largest(self) -> float:
        return float(self.last.max()) if self.last.numel() else 0.0

    def per_unit(self, units: int) -> Tensor | None:
        """The axis that counts units, else one that has this many; axis 1 where both have."""
        if self.units is not None and self.units.numel() == units:
            return self.units
        if self.second is not None and self.second.numel() == units:
            return self.second
        return self.last if self.last.numel() == units else None

    def zero_where(self, mask: Tensor) -> bool | None:
        """Whether it is zero at every unit of the mask [units]; None where no axis has that many."""
        if self.zero:
            return True
        units = self.per_unit(mask.numel())
        return None if units is None else not bool(units.cpu()[mask].any())


def _joined(ours: list[Scale], theirs: list[Scale]) -> list[Scale]:
    """The scales of two pieces of a batch; of what differs in shape between pieces (one number per sample), both."""
    if [scale.last.shape for scale in ours] != [scale.last.shape for scale in theirs]:
        return [*ours, *theirs]
    return [one.joined(other) for one, other in zip(ours, theirs, strict=True)]


@dataclass(slots=True)
class Op:
    """One call of a torch function. `inputs` are indices of the Ops that made its tensor arguments."""

    index: int
    name: str
    path: str
    module_type: str
    inputs: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    outside: bool = False  # an argument came from outside the model: the batch, or a tensor that nobody announced
    extremes: list[Tensor] = field(default_factory=list)  # of the arguments from outside
    fed: tuple[int, tuple[int, ...]] | None = None  # the axis that counts units in what it took, and the shape of that
    axis: int | None = None  # the same of what it made
    place: int = 0  # the first Op that the same line of code made in the same module: in a loop, the first round's
    grad_enabled: bool = True
    saw_gradient: bool = False  # an argument was part of a graph
    tracked: bool = False  # the result is
    outs: list[Scale] = field(default_factory=list)
    grads: list[Scale] = field(default_factory=list)
    highest: Tensor | None = None  # ReLU-like: largest input per unit
    samples: int = 0
    used_rows: Tensor | None = None  # lookups: which rows were asked for
    probability: float = 0.0  # dropout's p
    reaching: list[Tensor] = field(default_factory=list)  # functions with parameters: samples with a gradient, per unit
    shifts: tuple[str, ...] = ()  # of the parameters, those that are added to the product
    shift_ops: tuple[int, ...] = ()  # of the inputs as well
    bias: str = ""  # linear and convolution: the bias, whose gradient is a plain sum over samples and positions
    spread: list[Tensor] = field(default_factory=list)  # Euclidean norm of all terms of this sum
    terms: int = 0  # how many each unit has
    epsilon: float = 0.0

    @property
    def call(self) -> tuple[object, ...]:
        """The same for the same call on another piece of the batch."""
        return self.name, self.path, self.inputs, self.parameters

    def join(self, other: Op) -> None:
        """Add what the same call measured on another piece of the batch."""
        self.outs, self.grads = _joined(self.outs, other.outs), _joined(self.grads, other.grads)
        self.extremes += other.extremes
        self.tracked |= other.tracked
        self.samples += other.samples
        if self.highest is not None and other.highest is not None:
            self.highest = torch.maximum(self.highest, other.highest)
        if self.used_rows is not None and other.used_rows is not None:
            self.used_rows = self.used_rows | other.used_rows
        if [counts.shape for counts in self.reaching] == [counts.shape for counts in other.reaching]:
            self.reaching = [a + b for a, b in zip(self.reaching, other.reaching, strict=True)]
        self.spread += other.spread
        self.terms += other.terms
        self.epsilon = max(self.epsilon, other.epsilon)

    @property
    def where(self) -> str:
        """`features.1 ReLU`, or `Net (relu)` for a function called in the forward of somebody's own module."""
        kind = self.module_type
        if kind not in CONTAINERS and hasattr(nn, kind):
            return f"{self.path} {kind}".strip()
        return f"{self.path or kind or 'loss'} ({self.name})"

    @property
    def outside_zero(self) -> bool:
        """Whether all that came from outside is exactly zero."""
        return self.outside and bool(self.extremes) and not any(bool(value) for value in self.extremes)

    @property
    def word(self) -> str:
        """What the units of its result are called."""
        axes = len(self.outs[0].shape) if self.outs else 0
        apart = axes >= 4 if self.axis is None else self.axis < axes - 1
        return "channel" if apart else "unit"

    @property
    def is_view(self) -> bool:
        return self.name in VIEWS


def measurable(tensor: Tensor) -> bool:
    """False inside torch.func's transforms, whose tensors die with them, and for nested tensors."""
    functorch = torch._C._functorch
    if functorch.peek_interpreter_stack() is not None or functorch.is_functorch_wrapped_tensor(tensor):
        return False
    return not tensor.is_nested


def largest(values: Tensor, axis: int) -> Tensor:
    """Largest absolute value per index of one axis, [shape[axis]]; no copy of a contiguous tensor."""
    if values.ndim == 1 or not values.numel():
        return values.abs() if values.ndim == 1 else values.new_zeros(values.shape[axis], dtype=values.real.dtype)
    if axis == 0:
        return _magnitude(values.flatten(1), 1)
    return largest(_magnitude(values, 0), axis - 1)


def _magnitude(values: Tensor, axis: int) -> Tensor:
    """Largest absolute value over one axis; NaN wins.

    Two passes and one axis at a time, yet on a CPU ten times faster than the inf-norm, and thirty times faster than
    several axes at once.
    """
    if values.is_complex():
        return values.abs().amax(axis)
    return torch.maximum(values.amax(axis), values.amin(axis).neg())


def highest(values: Tensor, axis: int | None = None) -> Tensor:
    """Largest value per unit of a ReLU's input. Where nobody knows: axis 1 of images and volumes, the last axis otherwise."""
    values = values.detach()
    if values.ndim < 2:
        return values.reshape(-1).clone()
    if axis is None:
        axis = 1 if values.ndim >= 4 else values.ndim - 1
    for _ in range(axis):
        values = values.amax(0)
    return values.flatten(1).amax(1) if values.ndim > 1 else values


def reaching(gradient: Tensor, axis: int | None = None) -> Tensor:
    """How many samples (axis 0) have a gradient that is not zero anywhere, per unit.

    Where nobody knows the axis: [N, C, ...] gives [C] for images and volumes; [N, ..., C] gives [C] for all others.
    """
    values = gradient.detach() != 0
    if values.ndim < 2:
        return values.reshape(-1).long()
    if axis is None:
        axis = 1 if values.ndim >= 4 else values.ndim - 1
    if axis == 0:  # one sample alone
        return values.flatten(1).any(1).long()
    for _ in range(axis - 1):
        values = values.any(1)
    return (values.flatten(2).any(2) if values.ndim > 2 else values).sum(0)


def extremes(tensor: Tensor) -> list[Tensor]:
    """Least and largest value of a floating tensor, as tensors: reading them would wait for the device."""
    if not tensor.is_floating_point() or tensor.is_meta or not measurable(tensor):
        return [torch.ones(())]
    if tensor.layout is not torch.strided or not tensor.numel():
        return [tensor.detach().any()]
    return list(torch.aminmax(tensor.detach()))


def used_rows(indices: Tensor, rows: int, padding: object) -> Tensor:
    """Which rows of a table these indices ask for, bool [rows]."""
    used = torch.zeros(rows, dtype=torch.bool, device=indices.device)
    used[indices.detach().reshape(-1).long().clamp(0, rows - 1)] = True
    if isinstance(padding, int):
        used[padding] = False
    return used.cpu()


def wide(values: Tensor) -> torch.dtype | None:
    """The type that sums of squares need."""
    return torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else None
