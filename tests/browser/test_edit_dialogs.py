"""The small windows of editing: which tensor they are about, how they close, and what they say; in a live JupyterLab."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(collections.OrderedDict(emb=nn.Embedding(9, 6), fc=nn.Linear(6, 40)))
start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
lab = weightlab.Lab(model)
"""


def test_a_form_names_its_tensor_and_closes_when_another_is_opened(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("emb.weight")
    widget.select("[5]")
    widget.button("Fill…").click()
    form = widget.window("Fill")
    form.get_by_role("textbox", name="Value").fill("1")
    expect(form).to_contain_text("emb.weight [5]")
    widget.tree_row("fc.weight").click()
    widget.painted("fc.weight")
    expect(form).to_have_count(0)
    assert notebook.value("len(lab.history)") == 0


def test_escape_closes_every_window_wherever_the_focus_is(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    keyboard = widget.page.keyboard
    widget.choose("Hold", "By a rule…")
    expect(widget.window("Hold to a rule")).to_be_visible()
    keyboard.press("Escape")
    expect(widget.window("Hold to a rule")).to_have_count(0)
    widget.choose("Export", "Save safetensors…")
    saving = widget.window("Save safetensors")
    notebook.kernel("import pathlib; pathlib.Path('edited.safetensors').unlink(missing_ok=True)")
    saving.get_by_role("button", name="Save").click()
    expect(saving).to_contain_text("Saved edited.safetensors")
    keyboard.press("Escape")
    expect(saving).to_have_count(0)
    widget.button("Fill…").click()
    widget.tree_row("fc.weight").focus()
    keyboard.press("Escape")
    expect(widget.window("Fill")).to_have_count(0)
    # A list that is open goes first.
    widget.button("Fill…").click()
    widget.button("Hold").click()
    expect(widget.root.get_by_role("menu", name="Hold")).to_be_visible()
    keyboard.press("Escape")
    expect(widget.window("Fill")).to_be_visible()
    keyboard.press("Escape")
    expect(widget.window("Fill")).to_have_count(0)


def test_one_window_is_open_at_a_time(widget: Widget) -> None:
    widget.open("fc.weight")
    widget.choose("Export", "Save safetensors…")
    widget.button("Scale…").click()
    expect(widget.window("Save safetensors")).to_have_count(0)
    expect(widget.window("Scale")).to_be_visible()
    expect(widget.root.get_by_role("dialog")).to_have_count(1)
    widget.button("Scale…").click()
    expect(widget.root.get_by_role("dialog")).to_have_count(0)


MARKED = """stage => {
  const canvas = stage.querySelector('.wl-overlay');
  const box = canvas.getBoundingClientRect();
  const dpr = canvas.width / box.width;
  const found = [];
  for (let i = 0; i < 9; i++) for (let j = 0; j < 6; j++) {
    const {x, y} = stage.__wl_value(i, j);
    const {data} = canvas.getContext('2d').getImageData((x - box.left) * dpr - 1, (y - box.top) * dpr - 1, 2, 2);
    if (data[3] > 0) found.push(i * 6 + j);
  }
  return found;
}"""


def marked(widget: Widget, cells: list[int]) -> None:
    """Wait until the overlay marks these cells of emb.weight, and no others."""
    widget.page.wait_for_function(
        f"([stage, cells]) => String(({MARKED})(stage)) === String(cells)", arg=[widget.heatmap.element_handle(), cells]
    )


def test_a_target_is_marked_counted_and_refused_as_it_is_typed(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("emb.weight")
    widget.page.mouse.move(0, 0)
    bar = widget.root.get_by_role("toolbar", name="Picture")
    bar.get_by_role("combobox", name="Target").select_option("largest")
    number = bar.get_by_role("textbox", name="Target number")
    number.fill("3")
    expect(bar).to_contain_text("3 of 54 cells")
    marked(widget, sorted(notebook.value("model.emb.weight.detach().abs().flatten().argsort()[-3:].tolist()")))
    number.fill("abc")
    expect(bar.get_by_role("alert")).to_contain_text("abc")
    expect(number).to_have_attribute("aria-invalid", "true")
    marked(widget, [])
    bar.get_by_role("combobox", name="Target").select_option("below")
    number.fill("1e-9")
    expect(bar).to_contain_text("0 of 54 cells")
    widget.button("Zero").click()
    expect(widget.root).to_contain_text("No cell is meant: none of them has |w| < 1e-9.")
    assert notebook.value("len(lab.history)") == 0


def test_the_window_stands_beside_the_picture_whose_cells_it_marks(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("emb.weight")
    seen = set()
    for width in (1400, 1150, 800):
        notebook.page.set_viewport_size({"width": width, "height": 1000})
        for button, name in (("Fill…", "Fill"), ("Reinitialize…", "Reinitialize")):
            widget.button(button).click()
            form = widget.window(name)
            expect(form).to_be_visible()
            card, picture = form.bounding_box(), widget.heatmap.bounding_box()
            assert card
            assert picture
            seen.add("beside" if card["x"] >= picture["x"] + picture["width"] else "")
            seen.add("below" if card["y"] >= picture["y"] + picture["height"] else "")
            assert card["x"] >= picture["x"] + picture["width"] or card["y"] >= picture["y"] + picture["height"]
            widget.page.keyboard.press("Escape")
    notebook.page.set_viewport_size({"width": 1400, "height": 1000})
    assert {"beside", "below"} <= seen


def test_what_is_drawn_without_a_seed_is_what_the_preview_showed(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.choose("More…", "Normal…")
    form = widget.window("Normal")
    form.get_by_role("textbox", name="Std").fill("1")
    told = form.locator(".wl-preview")
    expect(told).to_contain_text("40 cells change")
    # `40 cells change · -0.1 … 0.2 → -2.1 … 2.3`: the range after.
    low, high = (
        float(text.replace("\u2212", "-")) for text in told.inner_text().split("→")[1].strip().split(" … ")
    )  # fmt: skip
    seed = form.get_by_role("textbox", name="Seed").get_attribute("placeholder")
    widget.changes(form.get_by_role("button", name="Apply").click)
    now = notebook.value(
        "[model.fc.bias.min().item(), model.fc.bias.max().item(), lab.history[-1].edits[0].args['seed']]"
    )
    assert now[:2] == pytest.approx([low, high], rel=0.01)
    assert str(now[2]) == seed


def test_a_hold_says_how_many_cells_before_and_after(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.select("[2:10]")
    expect(widget.region).to_have_value("[2:10]")
    widget.choose("Hold", "Keep values…")
    expect(widget.window("Hold")).to_contain_text("fc.bias [2:10] · 8 cells")
    widget.changes(widget.button("Apply").click)
    expect(widget.root.locator(".wl-outcome")).to_contain_text("8 cells held")
    expect(widget.history.get_by_role("listitem").filter(has_text="Hold fc.bias[2:10]")).to_contain_text("8")
    expect(widget.button("Copy")).to_be_disabled()
    expect(widget.code).to_have_text("")


def test_what_the_kernel_refuses_stands_once_and_is_not_applied(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.button("Fill…").click()
    form = widget.window("Fill")
    form.get_by_role("textbox", name="Value").fill("abc")
    expect(form.get_by_role("alert")).to_contain_text("abc")
    form.get_by_role("button", name="Apply").click()
    expect(widget.alert).to_have_count(1)
    assert notebook.value("len(lab.history)") == 0
    form.get_by_role("textbox", name="Value").fill("1")
    expect(form.get_by_role("alert")).to_have_count(0)
    widget.page.keyboard.press("Escape")
    widget.choose("Export", "Save safetensors…")
    saving = widget.window("Save safetensors")
    saving.get_by_role("textbox", name="File").fill("a/b")
    saving.get_by_role("button", name="Save").click()
    expect(saving.get_by_role("alert")).to_be_visible()
    expect(widget.alert).to_have_count(1)


def test_after_a_restart_nothing_that_asks_the_kernel_can_be_pressed(
    notebook: LiveNotebook, widget: Widget
) -> None:  # P9
    label = widget.root.get_by_role("textbox", name="Snapshot label")
    label.fill("before")
    label.press("Enter")
    widget.open("fc.bias")
    widget.press("Zero")
    widget.choose("Hold", "Keep values…")
    widget.changes(widget.button("Apply").click)
    widget.press("Undo")
    notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    widget.tree_row("fc.weight").click()
    expect(widget.status).to_have_text("kernel restarted: run the cell again")
    asked = [
        "Zero",
        "Fill…",
        "Hold",
        "More…",
        "Undo",
        "Redo",
        "Compare",
        "Restore",
        "Copy as Python",
        "Check gradients",
    ]
    for name in asked:
        expect(widget.button(name)).to_be_disabled()
        expect(widget.button(name)).to_have_attribute("title", "The kernel was restarted: run the cell again.")


def test_painted_cells_are_selected_joined_and_taken_away(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("emb.weight")
    mouse, keyboard = widget.page.mouse, widget.page.keyboard
    widget.button("Brush").click()
    widget.root.get_by_role("combobox", name="Brush mode").select_option("select")
    expect(widget.root.get_by_role("textbox", name="Brush value")).to_have_count(0)

    def paint(*cells: tuple[int, int], key: str = "") -> None:
        points = [widget.point_of("emb.weight", cell) for cell in cells]
        if key:
            keyboard.down(key)
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point, steps=4)

    paint((1, 1), (1, 3))
    mouse.up()
    expect(widget.region).to_have_value("[3 cells]")
    paint((4, 0))
    mouse.up()
    expect(widget.region).to_have_value("[4 cells]")
    paint((6, 0), (6, 5))
    keyboard.press("Escape")
    mouse.up()
    expect(widget.region).to_have_value("[4 cells]")
    paint((1, 3), key="Shift")
    mouse.up()
    keyboard.up("Shift")
    expect(widget.region).to_have_value("[3 cells]")
    widget.press("Zero")
    assert notebook.value("(model.emb.weight == 0).nonzero().tolist()") == [[1, 1], [1, 2], [4, 0]]
    assert notebook.value("len(lab.history)") == 1
    widget.root.get_by_role("combobox", name="Brush mode").select_option("set")
    widget.button("Select").click()


def test_a_row_without_a_printed_number_is_told_and_selected_in_the_margin(widget: Widget) -> None:
    widget.open("fc.weight")
    mouse, keyboard = widget.page.mouse, widget.page.keyboard
    left = widget.heatmap.bounding_box()
    assert left

    def beside(row: int) -> tuple[float, float]:
        return left["x"] + 12, widget.point_of("fc.weight", (row, 0))[1]

    for row in (7, 8, 9):
        mouse.move(*beside(row))
        expect(widget.readout).to_have_text(f"out {row}")
        mouse.click(*beside(row))
        expect(widget.region).to_have_value(f"[{row}]")
    keyboard.down("Shift")
    mouse.click(*beside(13))
    keyboard.up("Shift")
    expect(widget.region).to_have_value("[9:14]")
