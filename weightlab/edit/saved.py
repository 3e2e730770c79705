"""Tensors that undo keeps: in memory, or in a temporary file once the budget is spent (rule J6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from weightlab.edit.spill import Place, Spill
from weightlab.model import storage

SPELLED = 64  # values that code writes as numbers, and more as compressed bytes


class Saved:
    """A tensor on the CPU, in memory or on disk; *state*."""

    __slots__ = ("_cells", "_place", "dtype", "nbytes", "shape")

    def __init__(self, cells: Tensor) -> None:
        self._cells: Tensor | None = cells
        self._place: Place | None = None
        self.shape, self.dtype = tuple(cells.shape), cells.dtype
        self.nbytes = cells.numel() * cells.element_size()

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return 0 if self._cells is None else self.nbytes

    def to_disk(self, spill: Spill) -> None:
        """Move it to the file.

        Raises:
            OSError: there is no room; it stays in memory.
        """
        if self._cells is not None and self.nbytes:
            flat = self._cells.contiguous().reshape(-1).view(torch.uint8)
            self._place = spill.write(memoryview(storage.as_array(flat)))
            self._cells = None

    def tensor(self) -> Tensor:
        """The tensor, read back if it is on disk."""
        cells = self._cells  # looked up once: another thread may move it
        if cells is not None:
            return cells
        assert self._place is not None
        return torch.frombuffer(self._place.read(), dtype=self.dtype).view(self.shape)

    def equals(self, cells: Tensor) -> bool:
        """Whether these are the very bytes."""
        if (self.shape, self.dtype) != (tuple(cells.shape), cells.dtype):
            return False
        return torch.equal(storage.as_integers(self.tensor()), storage.as_integers(cells))


class SavedList(Saved):
    """A list of whole numbers, for which Python needs nine times the bytes."""

    __slots__ = ()


class Arguments(Mapping[str, Any]):
    """An edit's arguments, of which tensors and long lists of numbers may be on disk.

    A recipe needs what was asked for, and the cells do not tell it: a training step may have changed them since. So an
    entry keeps it, counts it, and moves it to the file as it does with the old cells.
    """

    __slots__ = ("_items",)

    def __init__(self, args: Mapping[str, Any]) -> None:
        self._items = {key: _kept(value) for key, value in args.items()}

    def __getitem__(self, key: str) -> Any:
        value = self._items[key]
        if isinstance(value, SavedList):
            return value.tensor().tolist()
        return value.tensor() if isinstance(value, Saved) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr({key: f"<{list(v.shape)}>" if isinstance(v, Saved) else v for key, v in self._items.items()})

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def narrow(self, key: str, cells: Tensor) -> None:
        """Keep what the cells took of a value for each, where theirs is another type and no wider: copying it gives the same bytes.

        Few values stay as they were given, to be spelled so.
        """
        given, size = self._items[key], cells.numel() * cells.element_size()
        other = given.shape == tuple(cells.shape) and given.dtype != cells.dtype
        if other and given.nbytes >= size and cells.numel() > SPELLED:
            self._items[key] = Saved(cells.detach().to("cpu", copy=True, memory_format=torch.contiguous_format))

    @property
    def saved(self) -> tuple[Saved, ...]:
        """What costs memory."""
        return tuple(value for value in self._items.values() if isinstance(value, Saved))

    @property
    def numel(self) -> int:
        """Values of tensors, as code spells them out; nothing is read for it."""
        return sum(torch.Size(value.shape).numel() for value in self.saved if not isinstance(value, SavedList))


def _kept(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Saved(value.resolve_conj().resolve_neg())
    if isinstance(value, list) and len(value) > 16 and all(type(item) is int and 0 <= item < 2**31 for item in value):
        return SavedList(torch.tensor(value, dtype=torch.int32, device="cpu"))
    return value
