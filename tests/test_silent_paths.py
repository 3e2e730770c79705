"""Rules G3 and G4: what never reaches a parameter: unreached, detached, not finite, and zero by construction."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.caused_models import BATCH, Net, cause, check, cnn, images
from weightlab.check import Probe, check_gradients
from weightlab.model.tree import ParameterTree


def test_a_parameter_that_nothing_uses_is_unreached():
    model = Net()
    model.spare = nn.Linear(2, 2)
    found = cause(check(model, BATCH, F.cross_entropy), "unreached")
    assert (found.at, set(found.affects)) == ("spare", {"spare.weight", "spare.bias"})
    assert "did not run" in found.text


def test_an_output_that_the_loss_does_not_use_is_unreached():
    class Side(Net):
        def forward(self, x):
            h = F.relu(self.a(x))
            self.b(h)
            return self.c(h)

    found = cause(check(Side(), BATCH, F.cross_entropy), "unreached")
    assert (found.at, set(found.affects)) == ("b", {"b.weight", "b.bias"})


def argmax(h):
    return F.one_hot(h.argmax(-1), 12).float()


def without(h):
    with torch.no_grad():
        return h * 1.0


@pytest.mark.parametrize(
    ("cut", "words"),
    [(torch.Tensor.detach, "detach"), (lambda h: h.data, "data"), (argmax, "argmax"), (without, "under no_grad")],
    ids=["detach", "data", "argmax", "no_grad"],
)
def test_a_cut_graph_is_detached_where_it_is_cut(cut, words):
    report = check(Net(cut), BATCH, F.cross_entropy)
    found = cause(report, "detached")
    assert set(found.affects) == {"a.weight", "a.bias"}
    assert words in found.text
    assert report["a.weight"].status == "unreached"
    assert report["b.weight"].status != "unreached"


def test_a_layer_that_ran_under_no_grad_is_named():
    class Quiet(Net):
        def forward(self, x):
            with torch.no_grad():
                h = self.a(x)
            return self.c(F.relu(self.b(h)))

    found = cause(check(Quiet(), BATCH, F.cross_entropy), "detached")
    assert (found.at, found.evidence) == ("a", ("it ran under no_grad",))


def test_a_loss_without_a_graph_leaves_all_unreached():
    report = check(Net(), probe=lambda model: torch.tensor(3.0))
    assert report.loss == 3.0
    assert {row.status for row in report.rows} == {"unreached"}
    assert {c.kind for c in report.causes} == {"unreached"}


def test_a_nan_weight_is_named_with_its_cell():
    model = Net()
    with torch.no_grad():
        model.b.weight[2, 3] = float("nan")
    report = check(model, BATCH, F.cross_entropy)
    found = cause(report, "nonfinite_weight")
    assert (found.name, found.region, found.severity) == ("b.weight", "[2, 3]", "error")
    assert {row.status for row in report.rows} == {"nonfinite"}


def test_the_function_that_makes_the_first_nan_is_named():
    report = check(Net(torch.log), BATCH, F.cross_entropy)
    found = cause(report, "nonfinite_activation")
    assert "Net (log)" in found.text


def test_a_nan_in_the_batch_is_the_batch():
    x = BATCH[0].clone()
    x[3, 2] = float("nan")
    found = cause(check(Net(), (x, BATCH[1]), F.cross_entropy), "nonfinite_activation")
    assert found.at == "a"
    assert "batch" in found.text


def test_a_nan_born_in_the_backward_is_told_from_one_in_the_forward():
    def between(h):
        zero = h - h.detach()
        return h + torch.sqrt(zero * zero)

    report = check(Net(between), BATCH, F.cross_entropy)
    found = cause(report, "nonfinite_gradient")
    assert "Net (sqrt)" in found.text
    assert set(found.affects) == {"a.weight", "a.bias"}


def test_a_bias_before_batchnorm_is_invariant():
    """G4: zero by construction, severity info; in eval mode the statistics are fixed and it is not."""
    model = cnn()
    report = images(model)
    found = cause(report, "invariant")
    assert (found.name, found.severity) == ("0.bias", "info")
    assert "1 BatchNorm2d" in found.text
    model.eval()
    assert [c for c in images(model).causes if c.kind == "invariant"] == []


def test_the_key_bias_of_attention_is_invariant():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))

    report = check(Attention(), (torch.randn(4, 6, 8), torch.randn(4, 6, 8)), F.mse_loss)
    assert cause(report, "invariant").name == "k.bias"
    assert report["q.bias"].status == report["v.bias"].status == "flowing"


def test_running_statistics_that_the_check_itself_would_spoil_are_no_cause():
    """G3: a NaN of the forward reaches BatchNorm's buffers, in the check only."""

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.bn = nn.Linear(3, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            return self.bn(torch.sqrt(self.fc(x) - 100))

    model = Root()
    report = check_gradients(ParameterTree(model), Probe(model, (torch.randn(5, 3), torch.randn(5, 4)), F.mse_loss))
    assert {cause.kind for cause in report.causes} == {"nonfinite_activation"}
    assert "sqrt" in report.causes[0].text
