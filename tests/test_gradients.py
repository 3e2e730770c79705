"""Rules G1, G2, G5 and G6: no trace, the numbers of a plain backward, one gradient at a time."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.checked_models import KINDS, X, check, loss, make
from weightlab.check import GradientReport, Probe, check_gradients
from weightlab.errors import UnknownName
from weightlab.model.tree import ParameterTree


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_a_plain_backward(kind, thorough):
    """G2: an independent forward and backward on a model built alike."""
    model, batch = make(kind)
    report = check(model, batch, loss, thorough=thorough)
    plain, batch = make(kind)
    tree = ParameterTree(plain)
    torch.manual_seed(0)  # the seed of a check: dropout draws the same masks
    value = loss(plain(batch[0].clone()), batch[1])
    value.backward()
    assert report.loss == pytest.approx(value.item(), rel=1e-6)
    for row in report.rows:
        parameter = tree.tensor(row.name)
        if row.status == "frozen":
            assert parameter.grad is None
            continue
        grad = parameter.grad.to_dense().double()
        assert row.norm == pytest.approx(grad.norm().item(), rel=1e-6 if parameter.dtype == torch.float32 else 1e-3)
        assert row.zero_units == int((grad.reshape(grad.shape[0], -1) == 0).all(1).sum())
        assert row.units == grad.shape[0]


def test_at_most_one_gradient_is_alive():
    """G5: gradients of parameters, counted when the next one is measured."""
    from weightlab.check import backward

    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(6)])
    alive, most = [], []
    measured = backward.Gradient

    class Counting(measured):
        __slots__ = ()

        def __init__(self, gradient, axis, order):
            alive.append(weakref.ref(gradient))
            most.append(sum(ref() is not None for ref in alive))
            super().__init__(gradient, axis, order)

    backward.Gradient = Counting
    try:
        check(model, (torch.randn(4, 8), torch.randn(4, 8)), F.mse_loss)
    finally:
        backward.Gradient = measured
    assert len(most) == 6
    assert max(most) == 1


def test_frozen_is_what_the_parameter_says_now():
    """G2: the flag may be set after the tree was read, either way."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].bias.requires_grad_(False)
    tree, probe = ParameterTree(model), Probe(model, (torch.randn(X), torch.tensor([0, 1, 2] * 2 + [0])), loss)
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(True)
    report = check_gradients(tree, probe)
    assert {row.name: row.status for row in report.rows} == {
        "0.weight": "frozen", "0.bias": "frozen", "2.weight": "flowing", "2.bias": "flowing"
    }  # fmt: skip
    assert report.causes == ()


def test_changes_between_two_reports():
    model, batch = make("cnn")
    before = check(model, batch, loss)
    with torch.no_grad():
        model.conv.weight[2].zero_()
    after = check(model, batch, loss)
    changes = after.changes_since(before)
    assert changes["bn.weight"].was == "flowing"
    assert changes["bn.weight"].status == "partial"
    assert {change.name for change in changes.status} >= {"bn.weight"}
    assert changes["fc.weight"].ratio == pytest.approx(after["fc.weight"].norm / before["fc.weight"].norm)
    assert changes.loss_delta == pytest.approx(after.loss - before.loss)
    assert "bn.weight: flowing → partial" in str(changes)
    assert before.changes_since(before).status == ()


def test_a_tied_tensor_is_one_row_under_all_its_names():
    model, batch = make("tied")
    report = check(model, batch, loss)
    assert report["head.weight"] is report["embed.weight"]
    assert report["head.weight"].aliases == ("head.weight",)
    with pytest.raises(UnknownName, match="nothing"):
        report["nothing"]


def test_scalar_empty_and_complex_parameters_have_a_row():
    model = nn.Linear(3, 2, dtype=torch.complex64)
    model.scale, model.empty = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0, 2))
    probe = lambda m: (m(torch.ones(4, 3, dtype=torch.complex64)).abs().square().sum() * m.scale) + m.empty.sum()  # noqa: E731
    report = check(model, probe=probe)
    assert {row.status for row in report.rows} == {"flowing"}
    assert (report["scale"].units, report["empty"].units) == (1, 0)


def test_a_transposed_convolution_counts_its_output_channels():
    """G2: its weight is [in, out, *kernel]."""
    model = nn.Sequential(nn.ConvTranspose2d(2, 5, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:, 3] = 0
    row = check(model, (torch.randn(6, 2, 4, 4), torch.randn(6, 5, 6, 6)), F.mse_loss)["0.weight"]
    assert (row.status, row.zero_units, row.units) == ("partial", 1, 5)


def test_text_page_and_plot_of_a_report():
    model, batch = make("cnn")
    report = check(model, batch, loss)
    assert isinstance(report, GradientReport)
    assert "bn.weight" in str(report)
    assert "bn.weight" in report._repr_html_()
    figure = report.plot()
    assert figure.axes[0].get_yscale() == "log"
    evil = nn.Module()
    evil.add_module("<script>", nn.Linear(2, 2))
    evil.forward = lambda x: getattr(evil, "<script>")(x)
    assert "<script>" not in check(evil, (torch.randn(3, 2), torch.randn(3, 2)))._repr_html_()


def deep_residual():
    blocks = []
    for _ in range(5):
        inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        blocks.append(Residual(inner))
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Scaled(nn.Module):
    """A ConvNeXt-like block with LayerScale 1e-6."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.gamma = nn.Parameter(1e-6 * torch.ones(6, 1, 1))

    def forward(self, x):
        return x + self.gamma * F.gelu(self.conv(x))


HEALTHY = {
    "residual cnn": deep_residual,
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3),
    "lstm": lambda: nn.LSTM(5, 8, num_layers=3),
    "deep mlp": lambda: nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(16, 16), nn.ReLU())]),
    "layer scale": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Scaled(), Scaled(), nn.Flatten(2)),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_initialisation_gives_nothing_above_info(kind, seed):
    """G8, and that `weak` does not fire on what is merely deep."""
    torch.manual_seed(seed)
    report = check(HEALTHY[kind]())
    assert [cause for cause in report.causes if cause.severity != "info"] == []
    if kind != "layer scale":
        assert [row for row in report.rows if row.status in ("weak", "zero", "unreached")] == []
