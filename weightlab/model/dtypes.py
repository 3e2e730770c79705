"""What each dtype is and can: the one place that knows what torch lacks for it.

| dtypes | torch lacks | computed in |
|---|---|---|
| float8 | sums, masks, comparisons | float32, exactly |
| complex32 | sums, comparisons | complex64, exactly |
| integers | checks of their range | int64 |
| uint16, uint32 | minimum, masks, picking | int64; bits as int16, int32 |
| uint64 | the same, and a wider type | Python's integers; bits and order as int64 |
| bits, float4, int1 to int7 | everything but bytes | not at all |
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

FLOAT8 = tuple(
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    if hasattr(torch, name)
)
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
KNOWN = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, *FLOAT8, torch.complex128, torch.complex64, torch.complex32,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, *SIGNED, torch.bool,
)  # fmt: skip
BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in KNOWN}
_WIDER = {torch.complex32: torch.complex64, torch.bool: torch.bool, torch.uint64: torch.uint64} | dict.fromkeys(
    FLOAT8, torch.float32
)
_MIDDLE = 2**63


def name(dtype: torch.dtype) -> str:
    """Without the "torch."."""
    return str(dtype).removeprefix("torch.")


def why_no_cells(dtype: torch.dtype) -> str:
    """Why torch knows no number in a cell of this dtype, and what to do about it; empty where it does."""
    if dtype in KNOWN:
        return ""
    return f"torch does not compute with {name(dtype)}. Edit the tensor that it was packed from, and pack it again."


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: torch lacks or wraps arithmetic of integers and of the narrowest types. uint64 has none."""
    plain = dtype.is_floating_point or dtype.is_complex
    found: torch.dtype = _WIDER.get(dtype, dtype if plain else torch.int64)
    return found


def widened(values: Tensor) -> Tensor:
    """The values in the type to compute in; themselves where that is their own."""
    return values.to(wide(values.dtype))


def asked_in(dtype: torch.dtype) -> torch.dtype:
    """The type in which a value is asked for: a float narrower than float32 rounds it, and what was asked is told."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize <= 2 else wide(dtype)


def drawn_in(dtype: torch.dtype) -> torch.dtype:
    """The type to draw random numbers in: half and narrower types are drawn in float32 and rounded."""
    if dtype.is_complex:
        return wide(dtype)
    return torch.float64 if dtype is torch.float64 else torch.float32


def exact_in_float32(dtype: torch.dtype) -> bool:
    """Whether float32 has every number of it."""
    return dtype.itemsize <= (4 if dtype.is_floating_point else 2) and not dtype.is_complex and dtype in KNOWN


def bits(dtype: torch.dtype) -> torch.dtype | None:
    """Integers of the same width, whose kernels pick and mask where torch has none for the type itself; None where it has."""
    return torch.uint8 if dtype in FLOAT8 else SIGNED.get(dtype)


def movable(cells: Tensor) -> Tensor:
    """The same memory in a type that can be picked from and masked, bit by bit."""
    kind = bits(cells.dtype)
    return cells if kind is None else cells.view(kind)


def ordered(values: Tensor) -> Tensor:
    """Numbers in the order of the values, of a type that torch compares and sorts: of uint64 those less 2**63, as int64."""
    if values.dtype is torch.uint64:
        return values.view(torch.int64) ^ -_MIDDLE
    return values.to(torch.int64) if values.dtype in SIGNED else values.float() if values.dtype in FLOAT8 else values


def ends(values: Tensor) -> tuple[int | float, int | float]:
    """The least and the greatest of one or more real values, exactly; NaN where one is."""
    low, high = (end.item() for end in torch.aminmax(ordered(values)))
    return (low + _MIDDLE, high + _MIDDLE) if values.dtype is torch.uint64 else (low, high)


def clamped(values: Tensor, low: float | None, high: float | None) -> Tensor:
    """Values from `low` to `high`, in the type to compute in."""
    if values.dtype is not torch.uint64:
        return widened(values).clamp(low, high)
    low, high = (None if end is None else min(max(int(end), 0), 2**64 - 1) - _MIDDLE for end in (low, high))
    return (ordered(values).clamp_(low, high) ^ -_MIDDLE).view(torch.uint64)


def real(values: Tensor) -> Tensor:
    """Complex values by magnitude, others as they are."""
    return widened(values).abs() if values.is_complex() else values


def magnitude(values: Tensor) -> Tensor:
    """|values| in a type that torch compares and sorts, and in the order of the magnitudes. uint64: rounded to float64."""
    if values.dtype is torch.uint64:
        return values.double()
    return ordered(values.to(torch.uint8) if values.dtype is torch.bool else values).abs()


def nonzero(values: Tensor) -> int:
    """How many are not 0."""
    plain = values.float() if values.dtype in FLOAT8 else movable(values)
    return int(plain.count_nonzero())


def finite(values: Tensor) -> Tensor:
    """Which are neither NaN nor inf; torch cannot ask that of most float8."""
    return values.float().isfinite() if values.dtype in FLOAT8 else values.isfinite()


def only_positive(dtype: torch.dtype) -> bool:
    """Whether it has neither a zero nor a sign, as float8_e8m0fnu."""
    return dtype.is_floating_point and torch.finfo(dtype).min > 0


@cache
def has_infinity(dtype: torch.dtype) -> bool:
    """Whether it is a float with an infinity; most float8 have none, and store NaN or their largest number."""
    if not (dtype.is_floating_point or dtype.is_complex):
        return False
    return bool(torch.tensor(math.inf, dtype=torch.float64, device="cpu").to(dtype).to(torch.complex64).isinf())
