"""`Journal`: the one place where edits are applied, undone and redone, each as an `Entry` (rules J1 to J9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from weightlab.edit import computed
from weightlab.edit.budget import Budget
from weightlab.edit.entry import CellPatch, CompanionPatch, Entry, Find, Patch
from weightlab.edit.operations import Edit, Prepared, edit_is_sound, prepare
from weightlab.edit.readback import (
    SHOWN,
    asked_values,
    cells_at,
    differences,
    made_zero,
    mark_of,
    missed_by_far,
    notes_on,
    refuse_not_finite,
)
from weightlab.edit.saved import Saved
from weightlab.edit.step import TORCH_SAYS_NO, Companions, Step, refusal, set_flag, settle, take_back, target_of, zeroed
from weightlab.errors import EditRefused, UndoConflict
from weightlab.model import storage
from weightlab.model.packed import close, packed
from weightlab.model.region import Region
from weightlab.model.sharded import is_gathered_for_now
from weightlab.model.tree import ParameterTree, TensorInfo


class Journal:
    """Applied and undone entries of one model; *state*.

    Args:
        tree: finds tensors by name.
        undo_bytes: memory for undo. Past it the oldest entries move to a temporary file, with one warning.
    """

    def __init__(self, tree: ParameterTree, undo_bytes: int = 2**30) -> None:
        self.tree = tree
        self._entries: list[Entry] = []
        self._position = 0
        self._next_id = 1
        self._open: list[Step] | None = None
        self._budget = Budget(undo_bytes)
        self.companions: Companions | None = None
        # What the user should know beside the entry, such as a BatchNorm behind a zeroed filter; raises where it must not stand.
        self.advise: Callable[[Edit], Iterable[str]] | None = None
        # Called when cells have changed, by an edit, on the way back or forth: before anybody else can, what is held follows.
        self.after_write: Callable[[Iterable[tuple[str, Region]]], None] | None = None
        # Called with a tensor's name before its first byte changes: snapshots copy what they still lack.
        self.before_write: Callable[[str], None] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first: `entries[:position]` are applied, the rest can be redone."""
        return tuple(self._entries)

    @property
    def undo_bytes(self) -> int:
        return self._budget.limit

    @property
    def position(self) -> int:
        return self._position

    @property
    def nbytes(self) -> int:
        """Bytes of memory that undo holds now; what was moved to disk does not count."""
        return sum(patch.held for entry in self._entries for patch in entry.patches)

    def apply(self, edit: Edit, moments: str | None = None) -> Entry | None:
        """Apply one edit as an entry of its own, or as part of the open stroke.

        Args:
            moments: what to do with `companions` (rule J12): "zero" clears them for the edit's cells, "keep" leaves
                them; by default they are cleared where the edit made a cell 0.

        Returns:
            The entry; None when no byte changed or a stroke is open.

        Raises:
            UnknownName, EditRefused: nothing was changed (rule J3).
        """
        edit_is_sound(edit)
        if moments is not None and (not isinstance(moments, str) or moments not in ("zero", "keep")):
            raise EditRefused(f"{edit.name}: moments must be 'zero' or 'keep', got {moments!r}.")
        info = self.tree[edit.name]
        if self.before_write is not None:
            self.before_write(info.name)
        if info.kind == "computed":
            return computed.apply_through_originals(self, edit, moments)
        step = self._apply(edit, info)
        if step is None and moments == "zero":  # the cells hold what was asked already; their moments may not
            cells = info.name if edit.region.is_whole else f"{info.name}{edit.region}"
            changed = ((info.name, edit.region),)
            step = Step(None, f"Clear moments of {cells}", str, [], (info.name, *info.aliases), changed)
        if step is None:
            return None
        try:
            self._clear_moments(step, edit, moments)
        except BaseException:
            take_back(step.patches)
            raise
        if not step.patches:
            return None
        computed.follow(self.tree, step.names)
        return self.include(step)

    def include(self, step: Step) -> Entry | None:
        """Record what was done already, as an entry or as part of the open stroke."""
        self._wrote(step.patches)
        self._budget.add(step.patches)
        if self._open is not None:
            self._open.append(step)
            self._keep_budget(step.patches)
            return None
        return self._record([step], step.text)

    def _wrote(self, patches: Iterable[Patch]) -> None:
        if self.after_write is not None:
            self.after_write((patch.name, patch.region) for patch in patches if isinstance(patch, CellPatch))

    def _clear_moments(self, step: Step, edit: Edit, moments: str | None) -> None:
        if self.companions is None or edit.op == "requires_grad_":
            return
        region = {"zero": edit.region, "keep": None, None: step.zeroed}[moments]
        kept = []
        for label, tensor in self.companions(edit, self.tree.tensor(edit.name)):
            find, name = self._companion(edit, label), f"{edit.name}: {label}"
            patch = None if region is None else zeroed(name, tensor, find, region)
            if patch is None:
                kept.append(label)
            else:
                step.patches.append(patch)
                step.moments = (*step.moments, label)
        if kept and moments is None and region is None:
            step.notes = (*step.notes, f"the optimizer keeps {', '.join(kept)} for these cells")
        if step.moments:
            step.notes = (*step.notes, f"set to 0 for these cells: the optimizer's {', '.join(step.moments)}")

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
            self._budget.drop(patch for step in self._open for patch in step.patches)
            for step in reversed(self._open):
                take_back(step.patches)
            computed.follow(self.tree, [name for step in self._open for name in step.names])
            self._wrote(patch for step in self._open for patch in step.patches)
            self._open = outer
            raise
        steps, self._open = self._open, outer
        if outer is not None:
            outer.extend(steps)
        elif steps and (settle(steps, self.tree) or any(len(step.patches) > 1 or step.edit is None for step in steps)):
            made.append(self._record(steps, text))
        else:
            self._budget.drop(patch for step in steps for patch in step.patches)

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
        entry = self._swap(entry, tuple(reversed(entry.patches)), force, "undo")
        self._position -= 1
        self._entries[self._position] = entry
        self._budget.held = self.nbytes  # what was on disk is in memory again
        self._keep_budget()
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
        entry = self._entries[self._position] = self._swap(entry, entry.patches, force, "redo")
        self._position += 1
        self._budget.held = self.nbytes
        self._keep_budget()
        return entry

    def _refuse_in_stroke(self, what: str) -> None:
        if self._open is not None:
            raise EditRefused(f"journal: {what} is not possible inside a stroke. End the stroke first.")

    def _swap(self, entry: Entry, patches: Sequence[Patch], force: bool, what: str) -> Entry:
        done: list[Patch] = []
        for name in dict.fromkeys(patch.name for patch in patches if isinstance(patch, CellPatch)):
            if self.before_write is not None and name in self.tree:
                self.before_write(name)
        try:
            for patch in patches:
                conflict = patch.conflict()
                if conflict and not force:
                    # A training step moves a weight and its moments: the weight is what was edited.
                    owner = next((p for p in patches[len(done) :] if not isinstance(p, CompanionPatch)), patch)
                    conflict = owner.conflict() or conflict
                    raise UndoConflict(
                        f"{conflict}. {what.capitalize()} of '{entry.text}' would overwrite that.",
                        f"Call {what}(force=True) to do it all the same.",
                    )
                # Redo under force gives the first result too: it is what the patch has saved.
                patch.swap(forced=bool(conflict) and what == "undo")
                done.append(patch)
        except BaseException:
            for patch in reversed(done):
                patch.swap()
            raise
        finally:
            computed.follow(self.tree, entry.names)
            self._wrote(patches)
        lost = [patch.lost for patch in patches if patch.lost and patch.lost not in entry.notes]
        return replace(entry, notes=(*entry.notes, *lost)) if lost else entry

    def _finder(self, name: str) -> Find:
        return lambda: self.tree.tensor(name) if name in self.tree else None

    def _companion(self, edit: Edit, label: str) -> Find:
        """Finds it anew: an optimizer that loads its state has other tensors from then on."""

        def find() -> Tensor | None:
            if self.companions is None or edit.name not in self.tree:
                return None
            held = self.companions(edit, self.tree.tensor(edit.name))
            return next((companion.tensor for companion in held if companion.label == label), None)

        return find

    def _apply(self, edit: Edit, info: TensorInfo) -> Step | None:
        if not info.editable:
            raise EditRefused(f"{info.title}: {info.reason}")
        tensor = self.tree.held(info)
        reason = storage.why_not_editable(tensor)
        if not reason and is_gathered_for_now(tensor, self.tree.above(info.name)):
            reason = "it is gathered from its shards for a forward, and what is written to it is dropped with it. "
            reason += "Edit it after the backward, or after model.reshard()."
        if reason or tuple(tensor.shape) != edit.region.shape:
            reason = reason or f"the region is for shape {list(edit.region.shape)}. Index the tensor as it is now."
            raise EditRefused(f"{info.name} {list(tensor.shape)}: {reason}")
        edit = Edit(info.name, packed(edit.region), edit.op, edit.args)
        target = target_of(info, tensor, edit.region)
        try:
            prepared = prepare(edit, target, self.tree.spelled(info))
        except TORCH_SAYS_NO as error:
            raise refusal(info, edit, error) from error
        if edit.op == "requires_grad_":
            return set_flag(prepared, info, tensor, self._finder(info.name))
        if edit.region.numel == 0:
            return None
        if edit.region.has_duplicates:  # scalar operations only, by now: once per cell
            assert edit.region.cells is not None
            once = Region.of_cells(edit.region.shape, edit.region.cells.unique())
            return self._apply(Edit(edit.name, once, edit.op, edit.args), info)
        before = storage.read(tensor, edit.region)
        try:
            storage.write(tensor, edit.region, prepared.change)
            after = storage.seen(tensor, edit.region)
            refuse_not_finite(prepared, target, before, after)
            return self._measure(prepared, info, tensor, before, after)
        except BaseException as error:
            storage.put(tensor, edit.region, before)
            if isinstance(error, EditRefused) or not isinstance(error, TORCH_SAYS_NO):
                raise
            raise refusal(info, edit, error) from error

    def _measure(
        self, prepared: Prepared, info: TensorInfo, tensor: Tensor, before: Tensor, after: Tensor
    ) -> Step | None:
        """Read back (rule J7): what changed, what was asked, what is stored."""
        cells, first = differences(before, after, SHOWN)
        if cells == 0:
            return None
        stored = after.reshape(-1)[first].cpu() if after.is_contiguous() else cells_at(after, first)
        requested, rounded = stored.clone(), 0
        asked = asked_values(prepared, before)
        if asked is not None:
            missed = (asked != after.to(asked.dtype)) & ~(asked.isnan() & after.isnan())
            requested, rounded = cells_at(asked, first), int(missed.count_nonzero())
        elif prepared.edit.op == "fill_" and missed_by_far(prepared.edit.args["value"], stored[0]):
            requested, rounded = (
                torch.full(stored.shape, float(prepared.edit.args["value"]), dtype=torch.float64),
                cells,
            )
        edit = prepared.edit
        notes = notes_on(prepared, after, asked)  # of a clamp: that there is NaN
        saved, mark = Saved(before.cpu()), mark_of(prepared, after, bool(notes))
        find, args = self._finder(info.name), prepared.args
        if edit.op == "copy_":
            args.narrow("values", after)
        patch = CellPatch(info.name, find, edit.region, saved, mark, prepared.change, args)
        return Step(
            edit,
            prepared.text,
            prepared.code,
            [patch],
            (info.name, *info.aliases),
            ((info.name, edit.region),),
            cells,
            requested,
            stored,
            rounded,
            (*notes, *(self.advise(edit) if self.advise else ())),
            zeroed=self._zeroed_by(edit, tensor, before, after),
        )

    def _zeroed_by(self, edit: Edit, tensor: Tensor, before: Tensor, after: Tensor) -> Region | None:
        if self.companions is None or not list(self.companions(edit, tensor)):
            return None
        return edit.region if edit.op == "zero_" else made_zero(edit.region, before, after)

    def _record(self, steps: list[Step], text: str) -> Entry:
        for step in steps:
            for region in (*(pair[1] for pair in step.changed), *(patch.region for patch in step.cell_patches)):
                close(region)
        names = tuple(dict.fromkeys(name for step in steps for name in step.names))
        most = max(reversed(steps), key=lambda step: (step.rounded, step.cells > 0))
        entry = Entry(
            id=self._next_id,
            edits=tuple(step.edit for step in steps if step.edit is not None),
            text=text,
            cells=sum(step.cells for step in steps),
            held=sum(step.held for step in steps),
            names=names,
            requested=most.requested,
            stored=most.stored,
            rounded=sum(step.rounded for step in steps),
            moments=tuple(dict.fromkeys(label for step in steps for label in step.moments)),
            notes=tuple(dict.fromkeys(note for step in steps for note in step.notes)),
            changed=tuple(pair for step in steps for pair in step.changed),
            patches=tuple(patch for step in steps for patch in step.patches),
            spell=tuple(step.code for step in steps),
        )
        self._next_id += 1
        self._budget.drop(patch for old in self._entries[self._position :] for patch in old.patches)
        del self._entries[self._position :]
        self._entries.append(entry)
        self._position += 1
        self._keep_budget()
        return entry

    def _keep_budget(self, last: Sequence[Patch] = ()) -> None:
        """The oldest bytes go first; `last` are those of a stroke that is no entry yet."""
        self._budget.keep(chain((patch for entry in self._entries for patch in entry.patches), last))

    def warn_if_spilled(self) -> None:
        """Tell once that undo went to disk."""
        self._budget.warn()
