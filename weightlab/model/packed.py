"""`PackedRegion`: listed cells that cost little while an entry keeps them (rule J6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model.region import Region


class PackedRegion(Region):
    """A region of listed cells that gives its indices when asked, and keeps them in the least memory; *state*.

    Indices in ascending order, as a mask gives them, become a bit per cell of the box around them, or the gaps between
    them in one or two bytes each, whichever is less. Others take four bytes each. `close` does it, once the edit is made.
    """

    __slots__ = ("_around", "_first", "_kept", "_open", "_view")

    _open: Tensor | None
    _kept: Any
    _view: tuple[int, ...]
    _around: tuple[tuple[int, int], ...] | None
    _first: int

    def __init__(self, region: Region) -> None:
        assert region.cells is not None
        values: dict[str, Any] = {
            "shape": region.shape,
            "axes": region.axes,
            "dropped": region.dropped,
            "_view": region.view_shape,
        }
        values |= {"_open": region.cells, "_kept": None, "_around": None, "_first": 0}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def cells(self) -> Tensor:
        cells = self._open  # looked up once: another thread may close it
        return self._unpacked() if cells is None else cells

    @property
    def is_box(self) -> bool:
        return False

    @property
    def view_shape(self) -> tuple[int, ...]:
        return self._view

    @property
    def nbytes(self) -> int:
        """Bytes that the list of cells costs."""
        self.close()
        return int(self._kept.nbytes)

    def close(self) -> None:
        """Pack the indices and let go of the list."""
        if self._open is not None:
            self._pack(self._open)
            object.__setattr__(self, "_open", None)

    def _pack(self, cells: Tensor) -> None:
        flat = cells.numpy().reshape(-1)
        narrow = np.int32 if self._size() < 2**31 else np.int64
        gaps = np.diff(flat) if cells.ndim == 1 and len(flat) and self.shape else None
        if gaps is None or (len(gaps) and int(gaps.min()) < 1):
            object.__setattr__(self, "_kept", flat.astype(narrow))
            return
        most = int(gaps.max()) if len(gaps) else 0
        gap = next((kind for kind in (np.uint8, np.uint16) if most <= np.iinfo(kind).max), narrow)
        box = Region(self.shape, self.axes, self.dropped, cells).bounds
        sizes = tuple(stop - start for start, stop in box)
        bits = -(-int(np.prod(sizes, dtype=np.int64)) // 8)
        if bits < len(gaps) * np.dtype(gap).itemsize:
            mask = np.zeros(sizes, dtype=bool)
            if sizes[1:] == self.shape[1:]:
                first = box[0][0] * (mask.size // sizes[0])
                object.__setattr__(self, "_first", first)
                mask.reshape(-1)[flat - first] = True
            else:
                at = np.unravel_index(flat, self.shape)
                mask[tuple(axis - start for axis, (start, _) in zip(at, box, strict=True))] = True
            object.__setattr__(self, "_around", box)
            object.__setattr__(self, "_kept", np.packbits(mask))
        else:
            object.__setattr__(self, "_first", int(flat[0]))
            object.__setattr__(self, "_kept", gaps.astype(gap))

    def _unpacked(self) -> Tensor:
        if self._around is not None:
            sizes = tuple(stop - start for start, stop in self._around)
            found = np.unpackbits(self._kept, count=int(np.prod(sizes, dtype=np.int64))).nonzero()[0]
            if sizes[1:] == self.shape[1:]:  # whole rows: no coordinates have to be computed
                return torch.from_numpy(found.astype(np.int64, copy=False)).add_(self._first)
            at = np.unravel_index(found, sizes)
            moved = tuple(axis + start for axis, (start, _) in zip(at, self._around, strict=True))
            return torch.from_numpy(np.ravel_multi_index(moved, self.shape).astype(np.int64, copy=False))
        count = self.numel
        if len(self._kept) == count:
            return torch.from_numpy(self._kept.astype(np.int64)).view(self._view)
        flat = np.empty(count, dtype=np.int64)
        flat[0] = self._first
        np.cumsum(self._kept, dtype=np.int64, out=flat[1:])
        flat[1:] += self._first
        return torch.from_numpy(flat)

    def _size(self) -> int:
        return Region.whole(self.shape).numel

    def __reduce__(self) -> Any:
        return PackedRegion, (Region(self.shape, self.axes, self.dropped, self.cells),)


def packed(region: Region) -> Region:
    """The same cells for an entry to keep; a box costs nothing as it is."""
    return region if region.cells is None or isinstance(region, PackedRegion) else PackedRegion(region)


def close(region: Region) -> None:
    """Pack the cells of a region that `packed` made; the edit is done."""
    if isinstance(region, PackedRegion):
        region.close()
