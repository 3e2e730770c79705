"""J12: what the optimizer keeps for edited cells is reported, cleared where asked, and part of the same undo entry."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "SGD": (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), ("momentum_buffer",)),
    "Adam": (lambda p: torch.optim.Adam(p, 0.1, amsgrad=True), ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    "AdamW": (lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1), ("exp_avg", "exp_avg_sq")),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9), ("square_avg", "momentum_buffer")),
    "Adagrad": (lambda p: torch.optim.Adagrad(p, 0.1), ("sum",)),
}


def trained(name: str) -> tuple[wl.Lab, nn.Linear, torch.optim.Optimizer]:
    model = nn.Linear(3, 4)
    optimizer = OPTIMIZERS[name][0](list(model.parameters()))
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return wl.Lab(model, optimizer=optimizer), model, optimizer


def state_bytes(optimizer: torch.optim.Optimizer) -> list[bytes]:
    return [
        value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_zeroed_cell_starts_anew_and_undo_brings_its_moments_back(name: str) -> None:
    lab, model, optimizer = trained(name)
    moments = OPTIMIZERS[name][1]
    before, weights = state_bytes(optimizer), model.weight.detach().clone()
    objects = {key: id(optimizer.state[model.weight][key]) for key in moments}
    lab["weight"][1].zero_()
    state = optimizer.state[model.weight]
    assert {key: id(state[key]) for key in moments} == objects, "in place"
    assert set(lab.history[-1].moments) == set(moments)
    for key in moments:
        assert bool((state[key][1] == 0).all())
        assert bool((state[key][[0, 2, 3]] != 0).all()), "other cells keep theirs"
    after = state_bytes(optimizer)
    lab.undo()
    assert state_bytes(optimizer) == before
    assert torch.equal(model.weight.detach(), weights)
    lab.redo()
    assert state_bytes(optimizer) == after
    lab.undo()
    assert state_bytes(optimizer) == before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_values_keep_the_moments_and_the_entry_says_so(name: str) -> None:
    lab, _, optimizer = trained(name)
    before = state_bytes(optimizer)
    lab["weight"][1].fill_(0.5)
    entry = lab.history[-1]
    assert state_bytes(optimizer) == before
    assert entry.moments == ()
    assert any(all(key in note for key in OPTIMIZERS[name][1]) for note in entry.notes)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_can_be_kept_or_cleared_by_word(name: str) -> None:
    lab, model, optimizer = trained(name)
    before = state_bytes(optimizer)
    lab["weight"][1].zero_(moments="keep")
    assert state_bytes(optimizer) == before
    lab["weight"][2:].fill_(0.5, moments="zero")
    for key in OPTIMIZERS[name][1]:
        assert bool((optimizer.state[model.weight][key][2:] == 0).all())
        assert bool((optimizer.state[model.weight][key][:2] != 0).all())
    lab.undo()
    lab.undo()
    assert state_bytes(optimizer) == before


def test_moments_of_cells_that_are_zero_already_are_cleared_by_word() -> None:
    """Zeroed by hand, a weight is moved off zero by its momentum at the next step."""
    lab, model, optimizer = trained("Adam")
    with torch.no_grad():
        model.weight[1] = 0
    before = state_bytes(optimizer)
    assert lab["weight"][1].zero_() is not None
    assert len(lab.history) == 0  # nothing asked for, nothing changed
    lab["weight"][1].zero_(moments="zero")
    entry = lab.history[-1]
    assert (entry.text, entry.cells) == ("Clear moments of weight[1]", 0)
    assert entry.moments == ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    assert not optimizer.state[model.weight]["exp_avg"][1].any()
    assert optimizer.state[model.weight]["exp_avg"][0].any()
    assert lab.to_python().count("get_parameter") == 0
    lab.undo()
    assert state_bytes(optimizer) == before
    with lab.stroke("both"):
        lab["weight"][1].zero_(moments="zero")
        lab["weight"][1].zero_(moments="zero")
    assert len(lab.history) == 1
    lab.undo()
    assert state_bytes(optimizer) == before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_cells_that_became_zero_are_cleared(name: str) -> None:
    """By default: prune and clamp make some cells 0, and the others go on as they were."""
    lab, model, optimizer = trained(name)
    lab["weight"].prune_(5)
    gone = model.weight.detach() == 0
    for key in OPTIMIZERS[name][1]:
        assert torch.equal(optimizer.state[model.weight][key] == 0, gone)


def test_a_stroke_that_fails_brings_moments_back_too() -> None:
    """J3."""
    lab, _, optimizer = trained("Adam")
    before = state_bytes(optimizer)
    with pytest.raises(ZeroDivisionError):
        with lab.stroke("fails"):
            lab["weight"].zero_()
            raise ZeroDivisionError
    assert state_bytes(optimizer) == before
    with pytest.raises(wl.EditRefused):
        lab.apply(
            [
                wl.Edit("weight", lab["weight"].region, "zero_"),
                wl.Edit("bias", lab["bias"].region, "fill_", {"value": "x"}),
            ]
        )
    assert state_bytes(optimizer) == before
    with pytest.raises(wl.EditRefused, match="'zero' or 'keep'"):
        lab["weight"].zero_(moments="drop")  # type: ignore[arg-type]
    assert state_bytes(optimizer) == before


def test_training_goes_on_after_an_edit_as_with_the_same_code_by_hand() -> None:
    """An edit of weight and moments is what a person would write, and the next steps are bit-equal."""
    results = []
    for by_hand in (True, False):
        torch.manual_seed(0)
        lab, model, optimizer = trained("AdamW")
        if by_hand:
            with torch.no_grad():
                model.weight[1].zero_()
                for key in ("exp_avg", "exp_avg_sq"):
                    optimizer.state[model.weight][key][1].zero_()
        else:
            lab["weight"][1].zero_()
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
        results.append(model.weight.detach().clone())
    assert torch.equal(*results)


def test_an_optimizer_step_after_an_edit_is_a_conflict_for_undo() -> None:
    """J8: for the cells and for the moments."""
    lab, model, optimizer = trained("SGD")
    lab["weight"][1].zero_()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    before = state_bytes(optimizer), model.weight.detach().clone()
    with pytest.raises(wl.UndoConflict, match="weight"):
        lab.undo()
    assert state_bytes(optimizer) == before[0]
    assert torch.equal(model.weight.detach(), before[1])
    assert lab.undo(force=True) is not None
    assert bool((model.weight.detach()[1] != 0).all())


def test_the_count_of_steps_beside_a_scalar_is_no_moment() -> None:
    model = nn.ParameterDict({"scale": nn.Parameter(torch.tensor(2.0))})
    optimizer = torch.optim.Adam(model.parameters())
    model["scale"].square().backward()
    optimizer.step()
    lab = wl.Lab(model, optimizer=optimizer)
    lab["scale"].zero_()
    assert set(lab.history[-1].moments) == {"exp_avg", "exp_avg_sq"}
    assert optimizer.state[model["scale"]]["step"] == 1


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16"])
def test_a_lab_with_an_optimizer_edits_what_has_no_counting_kernel(dtype: str) -> None:
    model = nn.Linear(3, 2)
    model.register_parameter("small", nn.Parameter(torch.ones(4).to(getattr(torch, dtype)), requires_grad=False))
    lab = wl.Lab(model, optimizer=torch.optim.Adam(model.parameters()))
    before = lab["small"].value.float().tolist()
    lab["small"][:2].fill_(0.5)
    lab["small"][3].zero_()
    assert lab["small"].value.float().tolist() == [0.5, 0.5, 1.0, 0.0]
    lab.undo()
    lab.undo()
    assert lab["small"].value.float().tolist() == before


def test_without_state_nothing_is_reported() -> None:
    model = nn.Linear(3, 4)
    lab = wl.Lab(model, optimizer=torch.optim.Adam(model.parameters()))
    lab["weight"].zero_()
    assert lab.history[-1].moments == ()
    assert lab.history[-1].notes == ()


def test_a_replaced_parameter_is_told_at_construction() -> None:
    model = nn.Linear(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.weight = nn.Parameter(torch.zeros(4, 3))
    with pytest.warns(UserWarning, match="trains 1 tensors that the model no longer has"):
        wl.Lab(model, optimizer=optimizer)


def test_tied_weights_have_one_state() -> None:
    """J9 with J12: an edit under either name clears the one state."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    lab = wl.Lab(model, optimizer=optimizer)
    lab["1.weight"][0].zero_()
    assert bool((optimizer.state[model[0].weight]["exp_avg"][0] == 0).all())
    assert lab.history[-1].names == ("0.weight", "1.weight")


def test_views_show_moments() -> None:
    lab, model, optimizer = trained("Adam")
    assert torch.equal(lab.view("weight", "exp_avg"), optimizer.state[model.weight]["exp_avg"])
    with pytest.raises(wl.EditRefused, match="exp_avg_sq"):
        lab.view("weight", "momentum")


def stepped() -> tuple[nn.Linear, torch.optim.Adam, wl.Lab]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return model, optimizer, wl.Lab(model, optimizer=optimizer)


def test_undo_finds_the_moments_of_an_optimizer_that_loaded_its_state() -> None:
    """J2, J12"""
    model, optimizer, lab = stepped()
    before = {name: value.clone() for name, value in optimizer.state[model.weight].items()}
    lab["weight"].zero_()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not optimizer.state[model.weight]["exp_avg"].any()
    entry = lab.undo()
    assert entry is not None
    assert entry.notes == ("set to 0 for these cells: the optimizer's exp_avg, exp_avg_sq",)
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(optimizer.state[model.weight][name], before[name])
    lab.redo()
    assert not optimizer.state[model.weight]["exp_avg"].any()


def test_undo_tells_of_moments_that_the_optimizer_keeps_no_more() -> None:
    """J12"""
    model, optimizer, lab = stepped()
    before = model.weight.detach().clone()
    lab["weight"].zero_()
    optimizer.state.clear()
    entry = lab.undo()
    assert entry is not None
    assert torch.equal(model.weight, before)
    assert "weight: exp_avg was not brought back: the optimizer does not keep it any more" in entry.notes
    lab.redo()
    assert not model.weight.any()


def test_a_conflict_after_a_step_names_the_weight_that_was_edited() -> None:  # J8
    _, optimizer, lab = stepped()
    lab["weight"][0].zero_()
    optimizer.step()
    with pytest.raises(wl.UndoConflict, match=r"^weight\[0\]: its cells"):
        lab.undo()


def test_moments_that_went_on_are_a_conflict_for_undo() -> None:
    """J8"""
    model, optimizer, lab = stepped()
    state = copy.deepcopy(optimizer.state_dict())
    lab["weight"].zero_()
    optimizer.load_state_dict(state)
    with pytest.raises(wl.UndoConflict, match="exp_avg"):
        lab.undo()
    assert not model.weight.any()
