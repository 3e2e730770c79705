"""Rules G7 and G1: a recurrent weight of a wrong shape, with which torch's own kernels corrupt memory, is told without a run."""

import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.errors import ProbeFailed


class Tagger(nn.Module):
    def __init__(self, cell=nn.LSTM, **options):
        super().__init__()
        self.cell = cell(7, 11, batch_first=True, **options)
        self.head = nn.Linear(11, 3)
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return self.head(self.cell(x)[0][:, -1])


def lab_over(model):
    calls = []

    def probe(model):
        calls.append(1)
        return model(torch.randn(5, 4, 7)).square().mean()

    return wl.Lab(model, probe=probe), calls


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    ("local", "shape"), [("weight_hh_l0", (44, 8)), ("weight_ih_l0", (40, 7)), ("bias_hh_l0", (1,))]
)
def test_a_recurrent_layer_of_a_wrong_shape_is_not_run(cell, local, shape):
    model = Tagger(cell)
    expected = tuple(getattr(model.cell, local).shape)
    getattr(model.cell, local).data = torch.randn(shape)
    lab, calls = lab_over(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = lab.diagnose()
    assert [(f.kind, f.name, f.severity) for f in found.serious] == [("shape_broken", f"cell.{local}", "error")]
    assert found.failure.startswith(f"cell.{local} {list(shape)}: {cell.__name__} declares {list(expected)}")
    with pytest.raises(ProbeFailed, match=rf"cell\.{local} .* do not look.*nothing was run"):
        lab.check_gradients(verify=2)
    assert calls == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_once_its_shape_is_given_back_the_model_runs_again():
    model = Tagger()
    model.cell.weight_hh_l0.data = torch.randn(44, 8)
    lab, calls = lab_over(model)
    done = lab.repair(lab.diagnose().of("shape_broken")[0])
    assert done.helped
    assert calls
    assert tuple(model.cell.weight_hh_l0.shape) == (44, 11)
    lab.undo()
    assert tuple(model.cell.weight_hh_l0.shape) == (44, 8)


def test_the_shape_of_a_computed_recurrent_weight_is_looked_at_too():
    model = Tagger()
    model.cell = nn.utils.parametrizations.weight_norm(model.cell, "weight_hh_l0")
    lab, calls = lab_over(model)
    assert lab.check_gradients().loss > 0
    originals = model.cell.parametrizations.weight_hh_l0
    originals.original1.data = torch.randn(44, 8)
    lab, calls = lab_over(model)
    with pytest.raises(ProbeFailed, match=r"cell\.weight_hh_l0 \[44, 8\]: ParametrizedLSTM declares \[44, 11\]"):
        lab.check_gradients()
    assert calls == []


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("projected", [{}, {"proj_size": 5}, {"num_layers": 2, "bidirectional": True}])
def test_a_recurrent_layer_as_torch_makes_it_runs(projected):
    model = Tagger(**projected)
    model.head = nn.Linear(5 if projected.get("proj_size") else 22 if projected else 11, 3)
    lab, calls = lab_over(model)
    assert lab.diagnose().failure == ""
    assert calls


class Volume(nn.Module):
    """The logarithm of |det W| alone: of slogdet's two results one gets no gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(5) + 0.1 * torch.randn(5, 5))

    def forward(self, x):
        return (x @ self.weight).square().sum(1) - torch.linalg.slogdet(self.weight)[1]


def test_a_function_of_which_one_result_gets_no_gradient_is_diagnosed():
    """G6: its hook is called with None."""
    torch.manual_seed(0)
    model, x = Volume(), torch.randn(6, 5)
    found = wl.Lab(model, probe=lambda m: m(x).mean()).diagnose()
    assert found.failure == ""
    assert found.serious == []
    model(x).mean().backward()
    assert found.report["weight"].norm == pytest.approx(model.weight.grad.norm().item(), rel=1e-5)
