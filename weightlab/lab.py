"""`Lab`: the front door. One model, its journal, its caches, one lock."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from weightlab.check.gradients import GradientReport, check_gradients
from weightlab.check.probe import Probe
from weightlab.edit import linked
from weightlab.edit import recipe as recipes
from weightlab.edit.entry import ActionPatch, CellPatch, Entry
from weightlab.edit.journal import Companion, Journal, Step
from weightlab.edit.operations import Edit
from weightlab.edit.snapshots import Diff, Snapshots, compare
from weightlab.edit.transfer import Match, Transfer, plan
from weightlab.errors import EditRefused, ProbeFailed, WeightLabError
from weightlab.files import checkpoint
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.see.layout import layout_of
from weightlab.see.tiles import Pyramid
from weightlab.train.constraints import Constraint, Constraints
from weightlab.train.optimizer_state import moments_of, strangers
from weightlab.weight import WeightRef

if TYPE_CHECKING:
    from weightlab.jupyter.widget import LabWidget

Changed = list[tuple[str, Region]]


class Lab:
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
        if optimizer is not None and not hasattr(optimizer, "param_groups"):
            raise WeightLabError(f"Lab: optimizer must be a torch optimizer, got {type(optimizer).__name__}.")
        if not isinstance(undo_bytes, int) or undo_bytes < 0:
            raise WeightLabError(f"Lab: undo_bytes must be a number of bytes, got {undo_bytes!r}.")
        self.model = model
        self.optimizer = optimizer
        self.auto_check_default = auto_check is None
        self._auto_check = bool(auto_check)
        self.lock = threading.RLock()
        self.tree = ParameterTree(model)
        self.probe = Probe(model, batch=batch, loss=loss, probe=probe)
        self.journal = Journal(self.tree, undo_bytes)
        self.snapshots = Snapshots(self.tree)
        self.holds = Constraints(self.tree)
        self._hold_hook: Any = None
        self.journal.before_write = self.snapshots.before_write
        self.journal.advise = self._advice
        if optimizer is not None:
            self._watch_optimizer(optimizer)
        self.report: GradientReport | None = None
        self.report_before: GradientReport | None = None
        self.report_error: WeightLabError | None = None
        self.revision = 0
        self.checked_revision = -1
        self.page: object = None  # the widget, once the Lab was shown; kept here so that there is one
        self._pyramids: dict[str, Pyramid] = {}
        self._callbacks: list[Callable[[Changed], None]] = []
        self._stroke_depth = 0

    def __getitem__(self, name: str) -> WeightRef:
        """A handle on the tensor of this dotted name.

        Raises:
            UnknownName: there is none; the message has the closest name.
        """
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
            with self.lock:
                entry = self.journal.apply(edits, moments)
                inside = self._stroke_depth > 0
            if entry is not None and not inside:
                self._changed(entry, check)
            return entry
        with self.stroke(text or f"{len(edits)} edits", check=check) as made:
            for edit in edits:
                self.journal.apply(edit, moments)
        return made[0] if made else None

    @contextmanager
    def stroke(self, text: str, *, check: bool = True) -> Iterator[list[Entry]]:
        """Several edits as one entry: `with lab.stroke("prune small"): ...`. An exception inside undoes them all."""
        if not isinstance(text, str):
            raise EditRefused(
                f"stroke: the text must be a str, got {type(text).__name__}. For example stroke('prune small')."
            )
        with self.lock:
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
        with self.lock:
            entry = self.journal.undo(force)
        if entry is not None:
            self._changed(entry, check)
        return entry

    def redo(self, force: bool = False, *, check: bool = True) -> Entry | None:
        """Apply the last undone entry again; None when there is none.

        Raises:
            UndoConflict: as `undo`.
        """
        with self.lock:
            entry = self.journal.redo(force)
        if entry is not None:
            self._changed(entry, check)
        return entry

    @property
    def auto_check(self) -> bool:
        """Whether the gradient check runs after each entry."""
        return self._auto_check

    @auto_check.setter
    def auto_check(self, on: bool) -> None:
        self._auto_check, self.auto_check_default = bool(on), False

    @property
    def history(self) -> tuple[Entry, ...]:
        """Applied entries, oldest first."""
        return self.journal.entries[: self.journal.position]

    def on_change(self, callback: Callable[[Changed], None]) -> Callable[[], None]:
        """Call `callback(changed)` after every change, with `(name, region)` per edit; returns the unsubscription.

        After a check alone `changed` is empty. It runs on the thread that made the change, after the lock was released.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def jump(self, position: int, force: bool = False) -> None:
        """Undo or redo until `position` entries are applied; 0 is the model as it was.

        Raises:
            EditRefused: there is no such position.
            UndoConflict: as `undo`, on the way; what came before it has been done.
        """
        if not isinstance(position, int) or not 0 <= position <= len(self.journal.entries):
            raise EditRefused(f"history: positions go from 0 to {len(self.journal.entries)}, got {position!r}.")
        while self.journal.position != position:
            if self.journal.position > position:
                self.undo(force, check=False)
            else:
                self.redo(force, check=False)

    def snapshot(self, label: str) -> None:
        """Remember the model's values under a label, to compare with and to restore."""
        with self.lock:
            self.snapshots.take(label)
        self._tell([])

    def diff(self, other: str | os.PathLike[str] | nn.Module | Lab | Mapping[str, Tensor]) -> Diff:
        """The model against a snapshot, another model, a state dict or a safetensors file: a row per tensor that differs.

        Raises:
            UnknownName: no snapshot of this label, and no such file.
        """
        with self.lock:
            values, against = self._values_of(other)
            return compare(self.tree, values, against)

    def restore(self, label: str, names: Sequence[str] | None = None, *, check: bool = True) -> Entry | None:
        """Give all tensors, or those named, the values of a snapshot, as one undo entry.

        Raises:
            UnknownName: no such snapshot or tensor.
            EditRefused: a tensor has another shape by now; nothing was changed.
        """
        with self.lock:
            values = self.snapshots.tensors(label)
            if isinstance(names, str):
                names = [names]
            chosen = list(values) if names is None else [self.tree[name].name for name in names]
            edits = [
                Edit(name, Region.whole(self.tree[name].shape), "copy_", {"values": values[name]})
                for name in chosen
                if name in self.tree and name in values
            ]
        return self.apply(
            edits, f"Restore {label}" if names is None else f"Restore {', '.join(chosen)} from {label}", check=check
        )

    def transfer(
        self, other: nn.Module | Lab | str | os.PathLike[str] | Mapping[str, Tensor], match: Match = None
    ) -> Transfer:
        """Copy all that fits by name and shape, as one undo entry.

        Args:
            other: a model, a Lab, a state dict, a snapshot's label or a safetensors file.
            match: this model's name to the other's, as a function or a dict.

        Returns:
            A table of what was copied and what was left, and why.
        """
        with self.lock:
            values, against = self._values_of(other)
            edits, report = plan(self.tree, values, match)
        self.apply(edits, f"Transfer {len(edits)} tensors from {against}")
        return report

    def recipe(self) -> dict[str, Any]:
        """The applied entries as strict JSON, for `weightlab.replay`."""
        return recipes.recipe_of(self.history, self.tree)

    def save_recipe(self, path: str | os.PathLike[str]) -> None:
        """Write `recipe()` to a file; a half-written one never replaces a good one."""
        recipes.write(self.recipe(), path)

    def to_python(self) -> str:
        """Source text that defines `apply(model)`: the applied entries as plain PyTorch."""
        return recipes.script_of(self.history)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model's tensors to a safetensors file, with the recipe in its metadata.

        Raises:
            EditRefused: a tensor has no values, or the file cannot be written; an old file stays as it was.
        """
        with self.lock:
            checkpoint.save(self.tree, path, self.recipe())

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The holds in force, oldest first."""
        return self.holds.active

    def hold(self, constraint: Constraint) -> Constraint:
        """Put a hold in force, as one undo entry; `WeightRef.hold` is the short way.

        Raises:
            EditRefused: it cannot be kept together with the holds in force; nothing was changed.
        """
        with self.stroke(constraint.text):
            self.holds.check(constraint)
            if constraint.kind == "clamp":
                bounds = {"min": constraint.min, "max": constraint.max}
                self.journal.apply(Edit(constraint.name, constraint.region, "clamp_", bounds))
            constraint.capture(self.tree.tensor(constraint.name))
            constraint._release = self._release
            self._include_hold(constraint.text, constraint, self._unhold, self._rehold)
            self._rehold(constraint)
        return constraint

    def _release(self, constraint: Constraint) -> None:
        with self.stroke(f"Release: {constraint.text}"):
            self._include_hold(f"Release: {constraint.text}", constraint, self._rehold, self._unhold)
            self._unhold(constraint)

    def _include_hold(
        self, text: str, constraint: Constraint, undo: Callable[[Constraint], None], redo: Callable[[Constraint], None]
    ) -> None:
        patch = ActionPatch(text, lambda: undo(constraint), lambda: redo(constraint))
        changed = ((constraint.name, constraint.region),)
        self.journal.include(Step(None, text, "", [patch], (constraint.name,), changed))

    def _rehold(self, constraint: Constraint) -> None:
        self.holds.add(constraint)
        if self.optimizer is not None and self._hold_hook is None:
            found = weakref.ref(self)

            def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
                lab = found()
                if lab is not None:
                    lab.step()

            self._hold_hook = self.optimizer.register_step_post_hook(after_step)

    def _unhold(self, constraint: Constraint) -> None:
        self.holds.remove(constraint)
        if not self.holds.active and self._hold_hook is not None:
            self._hold_hook.remove()
            self._hold_hook = None

    def step(self) -> None:
        """The safe point after an optimizer's step, for a loop whose optimizer the Lab was not given: holds are kept here."""
        with self.lock:
            self.holds.enforce()

    def refresh(self) -> None:
        """Read the model again after the user's own code changed it: structure, values and pictures."""
        with self.lock:
            self.tree.refresh()
            self._pyramids.clear()
            self.revision += 1
        self._tell([(info.name, Region.whole(info.shape)) for info in self.tree])

    def check_gradients(self) -> GradientReport:
        """Forward and backward on the probe batch, without a trace: status and norm of every gradient, and why.

        Raises:
            ProbeFailed: the model or the loss raised, or no input for it could be made.
        """
        with self.lock:
            report = self._check()
        self._tell([])
        return report

    def _check(self) -> GradientReport:
        self.checked_revision = self.revision
        try:
            report = check_gradients(self.tree, self.probe)
        except WeightLabError as error:
            self.report_error = error
            raise
        self.report_error = None
        self.report_before, self.report = self.report, report
        return report

    def pyramid(self, name: str, view: str = "value") -> Pyramid:
        """The level-of-detail pyramid of a tensor's view, kept between calls; that of values is patched by edits."""
        info = self.tree[name]
        with self.lock:
            if view != "value":
                key = f"{info.name}\0{view}"
                if key not in self._pyramids:
                    shown = self.view(info.name, view)
                    self._pyramids[key] = Pyramid(lambda: shown, layout_of(info))
                return self._pyramids[key]
            found = self._pyramids.pop(info.name, None)
            if found is None or found.layout.shape != info.shape:
                found = Pyramid(lambda: self.tree.tensor(info.name).detach(), layout_of(info))
            self._pyramids[info.name] = found  # last used last
            while len(self._pyramids) > 16:
                del self._pyramids[next(iter(self._pyramids))]
            return found

    def view(self, name: str, view: str = "value") -> Tensor:
        """The tensor behind a view of a tensor.

        "value", "before" (the last entry on it), "gradient" (its present `.grad`), "held" (which cells are),
        "diff:<snapshot>", or an optimizer's moment such as "exp_avg".

        Raises:
            EditRefused: there is no such view.
        """
        tensor = self.tree.tensor(name)
        if not isinstance(view, str):
            raise EditRefused(f"{self.tree[name].title}: a view is named by a text, got {type(view).__name__}.")
        if view == "value":
            return tensor.detach()
        if view == "gradient":
            if tensor.grad is None:
                raise EditRefused(f"{self.tree[name].title}: it has no .grad now. Run a backward pass first.")
            return tensor.grad.detach()
        if view == "before":
            return self._before(name)
        if view == "held":
            return self.holds.mask(name)
        if view.startswith("diff:"):
            old = self.snapshots.tensors(view.removeprefix("diff:"))
            return tensor.detach() - old[self.tree[name].name].to(tensor.device)
        moments = {} if self.optimizer is None else moments_of(self.optimizer, tensor)
        if view in moments:
            return moments[view].detach()
        known = ", ".join(map(repr, ("value", "before", "gradient", "held", "diff:<snapshot>", *moments)))
        raise EditRefused(f"{self.tree[name].title}: there is no view {view!r} now. Known: {known}.")

    def _before(self, name: str) -> Tensor:
        """A copy of a tensor as it was before the last entry that changed it."""
        tensor = self.tree.tensor(name)
        first = self.tree[name].name
        copy = tensor.detach().clone()
        for entry in reversed(self.history):
            patches = [p for p in entry.patches if isinstance(p, CellPatch) and p.name == first]
            for patch in reversed(patches):
                patch.show(copy)
            if patches:
                break
        return copy

    def widget(self) -> LabWidget:
        """The page, as an ipywidget: one per Lab, with as many views as you like."""
        from weightlab.jupyter.widget import widget_of  # the one import against the layers, lazy: see docs/design.md

        return widget_of(self)

    def _values_of(self, other: Any) -> tuple[Mapping[str, Tensor], str]:
        """Tensors by name, and what to call them."""
        if isinstance(other, str) and other in self.snapshots.labels:
            return self.snapshots.tensors(other), other
        if isinstance(other, Lab):
            other = other.model
        if isinstance(other, nn.Module):
            tree = ParameterTree(other)
            tensors = {name: tree.tensor(info.name) for info in tree for name in (info.name, *info.aliases)}
            return tensors, type(other).__name__
        if isinstance(other, Mapping):
            return {name: value for name, value in other.items() if isinstance(value, Tensor)}, "the state dict"
        if isinstance(other, str | os.PathLike) and (os.path.exists(other) or not isinstance(other, str)):
            return checkpoint.load(other), os.path.basename(other)
        if isinstance(other, str):
            self.snapshots.tensors(other)
        raise EditRefused(f"expected a snapshot's label, a model, a state dict or a file, got {type(other).__name__}.")

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
        notes = linked.advice(self.tree, edit)
        if any(type(module).__name__ == "OptimizedModule" for module in (self.model, *self.tree.modules.values())):
            config = sys.modules.get("torch._inductor.config")
            if getattr(config, "freezing", False):
                notes.append(
                    "the compiled model was made with freezing and holds a frozen copy of its weights: compile it anew"
                )
        return notes

    def _changed(self, entry: Entry, check: bool) -> None:
        """After an entry was applied, undone or redone: stale pictures, revision, check, listeners."""
        with self.lock:
            torch.clear_autocast_cache()  # an autocast block that is open would go on with the old weight (rule J13)
            names: set[str] = set()
            for name, region in entry.changed:
                info = self.tree[name]
                names.add(info.name)
                pyramid = self._pyramids.get(info.name)
                if pyramid is not None:
                    pyramid.invalidate(region.bounds)
            for key in [key for key in self._pyramids if "\0" in key]:
                del self._pyramids[key]  # other views are made anew: what they show may depend on any change
            self.holds.captured(names)
            if any(edit.op == "requires_grad_" for edit in entry.edits):
                self.tree.refresh()
            self.revision += 1
            if self.auto_check and check:
                try:
                    self._check()
                except ProbeFailed:
                    pass  # kept in report_error, which the page shows; the edit itself has succeeded
        self._tell(list(entry.changed))

    def _tell(self, changed: Changed) -> None:
        for callback in tuple(self._callbacks):
            callback(changed)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget()._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        cells = sum(info.numel for info in self.tree if info.kind == "parameter")
        return f"Lab({type(self.model).__name__}: {cells:,} parameters in {len(self.tree)} tensors, {len(self.history)} edits)"


def replay(recipe: str | os.PathLike[str] | Mapping[str, Any], model: nn.Module) -> Lab:
    """Apply a recipe to a model, all of it or nothing; the entries are in the history of the returned Lab.

    Raises:
        EditRefused: the recipe is damaged or does not fit this model; no byte was changed.
    """
    lab = Lab(model)
    strokes = recipes.strokes_of(recipes.read(recipe), lab.tree)
    try:
        for text, edits in strokes:
            lab.apply(edits, text)
    except BaseException:
        while lab.undo():
            pass
        raise
    return lab


def open(path: str | os.PathLike[str]) -> Lab:
    """A Lab over the tensors of a safetensors file or a sharded index: see, edit, save.

    Raises:
        WeightLabError: the file cannot be read.
    """
    return Lab(checkpoint.Checkpoint(checkpoint.load(path)))
