"""Rules G4, G7 and G8: every kind of finding, in unlike architectures; and silence about what is healthy."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from weightlab.check.explanations import EXPLANATIONS, explanation


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a skip."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Block(nn.Module):
    """A pre-norm transformer block with a packed projection."""

    def __init__(self, width):
        super().__init__()
        self.ln1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln2, self.fc, self.out = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.ln1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.proj(mixed)
        return x + self.out(F.gelu(self.fc(self.ln2(x))))


class Gpt(nn.Module):
    """Three blocks and a head, N(0, 0.02) with residual projections scaled by 1 / sqrt(6)."""

    def __init__(self, width=24):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(17, width), nn.Sequential(*(Block(width) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02 / math.sqrt(6) if "proj" in name or "out" in name else 0.02)

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.embed(tokens)))[:, -1])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(17, 8), nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0][:, -1])


def mlp():
    return nn.Sequential(
        nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5)
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12 * 9, 5),
    )  # fmt: skip


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


LABELS = torch.arange(20) % 5
INPUTS = {
    "rows": torch.randn(20, 7, generator=torch.Generator().manual_seed(0)),
    "images": torch.randn(20, 3, 9, 9, generator=torch.Generator().manual_seed(0)),
    "tokens": torch.randint(17, (20, 6), generator=torch.Generator().manual_seed(0)),
}
MODELS = {
    "mlp": (mlp, "rows"),
    "cnn": (cnn, "images"),
    "resnet": (resnet, "images"),
    "gpt": (Gpt, "tokens"),
    "lstm": (Recurrent, "tokens"),
}


def lab_of(name, model=None, optimizer=None):
    make, kind = MODELS[name]
    return wl.Lab(model or make(), batch=(INPUTS[kind], LABELS), loss=F.cross_entropy, optimizer=optimizer)


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


def he(weight):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


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
    """G7: for every parameter, and told apart from one that trains a second model beside this one."""
    model = mlp()
    found = lab_of("mlp", model, torch.optim.SGD(copy.deepcopy(model).parameters(), 0.1)).diagnose()
    assert [f.name for f in found.of("optimizer_stale")] == [name for name, _ in model.named_parameters()]
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
