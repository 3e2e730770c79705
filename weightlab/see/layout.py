"""Which axes of a tensor are rows, columns and facets of its picture.

The picture is a sheet of cells. A block has prod(rows) x prod(columns) cells; axes are mixed radix, the last one runs
fastest. Facets are blocks side by side, `wrap` of them per row of blocks. Without facets there is one block.

    conv [out, in, kh, kw]    rows (out, kh), columns (in, kw); many small filters: facets out, as a contact sheet
    matrix [out, in]          rows out, columns in
    vector [n]                one row
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.model.tree import TensorInfo

ASPECT = 1.7  # of the stage that a contact sheet is made for, width to height
WRAP_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes as rows, columns and facets; every axis is in exactly one of them.

    Attributes:
        labels: what each axis means, such as "out"; empty where nothing is known.
        wrap: facets per row of blocks, at least 1.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    facets: tuple[int, ...]
    wrap: int
    labels: tuple[str, ...]

    def _size(self, axes: Sequence[int]) -> int:
        return math.prod(self.shape[axis] for axis in axes)

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

    def cut(self, tensor: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor | None]:
        """Cells `[top:bottom, left:right]` of the sheet, as a view where that is possible.

        Returns:
            Values [bottom - top, right - left]; and None, or which are real where the last row of facets has blanks.
        """
        if self.facets:
            return self._cut_facets(tensor, top, bottom, left, right)
        moved = tensor.permute(*self.rows, *self.columns) if tensor.ndim else tensor
        tall = [self.shape[axis] for axis in self.rows]
        wide = [self.shape[axis] for axis in self.columns]
        if len(tall) == len(wide) == 1:
            return moved[top:bottom, left:right], None
        strips = []
        for row_slices in _pieces(tall, top, bottom):
            blocks = [moved[row_slices + column_slices] for column_slices in _pieces(wide, left, right)]
            height = math.prod(blocks[0].shape[: len(tall)]) if blocks else 0
            flat = [block.reshape(height, math.prod(block.shape[len(tall) :])) for block in blocks]
            strips.append(torch.cat(flat, 1) if len(flat) > 1 else flat[0])
        return torch.cat(strips) if len(strips) > 1 else strips[0], None

    def _cut_facets(self, tensor: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor | None]:
        """Only the rows of blocks that the cut touches are gathered."""
        height, width = self.block
        count, wrap = self._size(self.facets), self.sheet[1] // max(width, 1)
        first, last = top // height, math.ceil(bottom / height)
        blocks = tensor.permute(*self.facets, *self.rows, *self.columns)
        start, stop = first * wrap, min(last * wrap, count)
        gathered = [blocks[piece] for piece in _pieces([self.shape[axis] for axis in self.facets], start, stop)]
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


def layout_of(info: TensorInfo) -> Layout:
    """The layout that suits a tensor, from its shape and the class of its module.

    A tall or flat sheet of many small blocks becomes a contact sheet: facets of the outermost axis, wrapped so that the
    whole is about `ASPECT` times as wide as high.
    """
    shape, rank = info.shape, len(info.shape)
    labels = _labels(info)
    if rank <= 2:
        rows, columns = tuple(range(rank - 1)), tuple(range(max(rank - 1, 0), rank))
        return Layout(shape, rows, columns, (), 1, labels)
    if rank == 3:
        # [out, in, k] reads best with the kernels side by side, [n, rows, columns] with its matrices stacked.
        convolution = info.module_type.startswith(("Conv", "LazyConv"))
        rows, columns = ((0,), (1, 2)) if convolution else ((0, 1), (2,))
    else:
        rows, columns = (0, *range(2, rank - 1)), (1, rank - 1)
    plain = Layout(shape, rows, columns, (), 1, labels)
    height, width = plain.sheet
    if 0 in shape or math.prod(shape) > WRAP_CELLS or max(height, width) <= 3 * min(height, width) * ASPECT:
        return plain
    rows, columns = tuple(range(1, rank - 1)), (rank - 1,)
    block_height, block_width = (math.prod(shape[axis] for axis in axes) for axes in (rows, columns))
    # One cell of gap per block keeps long rows of tiny kernels from becoming the widest.
    area = shape[0] * (block_height + 1) * (block_width + 1)
    ideal = max(1, min(shape[0], round(math.sqrt(area * ASPECT) / (block_width + 1))))
    # Full rows are easier to read: 32 filters as 2 x 16 rather than 12 + 12 + 8.
    even = [n for n in range(math.ceil(ideal * 0.7), math.floor(ideal * 1.5) + 1) if n and shape[0] % n == 0]
    wrap = min(even, key=lambda n: abs(n - ideal), default=ideal)
    return Layout(shape, rows, columns, (0,), wrap, labels)


def _labels(info: TensorInfo) -> tuple[str, ...]:
    rank, kind = len(info.shape), info.module_type
    local = info.name.rpartition(".")[2]
    if "ConvTranspose" in kind and rank >= 3:
        return ("in", "out", *("kd", "kh", "kw")[5 - rank : 3])[:rank]
    if "Conv" in kind and 3 <= rank <= 5:
        return ("out", "in", *("kd", "kh", "kw")[5 - rank : 3])
    if "Embedding" in kind and rank == 2:
        return ("token", "dim")
    if rank == 2 and ("Linear" in kind or local.startswith(("weight", "in_proj"))):
        return ("out", "in")
    if rank == 1:
        return ("out" if local == "bias" else "",)
    return ("",) * rank
