"""Figures say what the page says: NaN and inf, ranges, maps, filter numbers, groups, profiles (S2, S3)."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.errors import EditRefused
from weightlab.handle import Handle

NAN, POSITIVE, NEGATIVE = (226, 50, 200), (255, 176, 0), (0, 158, 140)


def ref(cells: torch.Tensor) -> Handle:
    model = nn.Module()
    model.register_buffer("w", cells)
    return wl.Lab(model)["w"]


def pixels(figure: Any, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour in the heatmap: the legend stands below it."""
    drawn = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))[..., :3]
    found = (np.abs(drawn * 255 - np.array(colour)) < 1).all(-1)
    return int(found[: len(found) * 85 // 100].sum())


def told(figure: Any) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


@pytest.mark.parametrize("shape", [(20, 15), (700, 900)])
@pytest.mark.parametrize("options", [{}, {"reduction": "mean"}, {"scale": "log"}, {"range": (-0.1, 0.2)}])
def test_a_lone_nan_and_an_infinite_block_have_their_colours_and_counts(shape: Any, options: Any) -> None:
    # S3: at every level of reduction
    cells = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    cells[7, 9], cells[10:14, 7:11], cells[17, 12] = torch.nan, torch.inf, -torch.inf
    figure = ref(cells).plot(**options)
    assert told(figure) == ["1 NaN", "16 inf", "1 -inf"]
    heat, marked = figure.axes[0].images
    assert not np.isfinite(heat.get_array().filled(np.nan)[marked.get_array()[..., 3] > 0]).any()
    assert min(pixels(figure, colour) for colour in (NAN, POSITIVE, NEGATIVE)) > 0
    tall, wide = (side // drawn for side, drawn in zip(shape, heat.get_array().shape, strict=True))
    assert tuple(marked.get_array()[7 // max(tall, 1), 9 // max(wide, 1)][:3]) == NAN


def test_blanks_of_a_contact_sheet_are_not_told_as_nan_and_are_no_zeros() -> None:
    figure = wl.Lab(nn.Conv2d(3, 37, 7))["weight"].plot()
    heat = figure.axes[0]
    assert len(heat.images) == 1
    assert told(figure) == []
    assert heat.get_facecolor() != (1, 1, 1, 1)
    assert heat.images[0].get_array().mask.sum() == 2 * 21 * 7


def test_what_is_never_negative_has_no_colours_below_zero() -> None:
    model = nn.Linear(6, 5)
    optimizer = torch.optim.Adam(model.parameters())
    lab = wl.Lab(model, optimizer=optimizer)
    model(torch.randn(4, 6, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    optimizer.step()
    lab["weight"][1].hold()
    for view in ("exp_avg_sq", "held"):
        image = lab["weight"].plot(view).axes[0].images[0]
        assert image.norm.vmin == 0
        assert image.norm.vmax == lab.view("weight", view).float().max()
    assert lab["weight"].plot("exp_avg").axes[0].images[0].norm.vmin < 0


def test_ranges_and_scales_are_those_of_the_page() -> None:
    cells = torch.linspace(-1, 3, 1000).reshape(20, 50)
    weight = ref(cells)

    def ends(**options: Any) -> tuple[float, float]:
        norm = weight.plot(**options).axes[0].images[0].norm
        return norm.vmin, norm.vmax

    assert ends() == (-3, 3)
    assert ends(range="full") == (-1, 3)
    assert ends(range=(-0.5, 2)) == (-0.5, 2)
    assert ends(range="robust") == pytest.approx((-2.98, 2.98), abs=0.01)
    assert ends(scale="log") == pytest.approx((3e-4, 3))
    shown = weight.plot(scale="log").axes[0].images[0].get_array()
    assert torch.equal(torch.tensor(shown.filled()).float(), cells.abs())
    both = wl.Lab(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    both["1.weight"][0, 0].fill_(-7)
    assert both["0.weight"].plot(range="shared").axes[0].images[0].norm.vmax == 7


@pytest.mark.parametrize(
    "options", [{}, {"range": "full"}, {"range": (-0.5, 2.0)}, {"scale": "symlog", "range": "full"}]
)
def test_zero_is_the_middle_of_a_diverging_map_whatever_the_range(options: Any) -> None:
    image = ref(torch.linspace(-1, 3, 81).reshape(9, 9)).plot(**options).axes[0].images[0]
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.93


def test_what_lies_outside_the_range_has_its_own_colour_and_the_bar_says_so() -> None:
    figure = ref(torch.linspace(-1, 3, 81).reshape(9, 9)).plot(range=(-2, 1))
    image = figure.axes[0].images[0]
    assert image.colorbar.extend == "max"
    assert image.cmap(image.norm(2.9)) != image.cmap(image.norm(1.0))


def test_reductions_are_those_that_were_asked_for() -> None:
    cells = torch.zeros(640, 640)
    cells[0, 0], cells[0, 1] = -4.0, 3.0
    heat = {way: ref(cells).plot(reduction=way).axes[0] for way in ("extreme", "mean", "min", "max", "rms")}
    first = {way: float(axes.images[0].get_array()[0, 0]) for way, axes in heat.items()}
    assert first == pytest.approx({"extreme": -4, "mean": -1 / 16, "min": -4, "max": 3, "rms": 1.25})
    assert heat["rms"].get_title(loc="left").endswith("each pixel: root mean square of 4 x 4 cells")


@pytest.mark.parametrize(
    "options",
    [{"range": "wide"}, {"range": (2, 1)}, {"range": (0, "1")}, {"range": 3}, {"scale": "cubic"}, {"cmap": "jet"},
     {"cmap": ["gray"]}, {"reduction": "median"}, {"rgb": 1}, {"rgb": True}, {"edges": "std"},
     {"scale": "log", "range": (-2, 0)}],
)  # fmt: skip
def test_what_a_figure_does_not_know_is_refused(options: Any) -> None:
    with pytest.raises(EditRefused, match=r"weight \[2, 3\]"):
        wl.Lab(nn.Linear(3, 2))["weight"].plot(**options)


def test_blocks_of_a_contact_sheet_have_their_filter_numbers() -> None:
    heat = wl.Lab(nn.Conv2d(3, 37, 7))["weight"].plot().axes[0]
    assert [text.get_text() for text in heat.get_yticklabels()] == ["0–12", "13–25", "26–36"]
    assert [text.get_text() for text in heat.get_xticklabels()] == [f"+{n}" for n in range(0, 13, 2)]
    assert heat.get_xticks().tolist() == [7 * n + 3 for n in range(0, 13, 2)]
    assert heat.get_ylabel() == "out, a block each"
    assert heat.get_xlabel() == "in a block: in × kh down, kw across"


def test_groups_of_a_convolution_are_lined_and_labelled() -> None:
    weight = wl.Lab(nn.Conv2d(8, 15, 3, groups=1))["weight"]
    assert not [line for line in weight.plot().axes[0].lines if line.get_gid() == "group"]
    weight = wl.Lab(nn.Conv2d(6, 18, 3, groups=3))["weight"]
    layout = weight.layout(facets=[0], rows=[1, 2], columns=[3])
    heat = weight.plot(layout=layout).axes[0]
    assert [text.get_text() for text in heat.texts] == ["group 0", "group 1", "group 2"]
    across = layout.wrap
    starts = [(6 * n // across * 6 - 0.5, 6 * n % across * 3 - 0.5) for n in (1, 2)]
    lines = [line for line in heat.lines if line.get_gid() == "group"]
    assert [(line.get_ydata()[0], line.get_xdata()[1]) for line in lines] == starts


def test_a_sorted_axis_has_its_indices_along_the_side() -> None:
    weight = wl.Lab(nn.Linear(4, 5))["weight"]
    plan = weight.layout(sort={0: "norm"})
    heat = weight.plot(layout=plan).axes[0]
    assert [int(text.get_text()) for text in heat.get_yticklabels()] == plan.orders[0].indices.tolist()


def test_edges_are_the_profiles_in_the_order_shown() -> None:
    weight = wl.Lab(nn.Linear(4, 5))["weight"]
    plan = weight.layout(sort={0: "norm"})
    right, above = weight.plot(layout=plan, edges="norm").axes[0].child_axes
    norms = weight.value.norm(dim=1)[plan.orders[0].indices]
    assert right.patches[0].get_data().values == pytest.approx(norms.numpy())
    assert above.patches[0].get_data().values == pytest.approx(weight.value.norm(dim=0).numpy())
    conv = wl.Lab(nn.Conv2d(3, 32, 5))["weight"]
    with pytest.raises(EditRefused, match="has no edges"):
        conv.plot(edges="norm")


def test_filters_of_three_inputs_are_drawn_as_coloured_pictures() -> None:
    weight = wl.Lab(nn.Conv2d(3, 4, 5))["weight"]
    with torch.no_grad():
        weight._tensor()[2, 1, 3, 3] = torch.nan
    figure = weight.plot(rgb=True)
    heat = figure.axes[0]
    cells = weight.value.double()
    limits = cells.nan_to_num().abs().amax((1, 2, 3), keepdim=True)
    wanted = (127.5 + 127.5 * cells / limits).nan_to_num(127.5).permute(0, 2, 3, 1).round()
    layout = weight.layout(rows=[2], columns=[3], facets=[0], fixed={1: 0})
    for index in range(4):
        top, left = index // layout.wrap * 5, index % layout.wrap * 5
        block = heat.images[0].get_array()[top : top + 5, left : left + 5, :3]
        assert torch.equal(torch.tensor(np.array(block)).double(), wanted[index])
    assert told(figure) == ["1 NaN"]
    assert "in as RGB" in heat.get_title(loc="left")


def test_a_bias_has_no_numbers_down_its_side_and_a_long_name_stays_over_the_picture() -> None:
    model = nn.Module()
    inner = model
    for part in ("a_very_long_module_name", "another_very_long_module_name", "and_a_third_one_which_is_long"):
        inner.add_module(part, nn.Module())
        inner = getattr(inner, part)
    inner.add_module("projection", nn.Linear(7, 5))
    lab = wl.Lab(model)
    figure = lab[next(name for name in lab if name.endswith("bias"))].plot()
    heat, side, *_ = figure.axes
    assert heat.get_yticks().size == 0
    figure.draw_without_rendering()
    boxes = [
        axes.title.get_window_extent() if axes is side else axes._left_title.get_window_extent()
        for axes in (heat, side)
    ]
    assert boxes[0].x1 < figure.bbox.x1
    assert side.get_title() == side.get_title(loc="left") == ""
    assert side.get_xlabel().startswith("mean ")
