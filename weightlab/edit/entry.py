"""`Entry`: one undo step, and the `Patch`es of cells that it is made of.

A patch keeps one side of the change only. Undo and redo swap it with what the cells hold, so that an entry costs the
edited cells once, and both directions restore bytes instead of computing them again. A fingerprint of the cells as the
journal left them tells whether somebody else has changed them since (rule J8); many cells that an operation merely
selects are computed once more from the saved ones instead, when somebody asks, so that the edit itself is not slowed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weightlab.edit.operations import Edit
from weightlab.edit.saved import Arguments, Saved
from weightlab.edit.spill import Spill
from weightlab.errors import UndoConflict
from weightlab.model import storage
from weightlab.model.packed import PackedRegion, packed
from weightlab.model.region import Region

Find = Callable[[], "Tensor | None"]


def identity(tensor: Tensor | None) -> object:
    """Tells a Parameter from another one in its place.

    Not by its memory: `share_memory()` and `to(device)` give a Parameter new memory with the same values, and a module
    a new buffer. Whether values are as they were left, the cells tell.
    """
    return id(tensor) if isinstance(tensor, nn.Parameter) else None


class Patch(ABC):
    """One side of a change; *state*: `swap` turns it to the other side.

    Attributes:
        name: what it changes, for errors: a dotted name, "fc.weight: exp_avg", or a hold.
        left_out: in words, where it is a change of the model that no Edit says, and that a recipe therefore lacks.
        spelled: how many values its code spells out, beside those of Edits.
        lost: in words, what the last `swap` could not bring back.
    """

    name: str
    left_out: str = ""
    spelled: int = 0
    lost: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes kept for undo, in memory or on disk."""
        return 0

    @property
    def held(self) -> int:
        """Bytes kept in memory, which `to_disk` would free."""
        return 0

    def to_disk(self, spill: Spill) -> None:  # noqa: B027 (most patches hold nothing)
        """Move what is held in memory to the temporary file."""

    def conflict(self) -> str:
        """Why swapping would lose somebody's work, or cannot be done; empty when all is as the journal left it."""
        return ""

    @abstractmethod
    def swap(self, forced: bool = False) -> None:
        """Exchange the present side with the kept one. A forced undo keeps what redo would have given."""


class CellPatch(Patch):
    """Cells of one tensor.

    The tensor is found anew each time: a weak reference to a parameter would keep `torch.nn.Module` from swapping it.

    Args:
        find: returns the tensor that is meant, as it is now; None where there is none any more.
        saved: the bytes on the other side of the present ones.
        mark: fingerprint of the cells as the journal left them; None: `change` of the saved cells gives these very bytes.
        change: computes the new cells from the old ones again, for redo after a forced undo.
        args: those of the edit: a recipe needs them for as long as the entry is there.
    """

    def __init__(
        self,
        name: str,
        find: Find,
        region: Region,
        saved: Saved,
        mark: bytes | None,
        change: Callable[[Tensor], None],
        args: Arguments | None = None,
    ) -> None:
        self.name = name
        self.region = packed(region)
        self._find = find
        self._written = identity(find())
        self._saved = saved
        self._mark = mark
        self._change = change
        self._args = args.saved if args else ()

    @property
    def dtype(self) -> torch.dtype:
        """Of the cells that are kept."""
        return self._saved.dtype

    @property
    def nbytes(self) -> int:
        listed = self.region.nbytes if isinstance(self.region, PackedRegion) else 0
        return listed + sum(saved.nbytes for saved in self._kept)

    @property
    def held(self) -> int:
        listed = self.region.held if isinstance(self.region, PackedRegion) else 0
        return listed + sum(saved.held for saved in self._kept)

    @property
    def _kept(self) -> tuple[Saved, ...]:
        return self._args if self._saved in self._args else (self._saved, *self._args)

    def to_disk(self, spill: Spill) -> None:
        for saved in self._kept:
            saved.to_disk(spill)
        if isinstance(self.region, PackedRegion):
            self.region.move(lambda kept: _on_disk(kept, spill))

    def show(self, copy: Tensor) -> None:
        """Write the other side into a copy of the tensor."""
        storage.put(copy, self.region, self._saved.tensor())

    def conflict(self) -> str:
        tensor = self._find()
        if tensor is None:
            return f"{self.name}: the model no longer holds this tensor"
        if tuple(tensor.shape) != self.region.shape or tensor.dtype != self._saved.dtype:
            was, now = (list(self.region.shape), self._saved.dtype), (list(tensor.shape), tensor.dtype)
            return f"{self.name}: its shape or dtype was changed since the edit, from {was} to {now}"
        if self._is_another(tensor):
            return f"{self.name}: the model holds another tensor under this name since the edit"
        if not self._as_left(tensor):
            where = "" if self.region.is_whole else self.region
            return f"{self.name}{where}: its cells were changed since the edit by other code"
        return ""

    def _is_another(self, tensor: Tensor) -> bool:
        return identity(tensor) != self._written

    def _as_left(self, tensor: Tensor) -> bool:
        """Whether the cells hold the bytes that the journal left in them."""
        now = storage.read(tensor, self.region)
        if self._mark is not None:
            return storage.fingerprint(now) == self._mark
        expected = self._saved.tensor().to(tensor.device, copy=True)
        with storage.writing(expected):
            self._change(expected)
        return torch.equal(storage.as_integers(expected), storage.as_integers(now))

    def swap(self, forced: bool = False) -> None:
        tensor = self._find()
        if tensor is None or tuple(tensor.shape) != self.region.shape:
            raise UndoConflict(
                f"{self.name}: the model no longer holds a tensor of shape {list(self.region.shape)} under this name, so "
                f"that there is no place for the old values. Make the edit anew on what it holds."
            )
        # A model that was cast since takes the old values in its new dtype; that is forced, and exact where they fit.
        old = self._saved.tensor().to(tensor.dtype)
        new = storage.read(tensor, self.region).cpu()
        if forced:
            new = old.clone()
            with storage.writing(new):
                self._change(new)
        storage.put(tensor, self.region, old)
        self._written = identity(tensor)
        self._mark = storage.fingerprint(old)
        # What `copy_` wrote are its own values, which are kept already.
        self._saved = next((each for each in self._args if each.equals(new)), None) or Saved(new)


def _on_disk(array: Any, spill: Spill) -> Callable[[], Any]:
    saved = Saved(torch.from_numpy(array))
    saved.to_disk(spill)
    return lambda: saved.tensor().numpy()


class CompanionPatch(CellPatch):
    """Cells that an optimizer keeps for a weight. It may load its state, and then has another tensor, or none."""

    def conflict(self) -> str:
        return "" if self._find() is None else super().conflict()

    def _is_another(self, tensor: Tensor) -> bool:
        return False

    def swap(self, forced: bool = False) -> None:
        if self.lost:  # the way back from where there was none
            self.lost = ""
        elif self._find() is None:
            self.lost = f"{self.name} was not brought back: the optimizer does not keep it any more"
        else:
            super().swap(forced)


class ActionPatch(Patch):
    """Something that is not cells: `undo` takes it back, `redo` does it again."""

    def __init__(
        self, name: str, undo: Callable[[], None], redo: Callable[[], None], left_out: str = "", spelled: int = 0
    ) -> None:
        self.name, self.left_out, self.spelled = name, left_out, spelled
        self._next, self._after = undo, redo

    def swap(self, forced: bool = False) -> None:
        self._next()
        self._next, self._after = self._after, self._next


class FlagPatch(Patch):
    """`requires_grad` of one parameter."""

    def __init__(self, name: str, find: Find, before: bool) -> None:
        self.name = name
        self._find = find
        self._other = before

    def conflict(self) -> str:
        tensor = self._find()
        if tensor is None:
            return f"{self.name}: the model no longer holds this parameter"
        return f"{self.name}: requires_grad was changed since the edit" if tensor.requires_grad is self._other else ""

    def swap(self, forced: bool = False) -> None:
        tensor = self._find()
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
        text: in words.
        cells: how many changed.
        held: how many were put under a hold; less than 0: released from one.
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
    cells: int
    held: int
    names: tuple[str, ...]
    requested: Tensor
    stored: Tensor
    rounded: int
    moments: tuple[str, ...]
    notes: tuple[str, ...]
    changed: tuple[tuple[str, Region], ...]
    patches: tuple[Patch, ...]
    spell: tuple[Callable[[], str], ...]

    @property
    def code(self) -> str:
        """Plain PyTorch that does the same, with `torch` and `model` in scope. Spelled when it is asked for."""
        return "\n".join(text for text in (spell() for spell in self.spell) if text)

    @property
    def size(self) -> int:
        """Values that the code has to spell out: listed cells and tensor arguments."""
        listed = sum(edit.region.numel for edit in self.edits if not edit.region.is_box)
        listed += sum(patch.spelled for patch in self.patches)
        return listed + sum(edit.args.numel for edit in self.edits if isinstance(edit.args, Arguments))

    @property
    def nbytes(self) -> int:
        """Bytes kept for undo, in memory or on disk."""
        return sum(patch.nbytes for patch in self.patches)

    def __repr__(self) -> str:
        return f"Entry({self})"

    def __str__(self) -> str:
        many = self.cells or abs(self.held)
        cells = f"  ({many} cell{'s' if many != 1 else ''})" if many else ""
        return f"{self.id}  {self.text}{cells}"


def may_overlap(regions: Sequence[Region]) -> bool:
    """Whether the boxes around two of these regions meet; of many it is not looked for."""
    boxes = [region.bounds for region in regions] if len(regions) <= 32 else []
    return len(regions) > 32 or any(
        all(max(a, b) < min(c, d) for (a, c), (b, d) in zip(one, other, strict=True))
        for at, one in enumerate(boxes)
        for other in boxes[:at]
    )


def changed_by(patches: Sequence[CellPatch], tensor: Tensor) -> int:
    """How many cells several patches of one tensor, oldest first, changed in the end."""
    now = storage.read(tensor, Region.whole(tensor.shape))
    before = now.clone()
    for patch in reversed(patches):
        patch.show(before)
    return int(storage.differing(before, now).count_nonzero())
