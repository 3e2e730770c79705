"""Rules G3 and G4: every kind of cause, planted, with its place and evidence; every row that stops has one."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.caused_models import BATCH, Net, cause, check, cnn, images


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


def test_a_model_deeper_than_pythons_stack_is_checked_to_its_end():
    """From the first layer to the dead end behind the last one: a loop finds the way, not a call per layer."""
    depth = 1050
    model = nn.Sequential(*[nn.Linear(1, 1, bias=False) for _ in range(depth)], nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(1)
        model[depth].weight.zero_()
    found = check(model, (torch.ones(3, 1), torch.tensor([0, 1, 0])), F.cross_entropy).causes
    assert [(each.kind, each.at, len(each.affects)) for each in found] == [("zero_weight", f"{depth}.weight", depth)]
