"""`check_gradients(verify=...)`: constants of autograd, and the precision of the forward, are no wrong gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import weightlab as wl


class Net(nn.Module):
    """Two layers with something between, or around, them."""

    def __init__(self, between=lambda self, h: h):
        super().__init__()
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)
        self.register_buffer("mean", torch.zeros(7))
        self.register_buffer("scale", torch.ones(7))
        self.between = between
        self.calls = []

    def forward(self, x):
        return self.last(self.between(self, torch.tanh(self.first(x))))


def centred(self, h):
    self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)  # binds the buffer anew
    return h - self.mean


def centred_in_place(self, h):
    with torch.no_grad():
        self.mean.lerp_(h.mean(0), 0.1)
    return h - self.mean


def scaled_by_a_number(self, h):
    return h / h.abs().max().item()


def rounded_straight_through(self, h):
    return h + ((4 * h).round() / 4 - h).detach()


def weighted_by_no_grad(self, h):
    with torch.no_grad():
        weight = (h @ self.first.weight).softmax(1).sum(1, keepdim=True) * h.square().mean(1, keepdim=True)
    return h * weight


def counted(self, h):
    self.calls.append(1)
    self.scale = self.scale * len(self.calls)
    return h * self.scale


def in_bfloat16(self, h):
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(h, self.first.weight @ self.first.weight.t()).float()


def cast_to_float(self, h):
    return h.float().softmax(1, dtype=torch.float32) * torch.arange(7).to(torch.float32).type_as(h)


def recomputed(self, h):
    return checkpoint(lambda v: centred_in_place(self, v), h, use_reentrant=False)


BETWEEN = [
    centred, centred_in_place, scaled_by_a_number, rounded_straight_through, weighted_by_no_grad, counted, in_bfloat16,
    cast_to_float, recomputed,
]  # fmt: skip


def verified(model, cells=12):
    torch.manual_seed(1)
    x, y = torch.randn(9, 5), torch.randint(3, (9,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = wl.Lab(model, batch=(x, y), loss=F.cross_entropy).check_gradients(verify=cells).verified
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return found


@pytest.mark.parametrize("between", BETWEEN, ids=lambda function: function.__name__)
def test_a_constant_of_the_graph_stays_constant_in_the_difference(between):
    torch.manual_seed(0)
    model = Net(between)
    found = verified(model)
    assert found.dtype is torch.float64
    assert len(found.cells) == 12
    assert found.agrees, found
    assert max(cell.error for cell in found.cells) < 1e-5
    assert model.calls == []


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
def test_the_power_iteration_of_a_spectral_norm_holds_still(norm, training):
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 3)).train(training)
    found = verified(model)
    assert found.agrees, found


class Triples(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x.detach()

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient


class Doubles(Triples):
    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@pytest.mark.parametrize(("function", "right"), [(Doubles, True), (Triples, False)])
def test_what_runs_inside_a_function_of_ones_own_is_no_constant(function, right):
    """Its forward runs without gradients, and is differentiated all the same. Its own `detach` is one of its steps."""
    torch.manual_seed(0)
    found = verified(Net(lambda self, h: function.apply(h)))
    assert found.agrees is right, found
    assert all(cell.agrees for cell in found.cells if cell.name.startswith("last"))


class Narrow(torch.autograd.Function):
    """Hands on bfloat16 from where no cast of torch's can be passed over."""

    @staticmethod
    def forward(ctx, x):
        return torch.zeros(x.shape, dtype=torch.int16).view(torch.bfloat16)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(torch.float32)


def test_what_is_too_coarse_to_be_compared_says_so():
    torch.manual_seed(0)
    found = verified(Net(lambda self, h: (2 * Narrow.apply(h)).type_as(h)))
    assert found.cells == ()
    assert str(found) == (
        "not verified: the forward computes in bfloat16, too coarse for differences that could be compared with a gradient."
    )
