"""Rule G8: parts that may be meant: heads that did not run, a network with its own optimizer, gains by activation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl


def broken(model):
    raise RuntimeError("no data here")


class Gained(nn.Conv2d):
    """A convolution with a gain for each channel, as in NFNets (Brock et al. 2021, section 4.1)."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.gain, self.bias)


def test_a_gain_that_a_layer_adds_is_no_weight_where_the_model_does_not_run():
    torch.manual_seed(0)
    lab = wl.Lab(nn.Sequential(Gained(1, 7, 3), nn.ReLU(), nn.Conv2d(7, 5, 3)), probe=broken)
    assert lab.diagnose().serious == []
    lab.model[0].weight.data[:] = lab.model[0].weight.data[:1].clone()
    assert [(f.kind, f.name) for f in lab.diagnose().serious] == [("symmetric_units", "0.weight")]


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(9, 33), *(nn.Linear(33, 33) for _ in range(4)))
        self.actor, self.critic = nn.Linear(33, 10), nn.Linear(33, 1)
        nn.init.orthogonal_(self.actor.weight, 0.01)


def test_a_small_head_is_spared_where_the_model_does_not_run_and_a_small_body_is_not():
    torch.manual_seed(0)
    model = ActorCritic()
    assert wl.Lab(model, probe=broken).diagnose().serious == []
    model.body[2].weight.data.mul_(0.001)
    assert [(f.kind, f.name) for f in wl.Lab(model, probe=broken).diagnose().serious] == [
        ("scale_low", "body.2.weight")
    ]


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Hardswish])
def test_a_repaired_scale_is_a_healthy_one_before_every_activation(activation):
    """What a repair aims at, the gain of the activation, lies inside of what is healthy."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)), nn.Linear(16, 32), activation(), nn.Linear(32, 3))
    for layer in model[:4]:
        nn.init.normal_(layer.weight, std=0.02)
    model[4].weight.data.mul_(50)
    lab = wl.Lab(model, batch=(torch.randn(64, 16), torch.randint(3, (64,))), loss=F.cross_entropy)
    found = lab.diagnose().of("scale_high")
    assert [f.name for f in found] == ["4.weight"]
    done = lab.repair(found[0])
    assert done.helped, done
    assert lab.diagnose().of("scale_high") == []


def gan():
    torch.manual_seed(0)
    model = nn.ModuleDict({
        "maker": nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 5)),
        "judge": nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 1)),
    })  # fmt: skip
    x = torch.randn(11, 5)
    return model, lambda m: F.softplus(-m["judge"](m["maker"](x))).mean()


def test_a_network_inside_the_model_may_have_an_optimizer_of_its_own():
    model, probe = gan()
    optimizer = torch.optim.Adam(model["maker"].parameters())
    held = copy.copy(optimizer.param_groups[0]["params"])
    lab = wl.Lab(model, probe=probe, optimizer=optimizer)
    found = lab.diagnose()
    assert found.serious == []
    [told] = found.of("optimizer_missing")
    assert told.repair is None
    assert told.text.endswith("All of judge is missing: it may have an optimizer of its own.")
    lab.repair_all()
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], held, strict=True))


def test_a_layer_of_a_network_that_is_trained_is_missing():
    model, probe = gan()
    optimizer = torch.optim.Adam([*model["maker"].parameters(), *model["judge"][0].parameters()])
    found = wl.Lab(model, probe=probe, optimizer=optimizer).diagnose()
    assert [(f.kind, f.affects) for f in found.serious] == [("optimizer_missing", ("judge.2.weight", "judge.2.bias"))]


def test_an_overflow_that_is_made_finite_again_is_named():
    """G4: exp(-exp(100)) is 0, and the derivative of the inner exp is infinite."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.rate = nn.Linear(5, 7), nn.Linear(7, 3), nn.Parameter(torch.full((7,), 100.0))

        def forward(self, x):
            return self.last(self.first(x) * torch.exp(-torch.exp(self.rate)))

    torch.manual_seed(0)
    lab = wl.Lab(Gate(), batch=(torch.randn(6, 5), torch.randint(3, (6,))), loss=F.cross_entropy)
    [cause] = [c for c in lab.check_gradients().causes if c.severity == "error"]
    assert cause.kind == "nonfinite_activation"
    assert cause.text.startswith("Gate (exp): what it puts out is not finite, from values of up to 100.")
    assert "overflows" in cause.title


def test_units_of_the_output_are_alike_where_their_targets_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12))
    for parameter in model[2].parameters():
        nn.init.zeros_(parameter)
    x, y = torch.randn(32, 8), torch.randn(32, 12)
    y[:, :4] = 1.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    found = wl.Lab(model, batch=(x, y), loss=F.mse_loss).diagnose()
    assert [f.severity for f in found.of("duplicate_units")] == ["info"]
    assert found.serious == []
