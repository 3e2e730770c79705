"""One number per index of an axis: the norm, the mean or the share of zeros of each filter or row; and orders made from them.

Sums are in float64 on the tensor's own device, over finite cells: on the CPU in one compiled pass (`reading.lines`), elsewhere
in pieces of the axis that keep the working memory small.
Nothing here touches a tensor: an order is a permutation for the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import dtypes
from weightlab.model.storage import writing
from weightlab.progress import report
from weightlab.see import reading
from weightlab.see.layout import Order

Statistic = Literal["norm", "mean", "zeros"]
STATISTICS: tuple[Statistic, ...] = ("norm", "mean", "zeros")
ORDERS = (*STATISTICS, "similar")
MOST_SORTED = 1 << 18
_CELLS = 1 << 22  # cells of one piece
_LINKED = 1024  # rows that are clustered; more are ordered by two principal components
_FEATURES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Statistics of each index of one axis: float64 [size of the axis] on the CPU, over the other axes' finite cells.

    Attributes:
        axis: of the tensor.
        norm: square root of the sum of squares.
        mean: NaN where no cell is finite.
        zeros: share of cells that are 0, of all cells.
        largest: largest magnitude; 0 where no cell is finite.
        nonfinite: number of NaN and infinite cells.
    """

    axis: int
    norm: Tensor
    mean: Tensor
    zeros: Tensor
    largest: Tensor
    nonfinite: Tensor


def profile(tensor: Tensor, axis: int, title: str = "") -> Profile:
    """Profile of an axis; complex cells count by magnitude.

    Args:
        title: name and shape, for the error; by default the shape.

    Raises:
        EditRefused: there is no such axis.
    """
    axis = _checked(tensor, axis, title)
    with writing(tensor):
        read = reading.lines(tensor.detach(), axis)
        if read is not None and _tame(read):
            return _profile(axis, read, tensor.numel() // tensor.shape[axis])
        parts = [torch.stack(_statistics(rows)).cpu() for rows in _pieces(tensor, axis)]
    told = torch.cat(parts, 1) if parts else torch.zeros(5, 0, dtype=torch.float64, device="cpu")
    return Profile(axis, *told.unbind(0))


def _tame(read: np.ndarray) -> bool:
    """Whether squares neither overflowed nor vanished: what float32 holds never does."""
    largest = read[2]
    return bool(((largest == 0) | ((largest > 1e-140) & (largest < 1e140))).all())


def _profile(axis: int, read: np.ndarray, cells: int) -> Profile:
    total, squares, largest, zeros, nonfinite = torch.from_numpy(read).unbind(0)
    return Profile(axis, squares.sqrt(), total / (cells - nonfinite), zeros / cells, largest, nonfinite)


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Norm, mean, share of zeros, largest magnitude and cells that are not finite, of each row."""
    count, cells = rows.new_zeros(rows.shape[0], dtype=torch.float64), rows.shape[1]
    if not cells:
        return count, count / 0, count, count, count
    zeros = (rows == 0).sum(1).double() / cells
    if rows.dtype is torch.float32:
        # Squares of float32 fit into float64: one pass each, nothing copied. What is not finite shows in the norm.
        norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        if bool(norm.isfinite().all()):
            largest = torch.linalg.vector_norm(rows, ord=torch.inf, dim=1).double()
            return norm, rows.sum(1, dtype=torch.float64) / cells, zeros, largest, count
    rows = rows.double()
    finite = rows.isfinite()
    good = rows.where(finite, 0)
    largest = good.abs().amax(1)
    # Scaled before squaring: squares of what float64 holds may not fit into it.
    scale = largest.where(largest > 0, 1)[:, None]
    norm = (good / scale).square().sum(1).sqrt() * scale[:, 0]
    count = finite.sum(1).double()
    return norm, (good / scale).sum(1) / count * scale[:, 0], zeros, largest, cells - count


def order_by(tensor: Tensor, axis: int, by: str, token: str = "") -> Order:
    """Places of an axis' indices: ascending by a statistic (ties by index, NaN last), or neighbours alike ("similar").

    "similar" clusters up to 1024 rows by the angle between them (average linkage) and walks the leaves so that clusters meet at
    their nearest ends; more rows are ordered by the angle of their first two principal components, which costs two passes.

    Raises:
        EditRefused: there is no such axis or order, or the axis is longer than 262,144.

    Source: M. Friendly, "Corrgrams", The American Statistician 56 (2002), section 3, for the angular order.
    """
    axis = _checked(tensor, axis)
    if by not in ORDERS:
        raise EditRefused(f"sort: an axis is sorted by one of {', '.join(ORDERS)}, got {by!r}.")
    size = tensor.shape[axis]
    if size > MOST_SORTED:
        raise EditRefused(f"sort: axis {axis} has {size:,} indices, at most {MOST_SORTED:,} are sorted. Sort a slice.")
    if by == "similar":
        with writing(tensor):
            indices = _alike(tensor, axis)
    else:
        values = getattr(profile(tensor, axis), by)
        indices = values.nan_to_num(nan=torch.inf, posinf=torch.finfo(torch.float64).max).argsort(stable=True)
    return Order(axis, by, indices, token)


def _checked(tensor: Tensor, axis: int, title: str = "") -> int:
    rank = tensor.ndim
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -rank <= axis < rank:
        known = f"Give one from 0 to {rank - 1}" if rank else "A single cell has none"
        raise EditRefused(f"{title or f'tensor {list(tensor.shape)}'}: there is no axis {axis!r}. {known}.")
    return int(axis) % rank


def _pieces(tensor: Tensor, axis: int) -> Iterator[Tensor]:
    """Rows of an axis [some, cells], a piece at a time, as float32 where that holds every cell and as float64 elsewhere."""
    size = tensor.shape[axis]
    step = max(1, _CELLS // max(1, tensor.numel() // max(size, 1)))
    for start in range(0, size, step):
        report(start, size, "reading rows")
        part = tensor.narrow(axis, start, min(step, size - start)).movedim(axis, 0)
        part = part.reshape(part.shape[0], part[0].numel())
        part = dtypes.real(part)
        wide = part.dtype is torch.float64 or (part.dtype.itemsize >= 4 and not part.is_floating_point())
        yield part.double() if wide else part.float()


def _alike(tensor: Tensor, axis: int) -> Tensor:
    size = tensor.shape[axis]
    if size < 3:
        return torch.arange(size, device="cpu")
    rows = torch.cat([_directions(part.double()) for part in _pieces(tensor, axis)])
    if size <= _LINKED:
        return torch.from_numpy(_leaves((1 - rows @ rows.T).clamp(min=0).cpu().numpy()))
    centred = rows - rows.mean(0)
    # A seeded start, so that the same rows give the same order; two rounds of power iteration settle two components.
    seeded = torch.Generator(device="cpu").manual_seed(0)
    start = torch.randn(rows.shape[1], 8, generator=seeded, dtype=torch.float64, device="cpu").to(rows.device)
    for _ in range(2):
        start = torch.linalg.qr(centred.T @ (centred @ start)).Q
    found, _, _ = torch.linalg.svd(centred @ start, full_matrices=False)
    angle = torch.atan2(found[:, 1], found[:, 0]).cpu()
    order = angle.argsort(stable=True)
    # The circle is opened where two neighbours are furthest apart.
    around = angle[order]
    gaps = torch.cat([around[1:] - around[:-1], around[:1] + 2 * torch.pi - around[-1:]])
    opened: Tensor = order.roll(-(int(gaps.argmax()) + 1))
    return opened


def _directions(rows: Tensor) -> Tensor:
    """Rows of length 1, of at most `_FEATURES` cells: wider ones are projected at random, which keeps angles nearly."""
    rows = rows.where(rows.isfinite(), 0)
    if rows.shape[1] > _FEATURES:
        seeded = torch.Generator(device="cpu").manual_seed(0)
        signs = torch.randint(0, 2, (rows.shape[1],), generator=seeded, device="cpu").to(rows.device) * 2.0 - 1
        target = torch.randint(0, _FEATURES, (rows.shape[1],), generator=seeded, device="cpu").to(rows.device)
        rows = rows.new_zeros(rows.shape[0], _FEATURES).index_add_(1, target, rows * signs)
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / lengths.clamp(min=1e-300)


def _leaves(distances: np.ndarray) -> np.ndarray:
    """Leaves of an average-linkage tree, clusters turned so that they meet at their nearest ends.

    The nearest-neighbour chain finds each pair that is nearest to one another in O(n) steps of O(n).
    """
    between = distances.astype(np.float64, copy=True)
    ends = between.copy()  # between single rows: to choose how clusters meet
    np.fill_diagonal(between, np.inf)
    size = len(between)
    order: dict[int, list[int]] = {i: [i] for i in range(size)}
    chain: list[int] = []
    while len(order) > 1:
        if not chain:
            chain.append(next(iter(order)))
        while True:
            last = chain[-1]
            near = int(between[last].argmin())
            if len(chain) > 1 and between[last, chain[-2]] <= between[last, near]:
                near = chain[-2]
                break
            chain.append(near)
        one, other = chain.pop(), chain.pop()
        a, b = order[one], order.pop(other)
        merged = (len(a) * between[one] + len(b) * between[other]) / (len(a) + len(b))
        between[one], between[:, one] = merged, merged
        between[one, one] = np.inf
        between[other], between[:, other] = np.inf, np.inf
        ways = ((ends[x[-1], y[0]], x, y) for x in (a, a[::-1]) for y in (b, b[::-1]))
        _, first, second = min(ways, key=lambda way: float(way[0]))
        order[one] = first + second
    return np.array(next(iter(order.values())), dtype=np.int64)
