"""Figures show what the page shows (section 4: `plot`)."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
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


def test_a_lone_spike_is_seen_in_the_figure_of_a_large_tensor() -> None:
    """S2: a figure has no more bins than its axes have pixels, or matplotlib would leave some of them out."""
    model = nn.Linear(1300, 1100)
    weight = torch.randn(1100, 1300, generator=torch.Generator().manual_seed(0)) * 0.01
    spikes = [(5, 7), (518, 642), (777, 801), (1099, 1299)]
    for at in spikes:
        weight[at] = 5.0
    with torch.no_grad():
        model.weight.copy_(weight)
    figure = wl.Lab(model)["weight"].plot()
    assert "each pixel: largest |w| of 4 x 8 cells" in figure.axes[0].get_title(loc="left")
    pixels = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
    dark_red = (pixels[..., 0] > 0.3) & (pixels[..., 1] < 0.05) & (pixels[..., 2] < 0.2)
    inside = dark_red[:, : pixels.shape[1] * 6 // 10]  # the colour bar ends in this colour, too
    assert int(inside.sum()) >= len(spikes)
    assert len(np.unique(np.nonzero(inside)[0])) >= len(spikes)


def test_facets_are_set_apart_by_lines() -> None:
    weight = wl.Lab(nn.Conv2d(3, 32, 5))["weight"]
    assert weight.layout().facets == (0,)
    heat = weight.plot().axes[0]
    height, width = (round(abs(b - a)) for a, b in (heat.get_ylim(), heat.get_xlim()))
    across = [line.get_ydata()[0] for line in heat.lines if line.get_ydata()[0] == line.get_ydata()[1]]
    down = [line.get_xdata()[0] for line in heat.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert across == [at - 0.5 for at in range(15, height, 15)]  # three inputs of five rows
    assert down == [at - 0.5 for at in range(5, width, 5)]
