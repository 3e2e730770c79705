"""Strokes (J3), conflicts (J8), what is edited when a tensor was exchanged, and what an entry costs (J6)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import raw
from weightlab.model.packed import close, packed
from weightlab.model.region import Region


def as_bits(tensor: Tensor) -> Tensor:
    widths = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.detach().view(widths[tensor.element_size()])


def test_undo_costs_the_edited_cells_only() -> None:
    """J6: a 40 x 40 rectangle of 400 x 400."""
    lab = wl.Lab(nn.Linear(400, 400, bias=False))
    lab["weight"][100:140, 200:240].zero_()
    assert lab.history[-1].nbytes == 40 * 40 * 4


def test_past_the_budget_old_entries_move_to_disk_and_still_undo() -> None:
    """J6."""
    model = nn.Linear(64, 64, bias=False)
    first = raw(model.weight)
    lab = wl.Lab(model, undo_bytes=3 * 64 * 64 * 4)
    with pytest.warns(UserWarning, match="undo_bytes=49152") as caught:
        for value in range(8):
            lab["weight"].fill_(value)
            assert lab.journal.nbytes <= lab.journal.undo_bytes
    assert len(caught) == 1
    last = raw(model.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while lab.undo():
            pass
        assert raw(model.weight) == first
        while lab.redo():
            pass
    assert raw(model.weight) == last


def test_a_change_by_other_code_is_a_conflict_for_undo_and_redo() -> None:
    """J8."""
    model = nn.Linear(3, 2)
    lab = wl.Lab(model)
    before = raw(model.weight)
    lab["weight"][0].zero_()
    zeroed = raw(model.weight)
    with torch.no_grad():
        model.weight[1, 1] = 5.0  # outside the entry's cells: no conflict
    lab.undo()
    lab.redo()
    model.weight.data[0, 1] = 3.0  # past the version counter
    changed = raw(model.weight)
    with pytest.raises(wl.UndoConflict, match=r"weight\[0\]: its cells were changed since"):
        lab.undo()
    assert raw(model.weight) == changed
    assert len(lab.history) == 1
    lab.undo(force=True)
    assert raw(model.weight)[:12] == before[:12]
    lab.redo()
    assert raw(model.weight)[:12] == zeroed[:12]
    lab.undo()
    with torch.no_grad():
        model.weight[0, 0] = 9.0
    with pytest.raises(wl.UndoConflict, match="redo"):
        lab.redo()
    lab.redo(force=True)
    assert raw(model.weight)[:12] == zeroed[:12]


def test_an_exchanged_parameter_is_a_conflict() -> None:
    """J8: undo must not write into a tensor that the model no longer has."""
    model = nn.Linear(3, 2)
    lab = wl.Lab(model)
    lab["weight"].zero_()
    model.weight = nn.Parameter(torch.ones(2, 3))
    with pytest.raises(wl.UndoConflict, match="another tensor"):
        lab.undo()


def test_a_stroke_is_one_entry_and_an_exception_undoes_all_of_it(
    small_cnn: nn.Sequential, bytes_of: Callable[[nn.Module], dict[str, bytes]]
) -> None:
    """J3."""
    lab = wl.Lab(small_cnn)
    before = bytes_of(small_cnn)
    with lab.stroke("two edits"):
        lab["conv1.weight"][0].zero_()
        lab["conv1.weight"][0].fill_(3)
        lab["fc.bias"].fill_(1)
    assert [entry.text for entry in lab.history] == ["two edits"]
    after = bytes_of(small_cnn)
    lab.undo()
    assert bytes_of(small_cnn) == before
    lab.redo()
    assert bytes_of(small_cnn) == after
    with pytest.raises(KeyError), lab.stroke("fails"):
        lab["fc.bias"].fill_(7)
        lab["fc.bias"][0].fill_(8)
        raise KeyError("stop")
    assert bytes_of(small_cnn) == after
    assert len(lab.history) == 1


def test_an_inner_stroke_that_fails_leaves_the_outer_one(small_cnn: nn.Sequential) -> None:
    lab = wl.Lab(small_cnn)
    with lab.stroke("outer"):
        lab["fc.bias"].fill_(1)
        with pytest.raises(wl.EditRefused), lab.stroke("inner"):
            lab["fc.bias"].fill_(2)
            lab["fc.bias"].fill_("x")  # type: ignore[arg-type]
    assert small_cnn.fc.bias.tolist() == [1] * 5
    assert len(lab.history) == 1


@pytest.mark.parametrize("size", [10, 3000, 300_000])
def test_a_fingerprint_tells_any_two_cells_apart(size: int) -> None:
    """J8 rests on it: also two equal changes that cancel, and two cells that change places, over 1 MB."""
    from weightlab.model.storage import fingerprint

    cells = torch.randn(size)
    seen = {fingerprint(cells)}
    for first, second in ((0, 1), (0, size - 1), (size // 2, size // 2 + 1)):
        swapped = cells.clone()
        swapped[[first, second]] = cells[[second, first]]
        seen.add(fingerprint(swapped))
        moved = cells.clone().view(torch.int32)
        moved[first] += 1
        moved[second] -= 1
        seen.add(fingerprint(moved.view(torch.float32)))
    assert len(seen) == 7
    assert fingerprint(cells.clone()) in seen


def test_a_stroke_that_takes_itself_back_makes_no_entry(small_cnn: nn.Sequential) -> None:
    """J7: no change, no entry; and cells that were edited twice count once."""
    lab = wl.Lab(small_cnn)
    with lab.stroke("there and back"):
        lab["fc.weight"].neg_()
        lab["fc.weight"].neg_()
    assert lab.history == ()
    with lab.stroke("twice"):
        lab["fc.bias"][:2].fill_(1)
        lab["fc.bias"][:2].fill_(2)
        lab["fc.bias"][3].fill_(5)
    assert lab.history[-1].cells == 3
    assert small_cnn.fc.bias[:2].tolist() == [2, 2]


def test_undo_finds_the_tensor_that_the_model_has_now() -> None:
    """J8: after load_state_dict(assign=True) a forced undo restores the bytes in what the model holds."""
    model = nn.Linear(3, 2)
    before = raw(model.weight)
    lab = wl.Lab(model)
    lab["weight"].zero_()
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)
    with pytest.raises(wl.UndoConflict):
        lab.undo()
    lab.undo(force=True)
    assert raw(model.weight) == before


def test_a_layer_that_was_replaced_is_the_one_that_is_edited(small_cnn: nn.Sequential) -> None:
    """J1: the tree follows the model; a weight that is computed since goes through its originals."""
    from torch.nn.utils import prune

    lab = wl.Lab(small_cnn)
    small_cnn.fc = nn.Linear(4, 2)
    lab["fc.weight"].zero_()
    assert small_cnn.fc.weight.count_nonzero() == 0
    assert lab["fc.weight"].shape == (2, 4)
    prune.l1_unstructured(small_cnn.conv1, "weight", amount=5)
    lab["conv1.weight"][0].zero_()
    small_cnn(torch.randn(1, 3, 7, 7))
    assert small_cnn.conv1.weight[0].count_nonzero() == 0


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_many_cells_are_compared_and_known_again_exactly(stored: torch.dtype, layout: str) -> None:  # J2, J7, J8
    cells = torch.randn(64, 30, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(stored)
    cells.view(-1)[[5, 300_000, -1]] = math.nan
    cells.view(-1)[[6, 400_000]] = -0.0
    if layout == "channels_last":
        cells = cells.to(memory_format=torch.channels_last)
    model = nn.Module()
    model.weight = nn.Parameter(cells.clone(memory_format=torch.preserve_format))
    lab = wl.Lab(model)
    handle = lab["weight"]
    values = torch.randn(30, 1, 1, generator=torch.Generator().manual_seed(4))
    acts: list[Callable[[], object]] = [
        lambda: handle.clamp_(-0.5, 0.75),
        lambda: handle.clamp_(min=0.0),
        lambda: handle[:, 1:].fill_(-0.25),
        lambda: handle[1:].neg_(),
        lambda: handle[..., 3:].abs_(),
        lambda: handle.copy_(values),
        lambda: handle[:63].zero_(),
    ]
    states = [model.weight.detach().clone()]
    for act in acts:
        act()
        states.append(model.weight.detach().clone())
        differ = as_bits(states[-1]) != as_bits(states[-2])
        assert lab.history[-1].cells == int(differ.sum())
        first = differ.reshape(-1).nonzero().flatten()[:8]
        assert torch.equal(as_bits(lab.history[-1].stored), as_bits(states[-1].reshape(-1)[first]))
    for state in reversed(states[:-1]):
        lab.undo()
        assert torch.equal(as_bits(model.weight), as_bits(state))
    for state in states[1:]:
        lab.redo()
        assert torch.equal(as_bits(model.weight), as_bits(state))
    # One cell that other code changes past the version counter, the very last one, is found.
    lab.undo()
    lab["weight"].clamp_(-0.1, 0.1)
    model.weight.data[-1, -1, -1, -1] = 0.05
    with pytest.raises(wl.UndoConflict):
        lab.undo()
    lab.undo(force=True)
    assert torch.equal(as_bits(model.weight), as_bits(states[-2]))


@pytest.mark.parametrize("density", [0.01, 0.3, 0.9])
def test_undo_of_a_mask_costs_the_cells_and_the_least_of_an_index(density: float) -> None:
    """J6: a bit per cell of the box around them, or the gaps between them."""
    model = nn.Linear(400, 300, bias=False)
    before = raw(model.weight)
    lab = wl.Lab(model)
    mask = torch.rand(300, 400) < density
    lab["weight"][mask].zero_()
    after = raw(model.weight)
    entry = lab.history[-1]
    assert entry.cells == int(mask.sum())
    index = min(mask.numel() / 8, 1.1 * entry.cells if density >= 0.01 else 2 * entry.cells)
    assert entry.nbytes <= 4 * entry.cells + index + 2048
    assert entry.nbytes <= 1.11 * 4 * entry.cells + 2048 or density < 0.3
    assert torch.equal(entry.edits[0].region.cells, mask.flatten().nonzero().flatten())
    lab.undo()
    assert raw(model.weight) == before
    lab.redo()
    assert raw(model.weight) == after


@pytest.mark.parametrize("gaps", [[255], [256], [257], [511, 255], [65535, 1], [65536, 65537], [131071, 1, 1]])
def test_gaps_of_any_width_are_kept(gaps: list[int]) -> None:
    cells = torch.tensor([3, *gaps]).cumsum(0)
    region = packed(Region.whole((400, 500)).index((cells // 500, cells % 500), "weight"))
    close(region)
    assert torch.equal(region.cells, cells)


@pytest.mark.parametrize("index", [
    [[5, 0, 3]], [[1]], [torch.tensor([[4, 0], [2, 1]])], [torch.zeros(6, 50, dtype=torch.bool)], [[0, 2, 4]],
    [torch.arange(300).view(6, 50) % 3 == 0], [slice(1, 5), torch.arange(50) > 3], [torch.arange(300).view(6, 50) >= 100]
])  # fmt: skip
def test_listed_cells_are_kept_in_their_order_and_shape(index: Any) -> None:
    """J6"""
    lab = wl.Lab(nn.Linear(50, 6, bias=False))
    part = lab["weight"][tuple(index)]
    kept = packed(part.region)
    for _ in range(2):
        assert kept == part.region
        assert kept.view_shape == part.region.view_shape
        assert copy.deepcopy(kept) == part.region
        close(kept)


def test_a_stroke_counts_a_cell_once_whatever_regions_named_it() -> None:
    """J7"""
    model = nn.Linear(3, 2, bias=False)
    lab = wl.Lab(model)
    old = model.weight.detach().clone()
    with lab.stroke("twice") as made:
        lab["weight"][0].fill_(1)
        lab["weight"].fill_(2)
    assert made[0].cells == 6
    lab.undo()
    with lab.stroke("and back") as made:
        lab["weight"][0].fill_(1)
        lab["weight"].copy_(old)
    assert made == []
    assert len(lab.history) == 0
    with lab.stroke("partly back") as made:
        lab["weight"][0].fill_(1)
        lab["weight"][:, 0].copy_(old[:, 0])
    assert made[0].cells == 2
    assert torch.equal(lab["weight"].value[:, 0], old[:, 0])
