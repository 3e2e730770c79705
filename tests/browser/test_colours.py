"""Colours of the picture: the same from both renderers, true to the cells on every scale, set and picked on the bar."""

from __future__ import annotations

import hashlib
import itertools
import re

import numpy as np
import pytest
from matplotlib import colormaps
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.live import LiveNotebook, Widget

MODEL = """
import torch, weightlab
torch.set_num_threads(1)
torch.manual_seed(5)
model = torch.nn.ModuleDict({
    "small": torch.nn.Linear(9, 7), "dense": torch.nn.Linear(90, 70), "large": torch.nn.Linear(900, 700)})
odd = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0])
with torch.no_grad():
    for layer in model.values():
        layer.weight[0, :4] = odd
        layer.weight[3] *= 6
optimizer = torch.optim.Adam(model.parameters())
lab = weightlab.Lab(model, optimizer=optimizer)
"""

PIXELS = """stage => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
    const from = stage.querySelector('canvas.wl-cells');
    const copy = new OffscreenCanvas(from.width, from.height).getContext('2d');
    copy.drawImage(from, 0, 0);
    done(Array.from(copy.getImageData(0, 0, from.width, from.height).data).join());
})))"""


def choose(widget: Widget, *, colours: str = "auto", reach: str = "symmetric", scale: str = "linear") -> None:
    widget.root.get_by_label("Colour map").select_option(colours)
    widget.root.get_by_label("Colour range").select_option(reach)
    widget.root.get_by_label("Colour scale").select_option(scale)


def picture(widget: Widget) -> str:
    return hashlib.sha256(str(widget.heatmap.evaluate(PIXELS)).encode()).hexdigest()


def test_both_renderers_draw_the_same_pixels(notebook: LiveNotebook) -> None:
    """The second renderer takes over when the browser takes the graphics context away, and hands back when it is given back."""
    widget = notebook.widget()
    states = list(
        itertools.product(("auto", "PuOr_r", "viridis"), ("symmetric", "robust"), ("linear", "symlog", "log"))
    )

    def pictures() -> dict[tuple[str, ...], str]:
        seen = {}
        for name in ("small.weight", "dense.weight", "large.weight"):
            widget.open(name)
            for state in states[::-1] if name == "dense.weight" else states[3:6]:
                choose(widget, colours=state[0], reach=state[1], scale=state[2])
                widget.painted(name)
                seen[(name, *state)] = picture(widget)
        return seen

    expect(widget.heatmap).to_have_attribute("data-renderer", "webgl")
    hardware = pictures()
    widget.heatmap.evaluate(
        """stage => {
            window.taken = stage.querySelector('.wl-cells').getContext('webgl2').getExtension('WEBGL_lose_context');
            window.taken.loseContext();
        }"""
    )
    expect(widget.heatmap).to_have_attribute("data-renderer", "canvas2d")
    software = pictures()
    assert [state for state in hardware if hardware[state] != software[state]] == []
    assert len(set(hardware.values())) > 15  # they are not all of one colour
    last = next(reversed(hardware))
    widget.page.evaluate("() => window.taken.restoreContext()")
    expect(widget.heatmap).to_have_attribute("data-renderer", "webgl")
    widget.painted(last[0])
    assert widget.heatmap.locator("canvas.wl-cells").count() == 1
    assert picture(widget) == hardware[last]
    # Taken and given back once more, with another picture meanwhile.
    widget.page.evaluate("() => window.taken.loseContext()")
    expect(widget.heatmap).to_have_attribute("data-renderer", "canvas2d")
    widget.page.evaluate("() => window.taken.restoreContext()")
    expect(widget.heatmap).to_have_attribute("data-renderer", "webgl")
    first = next(iter(hardware))
    widget.open(first[0])
    choose(widget, colours=first[1], reach=first[2], scale=first[3])
    widget.painted(first[0])
    assert picture(widget) == hardware[first]


def test_what_many_cells_become_in_one_point_is_chosen_and_said(notebook: LiveNotebook) -> None:
    """S2: spikes, an end, the mean or the root mean square of the cells in a pixel."""
    widget = notebook.widget()
    widget.open("large.weight")
    choose(widget)
    legend = widget.root.locator(".wl-legend")
    expect(legend).to_contain_text("each pixel:")
    size = re.search(r"each pixel: (\d+) × (\d+) cells", legend.inner_text())
    assert size is not None
    tall, wide = int(size[1]), int(size[2])
    assert tall * wide > 1
    bin_of_cell = f"model['large'].weight[{tall}:{2 * tall}, {wide}:{2 * wide}]"
    cells = np.array(notebook.value(f"{bin_of_cell}.tolist()"))
    extreme = cells.flat[np.abs(cells).argmax()]
    wanted = {"largest |w|": extreme, "l2 (rms)": np.sqrt((cells**2).mean()), "mean": cells.mean()}
    for words, value in wanted.items():
        widget.root.get_by_label("Cells in one point").select_option(label=words)
        widget.draws("large.weight", (tall, wide), float(value), 2e-3)
    widget.reads("large.weight", (tall, wide), f"1 of {tall * wide} cells")
    widget.root.get_by_label("Cells in one point").select_option(label="largest |w|")


def test_the_drawn_value_is_the_cells_on_every_scale(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("small.weight")
    weight = np.array(notebook.value("model['small'].weight[1:].tolist()"), dtype=np.float32)
    finite = float(np.abs(weight).max())
    for colours, scale in itertools.product(("viridis", "PuOr_r"), ("linear", "symlog", "log")):
        choose(widget, colours=colours, scale=scale)
        for row, column in ((1, 2), (3, 5), (6, 8)):
            value = weight[row - 1, column]
            assert np.float32(widget.drawn_value("small.weight", (row, column))) == value
            widget.page.mouse.move(*widget.point_of("small.weight", (row, column)))
            expect(widget.readout).to_contain_text(f"[{row}, {column}] = ")
            read = re.search(r"= (\S+)", widget.readout.text_content() or "")
            assert read is not None
            assert np.float32(read[1]) == value
            # Where matplotlib has the colour, by the formula of the scale written once more.
            knee, size, v = finite / 100, abs(float(value)), float(value)
            if scale == "linear":
                share = (v / finite + 1) / 2
            elif scale == "symlog":
                share = (np.sign(v) * np.log1p(size / knee) / np.log1p(finite / knee) + 1) / 2
            else:
                share = np.log(size / (finite * 1e-4)) / np.log(1e4)
            wanted = [colormaps[colours]((share * 254 + shift) / 254, bytes=True)[:3] for shift in (-1, 0, 1)]
            drawn = np.array(widget.drawn_colour("small.weight", (row, column)))
            assert min(np.abs(np.array(each, dtype=int) - drawn).max() for each in wanted) <= 1


def test_what_has_no_place_on_the_scale_has_a_mark_and_a_line_in_the_legend(notebook: LiveNotebook) -> None:
    """S3: NaN, infinity and what lies outside the range; without them the legend is silent."""
    widget = notebook.widget()
    widget.open("small.weight")
    choose(widget)
    legend = widget.root.locator(".wl-scale")
    expect(legend).to_contain_text("1 NaN")
    expect(legend).to_contain_text("2 inf")
    expect(legend).not_to_contain_text("above")
    # A few cells lose none to a percentile: the ends are moved, both at once.
    widget.root.get_by_role("slider", name="Highest colour").press("PageDown")
    expect(legend).to_contain_text(re.compile("above|below"))
    colours = [tuple(widget.drawn_colour("small.weight", (0, column))) for column in range(4)]
    assert len(set(colours)) == 4
    widget.open("small.bias")
    choose(widget)
    for word in ("NaN", "inf", "above", "below"):
        expect(legend).not_to_contain_text(word)


def test_beside_a_huge_outlier_the_bar_counts_what_is_seen(notebook: LiveNotebook) -> None:
    """S1: a bin of the whole tensor's histogram holds all cells but one; the range that is shown has counts of its own."""
    widget = notebook.widget()
    notebook.kernel("lab['dense.weight'][1, 1].fill_(1e6)")
    widget.open("dense.weight")
    choose(widget, reach="robust")
    bar = widget.root.locator(".wl-scale-bar")
    high = float(bar.get_attribute("data-high") or "nan")
    assert high < 10
    weight = np.array(notebook.value("model['dense'].weight.nan_to_num(0, 0, 0).tolist()"), dtype=np.float32)
    expect(widget.root.locator(".wl-scale")).to_contain_text(f"{(weight > np.float32(high)).sum()} above")
    expect(widget.root.locator(".wl-scale")).not_to_contain_text("at least")
    bars = widget.root.locator(".wl-scale-histogram rect")
    assert bars.count() > 20
    assert len(set(bars.evaluate_all("all => all.map(bar => bar.getAttribute('width'))"))) > 10
    notebook.kernel("lab.undo()")


def test_the_ends_of_the_bar_set_the_range_by_mouse_and_by_keys(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("small.bias")
    choose(widget)
    bar, high = widget.root.locator(".wl-scale-bar"), widget.root.get_by_role("slider", name="Highest colour")
    full = float(bar.get_attribute("data-high") or 0)
    least, now, most = (float(high.get_attribute(f"aria-value{each}") or "nan") for each in ("min", "now", "max"))
    assert least == -full
    assert now == full <= most
    box, strip = high.bounding_box(), bar.bounding_box()
    assert box is not None
    assert strip is not None
    mouse = widget.page.mouse
    mouse.move(box["x"] + 8, box["y"] + 5)
    mouse.down()
    mouse.move(box["x"] + 8, strip["y"] + strip["height"] / 4)
    mouse.up()
    half = float(bar.get_attribute("data-high") or 0)
    assert half == pytest.approx(full / 2, rel=0.05)
    assert float(bar.get_attribute("data-low") or 0) == pytest.approx(-half)  # a symmetric range stays so
    high.press("ArrowDown")
    assert float(bar.get_attribute("data-high") or 0) < half
    high.press("Shift+ArrowUp")  # one end alone
    assert float(bar.get_attribute("data-high") or 0) > -float(bar.get_attribute("data-low") or 0)
    widget.root.get_by_label("Colour to").fill("7")
    widget.root.get_by_label("Colour to").press("Enter")
    assert float(bar.get_attribute("data-high") or 0) == 7
    high.dblclick()
    expect(widget.root.get_by_label("Colour range")).to_have_value("symmetric")


def test_an_interval_brushed_on_the_bar_is_what_an_edit_means(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("dense.weight")
    choose(widget)
    brush = widget.root.locator('[data-wl="brush"]').bounding_box()
    assert brush is not None
    mouse = widget.page.mouse
    mouse.move(brush["x"] + 12, brush["y"] + brush["height"] * 0.3)
    mouse.down()
    mouse.move(brush["x"] + 12, brush["y"] + brush["height"] * 0.48)
    mouse.up()
    low = float(widget.root.get_by_role("slider", name="Pick from").get_attribute("aria-valuenow") or "nan")
    high = float(widget.root.get_by_role("slider", name="Pick to").get_attribute("aria-valuenow") or "nan")
    assert 0 < low < high
    inside = f"((weight >= {low!r}) & (weight <= {high!r}))"
    notebook.kernel("weight = model['dense'].weight.detach().clone()")
    many = notebook.value(f"int({inside}.sum())")
    assert many > 0
    expect(widget.root.locator('[data-wl="picked"]')).to_contain_text(f"{many:,} cell")
    widget.press("Zero")
    assert (
        notebook.value(
            f"int((model['dense'].weight == weight).logical_or({inside} & (model['dense'].weight == 0)).sum())"
        )
        >= 6300 - 1
    )
    assert notebook.value(f"int((model['dense'].weight[{inside}] != 0).sum())") == 0
    widget.press("Undo")


def test_values_are_picked_by_keys_alone(notebook: LiveNotebook) -> None:
    """P6."""
    widget = notebook.widget()
    widget.open("small.weight")
    choose(widget)
    widget.button("Pick values").press("Enter")
    to = widget.root.get_by_role("slider", name="Pick to")
    expect(to).to_be_focused()
    before = float(to.get_attribute("aria-valuenow") or 0)
    from_ = widget.root.get_by_role("slider", name="Pick from")
    assert from_.get_attribute("aria-valuemax") == to.get_attribute("aria-valuenow")
    assert from_.get_attribute("aria-valuenow") == to.get_attribute("aria-valuemin")
    to.press("PageUp")
    assert float(to.get_attribute("aria-valuenow") or 0) > before
    expect(widget.root.locator('[data-wl="picked"]')).to_contain_text("cell")
    to.press("Escape")
    expect(widget.button("Pick values")).to_be_visible()


def test_a_view_is_offered_when_it_is_there_and_says_what_it_is(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("small.weight")
    choice = widget.root.get_by_label("View", exact=True)
    assert "exp_avg_sq" not in choice.inner_text()
    notebook.kernel(
        "model['small'].weight.grad = torch.full((7, 9), 2.0); optimizer.step(); optimizer.zero_grad(); lab.refresh()"
    )
    widget.open("small.bias")
    widget.open("small.weight")
    choose(widget)
    choice.select_option("exp_avg_sq")
    expect(widget.heatmap).to_have_attribute("data-view", "exp_avg_sq")
    expect(widget.root).to_contain_text("kept by Adam")
    widget.painted("small.weight")
    assert widget.drawn_value("small.weight", (2, 3)) == pytest.approx(0.004)
    # Never negative: its colours go from one end to the other.
    assert float(widget.root.locator(".wl-scale-bar").get_attribute("data-low") or 1) == 0


def test_closed_views_give_their_graphics_context_back(open_notebook: Open) -> None:
    """P4."""
    notebook = open_notebook(MODEL, "lab")
    notebook.run_all()
    notebook.widget()
    notebook.page.evaluate(
        """() => {
            const real = HTMLCanvasElement.prototype.getContext;
            window.contexts = [];
            HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
                const made = real.call(this, kind, ...rest);
                if (kind === 'webgl2' && made) window.contexts.push(made);
                return made;
            };
        }"""
    )
    for _ in range(18):
        notebook.run_cell(1)
        expect(notebook.widget().heatmap).to_have_attribute("data-renderer", "webgl")
    alive = "() => new Set(window.contexts.filter(each => !each.isContextLost())).size"
    assert notebook.page.evaluate("() => new Set(window.contexts).size") >= 18
    notebook.page.wait_for_function(f"() => ({alive})() <= 1")
