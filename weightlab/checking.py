"""Diagnosis and repair: what is wrong, and the undo entry that mends it. A part of `Lab`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from weightlab.check import acting
from weightlab.check.evidence import Cause
from weightlab.check.expected import Scheme, layers_by_type
from weightlab.check.finding import Diagnosis, Finding
from weightlab.check.gradients import GradientReport
from weightlab.check.initialization import diagnose
from weightlab.check.lsuv import factors
from weightlab.check.probe import Probe
from weightlab.check.repair import Action
from weightlab.check.signal import Signal
from weightlab.edit.arguments import literal
from weightlab.edit.entry import ActionPatch, Entry
from weightlab.edit.operations import Edit
from weightlab.edit.step import Step
from weightlab.errors import EditRefused, ProbeFailed, WeightLabError
from weightlab.model.region import Region
from weightlab.model.sharded import is_sharded
from weightlab.part import Part
from weightlab.progress import share
from weightlab.train.step_size import step_norm

ROUNDS = 3  # a repair may uncover the next thing at the same place: a bias set to 0 that leaves the weight to blame


@dataclass(frozen=True, slots=True, repr=False)
class Repaired:
    """What a repair did.

    Attributes:
        findings: those that were repaired.
        entry: the undo entry; None where nothing changed.
        after: the diagnosis made again.
        left: those of the findings that are still there.
        also: what came to light behind them, and was repaired with them.
    """

    findings: tuple[Finding, ...]
    entry: Entry | None
    after: Diagnosis
    left: tuple[Finding, ...]
    also: tuple[Finding, ...] = ()

    @property
    def helped(self) -> bool:
        """Whether none of what was repaired is found any more."""
        return not self.left

    def __str__(self) -> str:
        if not self.findings:
            return "nothing to repair"
        lines = [f"{f.kind} {f.name}: {'still there' if f in self.left else 'repaired'}" for f in self.findings]
        known = {(finding.kind, finding.name) for finding in self.findings}
        lines += [f"{f.kind} {f.name}: found behind it, and repaired" for f in self.also]
        lines += [f"now: {finding}" for finding in self.after.serious if (finding.kind, finding.name) not in known]
        return "\n".join(lines)

    __repr__ = __str__


class Diagnosed(NamedTuple):
    """Which diagnosis is the last one: `number` counts them, `revision` is the model's that it saw."""

    number: int
    revision: int
    seconds: float


class Checking(Part):
    """Diagnosis and repairs of a Lab."""

    probe: Probe
    revision: int
    checked_revision: int
    report_before: GradientReport | None
    report_error: WeightLabError | None
    _gradients: dict[str, tuple[int, Tensor]]

    def __init__(self) -> None:
        self.diagnosis: Diagnosis | None = None
        self.diagnosed = Diagnosed(0, -1, 0.0)
        self.repaired: Repaired | None = None  # the last one
        self._steps_of: tuple[GradientReport | None, dict[str, float]] = None, {}

    def diagnose(self) -> Diagnosis:
        """What is wrong with the model: its gradients, its initialisation, its structure and its optimizer.

        Nothing is changed. It answers also where the forward raises, from structure and weights alone. The gradient check that
        it makes becomes `lab.report`. Once a page shows this Lab, a call from another thread than the one that trains waits for
        the end of its step.

        Example:
            >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
            >>> _ = nn.init.constant_(model[0].weight, 0.5)
            >>> [finding.kind for finding in Lab(model).diagnose().serious]
            ['symmetric_units']
        """
        found = self.steps.call(self._diagnose)
        self._tell([])
        return found

    def _diagnose(self, inside: bool = False) -> Diagnosis:
        """`inside` a repair what is found is of no revision yet."""
        begun = time.monotonic()
        with self.steps.alone():
            keep, take = ((), None) if inside else (tuple(self._gradients), self._take)
            found = diagnose(self.tree, self.probe, self.optimizer, keep, take)
            if not inside:
                self._learn(found, time.monotonic() - begun)
        return found

    def _learn(self, found: Diagnosis, seconds: float) -> None:
        """The last diagnosis, and the check in it, which is the check of this revision."""
        self.diagnosis, self.diagnosed = found, Diagnosed(self.diagnosed.number + 1, self.revision, seconds)
        again = self.checked_revision == self.revision and self.report_error is None
        self.checked_revision = self.revision
        if found.report is None:
            self.report_error = ProbeFailed(found.failure)
            return
        self.report_error = None
        if not again:  # else the check before is still the one before
            self.report_before = self.report
        self.report = found.report

    def signal(self) -> Signal:
        """Size of activations and gradients through the layers, measured beside expected.

        Raises:
            ProbeFailed: the model could not be run.
        """
        found = self.diagnose()
        if found.report is None:
            self.check_gradients()  # raises what stood in the way
        return found.signal

    def step_norms(self) -> dict[str, float]:
        """How far the optimizer moves each parameter with the gradients of the last check, where its rule is known."""
        report = self.report
        if report is None or self.optimizer is None:
            return {}
        if self._steps_of[0] is not report:
            norms = {}
            for row in report.rows:
                if row.name not in self.tree or is_sharded(self.tree.tensor(row.name)):
                    continue
                norm = step_norm(self.optimizer, self.tree.tensor(row.name), row.norm)
                if norm is not None:
                    norms[row.name] = norm
            self._steps_of = report, norms
        return self._steps_of[1]

    def repair(self, finding: Finding | Cause) -> Repaired:
        """Apply the repair of a finding or cause as one undo entry, and check again.

        Raises:
            EditRefused: there is no repair for it, or it cannot be applied; nothing was changed.
        """
        if isinstance(finding, Cause):
            finding = self._finding_of(finding)
        if not isinstance(finding, Finding):
            raise EditRefused(
                f"repair: expected a Finding or a Cause, got {type(finding).__name__}. For example lab.diagnose()[0]."
            )
        if finding.repair is None:
            what = f" {finding.advice}" if finding.advice else " Its text says where to look."
            raise EditRefused(f"{finding.name or 'model'}: {finding.kind} has no repair of its own.{what}")
        kind = finding.kind.replace("_", " ")
        return self._repair([finding], f"Repair {kind} of {finding.name or 'the model'}")

    def repair_all(self) -> Repaired:
        """Apply the repairs of all findings above "info" as one undo entry, and check again."""
        found = [finding for finding in self.diagnose().serious if finding.repair is not None]
        return self._repair(found, f"Repair {len(found)} finding{'s' if len(found) != 1 else ''}")

    def _finding_of(self, cause: Cause) -> Finding:
        found = self.diagnose()
        for finding in found:
            if finding.kind == cause.kind and finding.at == cause.at:
                return finding
        for finding in found:  # the diagnosis may know it as a symptom of something else
            if finding.severity != "info" and set(cause.affects) & set(finding.affects) and finding.repair is not None:
                return finding
        raise EditRefused(f"{cause.at or 'model'}: {cause.kind} is not there any more. Check again.")

    def _repair(self, findings: list[Finding], text: str) -> Repaired:
        if not findings:
            return Repaired((), None, self.diagnosis or self.diagnose(), ())
        done: set[str] = set()
        begun = time.monotonic()
        # The diagnosis checks the gradients, too; those that somebody looks at are not kept by it.
        with self.stroke(text, check=bool(self._gradients)) as made:
            waiting, also = findings, list[Finding]()
            for turn in range(ROUNDS):
                with share(turn / ROUNDS, (turn + 0.5) / ROUNDS):
                    for finding in waiting:
                        self._carry_out(finding)
                        done.add(finding.repair.text if finding.repair else "")
                with share((turn + 0.5) / ROUNDS, (turn + 1) / ROUNDS):
                    after = self._diagnose(inside=True)
                left = tuple(finding for finding in findings if _again(finding, after) is not None)
                again = [f for f in (_again(finding, after) for finding in left) if f is not None]
                if len(findings) > 1:  # what other faults had hidden
                    again += [f for f in after.serious if f not in again]
                waiting = [f for f in again if f.repair is not None and f.repair.text not in done]
                if turn < ROUNDS - 1:
                    also += [f for f in waiting if all(_other(f, known) for known in (*findings, *also))]
                if not waiting:
                    break
        with self.lock:
            self._learn(after, (time.monotonic() - begun) / (turn + 1))
            also = [finding for finding in also if _again(finding, after) is None]
            self.repaired = Repaired(tuple(findings), made[0] if made else None, after, left, tuple(also))
        self._tell([])
        return self.repaired

    def _carry_out(self, finding: Finding) -> None:
        repair = finding.repair
        assert repair is not None
        for action in repair.actions:
            if action.kind == "lsuv":
                self._lsuv(action)
            else:
                self._act(action, repair.text)
        for edit in repair.edits:
            # What the optimizer remembers of a weight that is drawn anew says nothing about the new one.
            self.journal.apply(edit, "zero" if edit.op == "normal_" else None)

    def _act(self, action: Action, text: str) -> None:
        if action.kind == "register":
            done = acting.register(self.tree, action, self.optimizer)
        elif action.kind == "relink":
            done = acting.relink(self.tree, action, self.optimizer)
        else:
            copies = [self.snapshots.tensors(label) for label in reversed(self.snapshots.labels)]
            others = [layer for layer in layers_by_type(self.tree) if layer.name != action.names[0] and layer.size > 0]
            size = Scheme(others).size_for(action.shape)
            done = acting.reshape(self.tree, action, self.optimizer, copies, size, literal)
        patch = ActionPatch(text, done.undo, done.redo, text, done.spelled)
        names = tuple(name for name in done.names if name in self.tree)
        changed = tuple((name, Region.whole(self.tree[name].shape)) for name in names)
        self.journal.include(Step(None, text, done.code, [patch], names, changed))

    def _lsuv(self, action: Action) -> None:
        with self.steps.alone():
            found = factors(self.tree, self.probe, action.names)
        for name, by in found.items():
            self.journal.apply(Edit(name, Region.whole(self.tree[name].shape), "mul_", {"value": by}))


def _again(finding: Finding, after: Diagnosis) -> Finding | None:
    """The same finding in a later diagnosis, unless it is "info" by now and was not before."""
    for other in after if finding.severity == "info" else after.serious:
        if not _other(finding, other):
            return other
    return None


def _other(one: Finding, two: Finding) -> bool:
    """Whether these are two things, and not one that was found twice."""
    return one.kind != two.kind or (one.name != two.name and not (one.at and one.at == two.at))
