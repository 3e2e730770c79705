"""What a check found: one row per parameter, the causes, and how it differs from another check."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from weightlab.check.causes import Cause
from weightlab.check.outputs import Output, OutputChange, output_change
from weightlab.check.verify import Verification
from weightlab.errors import UnknownName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Status = Literal["flowing", "weak", "partial", "zero", "unreached", "frozen", "nonfinite"]
# Sign, colour and marker together, so that no status is told by colour alone.
SIGNS: dict[Status, tuple[str, str, str]] = {
    "flowing": ("●", "#2a8a57", "o"),
    "weak": ("◌", "#8a6d00", "v"),
    "partial": ("◐", "#b26a00", "D"),
    "zero": ("○", "#b3261e", "s"),
    "unreached": ("×", "#6b4fa0", "x"),
    "frozen": ("◆", "#4f86b8", "d"),
    "nonfinite": ("!", "#b3261e", "*"),
}


@dataclass(frozen=True, slots=True)
class GradientRow:
    """One parameter.

    Attributes:
        name, shape, aliases: as the tree's; a tied tensor is one row with the sum of its gradients.
        status: see rule G2.
        norm: Euclidean norm of the gradient; None where no gradient arrived, NaN or inf where it is not finite.
        zero_units: output units (axis 0; axis 1 of a ConvTranspose weight) that get exactly zero.
        units: how many output units there are.
        zero_at: indices of the units that get exactly zero.
        reaching: per unit, from how many of the batch's samples a gradient reaches it; () where every gradient flows,
            since then it is not measured, and for what is no unit of a function's output.
        samples: how many there were.
        weight: Euclidean norm of the parameter itself, from at most 65,536 of its cells; None where it has no values.
    """

    name: str
    status: Status
    norm: float | None
    zero_units: int
    units: int
    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    zero_at: tuple[int, ...] = ()
    reaching: tuple[int, ...] = ()
    samples: int = 0
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter in two checks. `was` is None for a new one; `ratio` is norm / norm before, None where undefined."""

    name: str
    was: Status | None
    status: Status
    ratio: float | None

    def __str__(self) -> str:
        state = self.status if self.was == self.status else f"{self.was or 'new'} → {self.status}"
        return f"{self.name}: {state}" + ("" if self.ratio is None else f", norm × {self.ratio:.3g}")


@dataclass(frozen=True, slots=True)
class Changes:
    """A check compared with an earlier one.

    Attributes:
        loss_before, loss: the two losses.
        rows: every parameter of the later check.
        status: those whose status is another.
        gone: names that only the earlier check has.
        output: how far the model's output has moved; None where it cannot be compared.
    """

    loss_before: float
    loss: float
    rows: tuple[Change, ...]
    gone: tuple[str, ...] = ()
    output: OutputChange | None = None

    @property
    def loss_delta(self) -> float:
        return self.loss - self.loss_before

    @property
    def status(self) -> tuple[Change, ...]:
        return tuple(change for change in self.rows if change.was != change.status)

    def __getitem__(self, name: str) -> Change:
        for change in self.rows:
            if change.name == name:
                return change
        raise UnknownName(f"{name}: neither check has a parameter of this name.")

    def __str__(self) -> str:
        lines = [f"loss {self.loss_before:.4g} → {self.loss:.4g} ({self.loss_delta:+.3g})"]
        lines += [] if self.output is None else [str(self.output)]
        moved = [c for c in self.rows if c.was != c.status or (c.ratio is not None and not 0.5 <= c.ratio <= 2)]
        lines += [f"  {change}" for change in moved]
        if not moved:
            lines.append("  no status changed, no norm moved by more than a factor of 2")
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True, slots=True, repr=False)
class GradientReport:
    """The result of one check.

    Attributes:
        loss: the value that was differentiated.
        rows: one per parameter, in the tree's order.
        causes: why rows are not flowing, worst first.
        synthetic: whether the input was made up.
        note: what was made up (the input, or the choice of loss), and what could not be measured; empty for neither.
        training: whether the model was in training mode.
        output: rows of the model's output; `logits` says whether the loss took them as logits.
        verified: the comparison with finite differences, where one was asked for.
    """

    loss: float
    rows: tuple[GradientRow, ...]
    causes: tuple[Cause, ...]
    synthetic: bool
    note: str = ""
    training: bool = True
    output: Output | None = None
    logits: bool = False
    verified: Verification | None = None

    def __getitem__(self, name: str) -> GradientRow:
        for row in self.rows:
            if name == row.name or name in row.aliases:
                return row
        raise UnknownName(f"{name}: the report has no parameter of this name.")

    def causes_of(self, name: str) -> tuple[Cause, ...]:
        """The causes that name this parameter among those affected."""
        first = self[name].name
        return tuple(cause for cause in self.causes if first in cause.affects)

    def changes_since(self, other: GradientReport) -> Changes:
        """What is different from an earlier check: status, ratio of norms, loss, output."""
        before = {row.name: row for row in other.rows}
        rows = []
        for row in self.rows:
            old = before.pop(row.name, None)
            ratio = None
            if old is not None and row.norm is not None and old.norm:
                ratio = row.norm / old.norm
                ratio = ratio if math.isfinite(ratio) else None
            rows.append(Change(row.name, old.status if old is not None else None, row.status, ratio))
        moved = output_change(other.output, self.output, self.logits)
        return Changes(other.loss, self.loss, tuple(rows), tuple(before), moved)

    def __str__(self) -> str:
        mode = "training" if self.training else "eval"
        width = max((len(row.name) for row in self.rows), default=4)
        lines = [f"loss {self.loss:.6g}, {mode} mode" + (f" ({self.note})" if self.note else "")]
        for row in self.rows:
            zeros = f"{row.zero_units} of {row.units} units get exactly zero" if row.zero_units else ""
            lines.append(
                f"{SIGNS[row.status][0]} {row.name:<{width}}  {row.status:<9}  {_number(row.norm):>9}  {zeros}".rstrip()
            )
        lines += [f"{cause.severity}: {cause.text}" for cause in self.causes]
        lines += [] if self.verified is None else [str(self.verified)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = []
        for row in self.rows:
            sign, colour, _ = SIGNS[row.status]
            zeros = f"{row.zero_units} / {row.units}" if row.zero_units else ""
            ratio = row.norm / row.weight if row.norm is not None and row.weight else None
            body.append(
                f"<tr><td style='color:{colour};text-align:left'>{sign} {row.status}</td>"
                f"<td style='text-align:left'>{html.escape(row.name)}</td>"
                f"<td>{_number(row.norm)}</td><td>{_number(row.weight)}</td><td>{_number(ratio)}</td><td>{zeros}</td></tr>"
            )
        causes = "".join(
            f"<li><b>{html.escape(cause.title or cause.kind)}</b> ({cause.severity}) {html.escape(cause.text)}</li>"
            for cause in self.causes
        )
        mode = "training" if self.training else "eval"
        note = f" · {html.escape(self.note)}" if self.note else ""
        verified = "" if self.verified is None else f"<p>{html.escape(str(self.verified))}</p>"
        return (
            f"<div>loss {self.loss:.6g}, {mode} mode{note}<table style='font-variant-numeric:tabular-nums'>"
            "<tr><th>status</th><th>parameter</th><th>gradient</th><th>weight</th><th>gradient / weight</th>"
            f"<th>zero units</th></tr>{''.join(body)}</table><ul>{causes}</ul>{verified}</div>"
        )

    def plot(self) -> Figure:
        """Norms of weights and gradients in the model's order, logarithmic; see `plots.plot_norms`."""
        from weightlab.check.plots import plot_norms

        return plot_norms(self)


def _number(norm: float | None) -> str:
    return "–" if norm is None else f"{norm:.3g}"
