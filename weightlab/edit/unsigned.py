"""Arithmetic of uint64: torch has no kernels for it and no wider type to compute in. Python's integers are exact.

About a microsecond for a cell, which leaves its device for that: such tensors are counters, seeds and packed bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from weightlab.edit.arguments import Args, Change, Target, literal, refuse

_MOST = 2**64 - 1
# Of a cell and its operand, and the same as text.
_OPERATORS: dict[str, tuple[Callable[[int, int], int], str]] = {
    "add_": (int.__add__, "x + y"),
    "sub_": (int.__sub__, "x - y"),
    "mul_": (int.__mul__, "x * y"),
    "div_": (int.__floordiv__, "x // y"),
}
_SINGLE: dict[str, tuple[Callable[[int], int], str]] = {
    "neg_": (int.__neg__, "-x"),
    "abs_": (int, "x"),
    "round_": (int, "x"),
    "sign_": (lambda x: min(x, 1), "min(x, 1)"),
}


def does(op: str, target: Target) -> bool:
    """Whether this edit is for Python's integers."""
    return target.dtype is torch.uint64 and (op in _OPERATORS or op in _SINGLE or op == "clamp_")


def change(op: str, args: Args, target: Target) -> Change:
    """The change of cells; it refuses results that uint64 does not hold."""

    def run(cells: Tensor) -> None:
        numbers = cells.flatten().tolist()
        if op == "div_" and any(x % y for x, y in _pairs(numbers, args["value"], cells)):
            raise refuse(target, "not all quotients are whole, and uint64 holds whole numbers only")
        made = list(_made(op, args, numbers, cells))
        if made and not 0 <= min(made) <= max(made) <= _MOST:
            raise refuse(target, f"uint64 holds 0 to {_MOST}, a result would be {min(made)} to {max(made)}")
        cells.copy_(torch.tensor(made, dtype=torch.uint64, device="cpu").view(cells.shape))

    return run


def _made(op: str, args: Args, numbers: list[int], cells: Tensor) -> Iterable[int]:
    if op in _OPERATORS:
        operate = _OPERATORS[op][0]
        return (operate(x, y) for x, y in _pairs(numbers, args["value"], cells))
    if op in _SINGLE:
        return map(_SINGLE[op][0], numbers)
    low, high = _bounds(args)
    return (min(max(x, low), high) for x in numbers)


def _pairs(numbers: list[int], value: Any, cells: Tensor) -> Iterable[tuple[int, int]]:
    """Each cell with its operand: one for all, or a tensor that broadcasts."""
    if isinstance(value, Tensor):
        return zip(numbers, value.cpu().expand(cells.shape).flatten().tolist(), strict=True)
    return ((x, value) for x in numbers)


def _bounds(args: Args) -> tuple[int, int]:
    return 0 if args["min"] is None else args["min"], _MOST if args["max"] is None else args["max"]


def code(op: str, args: Args, target: Target) -> str:
    """The same as plain PyTorch on the cells `{w}`."""
    cells, each = "{w}.flatten().tolist()", "x"
    if op in _OPERATORS:
        text = _OPERATORS[op][1]
        if isinstance(args["value"], Tensor):
            operands = f"{literal(args['value'])}.expand({list(target.view_shape)}).flatten().tolist()"
            cells, each = f"zip({cells}, {operands})", "x, y"
        else:
            text = text.replace("y", f"({args['value']})")
    elif op in _SINGLE:
        text = _SINGLE[op][1]
    else:
        low, high = _bounds(args)
        text = f"min(max(x, {low}), {high})"
    made = f"torch.tensor([{text} for {each} in {cells}], dtype=torch.uint64)"
    return f"{{w}}.copy_({made}.view({list(target.view_shape)}))"
