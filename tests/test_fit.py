"""A shape that differs is told with the part that would fit."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from weightlab.model.fit import in_words, part_that_fits


def _index(tensor: Tensor, text: str) -> Tensor:
    return eval(f"tensor{text}", {"tensor": tensor})


def test_the_parts_that_are_told_fit_each_other() -> None:
    draw = random.Random(0)
    found = 0
    for _ in range(500):
        here, there = ([draw.randint(1, 5) for _ in range(draw.randint(1, 4))] for _ in range(2))
        parts = part_that_fits(here, there)
        assert parts is not None
        mine, theirs = _index(torch.zeros(here), parts[0]), _index(torch.zeros(there), parts[1])
        assert mine.shape == theirs.shape
        found += mine.numel()
        if here == there:
            assert mine.shape == torch.Size(here)
    assert found > 500
    assert part_that_fits([0, 3], [2, 3]) is part_that_fits([5], []) is None


def test_whichever_side_is_used_whole_is_told_in_short() -> None:
    assert in_words([6, 4], [5, 4]) == "[0:5, :] would take it"
    assert in_words([5, 4], [6, 4]) == "its [0:5, :] would fit"
    assert in_words([6, 4], [5, 9]) == "[0:5, :] would take its [:, 0:4]"
    assert in_words([4, 3, 3], [4]) == "[:, 0, 0] would take it"
    assert in_words([0], [4]) == "no part of it would fit"


def test_a_transfer_an_edit_and_a_restore_tell_the_part_that_would_fit() -> None:
    model, other = nn.Linear(4, 6), nn.Linear(4, 5)
    lab = wl.Lab(model)
    report = lab.transfer(other)
    assert [row.note for row in report] == [
        "shape [6, 4], there [5, 4]: [0:5, :] would take it",
        "shape [6], there [5]: [0:5] would take it",
    ]
    assert "[0:5, :] would take it" in str(report)
    with pytest.raises(wl.EditRefused, match=r"Give shape \[6, 4\], or index: \[0:5, :\] would take it"):
        lab["weight"].copy_(other.weight)
    lab["weight"][0:5, :].copy_(other.weight)
    lab.snapshot("s")
    model.weight.data = torch.zeros(3, 4)
    lab.refresh()
    with pytest.raises(wl.EditRefused, match=r"copy_ a part: its \[0:3, :\] would fit"):
        lab.restore("s")
