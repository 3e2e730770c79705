"""Rules G4, G7 and G8: one finding per origin, what follows from it under it, and nothing about what is healthy."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import weightlab as wl
from weightlab.check.finding import Diagnosis

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


def found(model: nn.Module, x: Tensor = X, y: Tensor = Y, loss=F.cross_entropy) -> Diagnosis:
    return wl.Lab(model, batch=(x, y), loss=loss).diagnose()


def said(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in diagnosis.serious]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Attention(nn.Module):
    """Causal attention over the rows of the batch, masked by -inf; `after` breaks what comes out."""

    def __init__(self, after=None, width: int = 8) -> None:
        super().__init__()
        self.enter, self.q, self.k, self.v = (
            nn.Linear(6 if first else width, width) for first in (True, False, False, False)
        )
        self.leave, self.after = nn.Linear(width, 3), after

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        scores = (self.q(h) @ self.k(h).T).masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -math.inf)
        out = h + scores.softmax(-1) @ self.v(h)
        return self.leave(self.after(out) if self.after else out)


class Siren(nn.Module):
    """Sitzmann et al. 2020, section 3.2, with torch's own biases."""

    def __init__(self, frequency: float = 30.0, wide: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(fed, wide) for fed in (2, wide, wide, wide))
        self.leave, self.frequency = nn.Linear(wide, 1), frequency
        for layer in self.layers:
            fed = layer.in_features
            bound = 1 / fed if fed == 2 else math.sqrt(6 / fed) / frequency
            nn.init.uniform_(layer.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(self.frequency * layer(x))
        return self.leave(x)


class Adapted(nn.Module):
    """A frozen layer with a low-rank way beside it, whose last factor starts at zero."""

    def __init__(self, fed: int, out: int) -> None:
        super().__init__()
        self.base = nn.Linear(fed, out).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, fed) / fed), nn.Parameter(torch.zeros(out, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


class Dueling(nn.Module):
    """A value and advantages, both small at the start, added up."""

    def __init__(self) -> None:
        super().__init__()
        wide = (layer for _ in range(5) for layer in (nn.Linear(32, 32), nn.ReLU()))
        self.body = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), *wide)
        self.value, self.advantage = nn.Linear(32, 1), nn.Linear(32, 3)
        for head in (self.value, self.advantage):
            nn.init.orthogonal_(head.weight, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        a = self.advantage(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


def deep(depth: int, activation: type[nn.Module], init=None, width: int = 24) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Linear(width if index else 6, width), activation()]
        if init is not None:
            init(layers[-2].weight)
            nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers, nn.Linear(width, 3))


def test_an_infinite_mask_is_not_where_a_nan_comes_from():
    """G4: the -inf that a softmax takes in is no broken activation."""
    diagnosis = found(Attention(after=lambda h: h + torch.log(h * 0 - 1)))
    assert [one.kind for one in diagnosis.serious] == ["nonfinite_activation"]
    assert "log" in diagnosis.serious[0].text
    diagnosis = found(Attention(after=lambda h: h + torch.where(h > 1e9, torch.sqrt(h * 0), 0.0)))
    assert [one.kind for one in diagnosis.serious] == ["nonfinite_gradient"]


def test_a_factor_of_zero_is_one_finding_with_both_sides_under_it():
    """G4: queries times 0 leave the keys without a gradient as well."""
    model = Attention()
    model.q.register_forward_hook(lambda _module, _args, q: q * 0.0)
    diagnosis = found(model)
    assert [one.kind for one in diagnosis.serious] == ["zero_path"]
    assert {"q.weight", "k.weight"} <= set(diagnosis.serious[0].affects)


def test_an_infinite_bias_is_found_behind_a_relu_that_hides_it():
    """G7: every gradient is finite, and the unit is lost."""
    model = deep(2, nn.ReLU)
    with torch.no_grad():
        model[0].bias[1] = -math.inf
    assert said(found(model)) == [("nonfinite_weight", "0.bias")]


@pytest.mark.parametrize("steps", [0, 60])
def test_a_siren_is_healthy(steps):
    """G8: the frequencies of the first layer are a choice, and the factor 30 belongs to the gain."""
    model = Siren()
    x = torch.rand(64, 2) * 2 - 1
    y = (3 * x).sin().prod(1, keepdim=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    assert found(model, x, y, F.mse_loss).serious == []
    with torch.no_grad():
        model.layers[2].weight *= 40
    assert ("scale_high", "layers.2.weight") in said(found(model, x, y, F.mse_loss))


def test_a_low_rank_factor_of_zero_is_healthy_behind_dead_units_too():
    """G8: some units of the ReLU behind it get no sample, so that some rows of it get no gradient."""
    model = nn.Sequential(Adapted(6, 16), nn.ReLU(), Adapted(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].base.bias[3] = -3.0
    assert said(found(model)) == []


def test_a_loss_that_is_0_has_nothing_left_to_teach():
    """G8: all margins are kept."""
    diagnosis = found(nn.Linear(6, 3), loss=lambda out, _: F.relu(out - 100).mean())
    assert diagnosis.serious == []
    diagnosis = found(nn.Linear(6, 3), loss=lambda out, y: F.cross_entropy(out, y) * 0.0)
    assert [one.kind for one in diagnosis.serious] == ["zero_path"]


def test_small_heads_that_are_added_up_are_healthy():
    """G8: behind them comes no layer that would be starved."""
    assert found(Dueling()).serious == []


def test_a_zero_weight_that_every_way_leads_through_is_found():
    """G7: it gets a gradient itself, and so does all behind it; a zero head and a zero branch are deliberate."""
    model = deep(2, nn.Tanh)
    nn.init.zeros_(model[0].weight)
    assert said(found(model)) == [("zero_weight", "0.weight")]
    model = deep(2, nn.Tanh)
    nn.init.zeros_(model[4].weight)
    assert found(model).serious == []


def test_a_dead_gelu_names_its_bias_and_gets_it_back():
    """G3 and G9: its slope is exactly 0 far below."""
    model = deep(2, nn.GELU)
    nn.init.constant_(model[2].bias, -50.0)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    (one,) = lab.diagnose().serious
    assert (one.kind, one.name) == ("saturated", "2.bias")
    assert lab.repair(one).helped
    assert not bool(model[2].bias.any())


def test_units_of_one_cell_that_all_agree_are_symmetric():
    """G7: that a pair of single numbers agrees may be chance; that sixteen do is none."""
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 3))
    assert found(model, X[:, :1]).serious == []
    nn.init.constant_(model[0].weight, 0.3)
    assert said(found(model, X[:, :1])) == [("symmetric_units", "0.weight")]


def test_a_cell_that_is_applied_many_times_is_told_once():
    """G4: ten steps of one saturated tanh."""

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.leave = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 6)), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(10):
                x = x + 0.1 * self.f(x)
            return self.leave(x)

    model = Steps()
    with torch.no_grad():
        model.f[0].weight *= 100
    assert [kind for kind, _ in said(found(model))].count("saturated") == 1


def test_an_expert_that_did_not_run_is_one_finding():
    """G4: its layers did not run because it did not."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(deep(1, nn.ReLU) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.experts[0](x)

    (one,) = found(Experts()).serious
    assert (one.kind, one.at) == ("unreached", "experts.1")
    assert len(one.affects) == 4


def test_a_batch_of_zeros_is_told_for_what_it_is():
    """G4: a recurrent layer starts with a state of zeros as well."""
    model = nn.GRU(6, 5, batch_first=True)
    diagnosis = found(model, torch.zeros(4, 7, 6), Y, lambda out, _: out[0].square().mean())
    assert [one.kind for one in diagnosis.serious] == ["zero_path"]
    assert diagnosis.serious[0].title == "The input is zero"


def test_what_is_drawn_anew_has_the_size_of_its_siblings():
    """G9: a zeroed projection of a start like GPT-2's."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.wide, self.back = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.back(F.gelu(self.wide(self.norm(x))))

    model = nn.Sequential(nn.Linear(6, 16), Block(), nn.Linear(16, 3))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.zeros_(model[1].back.weight)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    (one,) = (finding for finding in lab.diagnose() if finding.name == "1.back.weight")
    lab.repair(one)
    assert float(model[1].back.weight.detach().std()) == pytest.approx(0.02, rel=0.2)


def test_a_repaired_sigmoid_net_has_no_finding_left():
    """G9: twenty sigmoids get the spread at which they pass most of a gradient on."""
    lab = wl.Lab(deep(20, nn.Sigmoid), batch=(X, Y), loss=F.cross_entropy)
    assert [one.kind for one in lab.diagnose().serious] == ["vanishing"]
    assert lab.repair_all().after.serious == []
    lab.undo()
    assert [one.kind for one in lab.diagnose().serious] == ["vanishing"]


def test_lsuv_runs_the_model_as_often_for_any_depth():
    """G9: all layers are scaled in one pass."""
    runs = []
    for depth in (12, 24):
        model = deep(depth, nn.Sigmoid)
        lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
        (one,) = lab.diagnose().serious
        count: list[int] = []
        handle = model.register_forward_hook(lambda *_, count=count: count.append(1))
        lab.repair(one)
        handle.remove()
        runs.append(len(count))
    assert runs[0] == runs[1] < 6


def test_xavier_through_many_relus_is_told_with_hes_gain():
    """G8: info, by depth, with a repair; He's own rule is quiet at any depth."""
    lab = wl.Lab(deep(30, nn.ReLU, nn.init.xavier_normal_), batch=(X, Y), loss=F.cross_entropy)
    diagnosis = lab.diagnose()
    assert diagnosis.serious == []
    (one,) = diagnosis.of("scale_low")
    assert "1.41" in one.evidence[0]
    assert lab.repair(one).after.of("scale_low") == []
    assert found(deep(4, nn.ReLU, nn.init.xavier_normal_)).of("scale_low") == []
    assert found(deep(30, nn.ReLU, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"))).of("scale_low") == []


def test_gradients_behind_reentrant_checkpointing_are_verified():
    """G1 and G6: a plain backward is all that it knows."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.inner, self.leave = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = checkpoint(lambda h: torch.tanh(self.inner(h)), self.enter(x), use_reentrant=True)
            return self.leave(h)

    model = Checkpointed()
    model.inner.weight.grad = kept = torch.ones(8, 8)
    report = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy).check_gradients(verify=8)
    assert report.verified is not None
    assert report.verified.agrees
    assert model.inner.weight.grad is kept
    assert bool((kept == 1).all())
    assert all(p.grad is None for name, p in model.named_parameters() if name != "inner.weight")


def test_the_victims_of_a_saturated_gate_are_those_before_it():
    """G3: what runs earlier beside it gets its gradient by another way."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.beside, self.enter, self.gate, self.leave = (nn.Linear(6, 6) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            beside = self.beside(x)
            return self.leave(beside * torch.sigmoid(self.gate(torch.tanh(self.enter(x)))))

    model = Gated()
    with torch.no_grad():
        model.gate.weight *= 400
    (one,) = found(model).of("saturated")
    assert set(one.affects) == {"enter.weight", "gate.weight"}


class Experts(nn.Module):
    """A mixture that calls the experts that were chosen, and no others."""

    def __init__(self, broken=None) -> None:
        super().__init__()
        self.enter, self.router, self.leave = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(6))
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.enter(x))
        h = self.broken(h) if self.broken else h
        share, chosen = self.router(h).softmax(-1).max(-1)
        out = torch.zeros_like(h)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, expert(h[rows]) * share[rows, None])
        return self.leave(h + out)


@pytest.mark.parametrize("fault", ["dead", "nan", "zero"])
def test_experts_that_a_broken_router_did_not_choose_are_victims_of_what_broke_it(fault):
    """G3: one origin; without one an expert that did not run is told."""
    model = Experts((lambda h: h * 0) if fault == "zero" else None)
    with torch.no_grad():
        if fault == "dead":
            model.enter.bias.fill_(-20)
        elif fault == "nan":
            model.enter.weight[0, 0] = math.nan
    diagnosis = found(model)
    expected = {
        "dead": ("dead_relu", "enter.bias"),
        "nan": ("nonfinite_weight", "enter.weight"),
        "zero": ("zero_path", ""),
    }
    assert said(diagnosis) == [expected[fault]]
    idle = [one for one in diagnosis.of("unreached") if one.at.startswith("experts.")]
    assert idle
    assert {name for one in idle for name in one.affects} <= set(diagnosis.serious[0].affects)


def test_an_expert_that_a_healthy_router_did_not_choose_is_told():
    model = Experts()
    with torch.no_grad():
        model.router.bias[2] = -50
    assert ("unreached", "experts.2") in [(one.kind, one.at) for one in found(model).serious]


def test_evidence_speaks_of_filters_where_a_kernel_is_meant():
    """G3: what a unit is called depends on the layer; and one is not `are`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 3))
    with torch.no_grad():
        model[0].weight[4] = 0
    lab = wl.Lab(model, batch=(torch.randn(5, 2, 6, 6), torch.arange(5) % 3), loss=F.cross_entropy)
    (found,) = lab.diagnose().of("zero_weight")
    assert found.evidence == ("1 of 6 filters of 0.weight is exactly zero",)
    assert found.repair.text.startswith("Draw filter 4 of 0.weight from N(0, ")
    with torch.no_grad():
        model[0].weight[4, 0, 0, 0] = float("nan")
    (found,) = lab.diagnose().of("nonfinite_weight")
    assert found.title == "1 value not finite"
    assert "1 of 108 values is NaN" in found.text
