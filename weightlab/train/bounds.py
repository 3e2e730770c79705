"""The bounds of a hold as a tensor's dtype has them: rounded inwards, so that what is kept lies inside what was asked.

0.1 in bfloat16 is 0.10009765625: a cell clamped to that would stand outside its bound. float32 and float64 take the
nearest number, as torch's own clamp does, since 0.100000001 is what everybody means by 0.1 there.
"""

from __future__ import annotations

import math

import torch

from weightlab.errors import EditRefused
from weightlab.model import dtypes
from weightlab.model.storage import as_integers

Bound = float | int | None


def inwards(low: Bound, high: Bound, dtype: torch.dtype, title: str) -> tuple[Bound, Bound]:
    """Both bounds as numbers of this dtype.

    Raises:
        EditRefused: no number of this dtype lies between them.
    """
    if not dtype.is_floating_point:
        return _whole(low, high, dtype, title)
    if dtypes.only_positive(dtype):
        return _positive(low, high, dtype, title)
    lowest = None if low is None else _negated(_below(-low, dtype))
    highest = None if high is None else _below(high, dtype)
    crossed = lowest is not None and highest is not None and lowest > highest
    if crossed or (low is not None and lowest is None) or (high is not None and highest is None):
        raise _none_between(low, high, dtype, title)
    return lowest, highest


def _whole(low: Bound, high: Bound, dtype: torch.dtype, title: str) -> tuple[Bound, Bound]:
    """Both bounds as whole numbers that the dtype holds."""
    info = torch.iinfo(dtype)
    lowest = info.min if low is None or low < info.min else info.max + 1 if low > info.max else math.ceil(low)
    highest = info.max if high is None or high > info.max else info.min - 1 if high < info.min else math.floor(high)
    if lowest > highest:
        raise _none_between(low, high, dtype, title)
    return None if low is None else lowest, None if high is None else highest


def _positive(low: Bound, high: Bound, dtype: torch.dtype, title: str) -> tuple[Bound, Bound]:
    """Both bounds among the 255 numbers of a float8 without zero and sign."""
    numbers = torch.arange(256, dtype=torch.uint8, device="cpu").view(dtype).double()
    inside = [x for x in numbers.tolist() if x == x and (low is None or x >= low) and (high is None or x <= high)]
    if not inside:
        raise _none_between(low, high, dtype, title)
    return None if low is None else inside[0], None if high is None else inside[-1]


def _none_between(low: Bound, high: Bound, dtype: torch.dtype, title: str) -> EditRefused:
    least, most = ("any" if bound is None else f"{bound:g}" for bound in (low, high))
    return EditRefused(f"{title}: no number of {dtypes.name(dtype)} lies from {least} to {most}. Hold wider bounds.")


def _negated(bound: Bound) -> Bound:
    return None if bound is None else -bound


def _below(bound: float, dtype: torch.dtype) -> Bound:
    """The largest finite number of the dtype that is not above the bound; None where there is none."""
    if math.isinf(bound) or dtype.itemsize > 2:
        return bound
    limit = torch.finfo(dtype).max
    if bound < -limit:
        return None
    nearest = torch.tensor([min(bound, limit)], dtype=torch.float64, device="cpu").to(dtype)
    if float(nearest) > bound:
        bits = as_integers(nearest)  # sign and magnitude: one more is one step further from 0
        if float(nearest) == 0:
            bits.fill_(1)  # the smallest number there is
            return -float(nearest)
        bits.add_(1 if float(nearest) < 0 else -1)
    return float(nearest)
