"""Figures show what the page shows (section 4: `plot`)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.errors import EditRefused


def test_a_figure_of_a_packed_projection_labels_q_k_and_v() -> None:
    lab = wl.Lab(nn.MultiheadAttention(12, 3))
    heat = lab["in_proj_weight"].plot().axes[0]
    assert [text.get_text() for text in heat.get_yticklabels()] == ["q", "k", "v"]
    assert heat.get_yticks().tolist() == pytest.approx([5.5, 17.5, 29.5])
    assert {float(line.get_ydata()[0]) for line in heat.lines} == {4 * i - 0.5 for i in range(1, 9)}
    assert heat.get_ylabel() == "out · q/k/v"
    assert lab["out_proj.weight"].plot().axes[0].get_xlabel() == "in · head"


def test_a_figure_shows_the_layout_that_was_asked_for() -> None:
    lab = wl.Lab(nn.Conv2d(3, 8, 5))
    weight = lab["weight"]
    plan = weight.layout(rows=[0], columns=[3], fixed={1: 2, 2: 4}, sort={0: "norm"})
    heat = weight.plot(layout=plan).axes[0]
    shown = heat.images[0].get_array()
    wanted = weight.value[:, 2, 4][plan.orders[0].indices]
    assert torch.equal(torch.tensor(shown.filled()), wanted)
    assert heat.get_ylabel() == "out, sorted by norm"
    assert heat.get_title(loc="left").endswith("in = 2 · kh = 4")


def test_a_figure_frames_only_what_it_shows() -> None:
    lab = wl.Lab(nn.Conv1d(3, 8, 5))
    weight = lab["weight"]
    plan = weight.layout(fixed={1: 2})
    assert len(weight[3, 2].plot(layout=plan).axes[0].patches) == 1
    assert len(weight[3, 1].plot(layout=plan).axes[0].patches) == 0


def test_a_layout_of_another_tensor_is_refused() -> None:
    lab = wl.Lab(nn.Linear(3, 2))
    with pytest.raises(EditRefused, match="the layout is for"):
        lab["weight"].plot(layout=lab["bias"].layout())
