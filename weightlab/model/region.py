"""Which cells of a tensor: `Region`, its text `[3, :, 1:2]`, and indexing that composes.

A region is either a box with steps (one start, stop and step per axis, cheap for any size) or a list of cells (what an
index tensor or a boolean mask picks). Indexing follows torch, with two differences: `None` is refused, since it names
no cells, and what does not fit raises `EditRefused` with the tensor's name.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weightlab.errors import EditRefused

Axis = tuple[int, int, int]

_TOKEN = re.compile(r"\s*(-?[0-9]+|\.\.\.|[:,\[\]])")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Region:
    """Cells of a tensor of shape `shape`.

    Attributes:
        shape: of the whole tensor.
        axes: `(start, stop, step)` per axis, `0 <= start <= stop <= size`, `step >= 1`: the box.
        dropped: per axis, whether it was indexed by an int, as in `w[3]`; such an axis is missing in `view_shape`.
        cells: row-major flat indices int64 on the CPU, shaped as the indexed tensor would be; None for a box.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    dropped: tuple[bool, ...]
    cells: Tensor | None = None

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Region:
        """All cells of a tensor of this shape."""
        shape = tuple(shape)
        return cls(shape, tuple((0, size, 1) for size in shape), (False,) * len(shape))

    @classmethod
    def of_cells(cls, shape: Sequence[int], flat: Tensor, title: str = "") -> Region:
        """The cells with these row-major flat indices.

        Raises:
            EditRefused: an index lies outside the tensor.
        """
        whole = cls.whole(shape)
        flat = flat.detach().to("cpu", torch.int64)
        if flat.numel() and (int(flat.min()) < 0 or int(flat.max()) >= whole.numel):
            raise EditRefused(
                f"{_subject(title, whole.shape)}: a cell index lies outside the tensor: expected 0 to {whole.numel - 1}, "
                f"got {int(flat.min())} to {int(flat.max())}. Give indices of cells that exist."
            )
        return cls(whole.shape, whole.axes, whole.dropped, flat)

    @classmethod
    def parse(cls, text: str, shape: Sequence[int], title: str = "") -> Region:
        """The region that `text` names, as Python would index: `[3, :, 1:2]`, `-1`, `[[0, 2], ...]`; empty is the whole.

        Raises:
            EditRefused: it is no index expression, or does not fit the shape.
        """
        return cls.whole(shape).index(_parse(text, _subject(title, tuple(shape))), title)

    @property
    def is_box(self) -> bool:
        return self.cells is None

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of `tensor[region]`."""
        if self.cells is not None:
            return tuple(self.cells.shape)
        return tuple(len(range(*axis)) for axis, drop in zip(self.axes, self.dropped, strict=True) if not drop)

    @property
    def numel(self) -> int:
        """Number of cells."""
        count = 1
        for size in self.view_shape:
            count *= size
        return count

    @property
    def is_whole(self) -> bool:
        return self.is_box and self.axes == tuple((0, size, 1) for size in self.shape)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """The smallest box around the cells, `(start, stop)` per axis; empty ones are `(0, 0)`."""
        if self.numel == 0:
            return tuple((0, 0) for _ in self.shape)
        if self.cells is None:
            return tuple((r[0], r[-1] + 1) for r in (range(*axis) for axis in self.axes))
        return tuple((int(c.min()), int(c.max()) + 1) for c in torch.unravel_index(self.cells.flatten(), self.shape))

    @property
    def slices(self) -> tuple[int | slice, ...]:
        """A basic index for a box: `tensor[region.slices]` is a view of its cells."""
        return tuple(a[0] if drop else slice(*a) for a, drop in zip(self.axes, self.dropped, strict=True))

    @property
    def has_duplicates(self) -> bool:
        if self.cells is None:
            return False
        return int(torch.unique(self.cells).numel()) != self.cells.numel()

    def coordinates(self, device: torch.device) -> tuple[Tensor, ...]:
        """One flat index tensor per axis, for listed cells."""
        assert self.cells is not None
        # A scalar counts as [1]: no coordinates at all would name its cell, also where no cell is meant.
        return torch.unravel_index(self.cells.flatten().to(device), self.shape or (1,))

    def index(self, index: Any, title: str = "") -> Region:
        """The region of `tensor[self][index]`.

        Raises:
            EditRefused: the index does not fit `view_shape`.
        """
        subject = _subject(title, self.shape)
        items = list(index) if isinstance(index, tuple) else [index]
        items = [_plain(item, subject) for item in items]
        shape = self.view_shape
        _check_count(items, shape, subject)
        if self.cells is None and all(isinstance(i, int | slice) or i is Ellipsis for i in items):
            return self._box(items, subject)
        try:
            if self.cells is not None:
                return Region(self.shape, self.axes, self.dropped, self.cells[tuple(items)].contiguous())
            return Region(self.shape, self.axes, self.dropped, self._flat(tuple(items)))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            what = str(error).split("\n")[0].rstrip(".")
            raise EditRefused(
                f"{subject}: the index does not fit: {what}. Give a mask of shape {list(shape)}, or integers inside it."
            ) from error

    def _flat(self, items: tuple[Any, ...]) -> Tensor:
        """Flat indices of an advanced index; torch's own rules, at the cost of the picked cells only."""
        shape, flat, kept = self.view_shape, None, 0
        base, stride = 0, 1
        weights = []
        for size in reversed(self.shape):
            weights.append(stride)
            stride *= size
        for (start, stop, step), drop, weight in zip(self.axes, self.dropped, reversed(weights), strict=True):
            if drop:
                base += start * weight
                continue
            # An expanded arange is a tensor of coordinates that costs one axis of memory; indexing it picks them.
            line = torch.arange(start, stop, step, device="cpu") * weight
            line = line.view([-1 if axis == kept else 1 for axis in range(len(shape))]).expand(shape)
            picked = line[items]
            flat = picked if flat is None else flat + picked
            kept += 1
        if flat is None:  # a single cell, indexed by a mask of no axes
            flat = torch.zeros((), dtype=torch.int64, device="cpu")[items]
        return (flat + base).contiguous()

    def _box(self, items: list[Any], subject: str) -> Region:
        shape = self.view_shape
        if Ellipsis in items:
            at = items.index(Ellipsis)
            items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + 1)
        items += [slice(None)] * (len(shape) - len(items))
        axes, dropped, rest = [], [], iter(items)
        for number, (axis, drop) in enumerate(zip(self.axes, self.dropped, strict=True)):
            if drop:
                axes.append(axis)
                dropped.append(True)
                continue
            line, item = range(*axis), next(rest)
            if isinstance(item, int):
                if not -len(line) <= item < len(line):
                    raise EditRefused(
                        f"{subject}: index {item} is outside axis {number}: expected {-len(line)} to {len(line) - 1}. "
                        f"Give an index that exists."
                    )
                axes.append((line[item], line[item] + 1, 1))
                dropped.append(True)
                continue
            if item.step is not None and item.step < 1:
                raise EditRefused(
                    f"{subject}: a step must be at least 1, got {item.step} on axis {number}. "
                    f"Give the same cells in ascending order."
                )
            part = line[item]
            # range keeps a stop past the end for steps over 1; the last cell fixes it, so that equal regions compare equal.
            axes.append((part[0], part[-1] + 1, part.step) if len(part) else (0, 0, 1))
            dropped.append(False)
        return Region(self.shape, tuple(axes), tuple(dropped))

    def __str__(self) -> str:
        """`[3, :, 1:2]`; `[...]` for the whole tensor; `[12 cells]` for listed cells."""
        if self.cells is not None:
            return f"[{self.cells.numel()} cell{'s' if self.cells.numel() != 1 else ''}]"
        parts = [
            str(a[0]) if drop else _slice_text(a, size)
            for a, drop, size in zip(self.axes, self.dropped, self.shape, strict=True)
        ]
        while parts and parts[-1] == ":":
            parts.pop()
        return f"[{', '.join(parts)}]" if parts else "[...]"

    def __repr__(self) -> str:
        return f"Region({self} of {list(self.shape)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        if (self.shape, self.view_shape, self.is_box) != (other.shape, other.view_shape, other.is_box):
            return False
        if self.cells is not None and other.cells is not None:
            return torch.equal(self.cells, other.cells)
        return self.axes == other.axes

    def __hash__(self) -> int:
        return hash((self.shape, self.axes, self.view_shape))

    def to_json(self) -> Any:
        """Text for a box; flat indices, compressed, for listed cells."""
        if self.cells is None:
            return str(self)
        packed = zlib.compress(self.cells.flatten().numpy().tobytes())
        return {"cells": base64.b64encode(packed).decode("ascii"), "shape": list(self.cells.shape)}

    @classmethod
    def from_json(cls, value: Any, shape: Sequence[int], title: str = "") -> Region:
        """What `to_json` wrote, for a tensor of this shape.

        Raises:
            EditRefused: it is damaged, or does not fit.
        """
        if isinstance(value, str):
            return cls.parse(value, shape, title)
        try:
            raw = zlib.decompress(base64.b64decode(value["cells"], validate=True))
            flat = torch.frombuffer(bytearray(raw), dtype=torch.int64) if raw else torch.empty(0, dtype=torch.int64)
            return cls.of_cells(shape, flat.view([int(size) for size in value["shape"]]), title)
        except (KeyError, TypeError, ValueError, RuntimeError, zlib.error) as error:
            if isinstance(error, EditRefused):
                raise
            raise EditRefused(
                f"{_subject(title, tuple(shape))}: a region of a recipe cannot be read: {error}."
            ) from error


def _subject(title: str, shape: tuple[int, ...]) -> str:
    return title or f"tensor {list(shape)}"


def _slice_text(axis: Axis, size: int) -> str:
    start, stop, step = axis
    if axis == (0, size, 1):
        return ":"
    text = f"{start}:{stop}"
    return f"{text}:{step}" if step != 1 else text


def _plain(item: Any, subject: str) -> Any:
    """One item of an index as int, slice, Ellipsis or index tensor on the CPU."""
    if item is Ellipsis or (
        isinstance(item, slice) and all(_is_int(i) for i in (item.start, item.stop, item.step) if i is not None)
    ):
        return item
    if _is_int(item):
        return int(item)
    if isinstance(item, list) or hasattr(item, "__array__"):
        try:
            item = torch.as_tensor(item, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise EditRefused(
                f"{subject}: {error}. An index is made of integers, slices, masks and index tensors."
            ) from error
    if isinstance(item, Tensor):
        if item.is_meta or item.layout is not torch.strided or item.is_quantized:
            raise EditRefused(
                f"{subject}: an index tensor must be dense and hold values, got {item.dtype} on {item.device}."
            )
        if item.dtype == torch.bool:
            return item.detach().cpu()
        if not item.dtype.is_floating_point and not item.dtype.is_complex:
            return item.detach().to("cpu", torch.int64)
        if item.numel() == 0:
            return item.detach().to("cpu", torch.int64)
        got = f"a tensor of {str(item.dtype).removeprefix('torch.')}"
    else:
        got = "None" if item is None else f"{type(item).__name__} {item!r:.40}"
    raise EditRefused(
        f"{subject}: an index is made of integers, slices, '...', boolean masks and index tensors, got {got}. "
        f"For example [3, :, 1:2]."
    )


def _is_int(item: Any) -> bool:
    return (isinstance(item, int) and not isinstance(item, bool)) or (
        type(item).__module__ == "numpy" and hasattr(item, "__index__") and getattr(item, "shape", ()) == ()
    )


def _check_count(items: list[Any], shape: tuple[int, ...], subject: str) -> None:
    if sum(item is Ellipsis for item in items) > 1:
        raise EditRefused(f"{subject}: an index can hold '...' once. Write the axes out.")
    given = sum(i.ndim if isinstance(i, Tensor) and i.dtype == torch.bool else 1 for i in items if i is not Ellipsis)
    if given > len(shape):
        example = "[" + ", ".join(["3" if n == 0 else ":" for n in range(len(shape))]) + "]" if shape else "[...]"
        raise EditRefused(
            f"{subject}: the index has {given} axes, the tensor has {len(shape)}. "
            f"Give at most one index per axis, for example {example}."
        )


def _parse(text: str, subject: str) -> tuple[Any, ...]:
    """An index expression as a tuple for `Region.index`. A grammar of its own: nothing is evaluated."""

    def refuse() -> EditRefused:
        return EditRefused(
            f"{subject}: {text[:60]!r} is no index expression. Write for example [3, :, 1:2], -1 or [0:4]."
        )

    tokens, at = [], 0
    stripped = text.strip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if not match:
            raise refuse()
        tokens.append(match.group(1))
        at = match.end()
    if tokens and tokens[0] == "[" and _closing(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
        if not tokens:
            raise refuse()  # `w[[]]` names no cells; it must not become the whole tensor
    if not tokens:
        return ()
    items: list[Any] = []
    for part in _split(tokens, refuse):
        if len(part) == 1 and part[0] == "...":
            items.append(Ellipsis)
        elif len(part) == 1 and part[0].lstrip("-").isdigit():
            items.append(int(part[0]))
        elif part[0] == "[" and part[-1] == "]":
            inner = _split(part[1:-1], refuse)
            if not all(len(p) == 1 and p[0].lstrip("-").isdigit() for p in inner):
                raise refuse()
            items.append([int(p[0]) for p in inner])
        elif ":" in part and all(p == ":" or p.lstrip("-").isdigit() for p in part) and part.count(":") <= 2:
            fields: list[int | None] = [None]
            for p in part:
                if p == ":":
                    fields.append(None)
                elif fields[-1] is None:
                    fields[-1] = int(p)
                else:
                    raise refuse()
            items.append(slice(*fields) if len(fields) > 1 else slice(fields[0]))
        else:
            raise refuse()
    return tuple(items)


def _closing(tokens: list[str]) -> int:
    """Where the bracket that opens the tokens closes; -1 if it does not."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token == "[") - (token == "]")
        if depth == 0:
            return at
    return -1


def _split(tokens: list[str], refuse: Any) -> list[list[str]]:
    """Tokens between commas at the outer level; a comma after the last item is allowed, as in Python."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token == "[") - (token == "]")
        if token == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    if depth or not all(parts):
        raise refuse()
    return parts
