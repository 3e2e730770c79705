"""What a check measured, and the form of what is concluded from it: `Evidence`, `Cause`, and the words both share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from weightlab.check.explanations import explanation
from weightlab.check.measures import Op
from weightlab.check.repair import Repair
from weightlab.model.tree import ParameterTree, TensorInfo

Severity = Literal["error", "warning", "info"]
Basis = Literal["origin", "unexplained", "input"]
SEVERITIES = ("error", "warning", "info")
SATURATING = {
    "sigmoid",
    "tanh",
    "softmax",
    "log_softmax",
    "softmin",
    "hardtanh",
    "logsigmoid",
    "erf",
    "gelu",
    "silu",
    "elu",
}
MATRIX = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "einsum", "bilinear", "__rmatmul__"}
MULTIPLY = {"mul", "__mul__", "__rmul__", "multiply", "__imul__"}
REPARAMETRIZES = {
    "_weight_norm",
    "_weight_norm_interface",
}  # row by row: a unit of the weight is one of what it is made of
CUTS = {"detach", "data", "argmax", "argmin", "sign", "item", "tolist", "numpy", "long", "int", "bool", "multinomial"}


@dataclass(frozen=True, slots=True)
class Cause:
    """One origin of gradients that do not flow.

    Attributes:
        kind: see rule G4.
        at: the parameter or module where it lies; "" for the model itself or the loss.
        affects: names of the parameters that suffer from it.
        severity: "error", "warning" or "info".
        text: one sentence with the place and the numbers.
        evidence: what was measured, one short sentence each.
        repair: what to do, or None; its Edits are those of the finding that `lab.diagnose()` makes of it, and
            `lab.repair(cause)` applies.
        title: a few words.
        name, region: the tensor and cells to show, where there are any.
        op: the function where it lies, by its number among those that ran; None where that is not one of them.
        basis: "origin"; "unexplained" where it says what was measured only, which follows from an origin where there is
            one; "input" where the batch itself is zero.
    """

    kind: str
    at: str
    affects: tuple[str, ...]
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()
    repair: Repair | str | None = None
    title: str = ""
    name: str | None = None
    region: str | None = None
    op: int | None = None
    basis: Basis = "origin"

    def __post_init__(self) -> None:
        if isinstance(self.repair, str):
            object.__setattr__(self, "repair", Repair(self.repair))

    @property
    def explain(self) -> str:
        """Three sentences for a student, with the formula."""
        return explanation(self.kind)


@dataclass(slots=True)
class Evidence:
    """All that one check measured; made by `check_gradients`. No tensor of the model is held but through the tree."""

    tree: ParameterTree
    status: Mapping[str, str]
    ops: list[Op]
    users: list[list[int]]
    ran: set[str]
    zero: dict[str, Tensor]  # parameter -> bool [units]: gets exactly zero
    cancelled: set[str]
    exploding: dict[str, float]  # parameter -> how many times the gradient nearest to the loss
    scales: set[str]
    cancelled_units: dict[str, Tensor] = field(default_factory=dict)  # bias -> bool [units]: its terms cancel there
    end: int | None = None  # the Op that made the loss
    _weightlike: list[bool] = field(default_factory=list)  # of each Op, found when first asked for

    def names(self, status: str) -> list[str]:
        return [name for name, held in self.status.items() if held == status]

    def consumers(self, name: str) -> list[Op]:
        """Ops that take this parameter, looked for behind views of it (`weight.t()`)."""
        found = [op for op in self.ops if name in op.parameters]
        seen: set[int] = set()
        result: list[Op] = []
        while found:
            op = found.pop()
            if op.index in seen:
                continue
            seen.add(op.index)
            if op.is_view or op.name in REPARAMETRIZES:
                found += [self.ops[user] for user in self.users[op.index]]
            else:
                result.append(op)
        return sorted(result, key=lambda op: op.index)

    def weights(self, op: Op) -> list[str]:
        """Parameters that this Op takes, directly or computed from nothing else (weight_norm, `.t()`)."""
        found: dict[str, None] = {}
        seen: set[int] = set()
        left = [op]
        while left:
            now = left.pop()
            found.update(dict.fromkeys(now.parameters))
            made = [self.ops[index] for index in reversed(now.inputs) if index not in seen]
            seen.update(now.inputs)
            left += [each for each in made if self.weightlike(each)]
        return list(found)

    def weightlike(self, op: Op) -> bool:
        """Whether this was computed from parameters alone."""
        # From the first Op on: those that made an argument came before, and no model is too deep for a loop.
        for each in self.ops[len(self._weightlike) :]:
            self._weightlike.append(
                not each.outside
                and (bool(each.parameters) or bool(each.inputs))
                and all(self._weightlike[index] for index in each.inputs)
            )
        return self._weightlike[op.index]

    def data(self, op: Op) -> list[Op]:
        return [self.ops[index] for index in op.inputs if not self.weightlike(self.ops[index])]


@dataclass(slots=True)
class Found:
    """Causes so far, those of one origin joined."""

    ops: list[Op]
    causes: dict[tuple[str, str, int | None, str], Cause] = field(default_factory=dict)

    def add(self, cause: Cause) -> None:
        place = None if cause.op is None or cause.kind == "zero_weight" else self.ops[cause.op].place
        key = (cause.kind, cause.at, place, (cause.region or "") if cause.kind == "zero_weight" else cause.text)
        old = self.causes.get(key)
        if old is not None:
            cause = replace(old, affects=tuple(dict.fromkeys((*old.affects, *cause.affects))))
        self.causes[key] = cause

    def explained(self) -> set[str]:
        return {name for cause in self.causes.values() for name in cause.affects}


def units_text(mask: Tensor, word: str) -> str:
    """`channel 3`, `channels 3, 5, 9`, `all 16 channels`, `1 of 32 ...`."""
    at = mask.nonzero().reshape(-1).tolist()
    if len(at) == mask.numel():
        return f"all {len(at)} {word}s" if len(at) > 1 else f"its only {word}"
    if len(at) == 1:
        return f"{word} {at[0]}"
    shown = ", ".join(map(str, at[:6])) + (", ..." if len(at) > 6 else "")
    return f"{len(at)} of {mask.numel()} {word}s ({shown})"


def slice_word(info: TensorInfo, axis: int) -> str:
    """What one index of an axis is called: of a convolution's kernel `filter` or `input channel`, else `row` or `column`."""
    if "Conv" in info.module_type and len(info.shape) >= 3:
        return "filter" if axis == int("Transpose" in info.module_type) else "input channel"
    if len(info.shape) == 1:
        return "cell"
    return "row" if axis == 0 else "column"


def region_text(mask: Tensor, axis: int = 0) -> str | None:
    """The region of these units where it is one range, else None: `[3]`, `[4:9]`, `[:, 3]`."""
    at = mask.nonzero().reshape(-1).tolist()
    if not at or at[-1] - at[0] + 1 != len(at):
        return None
    if len(at) == mask.numel():
        return "[...]"
    inner = str(at[0]) if len(at) == 1 else f"{at[0]}:{at[-1] + 1}"
    return f"[{':, ' * axis}{inner}]"


def number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def names_text(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:3])
    return shown if len(listed) <= 3 else f"{shown} and {len(listed) - 3} more"


def finite(tensor: Tensor) -> bool:
    """Screened by the sum, forty times cheaper than isfinite; where the sum overflows every cell is looked at."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return True
    values = tensor.detach()
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
