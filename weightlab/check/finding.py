"""What a diagnosis concludes: `Finding`, and the `Diagnosis` that lists them."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weightlab.check.evidence import SEVERITIES, Basis, Severity, names_text
from weightlab.check.explanations import explanation
from weightlab.check.repair import Repair

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from weightlab.check.gradients import GradientReport
    from weightlab.check.signal import Signal

SIGNS = {"error": "!", "warning": "▲", "info": "·"}
FEW = 3  # of one kind: what is only worth knowing does not fill the page
COLOURS = {"error": "#b3261e", "warning": "#b26a00", "info": "#4f86b8"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One origin of trouble; rules G4, G7 and G8.

    Attributes:
        kind: see rules G4 and G7.
        name: the tensor, module or attribute where it lies; "" for the model itself.
        affects: names of the parameters that suffer from it.
        severity: "error", "warning" or "info".
        text: one sentence with the place and the numbers.
        evidence: what was measured, one short sentence each.
        repair: what `lab.repair` would do, or None.
        title: a few words.
        at: the parameter or module that a gradient cause names; `name` otherwise.
        region: the cells to show, such as "[3]", where there are any.
        advice: what to do by hand, or "".
        op, basis: as those of a `Cause`.
    """

    kind: str
    name: str
    affects: tuple[str, ...]
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()
    repair: Repair | None = None
    title: str = ""
    at: str = ""
    region: str | None = None
    advice: str = ""
    op: int | None = None
    basis: Basis = "origin"

    @property
    def explain(self) -> str:
        """Three sentences for a student, with the formula."""
        return explanation(self.kind)

    def __str__(self) -> str:
        return f"{SIGNS[self.severity]} {self.kind:<16} {self.text}"


class Diagnosis(list[Finding]):
    """Findings, worst first. Prints as text and as HTML; `plot()` draws the signal through the layers.

    Attributes:
        report: the gradient check, or None where it could not run.
        failure: why it could not, or "".
        signal: expected and measured signal per layer; empty where the check could not run.
    """

    def __init__(
        self, findings: Iterable[Finding], signal: Signal, report: GradientReport | None = None, failure: str = ""
    ) -> None:
        super().__init__(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
        self.signal, self.report, self.failure = signal, report, failure

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self if finding.kind == kind]

    @property
    def serious(self) -> list[Finding]:
        """Those above "info"."""
        return [finding for finding in self if finding.severity != "info"]

    def __str__(self) -> str:
        lines = [f"the check could not run: {self.failure}"] if self.failure else []
        if not self.serious:
            lines.append("nothing above info was found")
        for finding in self:
            alike = [other for other in self.of(finding.kind) if other.severity == "info"]
            if finding.severity == "info" and len(alike) > FEW:
                if finding is alike[0]:
                    lines.append(f"{finding}\n{'':19}and {len(alike) - 1} more like it")
                continue
            lines.append(str(finding))
            if finding.repair is not None and finding.severity != "info":
                lines.append(f"  repair: {finding.repair.text}")
            elif finding.advice and finding.severity != "info":
                lines.append(f"  advice: {finding.advice}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for finding in self:
            repair = finding.repair.text if finding.repair is not None else finding.advice
            title = f"<b>{html.escape(finding.title)}</b><br>" if finding.title else ""
            seen = f"<br><small>{html.escape('; '.join(finding.evidence))}</small>" if finding.evidence else ""
            rows.append(
                f"<tr style='vertical-align:top'><td style='color:{COLOURS[finding.severity]};text-align:left;"
                f"white-space:nowrap'>{SIGNS[finding.severity]} {finding.severity}</td>"
                f"<td style='text-align:left'>{html.escape(finding.kind)}</td>"
                f"<td style='text-align:left'>{title}{html.escape(finding.text)}{seen}</td>"
                f"<td style='text-align:left'>{html.escape(names_text(finding.affects))}</td>"
                f"<td style='text-align:left'>{html.escape(repair)}</td></tr>"
            )
        if not self.serious:
            rows.insert(0, "<tr><td colspan=5 style='text-align:left'>nothing above info was found</td></tr>")
        failure = f"<p>the check could not run: {html.escape(self.failure)}</p>" if self.failure else ""
        return (
            f"<div>{failure}<table><tr><th>severity</th><th>kind</th><th>what</th><th>affects</th><th>repair</th></tr>"
            f"{''.join(rows)}</table></div>"
        )

    def plot(self) -> Figure:
        """Activations forward and gradients backward through the layers; see `Signal.plot`."""
        return self.signal.plot({finding.name for finding in self.serious} | {f.at for f in self.serious if f.at})
