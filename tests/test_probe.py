"""How a check gets an input and a loss (section 4), and what it says where it cannot (rule of errors)."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weightlab.check import Probe, check_gradients
from weightlab.errors import ProbeFailed
from weightlab.model.tree import ParameterTree


def check(model, *args, **kwargs):
    return check_gradients(ParameterTree(model), Probe(model, *args, **kwargs))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, x, z):
        return self.a(x) + self.b(z)


class WithLoss(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.fc, self.kind = nn.Linear(3, 2), kind

    def forward(self, x, labels=None):
        out = self.fc(x)
        loss = F.cross_entropy(out, labels)
        return {"loss": loss, "logits": out} if self.kind == "key" else Output(loss, out)


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


@pytest.mark.parametrize("container", [tuple, list])
def test_a_tuple_or_list_of_inputs_is_unpacked(container):
    batch = (container([torch.ones(5, 3), torch.ones(5, 4)]), torch.zeros(5, 2))
    model = Two()
    assert check(model, batch, F.mse_loss).loss == pytest.approx(F.mse_loss(model(*batch[0]), batch[1]).item())
    named = {"x": batch[0][0], "z": batch[0][1]}
    assert check(model, (named, batch[1]), F.mse_loss).loss == check(model, batch, F.mse_loss).loss


@pytest.mark.parametrize("kind", ["key", "attribute"])
def test_a_mapping_is_passed_as_keywords_and_the_output_has_the_loss(kind):
    model, batch = WithLoss(kind), {"x": torch.ones(4, 3), "labels": torch.tensor([0, 1, 1, 0])}
    expected = model(**batch)
    expected = expected["loss"] if kind == "key" else expected.loss
    report = check(model, batch)
    assert report.loss == pytest.approx(expected.item())
    assert not report.synthetic


def test_a_probe_replaces_batch_and_loss():
    model = nn.Linear(3, 2)
    assert check(model, probe=lambda m: m(torch.ones(3)).sum() * 0 + 2.5).loss == 2.5
    with pytest.raises(ProbeFailed, match="replaces batch and loss"):
        Probe(model, batch=(torch.ones(3), 0), probe=lambda m: m)


def test_a_loss_is_chosen_where_it_is_obvious_and_said():
    model = nn.Linear(3, 2)
    x = torch.ones(4, 3)
    report = check(model, (x, torch.tensor([0, 1, 1, 0])))
    assert report.loss == pytest.approx(F.cross_entropy(model(x), torch.tensor([0, 1, 1, 0])).item())
    assert "no loss given" in report.note
    assert check(model, (x, torch.zeros(4, 2))).loss == pytest.approx(model(x).square().mean().item())
    with pytest.raises(ProbeFailed, match=r"none is obvious for output Tensor \[4, 2\] and target Tensor \[7\]"):
        check(model, (x, torch.zeros(7)))


SYNTHETIC = {
    "linear": lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)),
    "conv1d": lambda: nn.Conv1d(2, 3, 5),
    "conv2d, size 28": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)),
    "conv2d, size 224": lambda: nn.Sequential(nn.Conv2d(3, 2, 7, stride=16), nn.Conv2d(2, 2, 9)),
    "conv3d": lambda: nn.Conv3d(1, 2, 3),
    "embedding": lambda: nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2)),
    "lstm": lambda: nn.LSTM(3, 4, batch_first=True),
    "gru": lambda: nn.GRU(3, 4),
    "cell": lambda: nn.LSTMCell(3, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
    "bf16": lambda: nn.Linear(5, 3).bfloat16(),
    "two inputs": lambda: nn.Bilinear(4, 4, 3),
}  # fmt: skip


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_an_input_is_made_from_the_first_layer_that_says_its_size(kind):
    model = SYNTHETIC[kind]()
    before = torch.get_rng_state()
    report = check(model)
    assert torch.equal(before, torch.get_rng_state())
    assert report.synthetic
    assert "synthetic input" in report.note
    assert not {row.status for row in report.rows} & {"unreached", "nonfinite"}
    assert check(model) == report


def test_a_zero_head_and_a_final_norm_still_get_a_gradient_from_a_synthetic_loss():
    """Why the loss is no mean of squares: both would be flat."""
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    assert {row.status for row in check(model).rows} == {"flowing"}
    head = nn.Linear(5, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    assert {row.status for row in check(head).rows} == {"flowing"}


class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (Nothing(), {}, "no layer says what size"),
        (nn.LazyLinear(3), {}, "Run the model once on real input"),
        (nn.Linear(3, 2, device="meta"), {}, "meta device"),
        (nn.Linear(3, 2), {"batch": (torch.ones(4, 5), None), "loss": F.mse_loss}, "forward pass raised RuntimeError"),
        (nn.Linear(3, 2), {"batch": (torch.ones(4, 3), None), "loss": lambda o, t: o}, r"loss \[4, 2\]"),
        (nn.Linear(3, 2), {"batch": (torch.ones(4, 3), None), "loss": lambda o, t: 3.0}, "got float"),
        (nn.Linear(3, 2), {"probe": lambda m: None}, "got NoneType"),
        (nn.Linear(3, 2), {"batch": {"input": torch.ones(4, 3)}}, "has no .loss"),
    ],
)
def test_what_is_missing_is_said(model, arguments, words):
    with pytest.raises(ProbeFailed, match=words):
        check(model, **arguments)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (
            (torch.ones(4, 5), torch.zeros(4).long()),
            r"raised RuntimeError: .* \(in 0 \(Linear\)\)\. .*\[4, 5\] float32",
        ),
        ((torch.ones(4, 3).double(), torch.zeros(4).long()), r"\(in 0 \(Linear\)\).*\[4, 3\] float64"),
        ((torch.ones(4, 3), torch.tensor([0, 1, 2, 3])), "it ran, and the loss raised IndexError: Target 3"),
        ((torch.ones(4, 3), torch.zeros(5).long()), r"the loss raised ValueError: .*targets: \[5\] int64"),
        (((torch.ones(4, 3), torch.ones(4, 3)), torch.zeros(4).long()), r"inputs: \[4, 3\] float32, \[4, 3\] float32"),
        ((torch.ones(4, 3, device="meta"), torch.zeros(4).long()), r"batch \[4, 3\]: it lies on the meta device"),
        ((torch.ones(0, 3), torch.zeros(0).long()), r"batch \[0, 3\] and \[0\]: it holds no samples"),
    ],
)
def test_a_batch_that_does_not_fit_is_told_with_the_place_and_what_was_given(batch, words):
    with pytest.raises(ProbeFailed, match=words):
        check(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), batch=batch, loss=F.cross_entropy)


def test_what_an_input_that_was_made_up_ran_into_is_the_models_own_error():
    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(8, 3), nn.Linear(5, 8)

        def forward(self, x):
            return self.head(self.body(x))

    with pytest.raises(ProbeFailed, match=r"the first one raised RuntimeError: .*4x8 and 5x8"):
        check(HeadFirst())


def test_a_scripted_model_is_refused():
    """Its parameters cannot be stood in for, so G1 could not be kept."""
    with pytest.warns(DeprecationWarning, match="deprecated"):
        model = torch.jit.trace(nn.Linear(3, 2), torch.ones(1, 3))
    with pytest.raises(ProbeFailed, match="scripted module"):
        check(model)


@pytest.mark.parametrize("batch", [torch.ones(3), (1, 2, 3), 7])
def test_a_batch_of_another_form_is_refused_with_what_to_give(batch):
    with pytest.raises(ProbeFailed, match=r"expected \(inputs, targets\)"):
        Probe(nn.Linear(3, 2), batch)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_is_moved_to_the_models_device():
    model = nn.Linear(3, 2).cuda()
    assert check(model, (torch.ones(4, 3), torch.zeros(4, 2)), F.mse_loss)["weight"].status == "flowing"
