"""Figures and HTML of a check and of a diagnosis: the numbers that were measured, and names as text (P3)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab as wl
from weightlab.check.signal import Signal

BATCH = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 3


def lab_of(model: nn.Module) -> wl.Lab:
    return wl.Lab(model, batch=BATCH, loss=F.cross_entropy)


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Sigmoid(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3))


def drawn(axes: object, label: str) -> list[float]:
    return next(list(line.get_ydata()) for line in axes.lines if line.get_label() == label)  # type: ignore[attr-defined]


def test_a_report_draws_the_norms_of_weights_and_gradients_and_their_ratio() -> None:
    model = mlp()
    with torch.no_grad():
        model[2].bias.zero_()
    report = lab_of(model).check_gradients()
    above, below = report.plot().axes
    assert above.get_yscale() == below.get_yscale() == "log"
    norms = [float(p.detach().norm()) for p in model.parameters()]
    weights = drawn(above, "weight")
    assert weights[:3] == pytest.approx(norms[:3])
    assert math.isnan(weights[3])  # zero is no place on a logarithmic axis
    (flowing,) = (c for c in above.collections if str(c.get_label()).startswith("flowing"))
    assert [y for _, y in flowing.get_offsets()] == pytest.approx([row.norm for row in report.rows])
    ratios = [y for _, y in below.collections[0].get_offsets()]
    assert ratios[0] == pytest.approx(report.rows[0].norm / norms[0])
    assert [text.get_text() for text in below.get_xticklabels()] == [name for name, _ in model.named_parameters()]


def test_a_gradient_that_does_not_arrive_stands_on_the_floor_with_its_status() -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    with torch.no_grad():
        model[2].weight.zero_()
    report = lab_of(model).check_gradients()
    above = report.plot().axes[0]
    found = {str(c.get_label()).partition(" ")[0]: c for c in above.collections}
    positive = [row.norm for row in report.rows if row.norm]
    assert set(found) == {row.status for row in report.rows}
    assert found["frozen"].get_offsets()[0][1] < min(positive)
    assert found["zero"].get_offsets()[0][1] < min(positive)


def test_a_signal_draws_sizes_beside_the_expected_ones_and_marks_where_it_dies() -> None:
    lab = lab_of(mlp())
    with torch.no_grad():
        lab.model[2].weight.mul_(1e-5)
        lab.model[2].bias.zero_()
    found = lab.diagnose()
    rows = list(found.signal)
    above, below = found.plot().axes
    assert drawn(above, "root mean square") == pytest.approx([math.sqrt(row.variance) for row in rows])
    assert drawn(below, "root mean square")[-1] == pytest.approx(math.sqrt(rows[-1].gradient_variance))
    (expected,) = (c for c in above.collections if c.get_label() == "expected")
    assert [y for _, y in expected.get_offsets()] == pytest.approx([math.sqrt(r.expected) for r in rows if r.expected])
    lost = [place for place, row in enumerate(rows) if row.note]
    assert lost
    assert rows[lost[0]].weight == "2.weight"
    assert "signal lost here" in above.texts[0].get_text()
    assert above.texts[0].xy[0] == lost[0]


def test_what_no_finding_above_info_names_is_marked_nowhere() -> None:
    """G8: a channel that nobody uses, behind a normalisation that makes its gradient huge; in trained networks it is common."""
    layers = (nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6, eps=1e-10))
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    with torch.no_grad():
        model[2].weight[4] = 0
        model[3].running_var[4] = 0
        model[3].bias[4] = 0.5
    batch = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    found = wl.Lab(model, batch=batch, loss=F.cross_entropy).diagnose()
    (kernels,) = (row for row in found.signal if row.weight == "2.weight")
    assert kernels.passed_gradient < 1e-4 * kernels.expected_gradient
    assert [finding.severity for finding in found] == ["info"]
    assert not any(row.note for row in found.signal)
    above, below = found.plot().axes
    assert not above.texts
    assert not [line for line in (*above.lines, *below.lines) if line.get_linestyle() == "--"]


def test_a_signal_of_nothing_or_of_hundreds_of_layers_draws() -> None:
    assert len(Signal().plot().axes) == 2
    deep = nn.Sequential(*[layer for _ in range(40) for layer in (nn.Linear(6, 6), nn.Sigmoid())], nn.Linear(6, 3))
    found = lab_of(deep).diagnose()
    below = found.plot().axes[1]
    low, high = below.get_ylim()
    assert high / low < 1e40
    assert below.get_xlabel() == "layer, in order of execution"


def test_names_of_a_model_are_text_in_every_table() -> None:
    """P3."""

    class Evil(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<script>", nn.Linear(6, 3))
            self.add_module("<img>", nn.Linear(6, 3))

        def forward(self, x: Tensor) -> Tensor:
            return getattr(self, "<script>")(x)

    lab = lab_of(Evil())
    found = lab.diagnose()
    assert [finding.at for finding in found.serious] == ["<img>"]
    for page in (found._repr_html_(), found.signal._repr_html_(), lab.check_gradients()._repr_html_()):
        assert "&lt;script&gt;" in page or "&lt;img&gt;" in page
        for name in ("<script>", "<img>"):
            assert name not in page


def test_a_diagnosis_as_html_tells_severity_in_words_and_who_suffers() -> None:
    lab = lab_of(mlp())
    nn.init.constant_(lab.model[2].weight, 0.1)
    page = lab.diagnose()._repr_html_()
    assert "! error" in page
    assert "all units of 2.weight are alike" in page
    assert "agree to" in page  # the evidence
    assert "Break the symmetry" in page
