"""`Entry`: one undo step, and the `Patch`es of cells that it is made of.

A patch keeps one side of the change only. Undo and redo swap it with what the cells hold, so that an entry costs the
edited cells once, and both directions restore bytes instead of computing them again. A fingerprint of the cells as the
journal left them tells whether somebody else has changed them since (rule J8).
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from weightlab.edit.operations import Edit
from weightlab.edit.saved import Saved
from weightlab.errors import UndoConflict
from weightlab.model import storage
from weightlab.model.region import Region


class Patch(ABC):
    """One side of a change; *state*: `swap` turns it to the other side.

    Attributes:
        name: what it changes, for errors: a dotted name, "fc.weight: exp_avg", or a hold.
    """

    name: str

    @property
    def nbytes(self) -> int:
        """Bytes kept for undo, in memory or on disk."""
        return 0

    @property
    def held(self) -> int:
        """Bytes kept in memory, which `to_disk` would free."""
        return 0

    def to_disk(self) -> None:  # noqa: B027 (most patches hold nothing)
        """Move what is held in memory to the temporary file."""

    def conflict(self, current: Tensor | None) -> str:
        """Why swapping would lose somebody's work, or cannot be done; empty when all is as the journal left it.

        Args:
            current: what the model holds under `name` now, where that is a tensor's name.
        """
        return ""

    @abstractmethod
    def swap(self, forced: bool = False) -> None:
        """Exchange the present side with the kept one. A forced undo keeps what redo would have given."""


class CellPatch(Patch):
    """Cells of one tensor.

    Args:
        saved: the bytes on the other side of the present ones.
        mark: fingerprint of the cells as the journal left them.
        change: computes the new cells from the old ones again, for redo after a forced undo.
    """

    def __init__(
        self, name: str, tensor: Tensor, region: Region, saved: Saved, mark: bytes, change: Callable[[Tensor], None]
    ) -> None:
        self.name = name
        self.region = region
        self._tensor = weakref.ref(tensor)
        self._saved = saved
        self._mark = mark
        self._change = change

    @property
    def nbytes(self) -> int:
        listed = self.region.cells
        return self._saved.nbytes + (listed.numel() * listed.element_size() if listed is not None else 0)

    @property
    def held(self) -> int:
        return 0 if self._saved.on_disk else self.nbytes

    def to_disk(self) -> None:
        self._saved.to_disk()

    def show(self, copy: Tensor) -> None:
        """Write the other side into a copy of the tensor."""
        storage.put(copy, self.region, self._saved.tensor())

    def conflict(self, current: Tensor | None) -> str:
        tensor = self._tensor()
        if tensor is None or (current is not None and current is not tensor):
            return f"{self.name}: the model holds another tensor under this name since the edit"
        if tuple(tensor.shape) != self.region.shape or tensor.dtype != self._saved.dtype:
            was, now = (self.region.shape, self._saved.dtype), (tuple(tensor.shape), tensor.dtype)
            return f"{self.name}: its shape or dtype was changed since the edit, from {was} to {now}"
        if storage.fingerprint(storage.read(tensor, self.region)) != self._mark:
            where = "" if self.region.is_whole else self.region
            return f"{self.name}{where}: its cells were changed since the edit by other code"
        return ""

    def swap(self, forced: bool = False) -> None:
        tensor = self._tensor()
        if tensor is None or tuple(tensor.shape) != self.region.shape or tensor.dtype != self._saved.dtype:
            raise UndoConflict(
                f"{self.name}: the model no longer holds the tensor that was edited. Make the edit anew."
            )
        old = self._saved.tensor()
        new = storage.read(tensor, self.region).cpu()
        if forced:
            new = old.clone()
            with storage.writing(new):
                self._change(new)
        storage.put(tensor, self.region, old)
        self._mark = storage.fingerprint(old)
        self._saved.replace(new)


class ActionPatch(Patch):
    """Something that is not cells: `undo` takes it back, `redo` does it again."""

    def __init__(self, name: str, undo: Callable[[], None], redo: Callable[[], None]) -> None:
        self.name = name
        self._next, self._after = undo, redo

    def swap(self, forced: bool = False) -> None:
        self._next()
        self._next, self._after = self._after, self._next


class FlagPatch(Patch):
    """`requires_grad` of one parameter."""

    def __init__(self, name: str, tensor: Tensor, before: bool) -> None:
        self.name = name
        self._tensor = weakref.ref(tensor)
        self._other = before

    def conflict(self, current: Tensor | None) -> str:
        tensor = self._tensor()
        if tensor is None or (current is not None and current is not tensor):
            return f"{self.name}: the model holds another tensor under this name since the edit"
        return f"{self.name}: requires_grad was changed since the edit" if tensor.requires_grad is self._other else ""

    def swap(self, forced: bool = False) -> None:
        tensor = self._tensor()
        if tensor is None:
            raise UndoConflict(f"{self.name}: the model no longer holds this parameter. Make the edit anew.")
        flag, self._other = self._other, tensor.requires_grad
        tensor.requires_grad_(flag)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Entry:
    """One undo step.

    Attributes:
        id: counts up from 1 over the journal's life.
        edits: what was asked, with complete arguments (seeds too).
        text: in words; `code`: statements of plain PyTorch that run with `torch` and `model` in scope.
        cells: how many changed.
        names: names that changed, with all tied ones.
        requested, stored: the first eight changed cells as asked and as read back, 1-D.
        rounded: how many cells were stored otherwise than asked.
        moments: optimizer states that were changed with the weight.
        notes: what the user should know, such as NaN cells that a clamp left.
        changed: per tensor the bounds of what changed, `(start, stop)` per axis.
    """

    id: int
    edits: tuple[Edit, ...]
    text: str
    code: str
    cells: int
    names: tuple[str, ...]
    requested: Tensor
    stored: Tensor
    rounded: int
    moments: tuple[str, ...]
    notes: tuple[str, ...]
    changed: tuple[tuple[str, Region], ...]
    patches: tuple[Patch, ...]

    @property
    def nbytes(self) -> int:
        """Bytes kept for undo, in memory or on disk."""
        return sum(patch.nbytes for patch in self.patches)

    def __repr__(self) -> str:
        return f"Entry({self})"

    def __str__(self) -> str:
        return f"{self.id}  {self.text}  ({self.cells} cell{'s' if self.cells != 1 else ''})"
