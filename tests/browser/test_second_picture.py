"""Two views of one tensor side by side: seen from the same place, each in its own colours, read together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import torch, weightlab
import torch.nn.functional as F
torch.set_num_threads(1)
torch.manual_seed(5)
model = torch.nn.Sequential()
model.add_module("dense", torch.nn.Linear(90, 70))
model.add_module("head", torch.nn.Linear(70, 5))
x, y = torch.randn(12, 90), torch.arange(12) % 5
F.cross_entropy(model(x), y).backward()
lab = weightlab.Lab(model, batch=(x, y), loss=F.cross_entropy, auto_check=False)
"""


class Pair:
    """The second picture of a widget."""

    def __init__(self, widget: Widget) -> None:
        self.widget = widget
        self.heatmap = widget.root.locator('[data-wl="heatmap-beside"]')
        self.readout = widget.root.locator('[data-wl="readout-beside"]')

    def show(self, view: str, name: str) -> None:
        self.widget.root.get_by_label("Beside").select_option(view)
        self.painted(view, name)

    def painted(self, view: str, name: str) -> None:
        expect(self.heatmap).to_have_attribute("data-view", view)
        expect(self.heatmap).to_have_attribute("data-painted", f"{name}@{self.widget.revision}")
        self.widget.painted(name)

    def drawn(self, index: Sequence[int]) -> dict[str, Any]:
        found: dict[str, Any] | None = self.heatmap.evaluate(
            "(stage, index) => stage.__wl_value(...index)", list(index)
        )
        assert found is not None
        return found

    def places(self, index: Sequence[int]) -> list[tuple[float, float]]:
        """Where a cell lies in each of the two pictures, from its upper left corner, once both show it."""
        found = self.widget.page.wait_for_function(
            """([stages, index]) => {
                const drawn = stages.map(stage => stage.__wl_value(...index));
                if (drawn.some(each => !each)) return null;
                return stages.map((stage, at) => {
                    const {left, top} = stage.getBoundingClientRect();
                    return [drawn[at].x - left, drawn[at].y - top].map(Math.round);
                });
            }""",
            arg=[[self.widget.heatmap.element_handle(), self.heatmap.element_handle()], list(index)],
        )
        return [(x, y) for x, y in found.json_value()]


def test_two_views_are_seen_from_the_same_place_and_read_together(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("dense.weight")
    second = Pair(widget)
    second.show("gradient", "dense.weight")
    cell = (30, 12)  # no zoom and no pan takes it out of sight
    value = notebook.value("model.dense.weight[30, 12].item()")
    gradient = notebook.value("model.dense.weight.grad[30, 12].item()")
    assert second.drawn(cell)["value"] == pytest.approx(gradient, abs=1e-3)

    # Each in its own range.
    bars = widget.root.locator(".wl-scale-bar")
    expect(bars).to_have_count(2)
    ends = [float(bars.nth(i).get_attribute("data-high") or "nan") for i in range(2)]
    assert ends[1] == pytest.approx(notebook.value("model.dense.weight.grad.abs().max().item()"), rel=1e-5)
    assert ends[0] != ends[1]

    # Zoom in the one, pan in the other: a cell lies at the same place in both.
    widget.heatmap.focus()
    widget.page.mouse.move(*widget.point_of("dense.weight", cell))
    before = second.places(cell)
    assert before[0] == before[1]
    for _ in range(5):
        widget.page.mouse.wheel(0, -240)
    second.painted("gradient", "dense.weight")
    zoomed = second.places(cell)
    assert zoomed[0] == zoomed[1]
    far = (30, 14)  # a neighbour that has moved away
    assert second.places(far)[0][0] - zoomed[0][0] > 30
    there = second.drawn(cell)
    widget.button("Pan").click()
    widget.page.mouse.move(there["x"], there["y"])
    widget.page.mouse.down()
    widget.page.mouse.move(there["x"] - 20, there["y"] - 12)
    widget.page.mouse.up()
    widget.button("Select").click()
    second.painted("gradient", "dense.weight")
    panned = second.places(cell)
    assert panned[0] == panned[1]
    assert panned[0] == pytest.approx((zoomed[0][0] - 20, zoomed[0][1] - 12), abs=1)

    # Pointing in the second one tells both numbers in both.
    at = second.drawn(cell)
    widget.page.mouse.move(at["x"], at["y"])
    texts = {}
    for who, line in (("second", second.readout), ("first", widget.readout)):
        expect(line).to_have_text(re.compile(r"^\[30, 12\] = \S*\d$"))
        texts[who] = (line.text_content() or "").split(" = ")[1]
    assert np.float32(texts["second"]) == np.float32(gradient)
    assert np.float32(texts["first"]) == np.float32(value)
    both = widget.root.locator(".wl-read")
    expect(both.nth(0)).to_contain_text(f"gradient {texts['second']}")
    expect(both.nth(1)).to_contain_text(f"value {texts['first']}")


def test_the_keyboard_works_in_both_pictures(notebook: LiveNotebook) -> None:
    """P6."""
    widget = notebook.widget()
    widget.open("head.weight")
    second = Pair(widget)
    second.show("gradient", "head.weight")
    widget.page.mouse.move(1, 1)
    second.heatmap.focus()
    for key in ("Home", "Control+Home", "ArrowDown", "ArrowRight", "ArrowRight"):
        second.heatmap.press(key)
    expect(second.readout).to_contain_text("[1, 2] = ")
    expect(widget.readout).to_contain_text("[1, 2] = ")
    expect(second.heatmap).to_have_attribute("aria-label", re.compile(r"head\.weight .*, gradient, cursor \[1, 2\]"))
    second.heatmap.press("Enter")
    expect(widget.region).to_have_value("[1, 2]")
    widget.heatmap.focus()
    widget.heatmap.press("ArrowDown")
    expect(widget.readout).to_contain_text(" = ")
    expect(second.readout).to_have_text(
        re.compile("^" + re.escape((widget.readout.text_content() or "").split(" = ")[0]))
    )


def test_the_second_picture_follows_tensor_layout_and_edits(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("head.weight")
    notebook.kernel("lab.snapshot('start')")
    second = Pair(widget)
    second.show("diff:start", "head.weight")
    assert second.drawn((2, 3))["value"] == 0
    widget.select("[2, 3]")
    widget.dialog("Fill…", Value="7")
    second.painted("diff:start", "head.weight")
    start = notebook.value("lab.source('start')['head.weight'][2, 3].item()")
    assert second.drawn((2, 3))["value"] == pytest.approx(7 - start, abs=0.03)
    widget.press("Undo")
    second.painted("diff:start", "head.weight")
    assert second.drawn((2, 3))["value"] == 0
    # Another tensor; a view that it has not is said where the picture would be.
    widget.open("dense.bias")
    second.painted("diff:start", "dense.bias")
    bias = "model.dense.bias"
    notebook.kernel(f"kept = {bias}.grad; {bias}.grad = None; {bias}.requires_grad_(False); lab.refresh()")
    widget.open("head.weight")
    second.show("gradient", "head.weight")
    widget.open("dense.bias")
    expect(widget.root.locator(".wl-picture").nth(1)).to_contain_text("because it is frozen")
    notebook.kernel(f"{bias}.requires_grad_(True).grad = kept; lab.snapshots.drop('start'); lab.refresh()")


def test_a_closed_second_picture_gives_its_graphics_context_back(notebook: LiveNotebook) -> None:
    """P4."""
    widget = notebook.widget()
    widget.open("head.weight")
    widget.page.evaluate(
        """() => {
            const real = HTMLCanvasElement.prototype.getContext;
            window.contexts = new Set();
            HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
                const made = real.call(this, kind, ...rest);
                if (kind === 'webgl2' && made) window.contexts.add(made);
                return made;
            };
        }"""
    )
    second = Pair(widget)
    for _ in range(3):
        second.show("gradient", "head.weight")
        expect(second.heatmap).to_have_attribute("data-renderer", "webgl")
        widget.button("Close the second picture").click()
        expect(second.heatmap).to_have_count(0)
    assert widget.page.evaluate("() => window.contexts.size") == 3
    widget.page.wait_for_function("() => [...window.contexts].every(each => each.isContextLost())")
    expect(widget.heatmap).to_be_focused()
    expect(widget.heatmap).to_have_attribute("data-renderer", "webgl")
    widget.painted("head.weight")
