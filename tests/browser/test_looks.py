"""Layout, measured: nothing overlaps, nothing is cut, names and whole rows stay (section 11 of docs/design.md)."""

from __future__ import annotations

import itertools
import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import copy, torch, weightlab
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3)
        self.layers = nn.ModuleDict({"depthwise_convolution": nn.ModuleDict({"inner": nn.Conv2d(16, 16, 3, groups=16)})})
        self.ghost = nn.Parameter(torch.empty(4, 4, device="meta"))
model = Net()
with torch.no_grad():
    model.layers["depthwise_convolution"]["inner"].weight[:2] = 0
lab = weightlab.Lab(model)
for index in range(5):
    lab["conv1.weight"][index].hold()
    lab.snapshot(f"label {index}")
lab.offer("pretrained", copy.deepcopy(model.conv1))
"""

WIDTHS = (480, 620, 700, 900, 1040, 1220, 1800)

# What reaches over an edge of `root`'s visible boxes of `selector`, or over one another; by a pixel that rounding may take.
CLASHES = """(root, selector) => {
    const boxes = [...root.querySelectorAll(selector)].map(each => [each, each.getBoundingClientRect()])
        .filter(([, box]) => box.width > 0 && box.height > 0);
    const edge = root.getBoundingClientRect();
    const name = each => each.getAttribute('aria-label') ?? each.textContent.trim().slice(0, 24);
    const found = [];
    boxes.forEach(([one, a], at) => {
        if (a.left < edge.left - 1 || a.right > edge.right + 1 || a.top < edge.top - 1 || a.bottom > edge.bottom + 1)
            found.push(`${name(one)} leaves the bar`);
        for (const [other, b] of boxes.slice(at + 1))
            if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
                found.push(`${name(one)} over ${name(other)}`);
    });
    return found;
}"""


@pytest.fixture
def widget(notebook: LiveNotebook) -> Widget:
    found = notebook.widget()
    found.open("conv1.weight")
    return found


def resize(widget: Widget, width: int) -> None:
    """Another width, as of a narrower or wider cell, and its layout settled."""
    widget.root.evaluate("(root, width) => { root.style.width = `${width}px`; root.style.maxWidth = 'none' }", width)
    kind = "wl-slim" if width < 600 else "wl-narrow" if width < 902 else "wl-wide"
    expect(widget.root).to_have_class(re.compile(kind))
    widget.painted("conv1.weight")


def shown_height(row: Locator) -> float:
    box = row.bounding_box()
    return 0 if box is None else box["height"]


def test_the_bars_give_way_in_order_at_every_width(widget: Widget) -> None:
    """At most two rows of tools, the region never under 96 pixels, and the picture stays where it is in every tool."""
    for width in WIDTHS:
        resize(widget, width)
        places = []
        for tool in ("Pan", "Select", "Brush"):
            widget.button(tool).click()
            expect(widget.button(tool)).to_have_attribute("aria-pressed", "true")
            for bar in ("Picture", "Edit"):
                toolbar = widget.root.get_by_role("toolbar", name=bar)
                assert toolbar.evaluate(CLASHES, "button, input, select, .wl-count, .wl-field > span") == [], (
                    width,
                    tool,
                )
                assert shown_height(toolbar) <= 81, (width, tool, bar)
            region = widget.region.bounding_box()
            assert region is not None
            assert region["width"] >= 96, (width, tool)
            places.append(widget.heatmap.bounding_box())
        assert places[0] == places[1] == places[2], width
        for part in (".wl-title", ".wl-axes", ".wl-header"):
            found = widget.root.locator(part).evaluate(CLASHES, "button, select, h3, .wl-stats, .wl-heading, .wl-model")
            assert [clash for clash in found if "conv1.weight" not in clash] == [], (width, part)
        bottom = widget.root.locator(".wl-edit").bounding_box()
        center = widget.root.locator(".wl-center").bounding_box()
        assert bottom is not None
        assert center is not None
        assert bottom["y"] + bottom["height"] <= center["y"] + center["height"] + 1, width


def test_rows_of_what_is_kept_are_whole_and_none_covers_another(widget: Widget) -> None:
    for width in (620, 1040, 1400):
        resize(widget, width)
        for name in ("Holds", "Snapshots", "Other models"):
            listed = widget.root.get_by_role("list", name=name)
            rows = listed.get_by_role("listitem")
            heights = {shown_height(row) for row in rows.all()}
            assert heights == {24}, (width, name)
            assert shown_height(listed) == 24 * min(rows.count(), 3), (width, name)
            # By scrolling the last one is reached, whole.
            rows.last.scroll_into_view_if_needed()
            expect(rows.last).to_be_in_viewport(ratio=0.99)
        tops = widget.root.locator(".wl-past .wl-kept-row").evaluate_all(
            "rows => rows.map(row => row.closest('ul').getBoundingClientRect()).map(box => [box.top, box.bottom])"
        )
        edges = sorted({tuple(edge) for edge in tops})
        assert all(above[1] <= below[0] for above, below in itertools.pairwise(edges)), width


def test_the_name_in_the_tree_wins_over_what_stands_beside_it(widget: Widget) -> None:
    """The whole name, and of what is beside it only what fits whole: the histogram goes first, then shape and counts."""
    row = widget.tree_row("layers.depthwise_convolution.inner.weight")
    expect(row.locator(".wl-zeros")).to_have_count(1)
    seen = """row => {
        const name = row.querySelector('.wl-label'), all = row.querySelector('.wl-marks').getBoundingClientRect();
        const inside = [...row.querySelectorAll('.wl-zeros, .wl-dims, .wl-bars')].filter(each => {
            const box = each.getBoundingClientRect();
            if (box.top >= all.bottom - 1) return false;
            if (box.left < all.left - 1 || box.right > all.right + 1) throw new Error(`${each.textContent} is cut`);
            return true;
        });
        return [name.scrollWidth <= name.clientWidth, inside.map(each => each.classList[0] || each.getAttribute('class'))];
    }"""
    left = []
    splitter = widget.root.get_by_role("separator", name="Width of the tree")
    for _ in range(14):
        whole, beside = row.evaluate(seen)
        assert whole
        if not left or left[-1] != beside:
            left.append(beside)
        splitter.press("ArrowLeft")
    everything = ["wl-zeros", "wl-dims", "wl-bars"]
    assert left == [everything[:count] for count in range(len(left[0]), len(left[-1]) - 1, -1)]
    assert len(left) >= 3
    splitter.dblclick()


def test_the_present_stays_in_sight_in_the_history(notebook: LiveNotebook, widget: Widget) -> None:
    for value in range(1, 9):
        notebook.kernel(f"lab['conv1.bias'].fill_({value})")
    expect(widget.history.get_by_role("listitem")).to_have_count(14)
    widget.history.get_by_role("listitem").filter(has_text="as loaded").click()
    expect(widget.history.locator('[aria-current="true"]')).to_contain_text("as loaded")
    expect(widget.history.locator('[aria-current="true"]')).to_be_in_viewport(ratio=0.9)
    widget.press("Redo")
    while widget.button("Redo").is_enabled():
        widget.press("Redo")
    expect(widget.history.locator('[aria-current="true"]')).to_contain_text("Fill conv1.bias")
    expect(widget.history.locator('[aria-current="true"]')).to_be_in_viewport(ratio=0.9)


def test_a_picture_of_the_past_says_so_until_the_next_edit(widget: Widget) -> None:
    widget.select("[6]")
    widget.press("Zero")
    badge = widget.root.locator(".wl-then")
    expect(badge).to_have_count(0)
    widget.button("Before").click()
    expect(badge).to_have_text("as it was: before entry 6")
    widget.select("[7]")
    widget.press("Zero")
    # What was edited is seen: the present is back.
    expect(badge).to_have_count(0)
    expect(widget.button("Before")).to_have_attribute("aria-pressed", "false")
    assert widget.drawn_value("conv1.weight", (7, 0, 0, 0)) == 0
    widget.heatmap.focus()
    widget.page.keyboard.down("o")
    expect(badge).to_have_text("as it was: before entry 7")
    widget.page.keyboard.up("o")
    expect(badge).to_have_count(0)


def test_code_of_several_lines_shows_its_first_and_unfolds(widget: Widget) -> None:
    """`[data-wl="code"]` holds the whole text, folded or not (P5)."""
    widget.button("Brush").click()
    mouse = widget.page.mouse
    mouse.move(*widget.point_of("conv1.weight", (9, 0, 0, 0)))
    mouse.down()
    mouse.move(*widget.point_of("conv1.weight", (10, 2, 1, 1)), steps=6)
    widget.changes(mouse.up)
    text = widget.code.inner_text()
    assert text.startswith("with torch.no_grad():\n")
    assert widget.code.evaluate("code => code.scrollTop") == 0
    picture = widget.heatmap.bounding_box()
    fold = widget.root.get_by_role("button", name=f"+{text.rstrip().count(chr(10))} lines")
    fold.click()
    assert widget.code.evaluate("code => code.clientHeight") >= 100
    assert widget.heatmap.bounding_box() == picture
    widget.root.get_by_role("button", name="fold", exact=True).click()
    expect(fold).to_be_visible()


def test_a_tensor_without_values_says_so(widget: Widget) -> None:
    widget.tree_row("ghost").click()
    expect(widget.root.locator(".wl-stats")).to_have_text("no values")


def test_a_file_and_a_label_that_are_there_are_replaced_by_buttons_that_say_so(
    notebook: LiveNotebook, widget: Widget
) -> None:
    notebook.kernel("open('there.safetensors', 'w').write('mine') and None")
    widget.button("Export").click()
    widget.root.get_by_role("menuitem", name="Save safetensors…").click()
    dialog = widget.root.get_by_role("dialog", name="Save safetensors")
    dialog.get_by_role("textbox", name="File").fill("there.safetensors")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("there.safetensors: a file of this name is there already")
    assert notebook.value("open('there.safetensors').read()") == "mine"
    dialog.get_by_role("textbox", name="File").fill("other.safetensors")
    expect(dialog.get_by_role("button", name="Save")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    label = widget.root.get_by_role("textbox", name="Snapshot label")
    label.fill("label 3")
    expect(widget.button("Take again")).to_be_enabled()
    label.fill("label 33")
    expect(widget.button("Take")).to_be_enabled()


def test_keys_are_told_as_chords_and_alternatives(widget: Widget) -> None:
    widget.button("Help").click()
    card = widget.root.get_by_role("dialog", name="Keys")
    all_cells = card.locator("dl > div").filter(has_text="all cells")
    assert re.sub(r"\s", "", all_cells.locator("dt").inner_text()) == "Ctrl+A,I,G"
    assert all_cells.locator("kbd").all_inner_texts() == ["Ctrl", "A", "I", "G"]
    assert {shown_height(chord) for chord in card.locator("dt > span").all()} == {20}
    widget.page.keyboard.press("Escape")
