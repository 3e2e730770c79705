"""The same values in new memory are no change: undo goes on after `share_memory()` or a move (rules J2, J8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl

MOVES: dict[str, Callable[[nn.Module], object]] = {
    "share_memory": lambda model: model.share_memory(),
    "a copy, as to(device) makes one": lambda model: model._apply(torch.clone),
    "a cast there and back": lambda model: model.double().float(),
}


def _raw(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("move", MOVES)
def test_undo_and_redo_go_on_in_new_memory(move: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    lab = wl.Lab(model, optimizer=optimizer)
    before = _raw(model)
    with lab.stroke("several"):
        lab["0.weight"][1].zero_()
        lab["1.running_mean"].fill_(2)
        lab["0.bias"][torch.tensor([True, False])].fill_(0.5)
    after, memory = _raw(model), model[0].weight.data_ptr()
    MOVES[move](model)
    assert model[0].weight.data_ptr() != memory
    lab.undo()
    assert all(map(torch.equal, _raw(model), before))
    MOVES[move](model)
    lab.redo()
    assert all(map(torch.equal, _raw(model), after))


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean"])
def test_other_values_in_new_memory_are_a_conflict(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    lab = wl.Lab(model)
    lab[name].fill_(3)
    model._apply(lambda tensor: tensor + 1)
    with pytest.raises(wl.UndoConflict, match="changed since the edit by other code"):
        lab.undo()
    assert len(lab.history) == 1
