"""Rule G9: each repair is one undo entry, undone to the byte with everything around it, and training goes on after it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl
from tests.faulty_models import FAULTS, X, Y, mlp, planted, state_of, step
from weightlab.errors import EditRefused


@pytest.fixture(params=FAULTS)
def faulty(request):
    return planted(request.param)


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
    """A dead layer behind NaN: it shows itself when the NaN is gone."""
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(7, 7), nn.ReLU())), nn.Linear(7, 3))
    with torch.no_grad():
        model[0].weight[0, 0] = model[2].weight[0, 0] = math.nan
        model[4].bias.fill_(-50)
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    done = lab.repair_all()
    assert {f.name for f in done.findings} == {"0.weight", "2.weight"}
    assert [(f.kind, f.name) for f in done.also] == [("dead_relu", "4.bias")]
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
