"""Which axes of a tensor are rows, columns and facets of its picture, and which are fixed at one index.

The picture is a sheet of cells. A block has prod(rows) x prod(columns) cells; axes are mixed radix, the last one runs
fastest. Facets are blocks side by side, `wrap` of them per row of blocks. Without facets there is one block. A fixed axis
shows one of its indices. An axis may be shown in another order: `orders` says which index stands at each place.

    conv [out, in, kh, kw]    rows (out, kh), columns (in, kw); many small filters: facets out, as a contact sheet
    matrix [out, in]          rows out, columns in
    vector [n]                one row
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from weightlab.errors import EditRefused
from weightlab.model import dtypes, given
from weightlab.model.tree import TensorInfo
from weightlab.see.groups import Group, axis_names, groups_of

ASPECT = 1.7  # of the stage that a contact sheet is made for, width to height
WRAP_CELLS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The places of one axis: index `indices[p]` stands at place p.

    Attributes:
        axis: of the tensor.
        by: what it was sorted by, such as "norm".
        indices: int64 [size of the axis] on the CPU, each index once.
        token: names this very order on the wire.
    """

    axis: int
    by: str
    indices: Tensor
    token: str = ""

    @property
    def places(self) -> Tensor:
        """Where each index stands."""
        places = torch.empty_like(self.indices)
        places[self.indices] = torch.arange(self.indices.numel(), device="cpu")
        return places


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes as rows, columns, facets and fixed indices; every axis is in exactly one of them.

    Attributes:
        labels: what each axis means, such as "out"; empty where nothing is known.
        wrap: facets per row of blocks, at least 1.
        fixed: `(axis, index)` pairs.
        groups: stretches of axes that belong together, for each axis the outermost first.
        orders: axes that are not shown in the order of their indices.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    facets: tuple[int, ...]
    wrap: int
    labels: tuple[str, ...]
    fixed: tuple[tuple[int, int], ...] = ()
    groups: tuple[Group, ...] = ()
    orders: tuple[Order, ...] = field(default=(), compare=False)

    def _size(self, axes: Sequence[int]) -> int:
        return math.prod(self.shape[axis] for axis in axes)

    @property
    def key(self) -> str:
        """Equal for layouts that place every cell alike."""
        orders = sorted((order.axis, order.token) for order in self.orders)
        return f"{self.rows}{self.columns}{self.facets}{self.wrap}{self.fixed}{orders}"

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of one block, in cells."""
        return self._size(self.rows), self._size(self.columns)

    @property
    def sheet(self) -> tuple[int, int]:
        """Rows and columns of the whole picture, in cells."""
        height, width = self.block
        facets = self._size(self.facets)
        return height * math.ceil(facets / self.wrap), width * min(self.wrap, max(facets, 1))

    def _moved(self, tensor: Tensor, *roles: Sequence[int]) -> tuple[Tensor, list[Tensor | None]]:
        """Axes of these roles in this order, the fixed ones taken out; and the order of each, where it has one."""
        axes = [axis for role in roles for axis in role]
        fixed = [axis for axis, _ in self.fixed]
        moved = tensor.permute(*fixed, *axes)[tuple(index for _, index in self.fixed)] if tensor.ndim else tensor
        known = {order.axis: order.indices for order in self.orders}
        return moved, [known.get(axis) for axis in axes]

    def cut(self, tensor: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor | None]:
        """Cells `[top:bottom, left:right]` of the sheet, as a view where that is possible.

        Returns:
            Values [bottom - top, right - left]; and None, or which are real where the last row of facets has blanks.
        """
        if self.facets:
            return self._cut_facets(tensor, top, bottom, left, right)
        moved, orders = self._moved(tensor, self.rows, self.columns)
        tall = [self.shape[axis] for axis in self.rows]
        wide = [self.shape[axis] for axis in self.columns]
        if len(tall) == len(wide) == 1:
            return _taken(moved, (slice(top, bottom), slice(left, right)), orders), None
        strips = []
        for row_slices in _pieces(tall, top, bottom):
            blocks = [_taken(moved, row_slices + part, orders) for part in _pieces(wide, left, right)]
            height = math.prod(blocks[0].shape[: len(tall)]) if blocks else 0
            flat = [block.reshape(height, math.prod(block.shape[len(tall) :])) for block in blocks]
            strips.append(torch.cat(flat, 1) if len(flat) > 1 else flat[0])
        return torch.cat(strips) if len(strips) > 1 else strips[0], None

    def _cut_facets(self, tensor: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor | None]:
        """Only the rows of blocks that the cut touches are gathered."""
        height, width = self.block
        count, wrap = self._size(self.facets), self.sheet[1] // max(width, 1)
        first, last = top // height, math.ceil(bottom / height)
        blocks, orders = self._moved(tensor, self.facets, self.rows, self.columns)
        inside = (slice(None),) * (len(self.rows) + len(self.columns))
        start, stop = first * wrap, min(last * wrap, count)
        sizes = [self.shape[axis] for axis in self.facets]
        gathered = [_taken(blocks, piece + inside, orders) for piece in _pieces(sizes, start, stop)]
        flat = torch.cat([piece.reshape(-1, height, width) for piece in gathered])
        missing = (last - first) * wrap - (stop - start)
        real = None
        if missing:
            real = torch.ones(flat.shape[0] + missing, 1, 1, dtype=torch.bool, device=flat.device)
            real[flat.shape[0] :] = False
            flat = torch.cat([flat, flat.new_zeros(missing, height, width)])
            real = real.expand(flat.shape)
        cut = (slice(top - first * height, bottom - first * height), slice(left, right))

        def sheet(cells: Tensor) -> Tensor:
            return cells.view(last - first, wrap, height, width).transpose(1, 2).reshape(-1, wrap * width)[cut]

        return sheet(flat), None if real is None else sheet(real.contiguous())

    def box(self, bounds: Sequence[tuple[int, int]]) -> tuple[int, int, int, int]:
        """The smallest rectangle of the sheet, `(top, bottom, left, right)`, that holds these tensor bounds."""
        if any(start >= stop for start, stop in bounds):
            return 0, 0, 0, 0
        if any(not bounds[axis][0] <= index < bounds[axis][1] for axis, index in self.fixed):
            return 0, 0, 0, 0
        bounds = list(bounds)
        for order in self.orders:
            start, stop = bounds[order.axis]
            if (start, stop) != (0, self.shape[order.axis]):
                places = order.places[start:stop]
                bounds[order.axis] = int(places.min()), int(places.max()) + 1
        height, width = self.block
        (top, bottom), (left, right) = (_span(self.shape, axes, bounds) for axes in (self.rows, self.columns))
        first, last = _span(self.shape, self.facets, bounds)
        if not self.facets:
            return top, bottom, left, right
        up, down = first // self.wrap, (last - 1) // self.wrap
        if up == down:
            return (
                up * height + top,
                up * height + bottom,
                first % self.wrap * width + left,
                (last - 1) % self.wrap * width + right,
            )
        return up * height + top, down * height + bottom, 0, self.sheet[1]

    def arranged(
        self,
        rows: Sequence[int],
        columns: Sequence[int],
        facets: Sequence[int] = (),
        fixed: Mapping[int, int] | None = None,
        orders: Sequence[Order] = (),
        title: str = "",
    ) -> Layout:
        """The same tensor with its axes in other roles. Negative axes count from the end, as in torch.

        Raises:
            EditRefused: an axis has no role, or two, or an index that it does not have.
        """
        rank, subject = len(self.shape), title or f"tensor {list(self.shape)}"
        roles = [tuple(axis + rank if axis < 0 else axis for axis in role) for role in (rows, columns, facets)]
        still = {axis + rank if axis < 0 else axis: index for axis, index in (fixed or {}).items()}
        named = sorted(axis for role in (*roles, still) for axis in role)
        if named != list(range(rank)):
            raise EditRefused(
                f"{subject}: each of the axes 0 to {rank - 1} needs one role, got {named}. Give every axis once, as rows, "
                f"columns, facets or fixed."
            )
        for axis, index in still.items():
            if not -self.shape[axis] <= index < self.shape[axis]:
                raise EditRefused(
                    f"{subject}: axis {axis} has no index {index}: expected 0 to {self.shape[axis] - 1}. Give one that exists."
                )
        plain = Layout(self.shape, roles[0], roles[1], roles[2], 1, self.labels)
        wrap = _wrap(self._size(roles[2]), plain.block) if roles[2] else 1
        pairs = tuple((axis, index % self.shape[axis]) for axis, index in sorted(still.items()))
        return replace(plain, wrap=wrap, fixed=pairs, groups=self.groups, orders=tuple(orders))


def axes_asked(title: str, **roles: object) -> None:
    """Refuse what is no axis, or no axis with an index or an order, before anything is laid out.

    Raises:
        EditRefused: a role that is no list of whole numbers, or no dict of them.
    """
    for what, asked in roles.items():
        if asked is None:
            continue
        if not isinstance(asked, Mapping if what in ("fixed", "sort") else list | tuple):
            example = {"fixed": "{1: 0}", "sort": "{0: 'norm'}"}.get(what, "[0, 2]")
            raise EditRefused(f"{title}: {what} must be like {example}, got {type(asked).__name__}.")
        for axis in asked:
            given.whole_number(axis, f"{title}: an axis of {what}", -64, 63)
        if what == "fixed":
            assert isinstance(asked, Mapping)
            for index in asked.values():
                given.whole_number(index, f"{title}: the index of a fixed axis", -(2**63), 2**63 - 1)


def _taken(moved: Tensor, slices: tuple[slice, ...], orders: Sequence[Tensor | None]) -> Tensor:
    """`moved[slices]`, where an axis with an order is sliced by places. Only the cut's cells are copied."""
    cut = moved[tuple(part if order is None else slice(None) for part, order in zip(slices, orders, strict=True))]
    for axis, (part, order) in enumerate(zip(slices, orders, strict=True)):
        if order is not None:
            places = order[part].to(cut.device)
            cut = dtypes.movable(cut).index_select(axis, places).view(cut.dtype)
    return cut


def _span(shape: Sequence[int], axes: Sequence[int], bounds: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """First and last + 1 mixed-radix number that the bounds of these axes reach."""
    low = high = 0
    for axis in axes:
        low = low * shape[axis] + bounds[axis][0]
        high = high * shape[axis] + bounds[axis][1] - 1
    return low, high + 1


def _pieces(sizes: Sequence[int], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Slices per axis whose cells, one piece after another, are the mixed-radix numbers `start..stop`."""
    if start >= stop:
        if sizes:
            yield (slice(0, 0), *(slice(None) for _ in sizes[1:]))
        return
    if not sizes:
        yield ()
        return
    inner = math.prod(sizes[1:])
    first, last = -(-start // inner), stop // inner
    if first > last or len(sizes) == 1:
        if len(sizes) == 1:
            yield (slice(start, stop),)
            return
        outer = start // inner
        for rest in _pieces(sizes[1:], start - outer * inner, stop - outer * inner):
            yield (slice(outer, outer + 1), *rest)
        return
    if start < first * inner:
        for rest in _pieces(sizes[1:], start - (first - 1) * inner, inner):
            yield (slice(first - 1, first), *rest)
    if first < last:
        yield (slice(first, last), *(slice(None) for _ in sizes[1:]))
    if stop > last * inner:
        for rest in _pieces(sizes[1:], 0, stop - last * inner):
            yield (slice(last, last + 1), *rest)


def layout_of(info: TensorInfo, module: nn.Module | None = None, parent: nn.Module | None = None) -> Layout:
    """The layout that suits a tensor, from its shape and the attributes of its module and of the one around that.

    A tall or flat sheet of many small blocks becomes a contact sheet: facets of the outermost axis, wrapped so that the
    whole is about `ASPECT` times as wide as high.
    """
    shape, rank = info.shape, len(info.shape)
    labels, groups = axis_names(info, module), groups_of(info, module, parent)
    if rank <= 2:
        rows, columns = tuple(range(rank - 1)), tuple(range(max(rank - 1, 0), rank))
        return Layout(shape, rows, columns, (), 1, labels, groups=groups)
    if rank == 3:
        # [out, in, k] reads best with the kernels side by side, [n, rows, columns] with its matrices stacked.
        convolution = info.module_type.startswith(("Conv", "LazyConv"))
        rows, columns = ((0,), (1, 2)) if convolution else ((0, 1), (2,))
    else:
        rows, columns = (0, *range(2, rank - 1)), (1, rank - 1)
    plain = Layout(shape, rows, columns, (), 1, labels, groups=groups)
    height, width = plain.sheet
    if 0 in shape or math.prod(shape) > WRAP_CELLS or max(height, width) <= 3 * min(height, width) * ASPECT:
        return plain
    rows, columns = tuple(range(1, rank - 1)), (rank - 1,)
    sheet = Layout(shape, rows, columns, (0,), 1, labels, groups=groups)
    return replace(sheet, wrap=_wrap(shape[0], sheet.block))


def _wrap(count: int, block: tuple[int, int]) -> int:
    """Facets per row of blocks that make the whole about `ASPECT` times as wide as high."""
    # One cell of gap per block keeps long rows of tiny kernels from becoming the widest.
    area = count * (block[0] + 1) * (block[1] + 1)
    ideal = max(1, min(count, round(math.sqrt(area * ASPECT) / (block[1] + 1))))
    # Full rows are easier to read: 32 filters as 2 x 16 rather than 12 + 12 + 8.
    even = [n for n in range(math.ceil(ideal * 0.7), math.floor(ideal * 1.5) + 1) if n and count % n == 0]
    return min(even, key=lambda n: abs(n - ideal), default=ideal)
