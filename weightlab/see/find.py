"""Where in a tensor the largest cell is, the next one after it, the NaN: one pass, in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import writing
from weightlab.progress import report
from weightlab.see import reading

WHATS = ("largest", "smallest", "magnitude", "nan", "inf", "nearest")
_CHUNK = 1 << 20
_MODES = {"largest": 0, "smallest": 1, "magnitude": 2, "nearest": 3}
_PART = 1 << 20
_LEAST = -(2**63)


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
    if tensor.is_contiguous():
        line = tensor.view(-1)
        for start in range(0, tensor.numel(), _CHUNK):
            report(start, tensor.numel(), f"searching {tensor.numel():,} cells")
            yield start, line[start : start + _CHUNK]
        return
    step = max(1, _CHUNK // inner)
    for top in range(0, tensor.shape[0], step):
        report(top, tensor.shape[0], f"searching {tensor.numel():,} cells")
        yield top * inner, tensor[top : top + step].reshape(-1)


def _numbers(cells: Tensor) -> Tensor:
    if cells.is_complex():
        return dtypes.real(cells)
    # float32 holds the smaller floats exactly; whole numbers up to 2**53 need float64.
    return cells if cells.dtype in (torch.float32, torch.float64) else cells.double()


def _of_kind(tensor: Tensor, what: str, after: int | None, back: bool) -> int | None:
    """The nearest match before or behind `after`; around the end where there is none."""
    first = last = before = behind = None
    if not (tensor.dtype.is_floating_point or tensor.is_complex()):
        return None
    for start, cells in _pieces(tensor):
        numbers = _numbers(cells)
        if bool(numbers.sum().isfinite()):
            continue
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
    source = reading.line(tensor) if tensor.is_contiguous() else None
    compiled = None if source is None else reading.ready(source, tensor.numel(), False)
    pivot: float | int | None = None
    if after is not None:
        index = torch.unravel_index(torch.tensor(after), tensor.shape)
        cell = tensor[tuple(int(i) for i in index)].reshape(1)
        key = _keys(cell if compiled is None else cell.double(), what, value)  # keys of compiled loops are floats
        pivot = key.item() if bool(key.isfinite()) else None
    back = back and pivot is not None
    if source is not None and compiled is not None:
        return _compiled(source, what, pivot, -1 if after is None else after, float(value), back)
    best: tuple[float, int] | None = None
    for start, cells in _pieces(tensor):
        key = _keys(cells, what, value)
        allowed = key.isfinite()
        if pivot is not None and after is not None:
            ties = torch.arange(start, start + key.numel(), device=key.device)
            tied = (ties < after) if back else (ties > after)
            allowed &= (key > pivot if back else key < pivot) | ((key == pivot) & tied)
        places = allowed.nonzero()[:, 0]
        if not len(places):
            continue
        kept = key[places]
        # Going back, the wanted cell is the least of those before, and of those alike the last.
        top = kept.min() if back else kept.max()
        same = places[kept == top]
        at, found = start + int(same[-1] if back else same[0]), top.item()
        if best is None or (found <= best[0] if back else found > best[0]):
            best = (found, at)
    return None if best is None else best[1]


def _keys(cells: Tensor, what: str, value: float) -> Tensor:
    """Numbers in the order that is asked for. Those of integers are int64: float64 has none between 2**53 and 2**53 + 2."""
    exactly = not (cells.is_floating_point() or cells.is_complex()) and (what != "nearest" or float(value).is_integer())
    if exactly and abs(value) < 2**62:
        whole = dtypes.ordered(cells).to(torch.int64)
        shift = _LEAST if cells.dtype is torch.uint64 else 0
        if what == "largest" or (what == "magnitude" and shift):
            return whole
        if what == "smallest":
            return ~whole  # as -x, which the least has not
        if what == "magnitude":
            return ~torch.where(whole > 0, -whole, whole)  # |x| - 1
        to = int(value) + shift
        if to < _LEAST:
            return ~whole
        # Distances fill 64 bits: they are in order as int64 with the highest bit turned.
        return ~(torch.where(whole >= to, whole - to, to - whole) ^ _LEAST)
    numbers = _numbers(cells)
    if what == "largest":
        return numbers
    if what == "smallest":
        return -numbers
    return numbers.abs() if what == "magnitude" else -(numbers.double() - value).abs()


def _compiled(
    source: reading.Source, what: str, pivot: float | None, after: int, value: float, back: bool
) -> int | None:
    """In one pass of compiled loops; going back, the order is turned round."""
    from weightlab.see import compiled, compiled_search

    sign = -1.0 if back else 1.0
    limit = math.inf if pivot is None else sign * pivot
    kind = getattr(compiled, source.kind)

    def part(first: int, last: int) -> reading.Array:
        out = np.empty(2)
        compiled_search.best(
            source.cells, kind, source.table, first, last, _MODES[what], value, sign, limit, after, out
        )
        return out

    count = source.cells.size
    best: tuple[float, int] | None = None
    for key, at in reading.in_parts(part, count, _PART, f"searching {count:,} cells"):
        if at >= 0 and (best is None or (key >= best[0] if back else key > best[0])):
            best = (float(key), int(at))
    return None if best is None else best[1]
