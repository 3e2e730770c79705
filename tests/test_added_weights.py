"""Rules G4 and G8: a zero that is added is no wall; a zero that multiplies is one, also inside a computed weight."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

import weightlab as wl

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def said(model: nn.Module, x: Tensor = X) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in wl.Lab(model, batch=(x, Y), loss=F.cross_entropy).diagnose().serious]


class LowRank(nn.Module):
    """w + B A, as a parametrization; `size` makes it DoRA (Liu et al. 2024, section 4.1)."""

    def __init__(self, weight: Tensor, size: bool = False) -> None:
        super().__init__()
        out, fed = weight.flatten(1).shape
        self.a, self.b = nn.Parameter(torch.randn(2, fed) / fed), nn.Parameter(torch.zeros(out, 2))
        self.size = nn.Parameter(weight.detach().flatten(1).norm(dim=1)) if size else None

    def forward(self, weight: Tensor) -> Tensor:
        whole = weight + (self.b @ self.a).view_as(weight)
        if self.size is None:
            return whole
        rows = whole.flatten(1)
        return (rows / rows.norm(dim=1, keepdim=True) * self.size[:, None]).view_as(weight)


class Merged(nn.Linear):
    """The same in a forward of its own."""

    def __init__(self, fed: int, out: int) -> None:
        super().__init__(fed, out)
        self.low = LowRank(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.low.b @ self.low.a, self.bias)


def low_rank(layer: nn.Module, size: bool = False) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, size))
    return layer


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    "make",
    [lambda: Merged(6, 16), lambda: low_rank(nn.Linear(6, 16)), lambda: low_rank(nn.Linear(6, 16), size=True)],
    ids=["own forward", "parametrization", "DoRA"],
)
def test_a_zero_factor_whose_product_is_added_to_a_weight_is_no_wall(make, frozen):
    """G8: Hu et al. 2021, section 4.1."""
    layer = make()
    base = layer.weight if isinstance(layer, Merged) else layer.parametrizations.weight.original
    base.requires_grad_(not frozen)
    assert said(nn.Sequential(layer, nn.ReLU(), nn.Linear(16, 3))) == []


def test_a_low_rank_convolution_is_healthy():
    model = nn.Sequential(low_rank(nn.Conv2d(1, 8, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    assert said(model, torch.randn(24, 1, 4, 4)) == []


def test_a_zero_factor_alone_is_a_wall():
    """G7: B A and nothing beside it."""

    class Factored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.zeros(16, 4))
            self.c = nn.Parameter(torch.randn(16))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.b @ self.a, self.c)

    assert ("zero_weight", "0.b") in said(nn.Sequential(Factored(), nn.Tanh(), nn.Linear(16, 3)))


def test_what_multiplies_a_state_is_no_wall_for_the_input():
    """G8: a recurrent weight of zero leaves a net without memory, and the input goes on."""

    class Last(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.r, self.o = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)
            nn.init.zeros_(getattr(self.r, name))

        def forward(self, x: Tensor) -> Tensor:
            return self.o(torch.tanh(self.r(x)[0].mean(1)))

    x = torch.randn(24, 5, 6)
    assert ("zero_weight", "r.weight_hh_l0") not in said(Last("weight_hh_l0"), x)
    assert ("zero_weight", "r.weight_ih_l0") in said(Last("weight_ih_l0"), x)


class Summed(nn.Module):
    """Weight and bias are sums, as in Bayes by backprop (Blundell et al. 2015, section 3.2): mean + deviation x noise."""

    def __init__(self, fed: int, out: int, noise: bool) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Parameter(torch.zeros(out, fed)), nn.Parameter(torch.randn(out, fed) / fed**0.5)
        self.b, self.c = nn.Parameter(torch.zeros(out)), nn.Parameter(torch.full((out,), 0.01))
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        w, b = (torch.randn_like(each) if self.noise else 1.0 for each in (self.mean, self.b))
        return F.linear(x, self.mean + self.deviation * w, self.b + self.c * b)


@pytest.mark.parametrize("noise", [False, True])
def test_a_zero_that_is_added_is_no_wall_and_is_not_repaired(noise):
    """G4, G8 and G9: also where a unit behind it is dead, so that rows of both terms get no gradient."""
    model = nn.Sequential(Summed(6, 16, noise), nn.ReLU(), Summed(16, 3, noise))
    with torch.no_grad():
        model[0].c[3] = -9.0
        model[0].deviation[5] = -0.4
    lab = wl.Lab(model, batch=(X.abs(), Y), loss=F.cross_entropy)
    assert [one for one in lab.diagnose() if one.kind == "zero_weight"] == []
    lab.repair_all()
    assert not bool(model[0].b.any())
    assert not bool(model[0].mean.any())


@pytest.mark.parametrize("function", [F.layer_norm, F.group_norm, F.batch_norm], ids=lambda one: one.__name__)
def test_the_shift_of_a_normalisation_is_known_by_its_place(function):
    """G4: whatever its name is. A normalisation that is blocked further on is not to blame for a zero shift."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 3)
            self.g, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            h = self.enter(x)
            if function is F.layer_norm:
                h = F.layer_norm(h, (8,), self.g, self.beta)
            elif function is F.group_norm:
                h = F.group_norm(h, 2, self.g, self.beta)
            else:
                h = F.batch_norm(h, None, None, self.g, self.beta, training=True)
            return self.leave(torch.tanh(h).round())

    found = said(Shifted())
    assert [kind for kind, _ in found] == ["zero_path"]
