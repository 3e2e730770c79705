"""`Entry`: one undo step, and the `Patch`es of cells that it is made of.

A patch keeps one side of the change only. Undo and redo swap it with what the cells hold, so that an entry costs the
edited cells once, and both directions restore bytes instead of computing them again. A fingerprint of the cells as the
journal left them tells whether somebody else has changed them since (rule J8).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from weightlab.edit.operations import Edit
from weightlab.edit.saved import Saved
from weightlab.errors import UndoConflict
from weightlab.model import storage
from weightlab.model.region import Region


@dataclass(slots=True, eq=False)
class Patch:
    """One side of a change of cells; *state*: `swap` turns it to the other side.

    Attributes:
        name: dotted name; for optimizer state "fc.weight: exp_avg".
        tensor: weak reference to the tensor that was written.
        saved: the bytes on the other side of the present ones.
        mark: fingerprint of the cells as the journal left them.
        change: computes the new cells from the old ones again, for redo after a forced undo.
        flag: for `requires_grad_`: the value on the other side.
    """

    name: str
    tensor: weakref.ref[Tensor]
    region: Region
    saved: Saved
    mark: bytes
    change: Callable[[Tensor], None] | None = None
    flag: bool | None = None

    @property
    def nbytes(self) -> int:
        listed = self.region.cells
        return self.saved.nbytes + (listed.numel() * listed.element_size() if listed is not None else 0)

    def conflict(self, current: Tensor | None) -> str:
        """Why swapping would lose somebody's work, or cannot be done; empty when all is as the journal left it."""
        tensor = self.tensor()
        if tensor is None or (current is not None and current is not tensor):
            return f"{self.name}: the model holds another tensor under this name since the edit"
        if self.flag is not None:
            return f"{self.name}: requires_grad was changed since the edit" if tensor.requires_grad is self.flag else ""
        if tuple(tensor.shape) != self.region.shape:
            return f"{self.name}: its shape was changed since the edit, from {list(self.region.shape)} to {list(tensor.shape)}"
        if storage.fingerprint(storage.read(tensor, self.region)) != self.mark:
            return f"{self.name}{'' if self.region.is_whole else self.region}: its cells were changed since the edit by other code"
        return ""

    def swap(self, forced: bool = False) -> None:
        """Exchange the cells with the saved ones. A forced undo keeps what redo would have given, not what it met."""
        tensor = self.tensor()
        if tensor is None:
            raise UndoConflict(
                f"{self.name}: the model no longer holds the tensor that was edited. Make the edit anew."
            )
        if self.flag is not None:
            self.flag, flag = tensor.requires_grad, self.flag
            tensor.requires_grad_(flag)
            return
        old = self.saved.tensor()
        new = storage.read(tensor, self.region).cpu()
        if forced and self.change is not None:
            new = old.clone()
            with storage.writing(new):
                self.change(new)
        storage.put(tensor, self.region, old)
        self.mark = storage.fingerprint(old)
        self.saved.replace(new)


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
