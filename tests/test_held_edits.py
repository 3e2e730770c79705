"""What is held follows the user's edits at once: before a step of any thread, inside strokes, and on the way back and forth."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import weightlab as wl


def trained(seed: int = 0) -> tuple[nn.Linear, torch.optim.Optimizer, wl.Lab]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer, wl.Lab(model, optimizer=optimizer)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()


def test_a_step_between_an_edit_and_its_end_keeps_the_edit() -> None:  # 9a, T4
    """The step is put between the write and the end of the call by hand: no race to lose."""
    model, optimizer, lab = trained()
    hold = lab["weight"][0].hold()
    marked = lab._mark

    def meanwhile(changed: object) -> None:
        step(model, optimizer)
        marked(changed)  # type: ignore[arg-type]

    lab._mark = meanwhile  # type: ignore[method-assign]
    for act in (lambda: lab["weight"][0].fill_(7.0), lab.undo, lab.redo):
        act()
        assert torch.equal(lab["weight"][0].value, hold.kept)
    assert lab["weight"][0].value.tolist() == [7.0] * 4


def test_edits_of_held_cells_beside_a_thread_that_trains_are_all_kept() -> None:  # 9a, T1, T4
    model, optimizer, lab = trained()
    hold = lab["weight"][0].hold()
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            step(model, optimizer)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for value in range(150):
            lab["weight"][0].fill_(float(value) + 0.5)
            # Not the cells themselves: the optimizer may be moving them right now.
            assert hold.kept is not None
            assert hold.kept.tolist() == [value + 0.5] * 4
    finally:
        done.set()
        thread.join()
    assert lab["weight"][0].value.tolist() == [149.5] * 4


def test_a_step_inside_a_stroke_keeps_what_the_stroke_has_edited() -> None:  # 9a
    model, optimizer, lab = trained()
    lab["weight"][0].hold()
    before = lab["weight"].value
    with lab.stroke("edit and train"):
        lab["weight"][0].fill_(5.0)
        step(model, optimizer)
    assert lab["weight"][0].value.tolist() == [5.0] * 4
    lab.undo()
    assert torch.equal(lab["weight"][0].value, before[0])
    step(model, optimizer)
    assert torch.equal(lab["weight"][0].value, before[0])


def test_a_hold_in_a_stroke_sees_what_the_stroke_has_edited() -> None:  # 9a
    _, _, lab = trained()
    with lab.stroke("outside"):
        lab["weight"][0].fill_(3.0)
        lab["weight"][0].hold()
    with lab.stroke("inside again, and bounded"):
        lab["weight"][0].fill_(0.5)
        lab["weight"][0].hold(min=-1, max=1)
    assert len(lab.constraints) == 2


def test_a_stroke_that_fails_gives_back_what_was_held() -> None:  # J3, T4
    model, optimizer, lab = trained()
    hold = lab["weight"][0].hold()
    before = lab["weight"][0].value
    with pytest.raises(ZeroDivisionError), lab.stroke("fails"):
        lab["weight"][0].fill_(5.0)
        lab["weight"][0, 1].fill_(6.0)
        raise ZeroDivisionError
    assert hold.kept is not None
    assert torch.equal(hold.kept, before)
    step(model, optimizer)
    assert torch.equal(lab["weight"][0].value, before)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        (lambda cells: cells / 0, "made 4 finite cells nan or inf"),
        (lambda cells: cells * 1e39, "finite cells nan or inf"),
        (lambda cells: cells * 1j, "complex cells"),
    ],
)
def test_a_rule_that_loses_values_is_an_error_and_the_cells_keep_what_the_step_gave(
    rule: wl.train.hold.Rule, part: str
) -> None:  # J11
    _, _, lab = trained()
    lab = wl.Lab(lab.model)
    before = lab["weight"].value
    lab["weight"][1].hold(rule=rule)
    lab["weight"][0].hold()
    with torch.no_grad():
        lab.model.get_parameter("weight").add_(1)
    with pytest.raises(wl.EditRefused, match=part):
        lab.step()
    assert torch.equal(lab["weight"][0].value, before[0])
    assert torch.equal(lab["weight"][1].value, before[1] + 1)
