"""Holds in force, as undo entries, kept after each step of the optimizer. A part of `Lab`."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from weightlab.edit.entry import ActionPatch
from weightlab.edit.operations import Edit
from weightlab.edit.step import Step
from weightlab.part import Part
from weightlab.train.hold import Constraint

_NO_OPTIMIZER = "this Lab was given no optimizer: call lab.step() after each step of yours, so that holds are kept"


class Holding(Part):
    """The holds of a Lab."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The holds in force, oldest first."""
        return self.holds.active

    def hold(self, constraint: Constraint) -> Constraint:
        """Put a hold in force, as one undo entry; `WeightRef.hold` is the short way.

        Raises:
            EditRefused: it cannot be kept together with the holds in force; nothing was changed.
        """
        with self.steps.turn():
            self.holds.check(constraint)
            self._put_in_force(constraint)
        return constraint

    def _put_in_force(self, constraint: Constraint) -> None:
        with self.stroke(constraint.text):
            if constraint.kind == "clamp":
                bounds = {"min": constraint.min, "max": constraint.max}
                self.journal.apply(Edit(constraint.name, constraint.region, "clamp_", bounds))
            constraint._release = self._release
            self._include_hold(constraint.text, constraint, 1, self._unhold, self._rehold)
            self._rehold(constraint)

    def _release(self, constraint: Constraint) -> None:
        with self.stroke(f"Release: {constraint.text}"):
            if constraint.active:  # another thread may have undone it since
                self._include_hold(f"Release: {constraint.text}", constraint, -1, self._rehold, self._unhold)
                self._unhold(constraint)

    def _include_hold(
        self,
        text: str,
        constraint: Constraint,
        sign: int,
        undo: Callable[[Constraint], None],
        redo: Callable[[Constraint], None],
    ) -> None:
        patch = ActionPatch(text, lambda: undo(constraint), lambda: redo(constraint))
        changed = ((constraint.name, constraint.region),)
        notes = tuple(filter(None, (constraint.note, "" if self.optimizer is not None else _NO_OPTIMIZER)))
        held = sign * constraint.region.numel
        self.journal.include(Step(None, text, str, [patch], (constraint.name,), changed, held=held, notes=notes))

    def _rehold(self, constraint: Constraint) -> None:
        self.holds.add(constraint)
        if self.after_step is not None:
            found = weakref.ref(self)

            def enforce() -> None:
                lab = found()
                if lab is not None:
                    lab._enforce()

            self.after_step.put("holds", enforce)

    def _unhold(self, constraint: Constraint) -> None:
        self.holds.remove(constraint)
        if not self.holds.active and self.after_step is not None:
            self.after_step.put("holds", None)

    def step(self) -> None:
        """The safe point after an optimizer's step, for a loop whose optimizer the Lab was not given: holds are kept here."""
        try:
            self._enforce()
        finally:
            self.steps.end()

    def _enforce(self) -> None:
        with self.lock, self._own_writes(constraint.name for constraint in self.holds.active):
            self.holds.enforce()
