"""Rules G3 and G4: every kind of cause, planted, with its place and evidence; every row that stops has one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weightlab.check import Probe, check_gradients
from weightlab.model.tree import ParameterTree


def check(model, *args, **kwargs):
    report = check_gradients(ParameterTree(model), Probe(model, *args, **kwargs))
    for row in report.rows:
        if row.status not in ("flowing", "frozen"):
            assert report.causes_of(row.name), f"G3: {row.name} is {row.status} without a cause\n{report}"
    return report


def cause(report, kind):
    found = [cause for cause in report.causes if cause.kind == kind]
    assert len(found) == 1, f"{kind}\n{report}"
    return found[0]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Net(nn.Module):
    """Three layers with functional activations; tests plant their fault in `between`."""

    def __init__(self, between=None):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.between = between or (lambda h: h)

    def forward(self, x):
        return self.c(F.relu(self.b(self.between(F.relu(self.a(x))))))


BATCH = (torch.randn(64, 6, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 3)


def images(model, channels=1, size=12, samples=16):
    x = torch.randn(samples, channels, size, size)
    return check(model, (x, torch.arange(samples) % 2), F.cross_entropy)


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 2)
    )


def test_a_relu_is_dead_because_of_the_bias_before_it():
    """G3's own example: the place, how many samples, in which channels, and why."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    nn.init.constant_(model[0].bias, -5)
    report = images(model)
    found = cause(report, "dead_relu")
    assert found.text == "1 ReLU: 16 of 16 samples below 0 in all 4 channels, because 0.bias is −5."
    assert (found.at, found.severity, found.name, found.region) == ("1", "error", "0.bias", "[...]")
    assert set(found.affects) == {"0.weight", "0.bias", "3.weight"}
    assert [report[name].status for name in ("0.weight", "0.bias", "3.weight", "3.bias")] == ["zero"] * 3 + ["flowing"]


def test_a_functional_relu_is_seen_and_its_module_named():
    model = Net()
    with torch.no_grad():
        model.a.bias[2:5] = -50
    found = [c for c in check(model, BATCH, F.cross_entropy).causes if c.severity == "warning"]
    assert [(c.kind, c.name, c.region) for c in found] == [("dead_relu", "a.bias", "[2:5]")]
    assert "64 of 64 samples below 0 in 3 of 12 units (2, 3, 4), because a.bias is −50" in found[0].text
    assert {"a.weight", "a.bias"} <= set(found[0].affects)


def test_a_zeroed_filter_before_batchnorm_is_named_for_the_norm():
    """The page's first example."""
    model = cnn()
    nn.init.constant_(model[1].bias, 0.5)
    with torch.no_grad():
        model[0].weight[3].zero_()
    report = images(model)
    assert (report["1.weight"].status, report["1.weight"].zero_units) == ("partial", 1)
    assert report["0.weight"].status == "flowing"
    found = cause(report, "zero_weight")
    assert (found.at, found.name, found.region, found.affects) == ("0.weight", "0.weight", "[3]", ("1.weight",))
    assert "for all 16 samples" in found.text


def test_a_unit_with_zero_weight_and_bias_never_comes_back():
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    with torch.no_grad():
        model[0].weight[7].zero_()
        model[0].bias[7] = 0
    found = cause(check(model, BATCH, F.cross_entropy), "zero_weight")
    assert (found.at, found.region, found.severity) == ("0.weight", "[7]", "warning")
    assert set(found.affects) == {"0.weight", "0.bias"}


def test_zero_columns_further_on_block_what_is_before_them():
    model = cnn()
    with torch.no_grad():
        model[5].weight[:, 4 * 25 : 5 * 25] = 0
    report = images(model)
    found = cause(report, "zero_weight")
    assert (found.at, found.region) == ("5.weight", "[:, 100:125]")
    assert {"0.weight", "1.weight", "1.bias"} <= set(found.affects)
    assert report["1.bias"].zero_units == 1


def test_two_origins_in_one_layer_are_told_apart():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 2))
    with torch.no_grad():
        model[0].bias[2] = -30
        model[4].weight[:, 125:150] = 0
    report = images(model)
    assert report["0.weight"].zero_units == 2
    assert cause(report, "dead_relu").region == "[2]"
    assert cause(report, "zero_weight").region == "[:, 125:150]"


def test_a_zero_head_blocks_all_and_heals_itself():
    """G8: a head that starts at zero is healthy, it gets a gradient itself."""
    model = Net()
    nn.init.zeros_(model.c.weight)
    report = check(model, BATCH, F.cross_entropy)
    found = cause(report, "zero_weight")
    assert (found.at, found.severity) == ("c.weight", "info")
    assert set(found.affects) == {"a.weight", "a.bias", "b.weight", "b.bias"}


def test_the_weight_inside_attention_is_found():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    nn.init.zeros_(model.self_attn.out_proj.weight)
    found = cause(check(model), "zero_weight")
    assert found.at == "self_attn.out_proj.weight"
    assert "self_attn.in_proj_weight" in found.affects


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


def test_rows_that_the_batch_does_not_use_are_info():
    """G2: they do not make an embedding partial."""
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(8, 3))
    tokens = torch.tensor([[0, 1], [2, 3], [4, 4]])
    report = check(model, (tokens, torch.tensor([0, 1, 2])), F.cross_entropy)
    found = cause(report, "unused_rows")
    assert (found.severity, found.name, found.region) == ("info", "0.weight", "[5:10]")
    assert (report["0.weight"].status, report["0.weight"].zero_units) == ("flowing", 5)


class Gated(nn.Module):
    """What a convolution sees, weighed by a gate that sees it too."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2)
        self.squeeze, self.gate, self.fc = nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6 * 25, 2)

    def forward(self, x):
        x = self.pool(self.relu(self.conv(x)))
        return self.fc((x * self.gate(self.squeeze(x.mean((2, 3))))[:, :, None, None]).flatten(1))


def test_a_gate_on_a_dead_channel_suffers_from_what_made_it_dead():
    """G3: no second cause at the product; and the bias is blamed where it is to blame."""
    model = Gated()
    with torch.no_grad():
        model.conv.bias[2] = -30
        model.conv.weight.abs_()
        model.conv.weight[4].neg_()
    model.conv.weight.requires_grad_(False)
    x = torch.rand(9, 1, 12, 12)
    report = check(model, (x, torch.arange(9) % 2), F.cross_entropy)
    assert [c.kind for c in report.causes] == ["dead_relu"]
    assert report.causes[0].affects == ("conv.bias", "squeeze.weight", "squeeze.bias")
    assert report.causes[0].text.endswith("in 2 of 6 channels (2, 4), because conv.bias is −30 in channel 2.")
    assert report.causes[0].region == "[2]"
    nn.init.constant_(model.conv.bias, -30)
    report = check(model, (x, torch.arange(9) % 2), F.cross_entropy)
    assert [(c.kind, c.severity) for c in report.causes] == [("dead_relu", "error")]


def test_a_saturated_gate_names_what_pushed_it():
    """G3: a bias where it makes most of the input, else the weight."""
    model = Gated()
    nn.init.constant_(model.squeeze.bias, 200)
    batch = (torch.randn(9, 1, 12, 12), torch.arange(9) % 2)
    found = cause(check(model, batch, F.cross_entropy), "saturated")
    assert found.text == (
        "gate Sigmoid: saturated in all 6 units: its derivative is exactly 0 there for all 9 samples, "
        "because squeeze.bias is 200."
    )
    assert (found.at, found.name, found.affects) == ("gate", "squeeze.bias", ("squeeze.weight", "squeeze.bias"))
    nn.init.constant_(model.squeeze.bias, 0)
    with torch.no_grad():
        model.squeeze.weight.fill_(1e5)
    found = cause(check(model, batch, F.cross_entropy), "saturated")
    assert (found.at, found.name) == ("gate", "squeeze.weight")


def test_a_saturated_tanh_is_named():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    nn.init.constant_(model[0].bias, 100)
    found = cause(check(model, BATCH, F.cross_entropy), "saturated")
    assert (found.at, set(found.affects)) == ("1", {"0.weight", "0.bias"})


def test_a_clipped_activation_is_saturated_not_dead():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 3))
    nn.init.constant_(model[0].bias, 100)
    assert cause(check(model, BATCH, F.cross_entropy), "saturated").at == "1"


def test_dropout_of_everything_and_a_product_with_zero_are_zero_paths():
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(1.0), nn.Linear(8, 3))
    found = cause(check(model, BATCH, F.cross_entropy), "zero_path")
    assert (found.at, set(found.affects)) == ("1", {"0.weight", "0.bias", "2.weight"})
    found = check(Net(lambda h: h * torch.zeros(12)), BATCH, F.cross_entropy).causes_of("a.weight")
    assert [c.kind for c in found] == ["zero_path"]
    assert "multiplied" in found[0].text


def test_a_zero_gate_is_named_as_the_zero_weight():
    class Gated(Net):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.zeros(12))

        def forward(self, x):
            h = F.relu(self.a(x))
            return self.c(h + self.gate * self.b(h))

    found = cause(check(Gated(), BATCH, F.cross_entropy), "zero_weight")
    assert (found.at, set(found.affects)) == ("gate", {"b.weight", "b.bias"})


def test_an_input_of_zeros_is_named():
    found = check(Net(), (torch.zeros(8, 6), BATCH[1][:8]), F.cross_entropy).causes_of("a.weight")
    assert any("batch" in c.text for c in found)


def test_a_deep_sigmoid_net_vanishes():
    model = nn.Sequential(*[layer for _ in range(14) for layer in (nn.Linear(8, 8), nn.Sigmoid())], nn.Linear(8, 3))
    report = check(model)
    assert report["0.weight"].status == "weak"
    assert report["28.weight"].status == "flowing"
    assert "0.weight" in cause(report, "vanishing").affects


def test_a_deep_net_of_large_weights_explodes():
    model = nn.Sequential(
        *[nn.Linear(8, 8, bias=False) for _ in range(12)], nn.Tanhshrink(), nn.LayerNorm(8), nn.Linear(8, 3)
    )
    with torch.no_grad():
        for layer in model[:12]:
            layer.weight.copy_(10 * torch.eye(8))
        model[0].weight.mul_(1e-12)
    report = check(model)
    assert "0.weight" in cause(report, "exploding").affects


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


def test_what_no_rule_knows_is_described_not_guessed():
    """G3: a custom function that returns zeros is seen through its module."""

    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return torch.zeros_like(grad)

    class Silent(nn.Module):
        def forward(self, x):
            return Nothing.apply(x)

    model = nn.Sequential(nn.Linear(6, 8), Silent(), nn.Linear(8, 3))
    found = check(model, BATCH, F.cross_entropy).causes_of("0.weight")
    assert [(c.kind, c.at) for c in found] == [("zero_path", "1")]
    assert "a gradient arrives here and none is passed on" in found[0].text


def test_bf16_and_lstm_rows_have_causes_too():
    model = Net().bfloat16()
    nn.init.constant_(model.a.bias, -50)
    report = check(model, (BATCH[0].bfloat16(), BATCH[1]), F.cross_entropy)
    assert [c.name for c in report.causes if c.severity == "error"] == ["a.bias"]
    lstm = nn.Sequential()
    lstm.rnn, lstm.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)
    lstm.forward = lambda x: lstm.head(lstm.rnn(x)[0])
    nn.init.zeros_(lstm.head.weight)
    found = cause(check(lstm, (torch.randn(3, 6, 4), torch.randn(3, 6, 2))), "zero_weight")
    assert {"rnn.weight_ih_l0", "rnn.weight_hh_l0"} <= set(found.affects)


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
