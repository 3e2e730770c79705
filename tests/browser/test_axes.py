"""The axes of a picture in other roles, and pictures of known modules: the values that are drawn, read back."""

from __future__ import annotations

import re

import numpy as np
from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.ModuleDict({"attention": nn.MultiheadAttention(12, 3), "lstm": nn.LSTM(5, 4), "conv": nn.Conv3d(2, 4, (3, 2, 5)),
                       "fc": nn.Linear(6, 9), "image": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)})
lab = weightlab.Lab(model)
"""


def values(notebook: LiveNotebook, name: str) -> np.ndarray:
    return np.array(notebook.value(f"model.get_parameter({name!r}).tolist()"), dtype=np.float32)


def choose(widget: Widget, axis: int, item: str) -> None:
    """A step of an axis by its menu, with the keyboard alone (P6)."""
    widget.root.locator(f'[data-axis="{axis}"] button').press("Enter")
    widget.root.get_by_role("menuitem", name=item, exact=True).press("Enter")


def roles(widget: Widget) -> dict[str, list[int]]:
    """Which axes are in which role, by the chips."""
    found: dict[str, list[int]] = widget.root.evaluate(
        """root => Object.fromEntries([...root.querySelectorAll('[data-role]')].map(role =>
            [role.dataset.role, [...role.querySelectorAll('[data-axis]')].map(chip => Number(chip.dataset.axis))]))"""
    )
    return found


def test_known_modules_are_drawn_in_their_groups(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    for name, heights in (("attention.in_proj_weight", (4, 12)), ("lstm.weight_ih_l0", (4,))):
        widget.open(name)
        wanted = values(notebook, name)
        for index in [(0, 0), (5, 3), (wanted.shape[0] - 1, 4)]:
            assert np.float32(widget.drawn_value(name, index)) == wanted[index]
        widget.page.mouse.move(*widget.point_of(name, (5, 3)))
        expect(widget.root.locator(".wl-read")).to_contain_text("head q 1" if "attention" in name else "gate f")
        # Each group stands apart from the next, and an outer one further.
        place = [widget.point_of(name, (row, 0))[1] for row in range(wanted.shape[0])]
        steps = np.diff(place)
        inside = steps[0]
        for at, step in enumerate(steps, start=1):
            depth = sum(at % height == 0 for height in heights)
            assert (step > inside + 0.5) == (depth > 0), (name, at)
        if len(heights) > 1:
            assert steps[11] > steps[3] + 0.5


def test_a_sorted_picture_of_a_moved_axis_shows_selects_and_edits_the_right_cells(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    page = widget.page
    widget.open("conv.weight")
    wanted = values(notebook, "conv.weight")
    before = roles(widget)
    assert sorted(axis for axes in before.values() for axis in axes) == [0, 1, 2, 3, 4]

    # One index of an axis, by keyboard; then its slider.
    choose(widget, 2, "Show one index")
    expect(widget.root.locator('[data-role="fixed"] [data-axis="2"]')).to_have_count(1)
    widget.root.get_by_label("Index of kd").press("End")
    expect(widget.root.locator('[data-axis="2"] output')).to_have_text("2")
    page.wait_for_function("stage => stage.__wl_value(0, 0, 2, 0, 0) !== null", arg=widget.heatmap.element_handle())
    for index in [(0, 0, 2, 0, 0), (3, 1, 2, 1, 4)]:
        assert np.float32(widget.drawn_value("conv.weight", index)) == wanted[index]
    assert widget.heatmap.evaluate("stage => stage.__wl_value(0, 0, 1, 0, 0)") is None, "another index is not shown"

    # Another role, by dragging the chip.
    chip = widget.root.locator('[data-axis="3"] button').bounding_box()
    into = widget.root.locator('[data-role="columns"]').bounding_box()
    assert chip is not None
    assert into is not None
    page.mouse.move(chip["x"] + 5, chip["y"] + 5)
    page.mouse.down()
    page.mouse.move(into["x"] + into["width"] / 2, into["y"] + 8, steps=4)
    page.mouse.move(into["x"] + into["width"] - 3, into["y"] + into["height"] / 2)
    # The chip in hand is at the pointer, wherever the page has been scrolled to.
    end = (into["x"] + into["width"] - 3, into["y"] + into["height"] / 2)
    page.wait_for_function(
        """([chip, x, y]) => {
            const {left, right, bottom} = chip.getBoundingClientRect();
            return Math.abs((left + right) / 2 - x) < 2 && bottom <= y && y - bottom < 20;
        }""",
        arg=[widget.root.locator(".wl-ghost-chip").element_handle(), *end],
    )
    page.mouse.up()
    expect(widget.root.locator('[data-role="columns"] [data-axis="3"]')).to_have_count(1)
    page.wait_for_function("stage => stage.__wl_value(1, 1, 2, 1, 3) !== null", arg=widget.heatmap.element_handle())
    assert np.float32(widget.drawn_value("conv.weight", (1, 1, 2, 1, 3))) == wanted[1, 1, 2, 1, 3]
    page.mouse.move(*widget.point_of("conv.weight", (1, 1, 2, 1, 3)))
    expect(widget.readout).to_contain_text("[1, 1, 2, 1, 3] = ")

    # What is selected is what is shown: one slice of the axis with the slider.
    page.mouse.click(*widget.point_of("conv.weight", (1, 1, 2, 1, 3)))
    expect(widget.region).to_have_value("[1, 1, 2, 1, 3]")
    widget.press("Zero")
    assert widget.drawn_value("conv.weight", (1, 1, 2, 1, 3)) == 0
    assert notebook.value("int((model['conv'].weight == 0).sum())") == 1
    widget.button("Reset").click()
    expect(widget.button("Reset")).to_have_count(0)
    assert roles(widget) == before


def test_sorted_rows_are_drawn_read_and_edited_as_the_rows_that_they_are(notebook: LiveNotebook) -> None:
    notebook.kernel(
        "with torch.no_grad(): model['fc'].weight.mul_(torch.tensor([5., 2, 9, 1, 7, 3, 8, 4, 6])[:, None])"
    )
    widget = notebook.widget()
    widget.open("fc.weight")
    choose(widget, 0, "Sort by norm")
    expect(widget.root.locator('[data-axis="0"] button')).to_contain_text("by norm")
    widget.painted("fc.weight")
    wanted = values(notebook, "fc.weight")
    order = np.argsort(np.linalg.norm(wanted.astype(np.float64), axis=1), kind="stable")
    assert order.tolist() != list(range(9))
    places = [widget.point_of("fc.weight", (int(row), 2))[1] for row in order]
    assert places == sorted(places), "the smallest norm is on top"
    for row in (0, 4, 8):
        assert np.float32(widget.drawn_value("fc.weight", (row, 5))) == wanted[row, 5]
    first, third = int(order[0]), int(order[2])
    widget.page.mouse.move(*widget.point_of("fc.weight", (third, 3)))
    expect(widget.readout).to_contain_text(re.compile(rf"^\[{third}, 3\] = "))

    # The three rows on top, whole: a list of their indices.
    widget.page.mouse.move(*widget.point_of("fc.weight", (first, 0)))
    widget.page.mouse.down()
    widget.page.mouse.move(*widget.point_of("fc.weight", (third, 5)), steps=3)
    widget.page.mouse.up()
    widget.press("Zero")
    zero = notebook.value("(model['fc'].weight == 0).all(1).nonzero().flatten().tolist()")
    assert zero == sorted(order[:3].tolist())
    assert widget.drawn_value("fc.weight", (third, 5)) == 0
    assert places == [widget.point_of("fc.weight", (int(row), 2))[1] for row in order], "an edit moves no row"

    # Profiles of what is drawn, in the read-out.
    widget.root.get_by_label("Edges").select_option("zeros")
    widget.reads("fc.weight", (third, 4), f"out {third}: zeros 1")


def test_filters_of_three_inputs_are_drawn_in_colour_and_picked_whole(notebook: LiveNotebook) -> None:
    notebook.kernel("with torch.no_grad(): model['norm'].weight.copy_(torch.tensor([0.5, 2, -1, 1.5]))")
    widget = notebook.widget()
    widget.open("image.weight")
    wanted = values(notebook, "image.weight")
    widget.button("RGB").click()
    index = (2, 0, 1, 2)
    largest = np.abs(wanted[2]).max()
    colour = [round(127.5 + 127.5 * float(wanted[2, k, 1, 2] / largest)) for k in range(3)]
    widget.page.wait_for_function(
        """([stage, index, colour]) => {
            const canvas = stage.querySelector('.wl-colours'), at = stage.__wl_value(...index);
            if (!canvas || !at) return false;
            const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
            const pixel = canvas.getContext('2d').getImageData((at.x - box.x) * scale, (at.y - box.y) * scale, 1, 1).data;
            return colour.every((each, k) => Math.abs(each - pixel[k]) <= 1);
        }""",
        arg=[widget.heatmap.element_handle(), list(index), colour],
    )
    widget.page.mouse.click(*widget.point_of("image.weight", index))
    expect(widget.region).to_have_value("[2, :, 1, 2]")
    widget.button("RGB").click()
    expect(widget.root.locator('[data-role="fixed"] [data-axis]')).to_have_count(0)

    # The norm layer behind, beside its filters.
    widget.root.get_by_label("Edges").select_option("scale")
    widget.reads("image.weight", (2, 1, 1, 1), "out 2: scale −1")
