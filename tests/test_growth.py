"""Rules G3, G4, G7: what grows or shrinks too much is told where it is done, be it a recurrence, a factor or a backward."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from weightlab.check.recurrence import radius

STEPS = 60


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Reads(nn.Module):
    """A recurrent layer of torch's own, called once or step by step, and a head on its last state."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.r, self.head = recurrent, nn.Linear(12 * (1 + getattr(recurrent, "bidirectional", False)), 2)

    def forward(self, x):
        if not isinstance(self.r, nn.RNNCell):
            return self.head(self.r(x)[0][:, -1] if self.r.batch_first else self.r(x.transpose(0, 1))[0][-1])
        state = torch.zeros(len(x), 12)
        for step in x.unbind(1):
            state = self.r(step, state)
        return self.head(state)


def lab_of(model, x=None, y=None, loss=F.mse_loss):
    x = torch.randn(8, STEPS, 3) if x is None else x
    return wl.Lab(model, batch=(x, torch.randn(8, 2) if y is None else y), loss=loss)


def said(lab):
    return [(one.kind, one.name) for one in lab.diagnose().serious]


RELU = {"nonlinearity": "relu"}


@pytest.mark.parametrize("factor", [3, 6, 60])
@pytest.mark.parametrize(
    ("recurrent", "name"),
    [
        (lambda: nn.RNN(3, 12, batch_first=True, **RELU), "r.weight_hh_l0"),
        (lambda: nn.RNN(3, 12, num_layers=2, **RELU), "r.weight_hh_l1"),
        (lambda: nn.RNN(3, 12, batch_first=True, bidirectional=True, **RELU), "r.weight_hh_l0"),
        (lambda: nn.RNN(3, 12, batch_first=True, bias=False, **RELU), "r.weight_hh_l0"),
        (lambda: nn.RNNCell(3, 12, **RELU), "r.weight_hh"),
    ],
)
def test_a_recurrent_weight_whose_powers_grow_is_found_and_mended(recurrent, name, factor):
    model = Reads(recurrent())
    with torch.no_grad():
        model.get_parameter(name).mul_(factor)
    lab = lab_of(model)
    assert said(lab) == [("scale_high", name)]
    (finding,) = lab.diagnose().serious
    if factor < 60:  # beyond, its size alone is no scheme's
        assert f"each of {STEPS} steps" in finding.text
    lab.repair(finding)
    assert said(lab) == []


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.head = nn.Linear(3, 12), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x):
        state = torch.zeros(len(x), 12)
        for step in x.unbind(1):
            state = torch.relu(self.enter(step) + self.again(state))
        return self.head(state)


@pytest.mark.parametrize("factor", [1, 6, 10])
def test_a_recurrence_that_is_written_out_is_found_as_well(factor):
    model = Loop()
    with torch.no_grad():
        model.again.weight.mul_(factor)
    lab = lab_of(model)
    assert said(lab) == ([("scale_high", "again.weight")] if factor > 1 else [])
    lab.repair_all()
    assert said(lab) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_bounded_state_does_not_hide_what_comes_back_through_it(seed):
    torch.manual_seed(seed)
    model = Reads(nn.RNN(3, 12, batch_first=True))
    with torch.no_grad():
        model.r.weight_hh_l0.mul_(10)
    assert said(lab_of(model)) == [("exploding", "r.weight_hh_l0")]


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@pytest.mark.parametrize("start", [lambda w: w, nn.init.eye_, nn.init.orthogonal_, lambda w: w.mul_(1.5)])
def test_a_recurrence_that_keeps_its_state_is_healthy(start, nonlinearity):
    """G8: the identity of Le et al. 2015 lets states add up over the steps."""
    model = Reads(nn.RNN(3, 12, batch_first=True, nonlinearity=nonlinearity))
    with torch.no_grad():
        start(model.r.weight_hh_l0)
    assert said(lab_of(model)) == []


def test_the_radius_of_a_large_matrix_is_that_of_its_eigenvalues():
    matrix = torch.randn(520, 520, dtype=torch.float64)
    assert radius(matrix) == pytest.approx(float(torch.linalg.eigvals(matrix).abs().max()), rel=0.05)


class Times(nn.Module):
    """Multiplies the signal, or only the gradient."""

    def __init__(self, forward: float = 1.0, backward: float = 1.0, by: str = "function") -> None:
        super().__init__()
        self.by, self.factor, self.back = by, forward, backward

    def forward(self, x):
        if self.back != 1 and self.by == "function":
            return Steeper.apply(x, self.back)
        out = x * self.factor if self.factor > 1 else x / (1 / self.factor)
        if self.back != 1:
            out.register_hook(lambda gradient: gradient * self.back)
        return out


class Steeper(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class Chain(nn.Module):
    def __init__(self, between: nn.Module, first: bool = False) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.between, self.first = between, first

    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        h = self.fc2(self.between(h)) if self.first else self.between(self.fc2(h))
        return self.fc3(torch.tanh(h))


def chain(*arguments, **options):
    return lab_of(Chain(*arguments, **options), torch.randn(16, 6), torch.arange(16) % 3, F.cross_entropy)


@pytest.mark.parametrize(("factor", "kind"), [(1e-10, "scale_low"), (1e10, "scale_high"), (1e3, "scale_high")])
def test_a_factor_behind_a_healthy_weight_is_told_at_who_multiplies(factor, kind):
    assert said(chain(Times(factor))) == [(kind, "between")]


@pytest.mark.parametrize("factor", [1e-10, 1e10])
def test_a_weight_of_a_wrong_size_is_told_at_the_weight_beside_a_harmless_factor(factor):
    lab = chain(Times(2.0))
    with torch.no_grad():
        lab.model.fc2.weight.mul_(factor)
    assert ("scale_low" if factor < 1 else "scale_high", "fc2.weight") in said(lab)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("by", ["function", "hook"])
def test_a_backward_that_multiplies_is_told_at_its_module(by, first):
    lab = chain(Times(backward=1e10, by=by), first=first)
    assert said(lab) == [("exploding", "between")]
    (cause,) = lab.check_gradients().causes
    assert (cause.kind, cause.at) == ("exploding", "between")
