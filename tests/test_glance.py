"""A tensor at a glance: numbers and small pictures, of all cells or of a sample that says so (rules S1 to S3)."""

from __future__ import annotations

import math

import matplotlib.colors
import numpy as np
import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.see.figure_look import BLANK_COLOUR, NAN_COLOUR
from weightlab.see.glance import BARS, NO_CELL, NOT_FINITE, SAMPLE, SIDE, glance, thumbnail
from weightlab.see.layout import layout_of

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.uint16,
          torch.int64, torch.bool]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_glance_at_a_small_tensor_is_exact_in_every_dtype(dtype: torch.dtype) -> None:
    """S1: against NumPy in float64."""
    cells = (torch.randn(7, 13, generator=torch.Generator().manual_seed(0)) * 3).round().abs().to(dtype)
    seen = glance(cells)
    reference = cells.double().numpy()
    assert (seen.count, seen.sampled, seen.nan, seen.inf) == (91, 91, 0, 0)
    assert seen.zero == int((reference == 0).sum())
    assert (seen.min, seen.max) == (reference.min(), reference.max())
    assert seen.mean == pytest.approx(reference.mean(), rel=1e-12)
    assert seen.std == pytest.approx(reference.std(), rel=1e-12)
    assert seen.l2 == pytest.approx(np.sqrt((reference**2).sum()), rel=1e-12)


def test_a_single_nan_in_a_large_tensor_is_counted_though_the_rest_is_sampled() -> None:
    """S2, S3: health counts are never sampled away."""
    cells = torch.randn(700, 900, generator=torch.Generator().manual_seed(1))
    cells[301, 7], cells[5, 5], cells[6, 6] = math.nan, math.inf, -math.inf
    cells[400, 401] = 1e6
    seen = glance(cells)
    assert (seen.nan, seen.inf, seen.max) == (1, 2, 1e6)
    assert seen.sampled < SAMPLE * 1.1 < seen.count
    assert seen.std == pytest.approx(1.0, rel=0.05)
    assert seen.l2 == pytest.approx(math.sqrt(700 * 900), rel=0.05)


def test_a_glance_scales_the_zeros_of_its_sample_to_the_whole() -> None:
    cells = torch.randn(600, 800, generator=torch.Generator().manual_seed(2))
    cells[torch.rand(600, 800, generator=torch.Generator().manual_seed(3)) < 0.25] = 0
    assert glance(cells).zero == pytest.approx(120_000, rel=0.1)


def test_bars_count_every_cell_and_one_spike_does_not_press_them_into_one() -> None:
    cells = torch.randn(5000, generator=torch.Generator().manual_seed(4)).double()
    cells[17] = 300.0
    seen = glance(cells)
    assert sum(bar > 0 for bar in seen.bars) > BARS // 4
    wanted, _ = np.histogram(cells.numpy().clip(seen.low, seen.high), bins=BARS, range=(seen.low, seen.high))
    assert list(seen.bars) == pytest.approx(np.ceil(wanted * 255 / wanted.max()), abs=2)


@pytest.mark.parametrize(
    "cells",
    [
        torch.empty(0, 3),
        torch.tensor(2.5),
        torch.full((3, 2), math.nan),
        torch.zeros(4),
        torch.full((5,), 1e300, dtype=torch.float64),
    ],
    ids=["empty", "scalar", "all nan", "zeros", "squares overflow"],
)
def test_odd_tensors_have_glances_and_thumbnails(cells: torch.Tensor) -> None:
    seen = glance(cells)
    assert seen.count == cells.numel()
    assert seen.nan == int(cells.isnan().sum())
    assert len(seen.bars) == BARS
    if cells.dtype is torch.float64:
        assert seen.l2 == pytest.approx(math.sqrt(5) * cells[0].item())
    model = nn.Module()
    model.register_buffer("cells", cells)
    lab = wl.Lab(model)
    picture = lab.thumbnail("cells")
    assert len(picture.codes) == picture.rows * picture.columns


def test_a_thumbnail_is_the_picture_reduced_by_the_largest_magnitude() -> None:
    """Against a plain loop, in the layout of the picture."""
    model = nn.Sequential(nn.Conv2d(5, 48, 3))
    lab = wl.Lab(model)
    info, tensor = lab.tree["0.weight"], lab.tree.tensor("0.weight").detach()
    layout = layout_of(info)
    height, width = layout.sheet
    sheet, real = layout.cut(tensor, 0, height, 0, width)
    tall, wide = -(-height // SIDE), -(-width // SIDE)
    seen = thumbnail(tensor, layout)
    codes = np.frombuffer(seen.codes, dtype=np.uint8).reshape(seen.rows, seen.columns)
    for row in range(seen.rows):
        for column in range(seen.columns):
            part = (slice(row * tall, (row + 1) * tall), slice(column * wide, (column + 1) * wide))
            cells = sheet[part] if real is None else sheet[part][real[part]]
            if not cells.numel():
                assert codes[row, column] == NO_CELL
                continue
            value = cells.flatten()[cells.abs().argmax()].item()
            share = min(1.0, max(-1.0, value / seen.limit))
            assert codes[row, column] == 128 + round(share * 126)


def test_places_without_a_cell_are_neither_nan_nor_zero_on_the_map() -> None:
    """37 filters in blocks leave a corner free; one cell of them is NaN, one inf (S3)."""
    lab = wl.Lab(nn.Sequential(nn.Conv2d(3, 37, 7, bias=False)))
    lab["0.weight"][0, 0, 0, 0].fill_(math.nan)
    lab["0.weight"][9, 1, 3, 3].fill_(math.inf)
    seen = lab.thumbnail("0.weight")
    codes = np.frombuffer(seen.codes, dtype=np.uint8).reshape(seen.rows, seen.columns)
    assert (codes == NOT_FINITE).sum() == 2
    assert codes[0, 0] == NOT_FINITE
    assert codes[-1, -1] == NO_CELL
    [image] = lab.plot_model("picture").axes[0].images
    drawn = np.asarray(image.get_array())
    for at, colour in (((0, 0), NAN_COLOUR), ((-1, -1), BLANK_COLOUR)):
        assert tuple(drawn[at] / 255) == pytest.approx(matplotlib.colors.to_rgba(colour), abs=1e-6)
    ends = drawn[codes == codes[codes > NO_CELL].max()] / 255
    assert tuple(ends[0]) == pytest.approx(matplotlib.colormaps["RdBu_r"](1.0), abs=0.01)
    lab["0.weight"].zero_()
    assert set(lab.thumbnail("0.weight").codes) == {128, NO_CELL}


def test_a_thumbnail_of_a_large_tensor_is_small_and_says_that_it_is_sampled() -> None:
    cells = torch.randn(900, 1100, generator=torch.Generator().manual_seed(5))
    cells[:450] = math.nan
    model = nn.Module()
    model.register_buffer("cells", cells)
    seen = wl.Lab(model).thumbnail("cells")
    codes = np.frombuffer(seen.codes, dtype=np.uint8).reshape(seen.rows, seen.columns)
    assert seen.sampled
    assert max(codes.shape) <= SIDE
    assert (codes[: seen.rows // 2] == NOT_FINITE).all()  # S3
    assert (codes[seen.rows // 2 + 1 :] > NO_CELL).all()


def test_glances_are_kept_until_their_tensor_changes_and_no_other_is_made_anew() -> None:
    lab = wl.Lab(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)))
    before = {name: (lab.glance(name), lab.thumbnail(name)) for name in lab}
    lab["0.weight"][2].fill_(7)
    assert lab.glance("0.weight").max == 7
    assert lab.thumbnail("0.weight").limit == 7
    for name in ("0.bias", "1.weight", "1.bias"):
        assert (lab.glance(name), lab.thumbnail(name)) == before[name]
        assert lab.glance(name) is before[name][0]
    with torch.no_grad():
        lab.model[1].bias.fill_(3.0)  # other code, seen by the tensor's version
    assert lab.glance("1.bias").mean == 3
    lab.undo(force=True)
    assert lab.glance("0.weight") == before["0.weight"][0]


def test_a_tensor_without_values_has_no_glance_and_says_why() -> None:
    lab = wl.Lab(nn.Linear(3, 2, device="meta"))
    with pytest.raises(wl.EditRefused, match="meta device"):
        lab.glance("weight")


@pytest.mark.parametrize("colour", ["picture", "std", "zeros", "gradient norm", "update ratio", "status"])
def test_the_model_map_draws_every_tensor(colour: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))
    lab = wl.Lab(model, batch=(torch.randn(2, 2, 3, 3), torch.tensor([0, 1])), loss=nn.functional.cross_entropy)
    lab.check_gradients()
    figure = lab.plot_model(colour)
    axes = figure.axes[0]
    assert len(axes.images) + len(axes.patches) == len(lab.tree)
    assert len(axes.images) == (len(lab.tree) if colour == "picture" else 0)
    assert colour in axes.get_title("left")
    assert len(figure._repr_png_()) > 1000


def test_the_maps_update_ratio_is_that_of_the_step_which_the_optimizer_then_takes() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    x, y = torch.randn(8, 5), torch.arange(8) % 3
    lab = wl.Lab(model, batch=(x, y), loss=nn.functional.cross_entropy, optimizer=optimizer)

    def grey() -> int:
        none = matplotlib.colors.to_rgba("#d5d9e0")
        return sum(patch.get_facecolor() == none for patch in lab.plot_model("update ratio").axes[0].patches)

    assert grey() == 4  # no check, no step
    lab.check_gradients()
    assert grey() == 0
    told = {name: lab._update_ratio(name) for name in lab}
    before = {name: lab[name].value for name in lab}
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    for name, old in before.items():
        assert told[name] == pytest.approx(float((lab[name].value - old).norm() / old.norm()), rel=1e-4)


def test_an_unknown_colour_of_the_map_is_refused() -> None:
    with pytest.raises(wl.EditRefused, match="'picture', 'std'"):
        wl.Lab(nn.Linear(2, 2)).plot_model("beauty")


def test_a_map_of_status_before_a_check_says_that_there_was_none() -> None:
    lab = wl.Lab(nn.Linear(3, 2), probe=lambda model: model.weight.sum() + model.bias.sum())
    assert [text.get_text() for text in lab.plot_model("status").axes[0].texts] == [
        "no check yet: lab.check_gradients()"
    ]
    lab.check_gradients()
    assert not lab.plot_model("status").axes[0].texts
