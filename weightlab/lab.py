"""`Lab`: the front door. One model, its journal, its caches, one lock."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from weightlab.archive import Archive
from weightlab.check.gradients import GradientReport, Observation, check
from weightlab.check.probe import Probe
from weightlab.checking import Checking
from weightlab.edit import linked
from weightlab.edit.entry import Entry
from weightlab.edit.journal import Journal
from weightlab.edit.operations import Edit, edit_is_sound
from weightlab.edit.snapshots import Snapshots
from weightlab.edit.step import Companion
from weightlab.errors import Cancelled, EditRefused, ProbeFailed, WeightLabError
from weightlab.holding import Holding
from weightlab.looking import Looking
from weightlab.model import given
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.overview import Overview
from weightlab.train.after_step import AfterStep
from weightlab.train.constraints import Constraints
from weightlab.train.optimizer_state import moments_of, strangers
from weightlab.train.steps import Steps
from weightlab.weight import WeightRef

if TYPE_CHECKING:
    from weightlab.jupyter.widget import LabWidget

Changed = list[tuple[str, Region]]


class Lab(Archive, Checking, Holding, Looking, Overview):
    """A microscope and a scalpel for one model.

    Args:
        model: any `nn.Module`; it stays the user's own, and is changed in place only.
        batch: `(inputs, targets)`, or a mapping passed as keywords to a model whose output has `.loss`.
        loss: `loss(output, target)` returns a scalar.
        optimizer: the one that trains the model, so that edits can tell what it keeps for the cells.
        probe: `probe(model)` returns the loss, instead of batch and loss.
        auto_check: run the gradient check after each entry; by default only once a page shows the Lab.
        undo_bytes: memory for undo; past it the oldest entries move to a temporary file.

    Raises:
        WeightLabError: an argument of a wrong type.

    Example:
        >>> lab = Lab(nn.Linear(3, 2))
        >>> _ = lab["weight"][0].zero_()
        >>> lab["weight"].value[0].tolist()
        [0.0, 0.0, 0.0]
        >>> print(lab.undo())
        1  Zero weight[0]  (3 cells)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch: Any = None,
        loss: Callable[..., Tensor] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        probe: Callable[[nn.Module], Tensor] | None = None,
        auto_check: bool | None = None,
        undo_bytes: int = 2**30,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise WeightLabError(f"Lab: model must be a torch.nn.Module, got {type(model).__name__}. Give Lab(model).")
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            what = f"Lab: optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}."
            raise WeightLabError(f"{what} Give the one inside it, or none and call lab.step() after each step.")
        undo_bytes = given.whole_number(undo_bytes, "Lab: undo_bytes", 0)
        self.model = model
        self.optimizer = optimizer
        self.auto_check_default = auto_check is None
        self._auto_check = auto_check is not None and given.flag(auto_check, "Lab: auto_check")
        self.lock = threading.RLock()
        self.tree = ParameterTree(model)
        self.probe = Probe(model, batch=batch, loss=loss, probe=probe)
        self.journal = Journal(self.tree, undo_bytes)
        self.snapshots = Snapshots(self.tree)
        self.holds = Constraints(self.tree)
        self.after_step = None if optimizer is None else AfterStep(optimizer)
        self.steps = Steps(model, self.lock, self.after_step)
        self.offers: dict[str, Any] = {}
        self.journal.before_write = self._before_write
        self.journal.after_write = self.holds.captured
        self.journal.advise = self._advice
        if optimizer is not None:
            self._watch_optimizer(optimizer)
        self.report: GradientReport | None = None
        self.report_before: GradientReport | None = None
        self.report_error: WeightLabError | None = None
        self.revision = 0
        self.checked_revision = -1
        self.page: object = None  # the widget, once the Lab was shown; kept here so that there is one
        Checking.__init__(self)
        Looking.__init__(self)
        Overview.__init__(self)
        self._callbacks: list[Callable[[Changed], None]] = []
        self._stroke_depth = 0

    def __contains__(self, name: object) -> bool:
        return name in self.tree

    def __iter__(self) -> Iterator[str]:
        """Names of all tensors, in the model's order."""
        return (info.name for info in self.tree)

    def __getitem__(self, name: str) -> WeightRef:
        """A handle on the tensor of this dotted name.

        Raises:
            UnknownName: there is none; the message has the closest name.
        """
        with self.lock:  # a check of another thread has other tensors in these places
            info = self.tree[name]
        return WeightRef(self, info, Region.whole(info.shape))

    def __setitem__(self, name: str, value: Any) -> None:
        """`lab["fc.bias"] = values` copies into the whole tensor."""
        self[name].copy_(value)

    def apply(
        self, edits: Edit | Sequence[Edit], text: str = "", *, moments: str | None = None, check: bool = True
    ) -> Entry | None:
        """Apply edits as one undo entry: the one road for every change.

        Args:
            edits: one, or several that succeed or fail together.
            text: words for the entry; by default those of a single edit.
            moments: "zero" clears what the optimizer keeps for the cells, "keep" leaves it; by default it is cleared
                where an edit made a cell 0.
            check: False leaves the gradient check of `auto_check` to the caller.

        Returns:
            The entry; None when no byte changed, or inside a stroke.

        Raises:
            UnknownName, EditRefused: no byte was changed.
        """
        if isinstance(edits, Edit):
            return self._land(lambda: edits, moments, check)
        if not isinstance(edits, list | tuple) or not isinstance(text, str):
            raise EditRefused(
                f"apply: expected an Edit or a list of Edits, got {type(edits).__name__}. See weightlab.Edit."
            )
        for edit in edits:
            edit_is_sound(edit)
        with self.stroke(text or f"{len(edits)} edits", check=check) as made:
            for edit in edits:
                self.journal.apply(edit, moments)
        return made[0] if made else None

    def _land(self, make: Callable[[], Edit], moments: str | None = None, check: bool = True) -> Entry | None:
        """Apply what is made at the safe point: an edit that is computed from values is computed from those of that moment."""
        with self._own_writes():
            entry, inside = self.steps.call(lambda: (self.journal.apply(make(), moments), self._stroke_depth > 0))
        if entry is not None and not inside:
            self._changed(entry, check)
        return entry

    @contextmanager
    def stroke(self, text: str, *, check: bool = True) -> Iterator[list[Entry]]:
        """Several edits as one entry: `with lab.stroke("prune small"): ...`. An exception inside undoes them all."""
        if not isinstance(text, str):
            raise EditRefused(
                f"stroke: the text must be a str, got {type(text).__name__}. For example stroke('prune small')."
            )
        with self.steps.turn(), self._own_writes():
            self._stroke_depth += 1
            try:
                with self.journal.stroke(text) as made:
                    yield made
            finally:
                self._stroke_depth -= 1
        if made:
            self._changed(made[0], check)

    def undo(self, force: bool = False, *, check: bool = True) -> Entry | None:
        """Take the last entry back, byte for byte; None when there is none.

        Raises:
            UndoConflict: other code changed those cells since. `force=True` restores the old bytes all the same.
        """
        given.flag(force, "undo: force")
        entry = self.steps.call(lambda: self._go(self.journal.undo, force))
        if entry is not None:
            self._changed(entry, check)
        return entry

    def redo(self, force: bool = False, *, check: bool = True) -> Entry | None:
        """Apply the last undone entry again; None when there is none.

        Raises:
            UndoConflict: as `undo`.
        """
        given.flag(force, "redo: force")
        entry = self.steps.call(lambda: self._go(self.journal.redo, force))
        if entry is not None:
            self._changed(entry, check)
        return entry

    def _go(self, step: Callable[[bool], Entry | None], force: bool) -> Entry | None:
        self._find_foreign()
        near = self.journal.entries[max(self.journal.position - 1, 0) : self.journal.position + 1]
        with self._own_writes(name for entry in near for name in entry.names):
            return step(force)

    @property
    def auto_check(self) -> bool:
        """Whether the gradient check runs after each entry."""
        return self._auto_check

    @auto_check.setter
    def auto_check(self, on: bool) -> None:
        self._auto_check, self.auto_check_default = given.flag(on, "lab.auto_check"), False

    @property
    def history(self) -> tuple[Entry, ...]:
        """Applied entries, oldest first."""
        return self.journal.entries[: self.journal.position]

    def on_change(self, callback: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `callback(changed)` after every change, with `(name, region)` per edit; returns the unsubscription.

        After a check alone `changed` is empty. It runs on the thread that made the change, after the lock was released.
        """
        if not callable(callback):
            raise EditRefused(f"on_change: expected a function, got {type(callback).__name__}.")
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def jump(self, position: int, force: bool = False) -> None:
        """Undo or redo until `position` entries are applied; 0 is the model as it was.

        Raises:
            EditRefused: there is no such position.
            UndoConflict: as `undo`, on the way; what came before it has been done.
        """
        position = given.whole_number(position, "jump: the position", 0, len(self.journal.entries))
        given.flag(force, "jump: force")
        while self.journal.position != position:
            if self.journal.position > position:
                self.undo(force, check=False)
            else:
                self.redo(force, check=False)

    def refresh(self) -> None:
        """Read the model again after the user's own code changed it: structure, values and pictures."""
        with self.lock:
            self.tree.refresh()
            self._pyramids.clear()
            self.revision += 1
        self._tell(self._whole(self))

    def check_gradients(self, *, microbatch: int | None = None, verify: int = 0) -> GradientReport:
        """Forward and backward on the probe batch, without a trace: status and norm of every gradient, and why.

        Args:
            microbatch: samples at a time, where the activations of the whole batch do not fit into memory. The
                gradients are those of the whole batch where the loss is a mean over samples.
            verify: compare so many random cells with finite differences in float64, in `report.verified`.

        Raises:
            ProbeFailed: the model or the loss raised or ran out of memory, or no input for it could be made.

        Once a page shows this Lab, a call from another thread than the one that trains waits for the end of its step.
        """
        report = self.steps.call(lambda: self._check(microbatch, verify))
        self._tell([])
        return report

    def _check(self, microbatch: int | None = None, verify: int = 0) -> GradientReport:
        before, self.checked_revision = self.checked_revision, self.revision
        try:
            with self.steps.alone():
                kept = tuple(self._gradients)
                observation = check(self.tree, self.probe, kept, microbatch=microbatch, verify=verify)
        except Cancelled:
            self.checked_revision = before  # there is still the report from before, and it is as old as it was
            raise
        except WeightLabError as error:
            self.report_error = error
            raise
        self.report_error = None
        self._take(observation)
        self.report_before, self.report = self.report, observation.report
        return observation.report

    def _observe(self, keep: tuple[str, ...]) -> Observation:
        with self.steps.alone():
            return check(self.tree, self.probe, keep)

    def widget(self) -> LabWidget:
        """The page, as an ipywidget: one per Lab, with as many views as you like."""
        from weightlab.jupyter.widget import widget_of  # the one import against the layers, lazy: see docs/design.md

        return widget_of(self)

    def _watch_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        held = [self.tree.tensor(info.name) for info in self.tree if info.kind == "parameter"]
        lost = strangers(optimizer, held)
        if lost:
            warnings.warn(
                f"the optimizer trains {lost} tensors that the model no longer has: a Parameter was replaced after the "
                f"optimizer was made, or it belongs to another model. Make the optimizer anew from model.parameters().",
                stacklevel=3,
            )

        def companions(edit: Edit, tensor: Tensor) -> list[Companion]:
            return [Companion(name, value) for name, value in moments_of(optimizer, tensor).items()]

        self.journal.companions = companions

    def _advice(self, edit: Edit) -> list[str]:
        self.holds.refuse_moved(edit.name, edit.region)
        others = ", ".join(map(repr, self.tree.sharing(edit.name)))
        shared = [f"{edit.name} shares memory with {others}: cells there change too"] if others else []
        return [*shared, *linked.advice(self.tree, edit)]

    def _changed(self, entry: Entry, check: bool) -> None:
        """After an entry was applied, undone or redone: stale pictures, revision, check, listeners."""
        with self.lock:
            torch.clear_autocast_cache()  # an autocast block that is open would go on with the old weight (rule J13)
            # What the model has lost since is passed by: undo has said so where that matters.
            changed = [(name, region) for name, region in entry.changed if name in self.tree]
            self.foreign += self._whole(other for name, _ in changed for other in self.tree.sharing(name))
            self._mark([*changed, *self.foreign])
            if any(edit.op == "requires_grad_" for edit in entry.edits):
                self.tree.refresh()
            self.revision += 1
            if self.auto_check and check and not self.steps.elsewhere:
                try:
                    self._check()
                except (ProbeFailed, Cancelled):
                    pass  # kept in report_error, which the page shows; the edit itself has succeeded
            changed = [*entry.changed, *self.foreign]
        self._tell(changed)
        self.journal.warn_if_spilled()

    def _whole(self, names: Iterable[str]) -> Changed:
        return [(name, Region.whole(self.tree[name].shape)) for name in dict.fromkeys(names)]

    def _before_write(self, name: str) -> None:
        names = (name, *self.tree.sharing(name))
        for each in names:
            self.snapshots.before_write(each)
        self._find_foreign()
        self._writes_to(names)

    def _tell(self, changed: Changed) -> None:
        """Call the listeners. What one of them raises is theirs: the change has happened, and the others must hear of it."""
        for callback in tuple(self._callbacks):
            try:
                callback(changed)
            except Exception as error:
                warnings.warn(f"on_change: a callback raised {type(error).__name__}: {error}", stacklevel=3)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget()._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        cells = sum(info.numel for info in self.tree if info.kind == "parameter")
        return f"Lab({type(self.model).__name__}: {cells:,} parameters in {len(self.tree)} tensors, {len(self.history)} edits)"
