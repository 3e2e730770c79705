"""What the page says below an edit, and what a typed region and the wheel do to the picture; in a live JupyterLab."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(collections.OrderedDict(
    conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), fc=nn.Linear(300, 260))).to(torch.bfloat16)
lab = weightlab.Lab(model)
lab.auto_check = False
"""
NOT_CUT = "box => box.scrollWidth <= box.clientWidth && box.scrollHeight <= box.clientHeight + 1"


def test_what_an_edit_did_is_whole_in_every_width(widget: Widget) -> None:
    widget.open("conv.bias")
    widget.changes(lambda: widget.dialog("Fill…", Value="1.003"))
    line = widget.root.locator(".wl-outcome")
    expect(line).to_have_text("8 cells changed · asked 1.003 → stored 1.0, 8 cells rounded")
    heights = set()
    for width in (1220, 860, 620, 560):
        widget.root.evaluate("(root, width) => { root.style.width = `${width}px`; }", width)
        for part in (line, widget.code):
            widget.page.wait_for_function(NOT_CUT, arg=part.element_handle())
        if width == 620:
            heights.add(widget.root.locator(".wl-edit").bounding_box()["height"])  # type: ignore[index]
            widget.press("Undo")
            heights.add(widget.root.locator(".wl-edit").bounding_box()["height"])  # type: ignore[index]
            widget.press("Redo")
    assert len(heights) == 1  # nothing jumps


def test_words_too_long_for_their_place_unfold_and_fold(notebook: LiveNotebook, widget: Widget) -> None:
    widget.root.evaluate("root => { root.style.width = '620px'; }")
    widget.open("conv.weight")
    widget.select("[1]")
    widget.press("Zero")
    line = widget.root.locator(".wl-outcome")
    expect(line).to_contain_text('norm behind it still puts out its shift there; "Also zero norm" sets that to 0 too')
    widget.button("The whole outcome").focus()
    widget.page.keyboard.press("Enter")
    widget.page.wait_for_function(NOT_CUT, arg=line.element_handle())
    widget.button("Less of the outcome").press("Enter")
    expect(widget.button("The whole outcome")).to_be_visible()
    widget.press("Also zero norm")
    assert notebook.value("model.norm.weight[1].item()") == 0


def test_a_typed_region_comes_into_sight_at_the_same_scale(widget: Widget) -> None:
    widget.open("fc.weight")
    widget.heatmap.focus()
    for _ in range(8):
        widget.page.keyboard.press("+")
    seen = "stage => [stage.__wl_value(1, 1), stage.__wl_value(1, 2), stage.__wl_value(259, 299)]"
    widget.painted("fc.weight")
    first, second, last = widget.heatmap.evaluate(seen)
    assert first
    assert second
    assert last is None
    scale = second["x"] - first["x"]
    widget.select("[259, 299]")
    widget.page.wait_for_function("stage => stage.__wl_value(259, 299)", arg=widget.heatmap.element_handle())
    beside = widget.point_of("fc.weight", (259, 298))
    assert widget.point_of("fc.weight", (259, 299))[0] - beside[0] == pytest.approx(scale, abs=0.01)
    # Some of it is in sight: the picture stays.
    widget.select("[258:]")
    expect(widget.region).to_have_value("[258:]")
    assert widget.point_of("fc.weight", (259, 298)) == beside


def test_the_wheel_over_a_picture_without_the_focus_says_how_it_zooms(widget: Widget) -> None:
    widget.open("fc.weight")
    hint = widget.root.get_by_text("Ctrl + wheel zooms")
    picture = widget.heatmap.bounding_box()
    assert picture
    widget.page.evaluate("document.activeElement.blur()")
    widget.page.mouse.move(picture["x"] + 90, picture["y"] + 90)
    widget.page.mouse.wheel(0, 1)
    expect(hint).to_be_visible()
    expect(hint).to_have_count(0)
    widget.heatmap.focus()
    widget.page.mouse.wheel(0, 1)
    widget.painted("fc.weight")
    expect(hint).to_have_count(0)


def test_a_row_of_values_for_a_narrowed_region_is_refused_with_what_is_selected(widget: Widget) -> None:
    widget.open("conv.bias")
    widget.select("[::2]")
    widget.button("Set row…").click()
    form = widget.root.get_by_role("dialog", name="Set row")
    form.get_by_role("textbox", name="Values").fill("1, 0, 1, 0, 1, 0, 1, 0")
    expect(form.get_by_role("alert")).to_contain_text("4 cells are selected: [0:7:2], got 8 numbers. Give 4")
