"""Rule G9: repairs of what an Edit cannot say: lists, shapes, the optimizer, and the script that does the same."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from tests.faulty_models import FAULTS, X, Y, mlp, plain_tensor, planted, state_of, step
from weightlab.errors import EditRefused


@pytest.fixture(params=FAULTS)
def faulty(request):
    return planted(request.param)


@pytest.mark.filterwarnings("ignore:recipe")
def test_a_repair_as_plain_pytorch_gives_the_same_model(faulty):
    """Section 5: structure, names, order and values; what belongs to the optimizer stands beside it as a comment."""
    kind, lab, _, _ = faulty
    fresh = copy.deepcopy(lab.model)
    done = lab.repair(next(f for f in lab.diagnose().serious if f.kind == kind))
    scope = {}
    exec(lab.to_python(), scope)
    scope["apply"](fresh)
    mine, theirs = lab.model.state_dict(), fresh.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert [name for name, _ in lab.model.named_parameters()] == [name for name, _ in fresh.named_parameters()]
    assert type(fresh[0].weight) is nn.Parameter
    assert ("left_out" in lab.recipe()) is (
        kind in ("not_a_parameter", "optimizer_stale", "optimizer_missing", "shape_broken")
    )
    if kind.startswith("optimizer"):
        assert done.entry.code.startswith("# Make the optimizer anew")


def test_a_recipe_tells_what_it_leaves_out():
    model = mlp()
    start = copy.deepcopy(model)
    plain_tensor(model, None)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    with pytest.warns(
        UserWarning, match="recipe: it leaves out 1 of the changes, which are no edits of cells: Register 2.weight"
    ):
        assert "left_out" not in wl.Lab(start).recipe()
        lab.repair(next(f for f in lab.diagnose() if f.kind == "not_a_parameter"))
        recipe = lab.recipe()
    lab["2.weight"][0].zero_()
    with pytest.warns(UserWarning, match="leaves out"):
        recipe = lab.recipe()
    again = mlp()
    plain_tensor(again, None)
    before = again[2].weight.clone()
    with pytest.raises(EditRefused, match=r"no such tensor\. The recipe leaves out: Register 2\.weight"):
        wl.replay(recipe, again)
    assert torch.equal(again[2].weight, before)
    with pytest.warns(UserWarning, match="replay: it leaves out"):
        wl.replay(recipe, start)
    assert not start[2].weight[0].any()


def test_lists_and_shapes_as_plain_pytorch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(7, 7), nn.Linear(7, 3)]
            self.gains = {"a": torch.ones(7)}
            self.shifts = [torch.zeros(3), nn.Parameter(torch.ones(3))]

        def forward(self, x):
            return self.layers[1](self.layers[0](x * self.gains["a"])) + self.shifts[0] * self.shifts[1]

    torch.manual_seed(0)
    model = Net()
    fresh = copy.deepcopy(model)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    lab.repair_all()
    scope = {}
    exec(lab.to_python(), scope)
    scope["apply"](fresh)
    mine, theirs = model.state_dict(), fresh.state_dict()
    assert list(mine) == list(theirs)
    assert "layers.0.weight" in mine
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.filterwarnings("ignore:recipe")
def test_values_of_a_snapshot_are_spelled_as_they_were_when_it_gave_them():
    model = mlp()
    lab = wl.Lab(model, batch=(X, Y))
    lab.snapshot("before")
    broken = copy.deepcopy(model)
    for each in (model, broken):
        each[2].weight.data = torch.zeros(3, 3)
    lab.repair(lab.diagnose()[0])
    lab["2.weight"].mul_(0.0)
    lab["2.bias"].fill_(0.25)
    scope = {}
    exec(lab.to_python(), scope)
    scope["apply"](broken)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), broken.parameters(), strict=True))
    assert lab.history[0].size == model[2].weight.numel()


def test_a_snapshot_gives_a_broken_weight_its_values_back():
    model = mlp()
    lab = wl.Lab(model, batch=(X, Y))
    lab.snapshot("before")
    kept, held = model[2].weight.detach().clone(), model[2].weight
    held.data = torch.zeros(3, 3)
    lab.repair(lab.diagnose()[0])
    assert model[2].weight is held
    assert torch.equal(held, kept)


def test_a_transposed_weight_is_turned_back():
    model = mlp()
    kept = model[2].weight.detach().clone()
    model[2].weight.data = kept.t().contiguous()
    lab = wl.Lab(model, batch=(X, Y))
    lab.repair(lab.diagnose()[0])
    assert torch.equal(model[2].weight, kept)


def test_lists_of_layers_become_module_lists():
    """The optimizer gets what they hold; undo gives the same list back."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(7, 24)
            self.layers = [nn.Linear(24, 24), nn.Linear(24, 3)]
            self.scales = {"a": torch.ones(24, requires_grad=True)}

        def forward(self, x):
            h = F.relu(self.first(x)) * self.scales["a"]
            for layer in self.layers:
                h = layer(h)
            return h

    model = Net()
    plain, weights = model.layers, model.layers[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lab = wl.Lab(model, batch=(X, Y), optimizer=optimizer)
    before = state_of(model, optimizer)
    assert lab.repair_all().helped
    assert isinstance(model.layers, nn.ModuleList)
    assert isinstance(model.scales, nn.ParameterDict)
    assert model.layers[0].weight is weights
    assert len(optimizer.param_groups[0]["params"]) == 7
    assert lab["layers.0.weight"].info.requires_grad
    lab.undo()
    assert model.layers is plain
    assert state_of(model, optimizer) == before


def test_a_relinked_optimizer_keeps_the_moments_of_all_others():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer, (X, Y))
    kept = {id(p): optimizer.state[p]["exp_avg"].clone() for p in model.parameters()}
    old = model[0].weight
    model[0].weight = nn.Parameter(old.detach().clone())
    with pytest.warns(UserWarning, match="no longer has"):
        lab = wl.Lab(model, batch=(X, Y), optimizer=optimizer)
    lab.repair_all()
    assert optimizer.param_groups[0]["params"][0] is model[0].weight
    assert old not in optimizer.state
    others = [p for p in model.parameters() if p is not model[0].weight]
    assert all(torch.equal(optimizer.state[p]["exp_avg"], kept[id(p)]) for p in others)
