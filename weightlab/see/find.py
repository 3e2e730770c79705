"""Where in a tensor the largest cell is, the next one after it, the NaN: one pass, in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import writing

WHATS = ("largest", "smallest", "magnitude", "nan", "inf", "nearest")
_CHUNK = 1 << 22


def find(tensor: Tensor, what: str, after: int | None = None, value: float = 0.0, back: bool = False) -> int | None:
    """Flat row-major index of a cell.

    Args:
        what: "largest", "smallest", "magnitude" (largest |w|), "nearest" (to `value`): in the order of that, ties by index;
            "nan", "inf": in the order of their indices, around the end.
        after: the cell to go on from; None for the first of the order.
        back: the one before instead of the one behind.

    Returns:
        None where there is none, or none further. Cells that are not finite have no place in an order by size.
    """
    with writing(tensor):
        if what in ("nan", "inf"):
            return _of_kind(tensor.detach(), what, after, back)
        return _in_order(tensor.detach(), what, after, value, back)


def _pieces(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First flat index, and cells in row-major order as one row."""
    if tensor.ndim == 0:
        yield 0, tensor.reshape(1)
        return
    inner = math.prod(tensor.shape[1:])
    if not tensor.numel():
        return
    step = max(1, _CHUNK // inner)
    for top in range(0, tensor.shape[0], step):
        yield top * inner, tensor[top : top + step].reshape(-1)


def _numbers(cells: Tensor) -> Tensor:
    if cells.is_complex():
        return dtypes.real(cells)
    # float32 holds the smaller floats exactly; whole numbers up to 2**53 need float64.
    return cells if cells.dtype in (torch.float32, torch.float64) else cells.double()


def _of_kind(tensor: Tensor, what: str, after: int | None, back: bool) -> int | None:
    """The nearest match before or behind `after`; around the end where there is none."""
    first = last = before = behind = None
    for start, cells in _pieces(tensor):
        numbers = _numbers(cells)
        at = (numbers.isnan() if what == "nan" else numbers.isinf()).nonzero()[:, 0] + start
        if not len(at):
            continue
        first = int(at[0]) if first is None else first
        last = int(at[-1])
        if after is not None:
            less, more = at[at < after], at[at > after]
            before = int(less[-1]) if len(less) else before
            behind = int(more[0]) if behind is None and len(more) else behind
    if back:
        return last if before is None else before
    return first if behind is None else behind


def _in_order(tensor: Tensor, what: str, after: int | None, value: float, back: bool) -> int | None:
    """The order is by a key, largest first, then by index."""

    def keys(cells: Tensor) -> Tensor:
        numbers = _numbers(cells)
        if what == "largest":
            return numbers
        if what == "smallest":
            return -numbers
        return numbers.abs() if what == "magnitude" else -(numbers.double() - value).abs()

    pivot = None
    if after is not None:
        index = torch.unravel_index(torch.tensor(after), tensor.shape)
        pivot = float(keys(tensor[tuple(int(i) for i in index)].reshape(1)))
        if not math.isfinite(pivot):
            pivot = None
    best: tuple[float, int] | None = None
    for start, cells in _pieces(tensor):
        key = keys(cells)
        # Going back, the wanted cell is the least of those before: with the sign turned it is a largest again.
        sign = -1.0 if back and pivot is not None else 1.0
        allowed = key.isfinite()
        if pivot is not None and after is not None:
            ties = torch.arange(start, start + key.numel(), device=key.device)
            tied = (ties < after) if back else (ties > after)
            allowed &= (key > pivot if back else key < pivot) | ((key == pivot) & tied)
        ranked = (key * sign).masked_fill(~allowed, -torch.inf)
        top = ranked.max()
        if float(top) == -math.inf:
            continue
        same = (ranked == top).nonzero()[:, 0]
        at = start + int(same[-1] if sign < 0 else same[0])
        found = (float(top), at)
        if best is None or found[0] > best[0] or (found[0] == best[0] and sign < 0):
            best = found
    return None if best is None else best[1]
