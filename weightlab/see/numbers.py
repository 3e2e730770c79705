"""Cells as text: the shortest one that reads back as the same number in the cell's own dtype."""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from torch import Tensor

from weightlab.errors import EditRefused

_NUMPY = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_FRACTION = re.compile(
    r"[+-]?([0-9]{1,40}\.?[0-9]{0,60}|\.[0-9]{1,60})([eE][+-]?[0-9]{1,4})?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)


def texts(cells: Tensor) -> list[str]:
    """One text per cell of a 1-D tensor.

    >>> texts(torch.tensor([0.1, -0.0, float("nan")]))
    ['0.1', '-0.0', 'nan']
    >>> texts(torch.tensor([0.1], dtype=torch.bfloat16))
    ['0.1']
    """
    cells = cells.detach().cpu()
    if cells.is_complex():
        pairs = torch.view_as_real(cells.resolve_conj())
        return [
            f"{a}{b if b[0] == '-' else '+' + b}j" for a, b in zip(texts(pairs[:, 0]), texts(pairs[:, 1]), strict=True)
        ]
    if not cells.is_floating_point():
        return [str(value) for value in cells.tolist()]
    if cells.dtype in _NUMPY:
        return [str(_NUMPY[cells.dtype](value)) for value in cells.double().tolist()]
    return [_shortest(value, cells.dtype) for value in cells.double().tolist()]


def _shortest(value: float, dtype: torch.dtype) -> str:
    """For types that NumPy lacks: the fewest digits that round to the same cell; 9 tell any of these types apart."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if float(text) == value or torch.tensor(float(text), dtype=torch.float64).to(dtype).double().item() == value:
            return str(float(text))
    return str(value)


def parse_number(text: int | float | str, title: str) -> int | float:
    """The number that somebody typed.

    Raises:
        EditRefused: it is no number. Nothing is evaluated.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text
    plain = str(text).strip().replace("−", "-")
    if _INTEGER.fullmatch(plain):
        return int(plain)
    if _FRACTION.fullmatch(plain):
        number = float(plain)
        if math.isinf(number) and plain.lstrip("+-")[:1].isdigit():
            raise EditRefused(f"{title}: {plain} is more than any float holds. Give a smaller number, or inf.")
        return number
    raise EditRefused(f"{title}: {str(text)[:40]!r} is no number. Write for example 0.5, -1e-3 or nan.")
