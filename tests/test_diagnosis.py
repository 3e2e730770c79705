"""Rules G4, G7 and G8: every kind of finding, in unlike architectures; and silence about what is healthy."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from tests.diagnosed_models import INPUTS, LABELS, MODELS, Gpt, he, lab_of, mlp, resnet
from weightlab.check.explanations import EXPLANATIONS, explanation


def constant(weight):
    weight.fill_(0.05)


def repeated(weight):
    weight[3] = weight[1].clone()


def rank_one(weight):
    flat = weight.flatten(1)
    product = torch.outer(torch.randn(len(flat)), torch.randn(flat.shape[1]))
    weight.copy_((product * flat.norm() / product.norm()).view_as(weight))


def nan(weight):
    weight.view(-1)[3] = float("nan")


PLANTED = [
    *[("symmetric_units", constant, *at) for at in (("mlp", "2"), ("cnn", "2"), ("gpt", "blocks.1.fc"))],
    *[("duplicate_units", repeated, *at) for at in (("mlp", "2"), ("resnet", "3.conv1"), ("gpt", "blocks.0.qkv"))],
    *[("rank_collapse", rank_one, *at) for at in (("mlp", "2"), ("cnn", "4"), ("gpt", "blocks.2.fc"))],
    *[("scale_low", lambda w: w.mul_(1e-3), *at) for at in (("mlp", "2"), ("cnn", "2"), ("gpt", "blocks.1.fc"))],
    *[("scale_high", lambda w: w.mul_(60), *at) for at in (("mlp", "2"), ("cnn", "2"), ("resnet", "3.conv1"))],
    *[("zero_norm_scale", lambda w: w.zero_(), *at) for at in (("resnet", "1"), ("gpt", "norm"))],
    *[("nonfinite_weight", nan, *at) for at in (("mlp", "2"), ("gpt", "blocks.0.fc"))],
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "plant", "name", "layer"), PLANTED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_planted_fault_is_found_at_its_place_and_nothing_else(kind, plant, name, layer):
    """G7."""
    lab = lab_of(name)
    with torch.no_grad():
        plant(lab.model.get_submodule(layer).weight)
    found = lab.diagnose().serious
    assert [(f.kind, f.name) for f in found] == [(kind, f"{layer}.weight")], lab.diagnosis
    assert found[0].evidence
    assert found[0].title
    assert found[0].explain == EXPLANATIONS[kind]


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_computed_weights_are_judged_by_what_they_come_to(wrap):
    """G8: the originals may have any scale."""
    model = mlp()
    for index in (0, 2, 4):
        wrap(model[index])
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1 and p.shape[1] > 1 and "parametrizations" in name:
                p.mul_(100)
    assert lab_of("mlp", model).diagnose().serious == []


def test_weights_scaled_in_the_forward_are_judged_by_what_they_come_to():
    """Equalised learning rates: N(0, 1) times 1 / sqrt(fan_in)."""

    class Equalised(nn.Module):
        def __init__(self, sizes=(7, 48, 48, 48, 5)):
            super().__init__()
            self.weights = nn.ParameterList(torch.randn(out, into) for into, out in itertools.pairwise(sizes))

        def forward(self, x):
            for weight in self.weights:
                x = F.relu(F.linear(x, weight) * math.sqrt(2 / weight.shape[1]))
            return x

    assert lab_of("mlp", Equalised()).diagnose().serious == []


def test_what_is_no_parameter_is_found():
    """G7: a tensor, a list of layers; a constant is told of, and computed weights and caches are not."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = torch.randn(24, 7, requires_grad=True)
            self.layers = [nn.Linear(24, 24), nn.Linear(24, 5)]
            self.mask = torch.ones(24)

        def forward(self, x):
            h = F.relu(F.linear(x, self.own / 2)) * self.mask
            for layer in self.layers:
                h = layer(h)
            return h

    found = lab_of("mlp", Net()).diagnose()
    said = {f.name: f.severity for f in found.of("not_a_parameter")}
    assert said == {"own": "error", "layers": "error", "mask": "info"}
    adjacency = torch.eye(24)
    net = mlp()
    net.links = adjacency
    assert lab_of("mlp", net).diagnose().serious == []


def test_a_wrong_shape_is_found_though_the_forward_raises():
    """G7."""
    for name, layer in (("mlp", "2"), ("cnn", "2"), ("lstm", "head")):
        lab = lab_of(name)
        weight = lab.model.get_submodule(layer).weight
        weight.data = weight.data.transpose(0, 1).contiguous()
        found = lab.diagnose()
        assert "raised" in found.failure
        assert found.report is None
        assert [(f.kind, f.name, f.severity) for f in found.serious] == [("shape_broken", f"{layer}.weight", "error")]


def test_weights_are_judged_though_the_forward_raises():
    lab = wl.Lab(mlp(), batch=(torch.randn(20, 3), LABELS))
    with torch.no_grad():
        lab.model[2].weight.fill_(0.1)
        lab.model[4].weight.mul_(1e4)
        lab.model[0].weight[0, 0] = math.inf
    found = lab.diagnose()
    kinds = {(f.kind, f.name) for f in found.serious}
    assert kinds == {("symmetric_units", "2.weight"), ("scale_high", "4.weight"), ("nonfinite_weight", "0.weight")}


@pytest.mark.filterwarnings("ignore:the optimizer trains")
def test_what_the_optimizer_does_not_hold_is_found():
    """G7."""
    model = mlp()
    optimizer = torch.optim.Adam([p for n, p in model.named_parameters() if n != "0.bias"])
    model[2].weight = nn.Parameter(model[2].weight.detach().clone())
    found = lab_of("mlp", model, optimizer).diagnose()
    assert [(f.kind, f.name) for f in found.serious] == [
        ("optimizer_stale", "2.weight"),
        ("optimizer_missing", "0.bias"),
    ]


def test_a_shut_gate_and_a_flat_activation_are_saturated():
    """G4."""
    lab = lab_of("lstm")
    with torch.no_grad():
        lab.model.rnn.bias_ih_l0[36:48] = -50  # the output gate
    found = lab.diagnose().of("saturated")
    assert [(f.name, f.region, f.at) for f in found] == [("rnn.bias_ih_l0", "[36:48]", "rnn")]
    model = nn.Sequential(nn.Linear(7, 24), nn.Sigmoid(), nn.Linear(24, 5))
    nn.init.constant_(model[0].bias, 9)
    found = lab_of("mlp", model).diagnose().serious
    assert [(f.kind, f.name, f.at) for f in found] == [("saturated", "0.bias", "1")]


def test_a_weight_that_does_everything_wrong_downstream_is_one_finding():
    """G3: the exploding gradients are its victims, and stand under it."""
    torch.manual_seed(1)
    model = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(24, 24), nn.ReLU())), nn.Linear(24, 5))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_()
    lab = wl.Lab(model, batch=(torch.randn(20, 24), LABELS), loss=F.cross_entropy)
    assert [f.kind for f in lab.diagnose().serious] == ["scale_high"]
    assert len(lab.diagnosis[0].affects) >= 12


@pytest.mark.parametrize("name", MODELS)
def test_a_diagnosis_leaves_no_trace(name, bytes_of):
    """G1."""
    lab = lab_of(name)
    before, state = bytes_of(lab.model), torch.get_rng_state()
    versions = [p._version for p in lab.model.parameters()]
    held = [dict(vars(module)) for module in lab.model.modules()]
    lab.diagnose()
    assert bytes_of(lab.model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert [p._version for p in lab.model.parameters()] == versions
    assert all(p.grad is None for p in lab.model.parameters())
    assert lab.history == ()
    assert [list(vars(module)) for module in lab.model.modules()] == [list(one) for one in held]


def test_odd_models_are_diagnosed():
    """G6: empty, meta, half, tied, without a batch."""
    assert wl.Lab(nn.Module()).diagnose().serious == []
    meta = wl.Lab(nn.Linear(3, 4, device="meta")).diagnose()
    assert meta.serious == []
    assert "meta" in meta.failure
    half = lab_of("mlp", mlp().bfloat16())
    half.probe.batch = (INPUTS["rows"].bfloat16(), LABELS)
    assert half.diagnose().serious == []
    tied = Gpt()
    tied.head = nn.Linear(24, 17, bias=False)
    tied.head.weight = tied.embed.weight
    assert wl.Lab(tied, batch=(INPUTS["tokens"], LABELS), loss=F.cross_entropy).diagnose().serious == []
    assert wl.Lab(resnet()).diagnose().report.synthetic


def test_the_signal_is_measured_beside_what_is_expected():
    """He's rule keeps the signal; a weight a thousand times too small loses it at its place."""
    lab = lab_of("mlp")
    for layer in lab.model[::2]:
        he(layer.weight.detach())
        nn.init.zeros_(layer.bias)
    rows = [row for row in lab.signal() if row.weight]
    assert [row.weight for row in rows] == ["0.weight", "2.weight", "4.weight", "6.weight"]
    x = INPUTS["rows"]
    measured = lab.model[:1](x).detach().square().mean()
    assert rows[0].variance == pytest.approx(float(measured), rel=1e-5)
    assert rows[0].expected == pytest.approx(2 * float(x.square().mean()), rel=1e-5)
    assert all(0.3 < row.variance / row.expected < 3 for row in rows[:-1])
    with torch.no_grad():
        lab.model[2].weight.mul_(1e-3)
    assert [row.weight for row in lab.signal() if row.note] == ["2.weight"]
    bands = rows[0].activation
    assert list(bands) == sorted(bands)
    assert len(rows[0].gradient) == 5


def test_a_diagnosis_prints_and_draws():
    lab = lab_of("mlp")
    assert str(lab.diagnose()).startswith("nothing above info")
    nn.init.constant_(lab.model[2].weight, 0.1)
    found = lab.diagnose()
    assert "symmetric_units" in str(found)
    assert "repair:" in str(found)
    assert "<table>" in found._repr_html_()
    assert "symmetric_units" in found._repr_html_()
    assert len(found.plot().axes) == 2
    assert "E[x²]" in str(found.signal)
    broken = wl.Lab(mlp(), batch=(torch.randn(2, 3), LABELS[:2])).diagnose()
    assert "could not run" in str(broken)
    assert len(broken.plot().axes) == 2


def test_every_kind_is_explained():
    """Three sentences or so, with a formula or a name of torch's."""
    kinds = [
        "unreached",
        "detached",
        "dead_relu",
        "saturated",
        "zero_weight",
        "zero_path",
        "nonfinite_weight",
        "nonfinite_activation",
        "nonfinite_gradient",
        "vanishing",
        "exploding",
        "unused_rows",
        "invariant",
        "symmetric_units",
        "duplicate_units",
        "scale_low",
        "scale_high",
        "rank_collapse",
        "zero_norm_scale",
        "not_a_parameter",
        "shape_broken",
        "optimizer_stale",
        "optimizer_missing",
        "frozen",
    ]
    assert set(kinds) == set(EXPLANATIONS)
    assert all(2 <= text.count(". ") + 1 <= 4 for text in EXPLANATIONS.values())
    assert explanation("none") == ""


def test_diagnosing_twice_says_the_same():
    lab = lab_of("gpt")
    with torch.no_grad():
        lab.model.blocks[1].fc.weight.fill_(0.03)
    first = copy.deepcopy([(f.kind, f.name, f.text, f.severity) for f in lab.diagnose()])
    assert [(f.kind, f.name, f.text, f.severity) for f in lab.diagnose()] == first


def test_a_scale_that_a_depthwise_layer_and_its_norm_divide_out_is_invariant():
    """G4: not vanishing, since the layers before it get their gradient."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).double()  # fmt: skip
    lab = wl.Lab(model, batch=(INPUTS["images"].double(), LABELS), loss=F.cross_entropy)
    model[4].eps = 1e-30
    found = lab.diagnose()
    assert found.serious == []
    assert "1.weight" in [f.name for f in found.of("invariant")]


@pytest.mark.filterwarnings("ignore:the optimizer trains")
def test_an_optimizer_of_a_copy_of_the_model_is_stale():
    """G7: one finding that lists every parameter, told apart from one that trains a second model beside this one."""
    model = mlp()
    lab = lab_of("mlp", model, torch.optim.SGD(copy.deepcopy(model).parameters(), 0.1))
    (found,) = lab.diagnose().serious
    assert found.kind == "optimizer_stale"
    assert list(found.affects) == [name for name, _ in model.named_parameters()]
    assert lab.repair(found).helped
    assert {id(p) for p in lab.optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    lab.undo()
    assert lab.diagnose().serious == [found]
    both = torch.optim.SGD([*model.parameters(), *nn.Linear(2, 3).parameters()], 0.1)
    found = lab_of("mlp", model, both).diagnose()
    assert found.serious == []
    assert "[3, 2], [3]" in found.of("optimizer_stale")[0].evidence[0]


def test_functions_that_share_a_path_are_told_apart():
    """G9: two dead ReLUs of different width in one forward."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(7, 24), nn.Linear(24, 9), nn.Linear(9, 5)

        def forward(self, x):
            return self.c(F.relu(self.b(F.relu(self.a(x)))))

    lab = lab_of("mlp", Net())
    with torch.no_grad():
        lab.model.a.bias[5] = -30
        lab.model.b.bias[2:4] = -30
    assert {f.name for f in lab.diagnose().of("dead_relu")} == {"a.bias", "b.bias"}
    lab.repair_all()
    assert lab.model.a.bias[5] == 0
    assert not lab.model.b.bias[2:4].any()
