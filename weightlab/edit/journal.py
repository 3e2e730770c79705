"""Apply, undo, redo: every change of a tensor's cells is a `Patch` of an `Entry` of the `Journal`.

A patch keeps one side of the change only. Undo and redo swap it with what the cells hold, so that an entry costs the
edited cells once, and both directions restore bytes instead of computing them again. A fingerprint of the cells as the
journal left them tells whether somebody else has changed them since (rule J8).
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from weightlab.edit.arguments import Target, only_finite
from weightlab.edit.operations import Edit, Prepared, prepare
from weightlab.edit.saved import Saved, Spill
from weightlab.errors import EditRefused, UndoConflict
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, TensorInfo

SHOWN = 8


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
        if tensor is None or current is not None and current is not tensor:
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
            raise UndoConflict(f"{self.name}: the model no longer holds the tensor that was edited. Make the edit anew.")
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


@dataclass(slots=True, eq=False)
class _Step:
    """What one edit did, before it is part of an entry."""

    prepared: Prepared
    patches: list[Patch]
    cells: int
    names: tuple[str, ...]
    requested: Tensor
    stored: Tensor
    rounded: int
    notes: tuple[str, ...]
    moments: tuple[str, ...] = ()


# Given an applied edit, further (label, tensor, region) to zero under the same entry: the optimizer's moments.
Companions = Callable[[Edit, Tensor], Iterable[tuple[str, Tensor, Region]]]


class Journal:
    """Applied and undone entries of one model; *state*.

    Args:
        tree: finds tensors by name.
        undo_bytes: memory for undo. Past it the oldest entries move to a temporary file, with one warning.
    """

    def __init__(self, tree: ParameterTree, undo_bytes: int = 2**30) -> None:
        self.tree = tree
        self.undo_bytes = undo_bytes
        self._entries: list[Entry] = []
        self._position = 0
        self._next_id = 1
        self._open: list[_Step] | None = None
        self._spill = Spill()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first: `entries[:position]` are applied, the rest can be redone."""
        return tuple(self._entries)

    @property
    def position(self) -> int:
        return self._position

    @property
    def nbytes(self) -> int:
        """Bytes of memory that undo holds now; what was moved to disk does not count."""
        return sum(patch.nbytes for entry in self._entries for patch in entry.patches if not patch.saved.on_disk)

    def apply(self, edit: Edit, companions: Companions | None = None) -> Entry | None:
        """Apply one edit as an entry of its own, or as part of the open stroke.

        Returns:
            The entry; None when no byte changed or a stroke is open.

        Raises:
            UnknownName, EditRefused: nothing was changed (rule J3).
        """
        step = self._apply(edit)
        if step is None:
            return None
        try:
            for label, tensor, region in companions(step.prepared.edit, self.tree.tensor(edit.name)) if companions else ():
                step.patches.append(_zeroed(label, tensor, region))
                step.moments = (*step.moments, label)
        except BaseException:
            _take_back(step.patches)
            raise
        if self._open is not None:
            self._open.append(step)
            return None
        return self._record([step], step.prepared.text)

    @contextmanager
    def stroke(self, text: str) -> Iterator[list[Entry]]:
        """Several edits as one entry; an exception inside undoes them all and passes on.

        Yields a list that holds the entry once the block has ended, and stays empty when nothing changed. A stroke
        inside a stroke is part of it, and is undone alone if it fails.
        """
        made: list[Entry] = []
        outer, self._open = self._open, []
        try:
            yield made
        except BaseException:
            for step in reversed(self._open):
                _take_back(step.patches)
            self._open = outer
            raise
        steps, self._open = self._open, outer
        if outer is not None:
            outer.extend(steps)
        elif steps:
            made.append(self._record(steps, text))

    def undo(self, force: bool = False) -> Entry | None:
        """Take back the last applied entry, byte for byte (rule J2).

        Returns:
            The entry, or None when there is nothing to undo.

        Raises:
            UndoConflict: other code changed those cells since; nothing was done. `force=True` restores all the same.
        """
        self._refuse_in_stroke("undo")
        if self._position == 0:
            return None
        entry = self._entries[self._position - 1]
        self._swap(entry, tuple(reversed(entry.patches)), force, "undo")
        self._position -= 1
        return entry

    def redo(self, force: bool = False) -> Entry | None:
        """Apply the last undone entry again, with the bytes that it gave at first.

        Returns:
            The entry, or None when there is nothing to redo.

        Raises:
            UndoConflict: as `undo`.
        """
        self._refuse_in_stroke("redo")
        if self._position == len(self._entries):
            return None
        entry = self._entries[self._position]
        self._swap(entry, entry.patches, force, "redo")
        self._position += 1
        return entry

    def _refuse_in_stroke(self, what: str) -> None:
        if self._open is not None:
            raise EditRefused(f"journal: {what} is not possible inside a stroke. End the stroke first.")

    def _swap(self, entry: Entry, patches: Sequence[Patch], force: bool, what: str) -> None:
        done: list[Patch] = []
        try:
            for patch in patches:
                conflict = patch.conflict(self._current(patch))
                if conflict and not force:
                    raise UndoConflict(
                        f"{conflict}. {what.capitalize()} of '{entry.text}' would overwrite that. "
                        f"Call {what}(force=True) to do it all the same."
                    )
                # Redo under force gives the first result too: it is what the patch has saved.
                patch.swap(forced=bool(conflict) and what == "undo")
                done.append(patch)
        except BaseException:
            for patch in reversed(done):
                patch.swap()
            raise

    def _current(self, patch: Patch) -> Tensor | None:
        return self.tree.tensor(patch.name) if patch.name in self.tree else None

    def _apply(self, edit: Edit) -> _Step | None:
        info = self.tree[edit.name]
        if not info.editable:
            raise EditRefused(f"{info.title}: {info.reason}")
        tensor = self.tree.tensor(info.name)
        reason = storage.why_not_editable(tensor)
        if reason or tuple(tensor.shape) != edit.region.shape:
            reason = reason or f"the region is for shape {list(edit.region.shape)}. Index the tensor as it is now."
            raise EditRefused(f"{info.name} {list(tensor.shape)}: {reason}")
        edit = Edit(info.name, edit.region, edit.op, edit.args)
        target = _target(info, tensor, edit.region)
        prepared = prepare(edit, target, self.tree.expression(info.name))
        if edit.op == "requires_grad_":
            return _set_flag(prepared, info, tensor)
        if edit.region.numel == 0:
            return None
        before = storage.read(tensor, edit.region)
        try:
            storage.write(tensor, edit.region, prepared.change)
            after = storage.read(tensor, edit.region) if not edit.region.is_box else tensor.detach()[edit.region.slices]
            _refuse_not_finite(prepared, target, before, after)
            return self._measure(prepared, info, tensor, before, after)
        except BaseException as error:
            storage.put(tensor, edit.region, before)
            if isinstance(error, RuntimeError | TypeError | ValueError | NotImplementedError | IndexError | OverflowError):
                if not isinstance(error, EditRefused):
                    what = str(error).split("\n")[0].rstrip(".")
                    raise EditRefused(f"{info.title}: {edit.op} failed: {what}. Nothing was changed.") from error
            raise

    def _measure(
        self, prepared: Prepared, info: TensorInfo, tensor: Tensor, before: Tensor, after: Tensor
    ) -> _Step | None:
        """Read back (rule J7): what changed, what was asked, what is stored."""
        different = storage.differing(before, after)
        cells = int(different.count_nonzero())
        if cells == 0:
            return None
        first = _first(different, SHOWN)
        stored = after.reshape(-1)[first].cpu() if after.is_contiguous() else _at(after, first)
        requested, rounded = stored.clone(), 0
        asked = _asked(prepared, before)
        if asked is not None:
            missed = (asked != after.to(asked.dtype)) & ~(asked.isnan() & after.isnan())
            requested, rounded = _at(asked, first), int(missed.count_nonzero())
        value = prepared.edit.args.get("value")
        if prepared.edit.op == "fill_" and asked is None and isinstance(value, int) and int(stored[0].real) != value:
            requested, rounded = torch.full(stored.shape, value, dtype=torch.float64), cells
        patch = Patch(
            info.name,
            weakref.ref(tensor),
            prepared.edit.region,
            Saved(before.cpu(), self._spill),
            storage.fingerprint(after),
            prepared.change,
        )
        return _Step(
            prepared, [patch], cells, (info.name, *info.aliases), requested, stored, rounded, _notes(prepared, after)
        )

    def _record(self, steps: list[_Step], text: str) -> Entry:
        names = tuple(dict.fromkeys(name for step in steps for name in step.names))
        most = max(steps, key=lambda step: step.rounded)
        entry = Entry(
            id=self._next_id,
            edits=tuple(step.prepared.edit for step in steps),
            text=text,
            code="\n".join(step.prepared.code for step in steps),
            cells=sum(step.cells for step in steps),
            names=names,
            requested=most.requested,
            stored=most.stored,
            rounded=sum(step.rounded for step in steps),
            moments=tuple(dict.fromkeys(label for step in steps for label in step.moments)),
            notes=tuple(dict.fromkeys(note for step in steps for note in step.notes)),
            changed=tuple((step.prepared.edit.name, step.prepared.edit.region) for step in steps),
            patches=tuple(patch for step in steps for patch in step.patches),
        )
        self._next_id += 1
        del self._entries[self._position :]
        self._entries.append(entry)
        self._position += 1
        self._keep_budget()
        return entry

    def _keep_budget(self) -> None:
        """Rule J6: past the budget the oldest bytes go to disk; none is dropped."""
        held = self.nbytes
        for entry in self._entries:
            for patch in entry.patches:
                if held <= self.undo_bytes:
                    return
                if not patch.saved.on_disk:
                    held -= patch.nbytes
                    patch.saved.to_disk()
                    if self._spill.first_time():
                        warnings.warn(
                            f"undo needs more than undo_bytes={self.undo_bytes}: the oldest entries move to a temporary file. "
                            f"Undo still restores them; Lab(undo_bytes=...) sets the memory.",
                            stacklevel=2,
                        )


def _target(info: TensorInfo, tensor: Tensor, region: Region) -> Target:
    from weightlab.edit.operations import index_code

    return Target(
        title=info.title,
        shape=region.shape,
        view_shape=region.view_shape,
        dtype=tensor.dtype,
        device=tensor.device,
        is_parameter=info.kind == "parameter",
        pick=lambda whole: storage.read(whole, region),
        index_code=index_code(region),
    )


def _set_flag(prepared: Prepared, info: TensorInfo, tensor: Tensor) -> _Step | None:
    flag, before = prepared.edit.args["flag"], tensor.requires_grad
    if flag is before:
        return None
    if not tensor.is_leaf:
        raise EditRefused(f"{info.title}: it is not a leaf of the graph. Only leaf tensors can be frozen or trained.")
    tensor.requires_grad_(flag)
    patch = Patch(info.name, weakref.ref(tensor), prepared.edit.region, Saved(torch.empty(0), Spill()), b"", flag=before)
    nothing = torch.empty(0)
    return _Step(prepared, [patch], 0, (info.name, *info.aliases), nothing, nothing, 0, ())


def _zeroed(label: str, tensor: Tensor, region: Region) -> Patch:
    """Zero a companion's cells, as a patch of its own."""
    before = storage.read(tensor, region)
    change = prepare_zero
    storage.write(tensor, region, change)
    return Patch(label, weakref.ref(tensor), region, Saved(before.cpu(), Spill()), storage.fingerprint(storage.read(tensor, region)), change)


def prepare_zero(cells: Tensor) -> None:
    cells.zero_()


def _take_back(patches: Iterable[Patch]) -> None:
    for patch in reversed(list(patches)):
        patch.swap()


def _refuse_not_finite(prepared: Prepared, target: Target, before: Tensor, after: Tensor) -> None:
    """Rule J11: finite cells and finite arguments give finite results, or nothing is changed."""
    if not target.is_float or prepared.edit.op in ("zero_", "clamp_") or not only_finite(prepared.edit.args):
        return
    after = after.float() if after.dtype.itemsize == 1 else after
    before = before.float() if before.dtype.itemsize == 1 else before
    # One cheap pass: a finite sum has only finite terms. A sum may overflow by itself, so look closer only then.
    wide = torch.float32 if after.dtype.itemsize == 2 else after.dtype
    if bool(after.sum(dtype=wide).isfinite()):
        return
    lost = int((before.isfinite() & ~after.isfinite()).sum())
    if lost:
        raise EditRefused(
            f"{target.title}: {prepared.edit.op} would make {lost} finite cell{'s' if lost != 1 else ''} nan or inf in "
            f"{target.dtype_name}. Use smaller numbers, or fill_(float('inf')) if that is what you want."
        )


def _asked(prepared: Prepared, before: Tensor) -> Tensor | None:
    """The asked values in float32 for narrower types; None where the type itself is the precision that was asked in."""
    if not before.is_floating_point() or before.dtype.itemsize > 2 or prepared.edit.op in ("zero_", "permute_", "prune_"):
        return None
    asked = before.float()
    if prepared.edit.op == "copy_":
        asked.copy_(prepared.edit.args["values"])
    else:
        prepared.change(asked)
    return asked


def _notes(prepared: Prepared, after: Tensor) -> tuple[str, ...]:
    if prepared.edit.op == "clamp_" and after.is_floating_point():
        wide = after.float() if after.dtype.itemsize == 1 else after
        if not bool(wide.sum(dtype=torch.promote_types(wide.dtype, torch.float32)).isfinite()):
            nan = int(wide.isnan().sum())
            if nan:
                return (f"{nan} NaN cell{'s' if nan != 1 else ''} stay{'s' if nan == 1 else ''} NaN: clamp passes NaN through",)
    return ()


def _first(different: Tensor, count: int) -> Tensor:
    """Flat indices of the first True cells, looking no further than needed."""
    found: list[Tensor] = []
    missing, start = count, 0
    flat = different.reshape(-1)
    for chunk in flat.split(1 << 18):
        here = chunk.nonzero().flatten()[:missing]
        found.append(here + start)
        missing -= len(here)
        start += len(chunk)
        if missing == 0:
            break
    return torch.cat(found)


def _at(cells: Tensor, flat: Tensor) -> Tensor:
    """Cells at flat indices, without a contiguous copy of all."""
    if cells.ndim == 0:
        return cells.reshape(1).cpu().clone()
    return cells[torch.unravel_index(flat, cells.shape)].cpu()
