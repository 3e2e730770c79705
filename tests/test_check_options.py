"""Rules G1, G2, G5, G6: a check in pieces, a check against finite differences, memory, progress, and the output's change."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import weightlab as wl
from tests.checked_models import check
from weightlab.check import Probe, check_gradients
from weightlab.errors import Cancelled, ProbeFailed
from weightlab.model.tree import ParameterTree


def net(act=nn.Tanh):
    return nn.Sequential(nn.Linear(4, 6), act(), nn.LayerNorm(6), nn.Linear(6, 3))


def batch_of(samples=7):
    return torch.randn(samples, 4), torch.arange(samples) % 3


def bytes_of(model):
    return [value.detach().clone() for value in (*model.parameters(), *model.buffers())]


def test_a_first_check_of_a_healthy_model_measures_no_activation(monkeypatch):
    """Its cost is that of a forward and backward: what it says is the same."""
    model, batch = net(), batch_of()
    told = check(model, batch, F.cross_entropy)
    monkeypatch.setattr("weightlab.check.measures.Scale.of", lambda *_: pytest.fail("measured"))
    light = check(model, batch, F.cross_entropy, thorough=False)
    assert [(r.name, r.status, r.norm, r.zero_at) for r in light.rows] == [
        (r.name, r.status, r.norm, r.zero_at) for r in told.rows
    ]
    assert light.causes == told.causes


def test_what_does_not_flow_is_measured_and_remembered_until_all_flow_again():
    model, batch = net(nn.ReLU), batch_of()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    lab["0.bias"].fill_(3.0)
    assert lab.check_gradients().causes == ()
    lab["0.bias"].fill_(-50.0)
    assert [cause.kind for cause in lab.check_gradients().causes] == ["dead_relu"]
    assert lab.probe.thorough
    lab.undo()
    assert lab.check_gradients().causes == ()
    assert not lab.probe.thorough


def test_a_unit_says_from_how_many_samples_a_gradient_reaches_it():
    """G2, counted by hand: sample by sample."""
    model, (x, y) = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), batch_of(9)
    with torch.no_grad():
        model[0].bias[2] = -50.0
    row = check(model, (x, y), F.cross_entropy)["0.weight"]
    wanted = torch.zeros(6, dtype=torch.int64)
    for one in range(9):
        model.zero_grad()
        F.cross_entropy(model(x[one : one + 1]), y[one : one + 1]).backward()
        wanted += (model[0].bias.grad != 0).long()
    assert row.reaching == tuple(wanted.tolist())
    assert row.samples == 9
    assert row.zero_at == (2,)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pieces_of_a_batch_give_the_gradients_of_the_whole(size):
    """Also where the last piece is smaller: each piece weighs by its samples."""
    model, batch = net(nn.ReLU), batch_of()
    whole = check(model, batch, F.cross_entropy)
    before = bytes_of(model)
    probe = Probe(model, batch, F.cross_entropy)
    probe.thorough = True
    pieces = check_gradients(ParameterTree(model), probe, microbatch=size)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    for one, other in zip(pieces.rows, whole.rows, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=1e-5)
        assert (one.status, one.reaching, one.samples) == (other.status, other.reaching, other.samples)
    assert all(torch.equal(a, b) for a, b in zip(before, bytes_of(model), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_unit_that_is_dead_in_one_piece_only_is_not_dead():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    probe = Probe(model, (x, torch.ones(2, 1)), F.mse_loss)
    probe.thorough = True
    report = check_gradients(ParameterTree(model), probe, microbatch=1)
    assert {row.status for row in report.rows} == {"flowing"}
    assert report["0.weight"].reaching == (1, 1)


def test_a_mapping_and_unpacked_inputs_are_cut_alike():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, x, y, scale=None, labels=None):
            out = (self.a(x) + self.b(y)) * scale
            return {"loss": F.mse_loss(out, labels), "logits": out}

    model = Two()
    x, y, scale, labels = torch.randn(5, 3), torch.randn(5, 4), torch.tensor(2.0), torch.randn(5, 2)
    mapping = {"x": x, "y": y, "scale": scale, "labels": labels}
    whole = check(model, mapping)
    pieces = check_gradients(ParameterTree(model), Probe(model, mapping), microbatch=2)
    for one, other in zip(pieces.rows, whole.rows, strict=True):
        assert one.norm == pytest.approx(other.norm, rel=1e-5)


@pytest.mark.parametrize("microbatch", [0, -1, 1.5, True, "2"])
def test_a_size_of_pieces_that_is_none_is_refused(microbatch):
    with pytest.raises(ProbeFailed, match="microbatch: expected a number of samples"):
        check_gradients(ParameterTree(net()), Probe(net(), batch_of(), F.cross_entropy), microbatch=microbatch)


def test_pieces_need_a_batch():
    model = net()
    with pytest.raises(ProbeFailed, match="this Lab has none"):
        wl.Lab(model).check_gradients(microbatch=2)


class Wrong(torch.autograd.Function):
    """Doubles in the forward, and triples in the backward."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient


MODELS = {
    "relu": lambda: net(nn.ReLU),
    "batchnorm": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.Linear(9, 3)),
    "spectral": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Linear(5, 3)),
    "half": lambda: net().to(torch.bfloat16).float().double().float(),
    "frozen": lambda: net()[:3].requires_grad_(False).append(nn.Linear(6, 3)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_agree_with_finite_differences(kind):
    model, batch = MODELS[kind](), batch_of()
    before = bytes_of(model)
    report = wl.Lab(model, batch=batch, loss=F.cross_entropy).check_gradients(verify=8)
    assert report.verified is not None
    assert report.verified.dtype is torch.float64
    assert len(report.verified.cells) == 8
    assert report.verified.agrees, report.verified
    assert all(torch.equal(a, b) for a, b in zip(before, bytes_of(model), strict=True))
    assert "8 of 8 random cells agree" in str(report)


def test_a_derivative_that_is_wrong_by_a_factor_is_found():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(Wrong.apply(self.first(x)))

    report = wl.Lab(Net(), batch=batch_of(), loss=F.cross_entropy).check_gradients(verify=8)
    cells = report.verified.cells
    assert {cell.name.split(".")[0] for cell in cells if not cell.agrees} == {"first"}
    assert {cell.name.split(".")[0] for cell in cells if cell.agrees} == {"last"}
    assert all(cell.error == pytest.approx(1 / 3, rel=1e-3) for cell in cells if not cell.agrees)
    assert "DIFFERS" in str(report)


def test_a_probe_that_insists_on_float32_is_verified_in_float32():
    model, x = net(), torch.randn(5, 4)
    report = wl.Lab(model, probe=lambda m: m(x).square().mean()).check_gradients(verify=6)
    assert report.verified.dtype is torch.float32
    assert report.verified.agrees, report.verified


@pytest.mark.parametrize("verify", [-1, 2.0, "8", True])
def test_a_number_of_cells_that_is_none_is_refused(verify):
    with pytest.raises(ProbeFailed, match="verify: expected a number of cells"):
        wl.Lab(net(), batch=batch_of(), loss=F.cross_entropy).check_gradients(verify=verify)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_leaves_everything_and_says_what_to_do(where):
    """G1: a real refusal of the allocator, in either direction."""

    class Huge(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x + (torch.empty(2**60).sum() if where == "forward" else 0)

        @staticmethod
        def backward(ctx, gradient):
            return gradient + torch.empty(2**60).sum()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return Huge.apply(self.fc(x))

    model = Net()
    parameters, before = list(model.parameters()), bytes_of(model)
    with pytest.raises(ProbeFailed, match=r"ran out of memory, and nothing was changed.*microbatch"):
        wl.Lab(model, batch=batch_of(), loss=F.cross_entropy).check_gradients()
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, bytes_of(model), strict=True))
    assert all(p.grad is None for p in parameters)


def stopping_at(steps):
    calls = []

    def stop(done, total, words):
        calls.append(done)
        if len(calls) == steps:
            progress.cancel()

    progress = wl.Progress(stop)
    return progress


def test_a_check_says_how_far_it_is_and_can_be_cancelled():
    model, batch = nn.Sequential(*[nn.Linear(4, 4) for _ in range(6)]), (torch.randn(3, 4), torch.randn(3, 4))
    lab = wl.Lab(model, batch=batch, loss=F.mse_loss)
    told = []
    progress = wl.Progress(lambda done, total, words: told.append((done / total, words)))
    with progress.listening():
        progress._next = 0.0
        lab.check_gradients()
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    before = bytes_of(model)
    for steps in (1, 7, 9):
        progress = stopping_at(steps)
        with progress.listening(), pytest.raises(Cancelled), pytest.MonkeyPatch.context() as patch:
            patch.setattr("weightlab.progress.PAUSE_SECONDS", 0.0)
            progress._next = 0.0
            lab.check_gradients()
        assert all(torch.equal(a, b) for a, b in zip(before, bytes_of(model), strict=True))
        assert all(type(p) is nn.Parameter and p.grad is None for p in model.parameters())


def test_the_change_of_the_output_is_that_of_two_plain_forwards():
    model, batch = net(), batch_of()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    first = lab.check_gradients()
    old = model(batch[0]).detach().double()
    lab["3.weight"].mul_(1.5)
    change = lab.check_gradients().changes_since(first).output
    new = model(batch[0]).detach().double()
    assert change.cosine == pytest.approx(float(F.cosine_similarity(old.flatten(), new.flatten(), dim=0)), rel=1e-5)
    assert change.relative_l2 == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-5)
    wanted = F.kl_div(new.log_softmax(1), old.log_softmax(1), log_target=True, reduction="batchmean")
    assert change.kl == pytest.approx(float(wanted), rel=1e-4)


def test_an_output_that_is_no_logits_has_no_kl_and_one_of_another_shape_no_change():
    model = net()
    one = check(model, (torch.randn(5, 4), torch.randn(5, 3)), F.mse_loss)
    other = check(model, (torch.randn(5, 4), torch.randn(5, 3)), F.mse_loss)
    assert other.changes_since(one).output.kl is None
    assert check(model, batch_of(6), F.cross_entropy).changes_since(one).output is None


def test_large_outputs_are_compared_by_rows_spread_over_them():
    model, x = nn.Linear(4, 300), torch.randn(1000, 4)
    report = check(model, (x, torch.randint(300, (1000,))), F.cross_entropy)
    rows = report.output.rows
    assert rows.numel() <= 2**16
    assert rows.shape[1] == 300
    assert torch.allclose(rows, model(x).detach()[:: math.ceil(300_000 / 2**16)])


def test_units_of_a_packed_attention_bias_that_cancel_are_no_fault():
    """G4, G8: the key part is invariant to a constant; what is left of its sum is rounding noise, often exactly zero."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            return self.out(F.scaled_dot_product_attention(q, k, v))

    found = set()
    for seed in range(12):
        torch.manual_seed(seed)
        model = Attention()
        report = check(model, (torch.randn(3, 2, 8), torch.randn(3, 2, 8)), F.mse_loss)
        assert {row.status for row in report.rows} == {"flowing"}, report
        assert all(cause.severity == "info" and cause.kind == "invariant" for cause in report.causes), report
        found |= {cause.at for cause in report.causes}
    assert found == {"qkv.bias"}
