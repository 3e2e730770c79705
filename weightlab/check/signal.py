"""The signal through a model: size of activations forward and of gradients backward, measured beside expected."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from weightlab.check.evidence import MATRIX, SATURATING, Evidence
from weightlab.check.expected import Layer
from weightlab.check.layers import Heard
from weightlab.check.listening import Listening
from weightlab.check.measures import CONTAINERS, LOOKUPS, NORMS, RELU
from weightlab.check.roles import ACTIVATIONS, COMPOSITE, Roles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Below this share of what is expected the signal has died there; above its inverse it has blown up.
LOST = 1e-2


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One function of the forward pass.

    Attributes:
        name: dotted path of the module on whose behalf it ran.
        op: the function, such as "conv2d".
        weight: the parameter that it mixes units with, or None.
        activation, gradient: five quantiles of |x| (5, 25, 50, 75, 95 %); gradient None where none arrived.
        variance, gradient_variance: measured mean square of the output and of its gradient.
        expected: mean square that the layer would put out, given what it was fed, with the right gain for its fan and activation.
        expected_gradient: mean square of the gradient at its input by the same rule, given the one at its output.
        passed_gradient: the measured one at its input, to be compared with `expected_gradient`.
        alike: 1 - variance between samples / mean square: 1 where all samples look the same.
        note: where the signal dies or blows up here, in words, and a finding above "info" names the place; "" elsewhere.
    """

    name: str
    op: str
    weight: str | None
    activation: tuple[float, ...]
    gradient: tuple[float, ...] | None
    variance: float
    gradient_variance: float | None
    expected: float | None = None
    expected_gradient: float | None = None
    passed_gradient: float | None = None
    alike: float | None = None
    note: str = ""


class Signal:
    """Rows in order of execution; sizes are of at most 8192 cells of each tensor."""

    def __init__(self, rows: tuple[SignalRow, ...] = ()) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[SignalRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "no signal was measured"
        width = max(len(f"{row.name} {row.op}") for row in self.rows)
        lines = [f"{'layer':<{width}}  {'E[x²]':>9}  {'expected':>9}  {'E[g²]':>9}  {'at input':>9}  {'expected':>9}"]
        for row in self.rows:
            numbers = (row.variance, row.expected, row.gradient_variance, row.passed_gradient, row.expected_gradient)
            cells = "  ".join(f"{_said(value):>9}" for value in numbers)
            lines.append(f"{row.name + ' ' + row.op:<{width}}  {cells}  {row.note}".rstrip())
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "<tr><th>layer</th><th>E[x²]</th><th>expected</th><th>E[g²]</th><th>at input</th><th>expected</th><th></th></tr>"
        body = "".join(
            f"<tr><td style='text-align:left'>{html.escape(row.name)} {html.escape(row.op)}</td><td>{_said(row.variance)}</td>"
            f"<td>{_said(row.expected)}</td><td>{_said(row.gradient_variance)}</td><td>{_said(row.passed_gradient)}</td>"
            f"<td>{_said(row.expected_gradient)}</td><td>{html.escape(row.note)}</td></tr>"
            for row in self.rows
        )
        return f"<table style='font-variant-numeric:tabular-nums'>{head}{body}</table>"

    def noted_at(self, named: Collection[str]) -> Signal:
        """The same with notes at these layers and parameters only: elsewhere what is small is as it should be, no alarm."""
        return Signal(
            tuple(row if row.name in named or row.weight in named else replace(row, note="") for row in self.rows)
        )

    def plot(self, marked: Collection[str] = ()) -> Figure:
        """Bars of |activation| and |gradient| through the layers beside what is expected; see `plots.plot_signal`."""
        from weightlab.check.plots import plot_signal

        return plot_signal(self, marked)


def signal(evidence: Evidence, listening: Listening, roles: Roles, layers: list[Layer]) -> Signal:
    """The rows of one recorded pass: layers, normalisations, activations, lookups, and the last function of each module."""
    heard = Heard(listening, roles)
    of_op = {index: layer for layer in layers for index in layer.ops}
    shown = (*MATRIX, *RELU, *SATURATING, *NORMS, *LOOKUPS, *ACTIVATIONS, *COMPOSITE, "scaled_dot_product_attention")
    rows = []
    for op in evidence.ops:
        own = listening.heard.get(op.index)
        if own is None or own.out is None or not op.module_type:
            continue
        leaf = op.module_type not in CONTAINERS and op.module_type != type(evidence.tree.model).__name__
        if not (op.name in shown or op.name.startswith("conv") or (leaf and "dropout" not in op.name)):
            continue
        layer = of_op.get(op.index)
        fed = heard.fed(op)
        measured = own.out.rms**2
        expected = expected_gradient = passed = None
        if layer is not None and op.name not in COMPOSITE and fed:
            expected = (layer.right_gain * fed) ** 2
            if own.gradient is not None:
                out_fan = layer.fans[1] * layer.fan_in / layer.fans[0] if layer.kind != "conv" else layer.fans[1]
                expected_gradient = own.gradient.rms**2 * layer.right_gain**2 * out_fan / layer.fan_in
                passed = _passed(op.index, evidence, listening, roles)
        note = ""
        if expected and measured < LOST**2 * expected:
            note = "signal lost here"
        elif expected and measured > expected / LOST**2:
            note = "signal blown up here"
        elif expected_gradient and passed is not None and passed < LOST**2 * expected_gradient:
            note = "gradient lost here"
        rows.append(
            SignalRow(
                op.path,
                op.name,
                layer.name if layer else None,
                own.out.quantiles,
                own.gradient.quantiles if own.gradient is not None else None,
                measured,
                own.gradient.rms**2 if own.gradient is not None else None,
                expected,
                expected_gradient,
                passed,
                None if own.uneven is None else max(0.0, 1.0 - float(own.uneven)),
                note,
            )
        )
    return Signal(tuple(rows))


def _passed(index: int, evidence: Evidence, listening: Listening, roles: Roles) -> float | None:
    """Mean square of the gradient at an Op's input, where this Op alone takes it."""
    sources = roles.fed_by(evidence.ops[index])
    while len(sources) == 1 and sources[0].is_view and len(roles.users(sources[0])) == 1:
        sources = roles.fed_by(sources[0])
    if len(sources) != 1 or len(roles.users(sources[0])) != 1:
        return None
    heard = listening.heard.get(sources[0].index)
    return heard.gradient.rms**2 if heard is not None and heard.gradient is not None else None


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
