"""The model's output in two checks: how far an edit moved it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weightlab.model.nested import tensors_in

KEPT = 1 << 16  # numbers of an output that a report keeps


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Rows of the output, evenly spread where there are many.

    Attributes:
        rows: float32 [rows, classes] on the CPU; classes are axis 1 of images and the last axis otherwise.
        shape: of the whole output.
    """

    rows: Tensor
    shape: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        """The same numbers, NaN among them."""
        if not isinstance(other, Output) or self.shape != other.shape:
            return False
        return torch.equal(self.rows.view(torch.int32), other.rows.view(torch.int32))

    def __hash__(self) -> int:
        return hash(self.shape)

    @classmethod
    def of(cls, output: Any) -> Output | None:
        """Of a tensor, or of `logits` or the first floating tensor inside an output of several; None without one."""
        tensor = _logits(output)
        if tensor is None or not tensor.numel():
            return None
        values = tensor.detach()
        if values.is_complex():
            values = torch.view_as_real(values).flatten(-2)
        values = values.movedim(1, -1) if values.ndim >= 4 else values
        flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(1, -1)
        step = math.ceil(flat.numel() / KEPT)
        return cls(flat[::step].float().cpu().clone(), tuple(tensor.shape))


@dataclass(frozen=True, slots=True)
class OutputChange:
    """An output against that of an earlier check.

    Attributes:
        cosine: of the two outputs as vectors; NaN where one of them is zero or not finite.
        relative_l2: norm of the difference by the norm of the earlier one.
        kl: mean over rows of KL(softmax(before) || softmax(now)) in nats, where the loss reads them as logits; else None.
    """

    cosine: float
    relative_l2: float
    kl: float | None

    def __str__(self) -> str:
        kl = "" if self.kl is None else f", KL {self.kl:.3g} nats"
        return f"output: cosine {self.cosine:.4f}, moved by {self.relative_l2:.3g} of its norm{kl}"


def output_change(before: Output | None, now: Output | None, logits: bool) -> OutputChange | None:
    """None where one is missing or their shapes differ."""
    if before is None or now is None or before.shape != now.shape:
        return None
    old, new = before.rows.double(), now.rows.double()
    norm = float(old.norm())
    cosine = float((old * new).sum()) / (norm * float(new.norm())) if norm and float(new.norm()) else math.nan
    moved = float((new - old).norm()) / norm if norm else math.nan
    kl = None
    if logits and old.shape[1] > 1:
        first, second = old.log_softmax(1), new.log_softmax(1)
        kl = max(0.0, float((first.exp() * (first - second)).sum(1).mean()))
    return OutputChange(min(1.0, cosine), moved, kl)


def _logits(output: Any) -> Tensor | None:
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        if isinstance(named, Tensor):
            output = named
    plain = (value for value in tensors_in(output) if value.layout is torch.strided)
    return next((v for v in plain if not v.is_meta and (v.is_floating_point() or v.is_complex())), None)
