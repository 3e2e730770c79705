"""Rule G9: each repair is one undo entry, undone to the byte with everything around it, and training goes on after it."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from weightlab.errors import EditRefused

X = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
IMAGES = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = (IMAGES[:, 0].mean((1, 2)) > 0).long()


def mlp():
    return nn.Sequential(nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    )


def state_of(model, optimizer):
    """Everything that a repair could change: order, identity, bytes, flags, what the optimizer holds and keeps."""
    modules = []
    for path, module in model.named_modules():
        held = [
            (key, id(value))
            for key, value in vars(module).items()
            if key not in ("_parameters", "_buffers", "_modules")
        ]
        held += [
            (key, id(value))
            for kind in ("_parameters", "_buffers", "_modules")
            for key, value in vars(module)[kind].items()
        ]
        modules.append((path, held))
    tensors = {
        name: (id(p), p.data_ptr(), p.shape, p.requires_grad, id(p.grad), p.detach().numpy().tobytes())
        for name, p in model.named_parameters()
    }
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    kept = [
        (id(p), [(key, value.numpy().tobytes()) for key, value in held.items()]) for p, held in optimizer.state.items()
    ]
    return modules, tensors, list(model.state_dict()), groups, kept


def step(model, optimizer, data, count=1):
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def weight(index, change):
    def plant(model, optimizer):
        with torch.no_grad():
            change(model[index].weight)

    return plant


def rank_one(w):
    w.copy_(torch.outer(w.flatten(1)[:, 0], w.flatten(1)[0]).view_as(w) / w.abs().max())


def dead_bias(model, optimizer):
    nn.init.constant_(model[2 if isinstance(model[2], nn.Linear) else 3].bias, -50)


def all_negative(model, optimizer):
    with torch.no_grad():
        model[2].weight.abs_().neg_()
        model[2].bias.fill_(-0.01)


def plain_tensor(model, optimizer):
    held = model[2] if isinstance(model[2], nn.Linear) else model[3]
    value = held.weight.detach().clone()
    del held.weight
    held.weight = value


def replaced(model, optimizer):
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def forgotten(model, optimizer):
    del optimizer.state[optimizer.param_groups[0]["params"].pop(0)]


def wrong_shape(model, optimizer):
    model[0].weight.grad = None
    model[0].weight.data = torch.randn(5, 3, *model[0].weight.shape[2:])


FAULTS = {
    "symmetric_units": (mlp, weight(2, lambda w: w.fill_(0.05))),
    "duplicate_units": (mlp, weight(2, lambda w: w[1:9].copy_(w[:1].expand(8, -1)))),
    "rank_collapse": (mlp, weight(2, rank_one)),
    "scale_low": (mlp, weight(2, lambda w: w.mul_(1e-4))),
    "scale_high": (mlp, weight(2, lambda w: w.mul_(200))),
    "zero_weight": (mlp, lambda m, o: (weight(2, lambda w: w.zero_())(m, o), nn.init.zeros_(m[2].bias))),
    "dead_relu": (mlp, dead_bias),
    "dead_relu by its weights": (mlp, all_negative),
    "dead_relu in a cnn": (cnn, dead_bias),
    "zero_norm_scale": (cnn, weight(1, lambda w: w.zero_())),
    "nonfinite_weight": (cnn, weight(3, lambda w: w[1, 2].fill_(float("nan")))),
    "not_a_parameter": (mlp, plain_tensor),
    "not_a_parameter in a cnn": (cnn, plain_tensor),
    "optimizer_stale": (mlp, replaced),
    "optimizer_missing": (cnn, forgotten),
    "shape_broken": (mlp, wrong_shape),
    "shape_broken in a cnn": (cnn, wrong_shape),
}


@pytest.fixture(params=FAULTS)
def faulty(request):
    """A model with two steps behind it and a fault, its Lab, and a healthy twin in the same state."""
    torch.manual_seed(3)
    make, plant = FAULTS[request.param]
    model = make()
    data = (X, Y) if make is mlp else (IMAGES, KINDS)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step(model, optimizer, data, 2)
    twin = copy.deepcopy((model, optimizer))
    twin[1].param_groups[0]["params"] = list(twin[0].parameters())
    twin[1].state.clear()
    plant(model, optimizer)
    replaces = request.param.startswith(("optimizer_stale", "not_a_parameter"))
    with pytest.warns(UserWarning, match="no longer has") if replaces else contextlib.nullcontext():
        lab = wl.Lab(model, batch=data, loss=F.cross_entropy, optimizer=optimizer)
    return request.param.split()[0], lab, data, twin


def test_a_repair_is_one_entry_undone_to_the_byte(faulty):
    """G9, J2: parameters, buffers, order of registration, names, optimizer groups and state."""
    kind, lab, _, _ = faulty
    before = state_of(lab.model, lab.optimizer)
    found = next(f for f in lab.diagnose().serious if f.kind == kind)
    done = lab.repair(found)
    assert done.helped, done
    assert len(lab.history) == 1
    assert done.entry is lab.history[0]
    after = state_of(lab.model, lab.optimizer)
    assert after != before
    lab.undo()
    assert state_of(lab.model, lab.optimizer) == before
    lab.redo()
    again = state_of(lab.model, lab.optimizer)
    assert again[0] == after[0]
    assert again[2:4] == after[2:4]
    assert {name: held[5] for name, held in again[1].items()} == {name: held[5] for name, held in after[1].items()}


def test_what_was_repaired_trains_like_its_healthy_twin(faulty):
    """G9."""
    _, lab, data, twin = faulty
    done = lab.repair_all()
    assert done.after.serious == [], done
    healthy = step(*twin, data, 60)
    assert step(lab.model, lab.optimizer, data, 60) <= 1.1 * healthy + 0.01


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


def test_lsuv_mends_a_chain_in_which_the_gradient_vanishes():
    """Mishkin 2016: unit variance at each layer."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(25) for layer in (nn.Linear(16, 16), nn.ReLU())), nn.Linear(16, 3))
    lab = wl.Lab(model, batch=(torch.randn(40, 16), Y), loss=F.cross_entropy)
    found = lab.diagnose().of("vanishing")
    assert [action.kind for action in found[0].repair.actions] == ["lsuv"]
    done = lab.repair(found[0])
    assert done.helped
    assert len(lab.history) == 1
    sizes = [row.variance for row in lab.signal() if row.weight]
    assert all(0.8 < size < 1.25 for size in sizes)


def test_frozen_parameters_are_told_of_and_can_be_unfrozen():
    model = mlp()
    model[0].requires_grad_(False)
    lab = wl.Lab(model, batch=(X, Y))
    assert lab.diagnose().serious == []
    lab.repair(lab.diagnosis.of("frozen")[0])
    assert model[0].weight.requires_grad
    lab.undo()
    assert not model[0].weight.requires_grad


def test_a_cause_of_the_check_is_repaired_too():
    model = mlp()
    nn.init.constant_(model[2].bias, -50)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    cause = lab.check_gradients().causes[0]
    assert cause.kind == "dead_relu"
    assert cause.repair.text
    assert "max" in cause.explain or "relu" in cause.explain
    assert lab.repair(cause).helped
    assert all(row.status != "zero" for row in lab.check_gradients().rows)


def test_what_has_no_repair_is_refused():
    """J3: nothing changes."""
    model = mlp()
    lab = wl.Lab(
        model, batch=(X, Y), loss=lambda output, target: F.cross_entropy(output.detach() + 0 * output.sum(), target)
    )
    assert lab.repair_all().findings == () or lab.undo()
    with pytest.raises(EditRefused, match="expected a Finding or a Cause, got str"):
        lab.repair("fc")
    finding = wl.Finding("detached", "0", (), "warning", "cut", advice="Remove the cut.")
    with pytest.raises(EditRefused, match=r"no repair of its own. Remove the cut"):
        lab.repair(finding)
    missing = torch.nn.Sequential(nn.Linear(7, 3))
    lab = wl.Lab(missing, batch=(X, Y))
    relink = wl.Finding("optimizer_missing", "0.weight", (), "warning", "x", repair=_relink())
    with pytest.raises(EditRefused, match="no optimizer"):
        lab.repair(relink)
    assert lab.history == ()


def _relink():
    from weightlab.check.repair import Action, Repair

    return Repair("link", actions=(Action("relink", ("0.weight",)),))


def test_a_repair_touches_the_units_that_are_to_blame_and_reads_as_a_range():
    """G9: one bias of -50 among the living, whose neighbour is dead by chance."""
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        model[0].bias[3] = -50
        model[0].weight[5], model[0].bias[5] = 1e-3, -0.1
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    before = model[0].bias.detach().clone()
    found = next(f for f in lab.diagnose() if f.kind == "dead_relu")
    assert found.repair.text == "Set 0.bias to 0 in unit 3."
    assert lab.repair(found).helped
    assert (model[0].bias != before).nonzero().flatten().tolist() == [3]
    assert lab.history[-1].code == 'with torch.no_grad(): model.get_parameter("0.bias")[3:4].fill_(0.0)'


def test_a_gate_that_is_shut_in_some_units_is_opened_there():
    """G9."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 24), nn.Sigmoid(), nn.Linear(24, 3))
    with torch.no_grad():
        model[0].bias[::2] = 150
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    odd = model[0].bias.detach()[1::2].clone()
    found = lab.check_gradients().causes[0]
    assert (found.kind, found.name) == ("saturated", "0.bias")
    assert lab.repair(found).helped
    assert not model[0].bias[::2].any()
    assert torch.equal(model[0].bias[1::2], odd)


def test_what_comes_to_light_behind_a_repair_is_told():
    """Zeros behind zeros: the first two show themselves when the last two are gone."""
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(7, 7), nn.ReLU())), nn.Linear(7, 3))
    for p in model.parameters():
        nn.init.zeros_(p)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    done = lab.repair_all()
    assert {f.name for f in (*done.findings, *done.also)} == {"0.weight", "2.weight", "4.weight", "6.weight"}
    assert done.also
    assert f"{done.also[0].kind} {done.also[0].name}: found behind it, and repaired" in str(done)


def test_equal_rows_are_the_origin_of_the_gradient_that_cancels_behind_them():
    """G3: with all rows alike δ comes back as its sum, which softmax makes 0."""
    model = mlp()
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.constant_(p, 0.1)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    assert {f.kind for f in lab.diagnose().serious} == {"symmetric_units"}
