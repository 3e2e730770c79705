"""Rule G8: a healthy start gives nothing above info, and where the line is drawn."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from tests.diagnosed_models import INPUTS, LABELS, MODELS, Residual, he, lab_of


def he_fan_out(weight):
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def orthogonal(weight):
    nn.init.orthogonal_(weight, gain=math.sqrt(2))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", [None, he, he_fan_out, orthogonal, nn.init.xavier_uniform_, nn.init.xavier_normal_])
def test_a_healthy_scheme_gives_nothing_above_info(name, scheme):
    """G8, in train and in eval mode."""
    lab = lab_of(name)
    for p in lab.model.parameters() if scheme else ():
        if p.ndim > 1:
            scheme(p.detach())
    assert lab.diagnose().serious == []
    lab.model.eval()
    assert lab.diagnose().serious == []


def zero_last_norms(model):
    for block in model.modules():
        if isinstance(block, Residual):
            nn.init.zeros_(block.norm2.weight)


def zero_head(model):
    head = list(model.modules())[-1]
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)


def small_head(model):
    nn.init.orthogonal_(list(model.modules())[-1].weight, gain=0.01)


def zero_branches(model):
    for block in model.blocks:
        nn.init.zeros_(block.out.weight)


DELIBERATE = {
    "last norms": ("resnet", zero_last_norms),
    "head": ("mlp", zero_head),
    "head of a decoder": ("gpt", zero_head),
    "small head": ("mlp", small_head),
    "branches": ("gpt", zero_branches),
}


@pytest.mark.parametrize(("name", "choice"), DELIBERATE.values(), ids=DELIBERATE)
def test_a_deliberate_zero_is_no_fault(name, choice):
    """G8: Goyal et al. 2017 for the norms, policy heads, ReZero-like branches."""
    lab = lab_of(name)
    choice(lab.model)
    assert lab.diagnose().serious == []


def test_a_lora_pair_and_a_layer_scale_are_no_fault():
    """G8."""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head = nn.Linear(7, 24).requires_grad_(False), nn.Linear(24, 5)
            self.lora_a, self.lora_b = nn.Parameter(torch.randn(3, 7) / 7**0.5), nn.Parameter(torch.zeros(24, 3))
            self.gamma, self.branch = nn.Parameter(torch.full((24,), 1e-5)), nn.Linear(24, 24)

        def forward(self, x):
            h = F.relu(self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b))
            return self.head(h + self.gamma * self.branch(h))

    lab = wl.Lab(Adapted(), batch=(INPUTS["rows"], LABELS), loss=F.cross_entropy)
    found = lab.diagnose()
    assert found.serious == []
    assert [f.affects for f in found.of("frozen")] == [("base.weight", "base.bias")]


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_a_trained_model_gives_nothing_above_info(name):
    """G8."""
    lab = lab_of(name)
    optimizer = torch.optim.Adam(lab.model.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(lab.model(INPUTS[MODELS[name][1]]), LABELS).backward()
        optimizer.step()
    assert lab.diagnose().serious == []


def test_a_gate_that_learned_to_open_and_shut_is_no_fault():
    """G8: what it is fed is large, its own weight is not; with a weight that is too large it is one."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.steer, self.head = nn.Linear(7, 24), nn.Linear(7, 24), nn.Linear(24, 5)

        def forward(self, x):
            return self.head(F.relu(self.body(x)) * torch.sigmoid(self.steer(200 * x)))

    torch.manual_seed(0)
    lab = lab_of("mlp", Gated())
    found = lab.diagnose()
    assert [(f.severity, f.name) for f in found.of("saturated")] == [("info", "steer.weight")]
    assert "because what steer.weight is fed has a root mean square of" in found.of("saturated")[0].text
    with torch.no_grad():
        lab.model.steer.weight.mul_(20)
    assert {(f.kind, f.name) for f in lab.diagnose().serious} >= {("saturated", "steer.weight")}


def chain(depth, activation, width=24):
    """As torch initialises it."""
    sizes = [7, *[width] * (depth - 1)]
    inner = (layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), activation()))
    return nn.Sequential(*inner, nn.Linear(width, 5))


def pictures_chain(depth, activation):
    sizes = [3, *[10] * depth]
    inner = (layer for pair in itertools.pairwise(sizes) for layer in (nn.Conv2d(*pair, 3, padding=1), activation()))
    return nn.Sequential(*inner, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


class Rows(nn.Module):
    """A sequence of three rows through this, and a head."""

    def __init__(self, inner):
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(7, 12), inner, nn.Linear(12, 5)

    def forward(self, x):
        made = self.inner(self.embed(x).unsqueeze(1) * torch.ones(3, 1))
        return self.head((made[0] if isinstance(made, tuple) else made)[:, -1])


def encoder():
    layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


DEFAULTS = {
    **{
        f"{depth} {activation.__name__}": ("mlp", lambda d=depth, a=activation: chain(d, a))
        for depth in (3, 10, 20, 40)
        for activation in (nn.ReLU, nn.GELU, nn.Tanh)
    },
    "12 convolutions, ReLU": ("cnn", lambda: pictures_chain(12, nn.ReLU)),
    "12 convolutions, GELU": ("cnn", lambda: pictures_chain(12, nn.GELU)),
    "12 convolutions, Tanh": ("cnn", lambda: pictures_chain(12, nn.Tanh)),
    "6 LSTM": ("mlp", lambda: Rows(nn.LSTM(12, 12, 6, batch_first=True))),
    "6 encoder layers": ("mlp", lambda: Rows(encoder())),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_torchs_own_initialisation_does_is_nothing_above_info(name):
    """G8."""
    kind, make = DEFAULTS[name]
    for seed in range(3):
        torch.manual_seed(seed)
        assert lab_of(kind, make()).diagnose().serious == []


def test_a_gradient_that_vanishes_by_the_scheme_is_told_with_its_numbers_and_mended():
    """G8, G9."""
    torch.manual_seed(0)
    lab = lab_of("mlp", chain(22, nn.ReLU, 12))
    (cause,) = (cause for cause in lab.check_gradients().causes if cause.kind == "vanishing")
    assert cause.severity == "info"
    assert "times smaller" in cause.text
    assert lab.repair(cause).helped
    assert lab.check_gradients()["0.weight"].status != "weak"


@pytest.mark.parametrize("depth", [20, 40])
def test_a_small_layer_of_a_deep_default_chain_is_the_place(depth):
    """G8: what the others take by their scheme hides nothing."""
    torch.manual_seed(1)
    lab = lab_of("mlp", chain(depth, nn.ReLU))
    with torch.no_grad():
        lab.model[depth].weight.mul_(0.01)
    told = [cause for cause in lab.check_gradients().causes if cause.severity != "info"]
    assert [(cause.kind, cause.at) for cause in told] == [("vanishing", f"{depth}")]
    assert [(f.kind, f.name) for f in lab.diagnose().serious] == [("scale_low", f"{depth}.weight")]


@pytest.mark.parametrize(("activation", "factor"), [(nn.ReLU, 0.1), (nn.Tanh, 0.1), (nn.Tanh, 0.5), (nn.ReLU, 0.5)])
def test_a_trunk_that_is_smaller_than_the_scheme_is_a_fault(activation, factor):
    torch.manual_seed(2)
    lab = lab_of("mlp", chain(16, activation))
    trunk = [f"{index}.weight" for index in range(2, 30, 2)]
    with torch.no_grad():
        for name in trunk:
            lab.model.get_parameter(name).mul_(factor)
    told = [cause for cause in lab.check_gradients().causes if cause.severity != "info"]
    assert {cause.kind for cause in told} == {"vanishing"}
    assert {f.kind for f in lab.diagnose().serious} == {"scale_low"}
    assert set(trunk) <= {name for f in lab.diagnosis.serious for name in (f.name, *f.affects)}


def test_what_else_divides_a_default_chain_is_a_fault():
    """G8: the scheme explains 10^7 of it, and not the other 10^9."""

    class Divided(nn.Module):
        def forward(self, x):
            return x / 1e9

    torch.manual_seed(3)
    model = chain(20, nn.ReLU)
    model[21] = nn.Sequential(model[21], Divided())
    assert [f.kind for f in lab_of("mlp", model).diagnose().serious] == ["vanishing"]


def test_sigmoids_one_behind_the_other_are_a_fault_whatever_the_scheme():
    """G8: no healthy scheme heals a slope of a quarter at most (Glorot 2010)."""
    torch.manual_seed(4)
    found = lab_of("mlp", chain(16, nn.Sigmoid)).diagnose().serious
    assert [f.kind for f in found] == ["vanishing"]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_reverse_direction_behind_the_last_output_has_taken_one_step_and_is_healthy(
    kind: type[nn.RNNBase], seed: int
) -> None:  # G8
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.head = kind(5, 7, batch_first=True, bidirectional=True), nn.Linear(14, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.read(x)[0][:, -1])

    torch.manual_seed(seed)
    lab = wl.Lab(Reader(), batch=(torch.randn(8, 6, 5), torch.arange(8) % 3), loss=nn.functional.cross_entropy)
    found = lab.diagnose()
    assert found.serious == []
    told = [finding for finding in found if "read.weight_hh_l0_reverse" in finding.affects]
    assert [finding.kind for finding in told] == ["invariant"]


def test_the_first_step_of_adam_away_from_zeros_makes_no_copies() -> None:
    """Each cell has moved by the learning rate: rows of four cells are one of sixteen patterns of signs."""
    torch.manual_seed(0)
    x, y = torch.randn(64, 16), torch.randint(5, (64,))
    model = nn.Sequential(nn.Linear(16, 4, bias=False), nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 5))
    nn.init.zeros_(model[1].weight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert wl.Lab(model, batch=(x, y), loss=F.cross_entropy).diagnose().of("duplicate_units") == []
