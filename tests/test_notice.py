"""What other code changed is told; the Lab's own writes are not, whatever became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import weightlab as wl


def _failed_stroke(lab: wl.Lab) -> None:
    with pytest.raises(KeyError), lab.stroke("fails"):
        lab["0.weight"].fill_(3)
        raise KeyError


def _refused_edit(lab: wl.Lab) -> None:
    with pytest.raises(wl.EditRefused, match="finite"):
        lab["0.weight"].fill_(1e30).mul_(1e30)


def _undo_that_meets_a_conflict(lab: wl.Lab) -> None:
    lab["0.bias"].fill_(1)
    with lab.stroke("two"):
        lab["0.bias"].fill_(2)
        lab["0.weight"].fill_(2)
    with torch.no_grad():
        lab.model[0].bias.fill_(5)  # type: ignore[index,union-attr]
    lab.notice()
    with pytest.raises(wl.UndoConflict):
        lab.undo()


def _step_with_holds(lab: wl.Lab) -> None:
    lab["0.weight"].hold()
    lab.step()


def _restore_without_effect(lab: wl.Lab) -> None:
    lab.snapshot("same")
    lab.restore("same")


OWN: dict[str, Callable[[wl.Lab], Any]] = {
    "a stroke that fails": _failed_stroke,
    "an edit that is refused after its write": _refused_edit,
    "an edit without effect": lambda lab: lab["0.weight"].mul_(1),
    "a restore without effect": _restore_without_effect,
    "a stroke that takes itself back": lambda lab: lab["0.weight"].neg_().neg_(),
    "an undo that meets a conflict halfway": _undo_that_meets_a_conflict,
    "a step with holds": _step_with_holds,
}


@pytest.mark.parametrize("what", OWN)
def test_own_writes_are_not_told_as_those_of_other_code(what: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    lab = wl.Lab(model)
    lab.notice()
    OWN[what](lab)
    told: list[Any] = []
    lab.on_change(told.append)
    lab.notice()
    assert told == []
    with torch.no_grad():
        model[0].weight.add_(1)
    lab.notice()
    assert [[name for name, _ in changed] for changed in told] == [["0.weight"]]


def test_what_other_code_changed_before_a_write_of_the_lab_is_told() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    lab = wl.Lab(model)
    lab.notice()
    with torch.no_grad():
        model[0].weight.add_(1)
    _failed_stroke(lab)
    told: list[Any] = []
    lab.on_change(told.append)
    lab.notice()
    assert [[name for name, _ in changed] for changed in told] == [["0.weight"]]
