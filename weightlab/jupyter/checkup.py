"""What the page asks about the health of the whole model: a diagnosis, the signal through it, and repairs.

All of it runs where no step of training is in flight. Where one is, a repair waits as any edit does; a diagnosis is answered
at once ("waits"), and the page learns by a push, when the step has ended, that there is something new: it then asks
`findings`, which runs nothing.
"""

from __future__ import annotations

import math
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weightlab.check.causes import Cause
from weightlab.check.explanations import explanation
from weightlab.check.finding import Diagnosis, Finding
from weightlab.check.signal import Signal
from weightlab.checking import Repaired
from weightlab.edit.operations import Edit
from weightlab.errors import BadMessage, EditRefused, WeightLabError
from weightlab.jupyter import describe
from weightlab.jupyter.fields import FINDING, FLAG, LABEL
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.lab import Lab

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

MOST_FINDINGS = 200
MOST_ROWS = 8192  # of the signal: one megabyte
MOST_NAMES = 50  # victims of a finding that are told by name
_LISTED = 256  # indices that the text of a region may list
_NUMBERS = ("variance", "gradient_variance", "expected", "expected_gradient", "passed_gradient", "alike")
_BANDS = 5


class Checkup:
    """The diagnosis that one page asked for; *state*.

    Attributes:
        waits: a step of training is in flight, and what was asked for begins when that ends.
        trouble: what became of it then, where nothing did.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.waits = False
        self.trouble: Json | None = None

    def diagnose(self) -> None:
        """Do it now, or at the end of a step of training without waiting for it.

        Raises:
            what the diagnosis raises, where it ran now.
        """
        raised: list[Exception] = []
        here = True
        self.waits, self.trouble = True, None

        def wanted() -> bool:
            if not self.waits:  # given up meanwhile
                return False
            self.waits = False
            self.lab._diagnose()
            return True

        def run() -> None:
            try:
                done = self.lab.steps.call(wanted)
            except Exception as error:
                self.waits = False
                raised.append(error)
                if here:
                    return
                self.trouble, done = _said(error), True
            if done:
                self.lab._tell([])

        self.lab.steps.later("diagnose", run)
        here = False
        if raised:
            raise raised[0]


def _said(error: Exception) -> Json:
    if isinstance(error, WeightLabError):
        return {"kind": type(error).__name__, "message": str(error)}
    traceback.print_exc()
    return {"kind": "InternalError", "message": f"{type(error).__name__}: {error}. This is a bug in WeightLab."}


def diagnose(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Look for everything that is wrong; with `stop` give up what still waits."""
    checkup = session.checkup
    if fields.get("stop"):
        checkup.waits = False
    else:
        checkup.diagnose()
    return _told(session, made)


def findings(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """The last diagnosis and repair, whoever asked for them."""
    return _told(session, made)


def repair(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Repair one finding or cause, found again by its words: the model may have changed since it was shown."""
    return _mend(session, made, session.lab.repair(_meant(session.lab, fields["finding"])))


def repair_all(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Repair everything above "info"."""
    return _mend(session, made, session.lab.repair_all())


def explain(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Three sentences for a student about a kind of cause or finding."""
    text = explanation(fields["kind"])
    if not text:
        raise BadMessage(f"explain: there is no kind {fields['kind']!r:.60} of finding.")
    return {"kind": fields["kind"], "text": text}


def _mend(session: Session, made: Buffers, done: Repaired) -> Json:
    told = None if done.entry is None else describe.entry(done.entry, session.lab.foreign)
    return {"entry": told, **_told(session, made)}


def _meant(lab: Lab, wanted: Mapping[str, str]) -> Finding | Cause:
    """The finding of a present diagnosis that the page speaks of, or the cause."""
    diagnosis = lab.diagnosis
    if diagnosis is None or lab.diagnosed.revision != lab.revision:
        diagnosis = lab.diagnose()
    kind, name, at, text = (wanted[key] for key in ("kind", "name", "at", "text"))
    same = [finding for finding in diagnosis if finding.kind == kind]
    fits: tuple[Callable[[Finding], bool], ...] = (
        lambda finding: finding.text == text and finding.at == at,
        lambda finding: (finding.name, finding.at) == (name, at),
        lambda finding: bool(at) and finding.at == at,
    )
    for fit in fits:
        found = next((finding for finding in same if fit(finding)), None)
        if found is not None:
            return found
    for cause in lab.report.causes if lab.report is not None else ():
        if cause.kind == kind and cause.at == at:
            return cause
    raise EditRefused(f"{name or at or 'model'}: {kind} is not there any more. Diagnose again.")


def _told(session: Session, made: Buffers) -> Json:
    """What every reply here carries, and the numbers of the signal as its buffer."""
    lab, checkup = session.lab, session.checkup
    with lab.lock:
        found = lab.diagnosis
        rows = Signal() if found is None else found.signal
        made.append(signal_bytes(rows))
        return {
            "diagnosis": None if found is None else diagnosis(found, lab),
            "repaired": None if lab.repaired is None else repaired(lab.repaired),
            "waits": checkup.waits,
            "trouble": checkup.trouble,
            "state": describe.state(lab),
        }


def diagnosis(found: Diagnosis, lab: Lab) -> Json:
    """Findings, worst first, and the text columns of the signal."""
    report = found.report
    shown = list(found)[:MOST_FINDINGS]
    rows = list(found.signal)[:MOST_ROWS]
    return {
        **lab.diagnosed._asdict(),
        "failure": found.failure,
        "synthetic": (report.note or "made-up input") if report is not None and report.synthetic else None,
        "batch": not lab.probe.synthetic,
        "left": len(found) - len(shown),
        "findings": [_finding(finding, lab) for finding in shown],
        "signal": {
            "name": [row.name for row in rows],
            "op": [row.op for row in rows],
            "weight": [row.weight for row in rows],
            "note": [row.note for row in rows],
            "left": len(found.signal) - len(rows),
        },
    }


def _finding(finding: Finding, lab: Lab) -> Json:
    show, region = _to_show(finding, lab)
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "name": finding.name,
        "at": finding.at,
        "title": finding.title,
        "text": finding.text,
        "evidence": list(finding.evidence),
        "affects": list(finding.affects[:MOST_NAMES]),
        "affected": len(finding.affects),
        "repair": None if finding.repair is None else finding.repair.text,
        "advice": finding.advice,
        "show": show,
        "region": region,
    }


def _to_show(finding: Finding, lab: Lab) -> tuple[str | None, str | None]:
    """The tensor that "Show me" opens, and its cells: of the finding, or else those that a repair would write."""
    edits = finding.repair.edits if finding.repair is not None else ()
    if finding.name in lab.tree:
        written = next((edit for edit in edits if edit.name == finding.name), None)
        region = finding.region or (None if written is None else written_text(written))
        return finding.name, None if region == "[...]" else region
    if edits and edits[0].name in lab.tree:
        text = written_text(edits[0])
        return edits[0].name, None if text == "[...]" else text
    under = f"{finding.at}." if finding.at else None
    near = (info.name for info in lab.tree if info.kind == "parameter" and under and info.name.startswith(under))
    return next(near, next((name for name in finding.affects if name in lab.tree), None)), None


def written_text(edit: Edit) -> str | None:
    """The region of an edit as text that can be read back: listed cells as the units of an axis that they fill."""
    region = edit.region
    if region.is_box:
        return str(region)
    cells, shape = region.cells, region.shape
    if cells is None or not shape or not cells.numel():
        return None
    flat = cells.flatten()
    for axis, size in enumerate(shape):
        inner = math.prod(shape[axis + 1 :])
        units = (flat // inner % size).unique()
        if flat.numel() == units.numel() * (math.prod(shape) // size) and units.numel() <= _LISTED:
            return f"[{':, ' * axis}{units.tolist()}]"
    return None


def signal_bytes(rows: Signal) -> bytes:
    """Sixteen little-endian float64 a row: five quantiles of |activation|, of |gradient|, and six numbers; NaN for none.

    Not float32: variances of a signal that has died are below what it holds.
    """
    nothing = (math.nan,) * _BANDS
    parts = []
    for row in list(rows)[:MOST_ROWS]:
        numbers = (getattr(row, key) for key in _NUMBERS)
        told = (math.nan if number is None else number for number in numbers)
        parts.append(struct.pack("<16d", *row.activation, *(row.gradient or nothing), *told))
    return b"".join(parts)


def repaired(done: Repaired) -> Json:
    """What became of each finding, and what else is found now."""
    known = {(finding.kind, finding.name) for finding in done.findings}
    others = [finding for finding in done.after.serious if (finding.kind, finding.name) not in known]
    return {
        "entry": None if done.entry is None else done.entry.id,
        "helped": done.helped,
        "findings": [
            {
                "kind": finding.kind,
                "name": finding.name,
                "title": finding.title,
                "repair": finding.repair.text if finding.repair is not None else "",
                "left": finding in done.left,
            }
            for finding in done.findings[:MOST_FINDINGS]
        ],
        "others": [{"kind": finding.kind, "name": finding.name, "title": finding.title} for finding in others[:20]],
    }


OPERATIONS: Mapping[str, Operation] = {
    "diagnose": Operation(diagnose, {}, {"stop": FLAG}),
    "findings": Operation(findings, {}, reads=True),
    "repair": Operation(repair, {"finding": FINDING}, changes=True),
    "repair_all": Operation(repair_all, {}, changes=True),
    "explain": Operation(explain, {"kind": LABEL}),
}
