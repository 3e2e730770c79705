"""Tensors that share memory without being tied: views of a flat buffer, a transposed twin. An edit of one is an edit of both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.edit import snapshots
from weightlab.model.overlap import same_memory
from weightlab.model.region import Region


class Flat(nn.Module):
    """`flat` [10] with `a` [2, 3] as its first six cells, `b` [2, 2] as the others, and `t` as `a` transposed."""

    def __init__(self) -> None:
        super().__init__()
        memory = torch.arange(10.0)
        self.flat = nn.Parameter(memory)
        self.a = nn.Parameter(memory[:6].view(2, 3))
        self.b = nn.Parameter(memory[6:].view(2, 2))
        self.t = nn.Parameter(self.a.detach().t())
        self.alone = nn.Parameter(torch.ones(2))


def test_what_shares_memory_is_known() -> None:
    tree = wl.Lab(Flat()).tree
    assert {name: set(tree.sharing(name)) for name in ("flat", "a", "b", "t", "alone")} == {
        "flat": {"a", "b", "t"},
        "a": {"flat", "t"},
        "b": {"flat"},
        "t": {"flat", "a"},
        "alone": set(),
    }


@pytest.mark.parametrize("seed", range(10))
def test_cells_in_the_same_memory_are_those_that_change_together(seed: int) -> None:
    """Against writing into the cells and looking."""
    generator = torch.Generator().manual_seed(seed)
    memory = torch.zeros(60)
    one, other = memory[6:54].view(4, 12)[:, ::2], memory.view(3, 4, 5).permute(2, 0, 1)
    region = Region.of_cells((4, 6), torch.randperm(24, generator=generator)[:7])
    theirs = Region.whole((5, 3, 4)).index((slice(1, 5, 2), slice(None), [0, 3]))
    one[torch.unravel_index(region.cells, (4, 6))] = 1
    expected = [int(flat) for flat in theirs.cells.flatten() if other.flatten()[flat] == 1]
    assert same_memory(one, region, other, theirs).cells.tolist() == expected


def test_a_hold_follows_an_edit_of_a_tensor_with_the_same_memory() -> None:  # 9a, T4
    model = Flat()
    lab = wl.Lab(model)
    hold = lab["flat"][:5].hold()
    lab["t"][0].fill_(9.0)
    assert hold.kept is not None
    assert hold.kept.tolist() == [9, 1, 2, 9, 4]
    with torch.no_grad():
        model.flat.add_(0.5)
    lab.step()
    assert model.flat.tolist() == [9, 1, 2, 9, 4, 5.5, 6.5, 7.5, 8.5, 9.5]
    lab.undo(force=True)
    assert hold.kept.tolist() == [0, 1, 2, 3, 4]


def test_an_edit_tells_of_all_that_shares_its_memory() -> None:
    lab = wl.Lab(Flat())
    told: list[str] = []
    lab.on_change(lambda changed: told.extend(name for name, _ in changed))
    lab["a"].fill_(2.0)
    assert set(told) == {"a", "flat", "t"}
    assert any("shares memory with 'flat', 't'" in note for note in lab.history[-1].notes)


@pytest.mark.filterwarnings("ignore:snapshot")
def test_a_snapshot_that_copies_late_sees_edits_through_shared_memory_and_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "AT_ONCE", 0)
    monkeypatch.setattr(snapshots, "free_memory", lambda: 0)
    model = Flat()
    lab = wl.Lab(model)
    lab["a"].fill_(2.0)
    lab.snapshot("filled")
    lab.undo()
    lab["b"].zero_()
    lab.restore("filled")
    assert model.flat.tolist() == [2, 2, 2, 2, 2, 2, 6, 7, 8, 9]
