"""T4: held cells are bit-equal after every step of every optimizer; clamped ones inside their bounds."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import raw

Make = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, 0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
}


def make(name: str = "AdamW", lab_knows: bool = True) -> tuple[wl.Lab, nn.Sequential, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    optimizer = OPTIMIZERS[name](model.parameters())
    return wl.Lab(model, optimizer=optimizer if lab_knows else None), model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, after: Callable[[], None], steps: int = 6) -> None:
    """Gradients accumulate over two batches and are clipped, as in real loops."""
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(2):
            (model(torch.randn(4, 3)).square().sum() / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        after()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "with momentum"])
def test_kept_cells_are_bit_equal_after_every_step(name: str, warm: bool) -> None:
    lab, model, optimizer = make(name)
    if warm:
        train(model, optimizer, lambda: None)
    weight = model[0].weight
    with torch.no_grad():
        weight[1, 0] = -0.0
    start = weight.detach().clone()
    mask = torch.rand(5, 3) > 0.6
    mask[1, 0] = mask[3] = True
    lab["0.weight"][mask].hold()
    steps = 0

    def check() -> None:
        nonlocal steps
        steps += 1
        assert raw(weight.detach()[mask]) == raw(start[mask])

    train(model, optimizer, check)
    assert steps == 6
    assert bool((weight.detach()[~mask] != start[~mask]).all()), "the others are trained"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clamped_cells_are_inside_after_every_step(name: str) -> None:
    lab, model, optimizer = make(name)
    lab["0.weight"].hold(min=-0.2, max=0.1)
    lab["2.bias"].hold(min=0.5)
    weight = model[0].weight

    def check() -> None:
        assert bool((weight >= torch.tensor(-0.2)).all())
        assert bool((weight <= torch.tensor(0.1)).all())
        assert bool((model[2].bias >= 0.5).all())

    check()  # bounds apply at once
    train(model, optimizer, check)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_signs_ties_and_rules_hold_after_every_step(name: str) -> None:
    lab, model, optimizer = make(name)
    weight, signs = model[0].weight, model[0].weight.detach().sign()
    lab["0.weight"][:3].hold(sign=True)
    lab["0.weight"][4].hold(like=lab["0.weight"][3])
    lab["2.weight"][0].hold(rule=lambda cells: cells / cells.norm())

    def shift(cells: Tensor) -> None:
        cells.sub_(cells.mean())

    lab["2.weight"][1].hold(rule=shift)

    def check() -> None:
        assert bool((weight.detach()[:3].sign() * signs[:3] >= 0).all())
        assert raw(weight.detach()[4]) == raw(weight.detach()[3])
        assert abs(float(model[2].weight[0].detach().norm()) - 1) < 1e-6
        assert abs(float(model[2].weight[1].detach().mean())) < 1e-6

    train(model, optimizer, check)


def test_a_cell_that_was_zero_stays_zero_under_a_held_sign() -> None:
    lab, model, optimizer = make("SGD")
    lab["0.bias"][2].zero_()
    lab["0.bias"].hold(sign=True)
    train(model, optimizer, lambda: None)
    assert model[0].bias[2].item() == 0


def test_a_loop_that_calls_lab_step_needs_no_optimizer() -> None:
    lab, model, optimizer = make("Adam", lab_knows=False)
    lab["0.weight"][1].hold()
    start = model[0].weight.detach()[1].clone()

    def check() -> None:
        lab.step()
        assert raw(model[0].weight[1]) == raw(start)

    train(model, optimizer, check)


def test_steps_that_a_grad_scaler_skips_leave_held_cells_alone() -> None:
    lab, model, optimizer = make("AdamW")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    lab["0.weight"][1].hold()
    start = model[0].weight.detach().clone()
    for step in range(6):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 3)).square().sum() * (float("inf") if step % 2 == 0 else 1.0)
        scaler.scale(loss).backward()
        before = model[0].weight.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        assert raw(model[0].weight[1]) == raw(start[1])
        if step % 2 == 0:
            assert raw(model[0].weight) == raw(before), "a skipped step changes nothing"
    assert raw(model[0].weight) != raw(start)


def test_half_precision_cells_are_kept_to_the_bit() -> None:
    model = nn.Linear(3, 4, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    lab = wl.Lab(model, optimizer=optimizer)
    lab["weight"][::2].hold()
    start = model.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 3, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
        assert raw(model.weight[::2]) == raw(start[::2])
    assert raw(model.weight) != raw(start)


def test_the_later_keep_wins_and_bounds_intersect() -> None:
    lab, model, optimizer = make("SGD")
    lab["0.weight"][:2].hold()
    lab["0.weight"][1].fill_(0.3)
    lab["0.weight"][1:3].hold()
    lab["0.weight"][1].fill_(0.4)
    lab["0.bias"].hold(min=-0.1, max=0.3)
    lab["0.bias"][:3].hold(min=0, max=0.5)

    def check() -> None:
        assert model[0].weight[1].tolist() == [torch.tensor(0.4).item()] * 3
        assert float(model[0].bias[:3].detach().min()) >= 0
        assert float(model[0].bias.detach().max()) <= torch.tensor(0.3)

    train(model, optimizer, check)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (lambda w: w[1].hold(), lambda w: w.hold(max=-5.0), "outside the bounds"),
        (lambda w: w[:2].hold(min=0), lambda w: w[1:].hold(max=-1), "exclude each other"),
        (lambda w: None, lambda w: w.hold(min=1, max=0), "Swap them"),
        (lambda w: None, lambda w: w.hold(min=float("nan")), "must be a number"),
        (lambda w: None, lambda w: w.hold(min="0"), "must be a number"),
        (lambda w: None, lambda w: w[2:2].hold(), "no cell"),
        (lambda w: None, lambda w: w.hold(min=0, sign=True), "one at a time"),
        (lambda w: None, lambda w: w.hold(rule=3), "function of the cells"),
        (lambda w: None, lambda w: w[0].hold(like=w), "two regions of one shape"),
        (lambda w: None, lambda w: w[0].hold(like=torch.ones(3)), "same Lab"),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_and_changes_nothing(first: Any, second: Any, message: str) -> None:
    lab, model, _ = make()
    first(lab["0.weight"])
    before, history, holds = raw(model[0].weight), lab.history, lab.constraints
    with pytest.raises(wl.EditRefused, match=message):
        second(lab["0.weight"])
    assert raw(model[0].weight) == before
    assert lab.history == history
    assert lab.constraints == holds


def test_a_keep_outside_a_bound_is_refused() -> None:
    lab, model, _ = make()
    lab["0.weight"].hold(min=-0.1, max=0.1)
    with torch.no_grad():
        model[0].weight[2] = 0.7
    with pytest.raises(wl.EditRefused, match="3 kept cells lie outside"):
        lab["0.weight"][2].hold()


def test_a_rule_of_another_shape_is_an_error_and_the_cells_keep_their_bytes() -> None:
    lab, model, optimizer = make("SGD")
    lab["0.weight"].hold(rule=lambda cells: cells[:1])
    with pytest.raises(wl.EditRefused, match="rule of a hold"):
        train(model, optimizer, lambda: None, steps=1)


def test_release_leaves_no_hook_and_training_goes_on() -> None:
    lab, model, optimizer = make("SGD")
    hooks = copy.copy(optimizer._optimizer_step_post_hooks), copy.copy(optimizer._optimizer_step_pre_hooks)
    modules = [(dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in model.modules()]
    keys, names = list(model.state_dict()), [name for name, _ in model.named_parameters()]
    one, two = lab["0.weight"][1].hold(), lab["0.bias"].hold(max=1)
    assert list(model.state_dict()) == keys
    assert [name for name, _ in model.named_parameters()] == names
    assert model[0].weight._backward_hooks is None
    train(model, optimizer, lambda: None, steps=1)
    one.release()
    two.release()
    assert (optimizer._optimizer_step_post_hooks, optimizer._optimizer_step_pre_hooks) == hooks
    assert [
        (dict(m._forward_hooks), dict(m._forward_pre_hooks), dict(m._backward_hooks)) for m in model.modules()
    ] == modules
    start = model[0].weight.detach()[1].clone()
    train(model, optimizer, lambda: None, steps=2)
    assert raw(model[0].weight[1]) != raw(start)
    one.release()
    assert len(lab.history) == 4, "a second release is none"


def test_holds_and_releases_are_undo_entries() -> None:
    lab, model, optimizer = make("SGD")
    before = raw(model[0].weight)
    hold = lab["0.weight"].hold(min=-0.1, max=0.1)
    clamped = raw(model[0].weight)
    assert clamped != before
    lab.undo()
    assert raw(model[0].weight) == before
    assert lab.constraints == ()
    assert not optimizer._optimizer_step_post_hooks
    lab.redo()
    assert raw(model[0].weight) == clamped
    assert lab.constraints == (hold,)
    hold.release()
    assert lab.constraints == ()
    lab.undo()
    assert lab.constraints == (hold,)
    assert hold.active
    train(model, optimizer, lambda: None, steps=2)
    assert float(model[0].weight.detach().abs().max()) <= torch.tensor(0.1)


def test_an_edit_of_held_cells_moves_what_is_held_and_so_does_its_undo() -> None:
    lab, model, optimizer = make("SGD")
    start = raw(model[0].weight[1])
    lab["0.weight"][1].hold()
    lab["0.weight"][1].fill_(0.25)
    train(model, optimizer, lambda: None, steps=2)
    assert model[0].weight[1].tolist() == [0.25] * 3
    lab.undo()
    train(model, optimizer, lambda: None, steps=2)
    assert raw(model[0].weight[1]) == start
    lab.redo()
    train(model, optimizer, lambda: None, steps=2)
    assert model[0].weight[1].tolist() == [0.25] * 3


def test_an_edit_elsewhere_does_not_move_what_is_held() -> None:
    """Between optimizer.step() and lab.step() the tensor holds the optimizer's values; an edit there must not adopt them."""
    lab, model, optimizer = make("SGD", lab_knows=False)
    lab["0.weight"][1].hold()
    start = raw(model[0].weight[1])
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    lab["0.weight"][3].zero_()
    lab.step()
    assert raw(model[0].weight[1]) == start


def test_undo_of_an_older_edit_is_no_conflict_after_steps_on_held_cells() -> None:
    """J8: held cells are as the journal left them, so that undo goes through."""
    lab, model, optimizer = make("Adam")
    before = raw(model[0].weight[1])
    lab["0.weight"][1].zero_(moments="keep")
    lab["0.weight"][1].hold()
    train(model, optimizer, lambda: None, steps=3)
    lab.undo()
    lab.undo()
    assert raw(model[0].weight[1]) == before


def test_the_held_view_shows_which_cells() -> None:
    lab, _, _ = make()
    lab["0.weight"][1].hold()
    lab["0.weight"][:, 2].hold(max=1)
    mask = torch.zeros(5, 3, dtype=torch.bool)
    mask[1] = mask[:, 2] = True
    assert torch.equal(lab.view("0.weight", "held"), mask)


def test_a_hold_inside_a_stroke_is_part_of_it() -> None:
    """J3: a stroke that fails takes its hold back."""
    lab, model, optimizer = make()
    before = raw(model[0].weight)
    with pytest.raises(ZeroDivisionError):
        with lab.stroke("held"):
            lab["0.weight"][1].zero_()
            lab["0.weight"].hold(max=0)
            raise ZeroDivisionError
    assert raw(model[0].weight) == before
    assert lab.constraints == ()
    assert lab.history == ()
    assert not optimizer._optimizer_step_post_hooks


def test_a_tied_parameter_is_held_under_either_name() -> None:
    """J9."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    lab = wl.Lab(model, optimizer=optimizer)
    lab["1.weight"][0].hold()
    start = raw(model[0].weight[0])
    train(model, optimizer, lambda: None, steps=2)
    assert raw(model[0].weight[0]) == start
    lab["0.weight"][0].fill_(0.5)
    train(model, optimizer, lambda: None, steps=2)
    assert model[0].weight[0].tolist() == [0.5] * 3


def test_a_lab_that_is_gone_leaves_the_optimizer_working() -> None:
    lab, model, optimizer = make()
    lab["0.weight"][1].hold()
    found = weakref.ref(lab)
    del lab
    gc.collect()
    assert found() is None
    start = raw(model[0].weight[1])
    train(model, optimizer, lambda: None, steps=1)
    assert raw(model[0].weight[1]) != start


def test_an_entry_tells_how_many_cells_it_holds_or_releases() -> None:
    lab, _, _ = make()
    hold = lab["0.weight"][1:3].hold()
    assert (lab.history[-1].cells, lab.history[-1].held) == (0, 6)
    assert str(lab.history[-1]).endswith("(6 cells)")
    hold.release()
    assert lab.history[-1].held == -6
    lab["2.bias"].fill_(3.0)
    lab["2.bias"].hold(max=1)
    assert (lab.history[-1].cells, lab.history[-1].held) == (2, 2)
