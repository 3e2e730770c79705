"""`PackedRegion`: listed cells that cost little while an entry keeps them (rule J6)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model.region import Region


class PackedRegion(Region):
    """A region of listed cells that gives its indices when asked, and keeps them in the least memory; *state*.

    `close` packs them, once the edit is made, in whichever way takes the least:

    - lines: rows, columns or both, as index tensors of single axes pick them, are a sum of one number per index of each
      axis: `cells[i, j] = row[i] + column[j]`. Only those are kept, and of evenly spaced ones the first two.
    - gaps between ascending indices in one or two bytes each, with an escape for wider ones; or bits, one per cell of the
      box around them. A mask gives ascending indices. At random with a share p of all cells, no code takes less than h(p) / p
      bits a cell, h being the binary entropy: 8.1 bits at 1 %, where this takes 8.7; 2.9 bits at 30 %, where this takes 3.3.
    - indices in four bytes each, where nothing else is less.
    """

    __slots__ = ("_around", "_bounds", "_code", "_first", "_lengths", "_nbytes", "_open", "_read", "_view", "held")

    _open: Tensor | None
    _code: str
    _read: Callable[[], Any]
    _view: tuple[int, ...]
    _around: tuple[tuple[int, int], ...]
    _bounds: tuple[tuple[int, int], ...] | None
    _first: int
    _lengths: list[int]
    _nbytes: int
    held: int

    def __init__(self, region: Region) -> None:
        assert region.cells is not None
        for name in ("shape", "axes", "dropped"):
            object.__setattr__(self, name, getattr(region, name))
        self._set(_view=region.view_shape, _bounds=None, _open=region.cells, held=8 * region.numel)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def cells(self) -> Tensor:
        cells = self._open  # looked up once: another thread may close it
        return self._unpacked().view(self._view) if cells is None else cells

    @property
    def is_box(self) -> bool:
        return False

    @property
    def view_shape(self) -> tuple[int, ...]:
        return self._view

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """As any region's; found once, since a page is told those of every entry again and again."""
        if self._bounds is None:
            self._set(_bounds=super().bounds)
        assert self._bounds is not None
        return self._bounds

    @property
    def nbytes(self) -> int:
        """Bytes that the list of cells costs, in memory or where `move` put it."""
        self.close()
        return self._nbytes

    def close(self) -> None:
        """Pack the indices and let go of the list."""
        if self._open is not None:
            self._pack(self._open.numpy())
            self._set(_open=None)

    def move(self, keep: Callable[[Any], Callable[[], Any]]) -> None:
        """Let go of the packed indices too: `keep` gets the array, and returns what reads it back."""
        self.close()
        if self.held:
            self._set(_read=keep(self._read()), held=0)

    def _pack(self, cells: Any) -> None:
        flat = cells.reshape(-1)
        size = Region.whole(self.shape).numel
        narrow = np.dtype(np.int32 if size < 2**31 else np.int64)
        costs = {"indices": len(flat) * narrow.itemsize}
        lines = [_first_two_if_even(line) for line in _lines(cells)]
        if lines:
            costs["lines"] = sum(map(len, lines)) * narrow.itemsize
        gaps = np.diff(flat) if len(flat) and self.shape and costs.get("lines", len(flat)) * 8 >= len(flat) else None
        if gaps is not None and (not len(gaps) or int(gaps.min()) >= 1):
            box = self.bounds
            sizes = tuple(stop - start for start, stop in box)
            costs["bits"] = -(-int(np.prod(sizes, dtype=np.int64)) // 8)
            costs |= {f"gaps{itemsize}": _escaped_size(gaps, itemsize) for itemsize in (1, 2)}
        code = min(costs, key=lambda code: costs[code])
        if code == "bits":
            self._keep_bits(flat, box, sizes)
        elif code == "lines":
            self._set(_lengths=[len(line) for line in lines])
            self._keep(code, np.concatenate(lines).astype(narrow))
        elif code == "indices":
            self._keep(code, flat.astype(narrow))
        else:
            self._keep(code, _escaped(gaps, int(code[-1])), int(flat[0]))

    def _keep(self, code: str, kept: Any, first: int = 0) -> None:
        self._set(_code=code, _first=first, _read=lambda: kept, _nbytes=int(kept.nbytes), held=int(kept.nbytes))

    def _keep_bits(self, flat: Any, box: tuple[tuple[int, int], ...], sizes: tuple[int, ...]) -> None:
        mask, first = np.zeros(sizes, dtype=bool), 0
        if sizes[1:] == self.shape[1:]:
            first = box[0][0] * (mask.size // sizes[0])
            mask.reshape(-1)[flat - first] = True
        else:
            at = np.unravel_index(flat, self.shape)
            mask[tuple(axis - start for axis, (start, _) in zip(at, box, strict=True))] = True
        self._set(_around=box)
        self._keep("bits", np.packbits(mask), first)

    def _unpacked(self) -> Tensor:
        kept = self._read()
        if self._code == "indices":
            return torch.from_numpy(kept.astype(np.int64))
        if self._code == "lines":
            lines = np.split(kept.astype(np.int64), np.cumsum(self._lengths)[:-1])
            return torch.from_numpy(_sums([_all(line, size) for line, size in zip(lines, self._view, strict=True)]))
        if self._code != "bits":
            return torch.from_numpy(np.concatenate(([self._first], self._first + _unescaped(kept))))
        sizes = tuple(stop - start for start, stop in self._around)
        found = np.unpackbits(kept, count=int(np.prod(sizes, dtype=np.int64))).nonzero()[0]
        if sizes[1:] == self.shape[1:]:  # whole rows: no coordinates have to be computed
            return torch.from_numpy(found.astype(np.int64, copy=False)).add_(self._first)
        at = np.unravel_index(found, sizes)
        moved = tuple(axis + start for axis, (start, _) in zip(at, self._around, strict=True))
        return torch.from_numpy(np.ravel_multi_index(moved, self.shape).astype(np.int64, copy=False))

    def __reduce__(self) -> Any:
        return PackedRegion, (Region(self.shape, self.axes, self.dropped, self.cells),)


def _lines(cells: Any) -> list[Any]:
    """One array per axis whose sums are the cells; none where there is no such array."""
    if not cells.ndim or not cells.size:
        return []
    lines = []
    for axis in range(cells.ndim):
        at: list[Any] = [0] * cells.ndim
        at[axis] = slice(None)
        line = cells[tuple(at)]
        lines.append(line - line[0] if axis else line)
    return lines if np.array_equal(_sums(lines), cells) else []


def _first_two_if_even(line: Any) -> Any:
    steps = np.diff(line)
    return line[:2] if len(line) > 2 and bool((steps == steps[0]).all()) else line


def _all(line: Any, size: int) -> Any:
    return line if len(line) == size else line[0] + (line[1] - line[0]) * np.arange(size)


def _sums(lines: list[Any]) -> Any:
    return reduce(np.add.outer, lines)


def packed(region: Region) -> Region:
    """The same cells for an entry to keep; a box costs nothing as it is."""
    return region if region.cells is None or isinstance(region, PackedRegion) else PackedRegion(region)


def close(region: Region) -> None:
    """Pack the cells of a region that `packed` made; the edit is done."""
    if isinstance(region, PackedRegion):
        region.close()


def _escaped_size(gaps: Any, itemsize: int) -> int:
    most = 256**itemsize - 1
    return itemsize * (len(gaps) + int(((gaps - 1) // most).sum()))


def _escaped(gaps: Any, itemsize: int) -> Any:
    """Gaps from 1 on as codes: the largest code means that as much is to be added and the gap goes on, any other ends it."""
    kind = np.dtype(f"u{itemsize}")
    most = int(np.iinfo(kind).max)
    ends = np.cumsum((gaps - 1) // most + 1) - 1
    codes = np.full(int(ends[-1]) + 1 if len(ends) else 0, most, kind)
    codes[ends] = (gaps - 1) % most
    return codes


def _unescaped(codes: Any) -> Any:
    """Running sums of the gaps."""
    most = np.iinfo(codes.dtype).max
    ends = codes != most
    return np.cumsum(codes.astype(np.int64) + ends)[ends]
