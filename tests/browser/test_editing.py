"""Editing by mouse, keyboard and dialog in a live JupyterLab. Bytes are asserted in the kernel."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, torch, weightlab
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(collections.OrderedDict(
    conv1=nn.Conv2d(3, 8, 3), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(8, 5)))
x, y = torch.randn(4, 3, 9, 9), torch.randint(5, (4,))
before = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
def changed():
    return [name for name, tensor in model.state_dict().items() if tensor.numpy().tobytes() != before[name]]
lab = weightlab.Lab(model, batch=(x, y), loss=F.cross_entropy)
"""


def only_filter_3_is_zero(notebook: LiveNotebook) -> bool:
    return bool(
        notebook.value(
            "bool((model.conv1.weight[3] == 0).all()) and int((model.conv1.weight == 0).sum()) == 27"
            " and changed() == ['conv1.weight']"
        )
    )


def undo_restores_the_bytes(notebook: LiveNotebook, widget: Widget) -> bool:
    widget.press("Undo")
    expect(widget.button("Undo")).to_be_disabled()
    return notebook.value("changed()") == []


def test_zero_a_filter_by_region_and_button_and_undo_restores_its_bytes(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.select("[3]")
    widget.press("Zero")
    assert only_filter_3_is_zero(notebook)
    expect(widget.code).to_contain_text("zero_()")
    expect(widget.history.get_by_role("listitem").filter(has_text="conv1.weight").first).to_be_visible()
    assert undo_restores_the_bytes(notebook, widget)  # J2


def test_the_line_of_pytorch_does_the_same_edit(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.select("[3, :, 1:2]")
    widget.dialog("Fill…", Value="0.25")
    expect(widget.code).to_contain_text("fill_")
    code = widget.code.text_content()
    notebook.kernel("edited = {n: t.numpy().tobytes() for n, t in model.state_dict().items()}; lab.undo()")
    notebook.kernel(code or "")
    assert notebook.value("all(edited[n] == t.numpy().tobytes() for n, t in model.state_dict().items())")


def test_zero_a_filter_by_a_click_on_its_label(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    x, y = widget.label_of_filter("conv1.weight", 3)
    widget.page.mouse.click(x, y)
    expect(widget.region).to_have_value("[3]")
    widget.press("Zero")
    assert only_filter_3_is_zero(notebook)
    assert undo_restores_the_bytes(notebook, widget)


def test_zero_a_filter_by_brush(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.button("Brush").click()
    widget.root.get_by_label("Brush size").fill("3")
    for channel in range(3):
        # An odd brush paints around the cell under the pointer: the middle of a 3 x 3 kernel paints all of it.
        x, y = widget.point_of("conv1.weight", (3, channel, 1, 1))
        widget.changes(lambda x=x, y=y: widget.page.mouse.click(x, y))
    assert only_filter_3_is_zero(notebook)
    for _ in range(3):
        widget.press("Undo")
    assert notebook.value("changed()") == []


def test_escape_ends_a_brush_stroke_and_nothing_is_sent(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.button("Brush").click()
    x, y = widget.point_of("conv1.weight", (2, 0, 1, 1))
    widget.page.mouse.move(x, y)
    widget.page.mouse.down()
    widget.page.mouse.move(x + 9, y)
    widget.page.keyboard.press("Escape")
    widget.page.mouse.up()
    assert notebook.value("[changed(), len(lab.history)]") == [[], 0]


def test_drag_selects_a_rectangle(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    widget.button("Select").click()
    x, y = widget.point_of("fc.weight", (1, 2))
    widget.page.mouse.move(x, y)
    widget.page.mouse.down()
    x, y = widget.point_of("fc.weight", (3, 5))
    widget.page.mouse.move(x, y, steps=4)
    widget.page.mouse.up()
    expect(widget.region).to_have_value("[1:4, 2:6]")


def test_set_a_bias_row(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.changes(lambda: widget.dialog("Set row…", Values="1, 2.5, -3, 0, 1e-3"))
    assert notebook.value("model.fc.bias.tolist()") == pytest.approx([1, 2.5, -3, 0, 1e-3])
    assert undo_restores_the_bytes(notebook, widget)


def test_set_a_matrix_row_to_one_number(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    widget.changes(lambda: widget.dialog("Set row…", Row="1", Values="0.5"))
    assert notebook.value("model.fc.weight[1].tolist()") == [0.5] * 8
    assert undo_restores_the_bytes(notebook, widget)


def test_clamp_and_scale(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.changes(lambda: widget.dialog("Clamp…", Minimum="-0.1", Maximum="0.05"))
    low, high = notebook.value("[model.conv1.weight.min().item(), model.conv1.weight.max().item()]")
    assert (low, high) == pytest.approx((-0.1, 0.05))
    widget.press("Undo")
    widget.select("[0]")
    widget.changes(lambda: widget.dialog("Scale…", Factor="2"))
    assert notebook.value("changed()") == ["conv1.weight"]
    assert undo_restores_the_bytes(notebook, widget)


def test_redo_after_undo(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    expect(widget.button("Redo")).to_be_disabled()
    widget.select("[3]")
    widget.press("Zero")
    widget.press("Undo")
    widget.press("Redo")
    assert only_filter_3_is_zero(notebook)


@pytest.mark.parametrize("text", ["[99]", "[0, 0, 0, 0, 0]", "[a]", "__import__('os')"])
def test_a_region_that_does_not_fit_gives_an_alert(notebook: LiveNotebook, widget: Widget, text: str) -> None:
    widget.open("conv1.weight")
    widget.select(text)
    expect(widget.alert).to_contain_text("conv1.weight [8, 3, 3, 3]")
    assert notebook.value("[changed(), len(lab.history)]") == [[], 0]


@pytest.mark.parametrize("text", ["abc", "1e39", "1, 2"])
def test_a_value_that_does_not_fit_gives_an_alert_and_changes_no_byte(
    notebook: LiveNotebook, widget: Widget, text: str
) -> None:
    widget.open("fc.bias")
    widget.button("Fill…").click()
    widget.root.get_by_role("textbox", name="Value", exact=True).fill(text)
    expect(widget.alert).to_contain_text("fc.bias [5]")
    widget.button("Apply").click()
    expect(widget.alert).to_contain_text("fc.bias [5]")
    assert notebook.value("[changed(), len(lab.history)]") == [[], 0]  # J11


def test_undo_after_a_change_by_the_user_asks_first(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.dialog("Fill…", Value="2")
    expect(widget.button("Undo")).to_be_enabled()
    notebook.kernel("with torch.no_grad(): model.fc.bias[1] = 7")
    widget.button("Undo").click()
    expect(widget.alert).to_contain_text("fc.bias")
    assert notebook.value("model.fc.bias[1].item()") == 7  # J8
    widget.button("Keep").click()
    widget.button("Undo").click()
    widget.changes(widget.button("Restore anyway").click)
    assert notebook.value("changed()") == []


def test_zeroing_shows_in_the_gradients_with_its_cause(notebook: LiveNotebook, widget: Widget) -> None:
    row = widget.gradient_row("conv1.weight")
    widget.button("Check gradients").click()
    expect(widget.gradient_row("fc.weight")).to_have_attribute("data-status", "flowing")
    widget.open("fc.weight")
    widget.press("Zero")
    expect(row).to_have_attribute("data-status", "zero")
    row.click()
    expect(widget.root.locator('[data-wl="gradients"]')).to_contain_text("fc.weight")
    widget.press("Undo")
    expect(row).to_have_attribute("data-status", "flowing")


def test_everything_by_keyboard(notebook: LiveNotebook, widget: Widget) -> None:
    keyboard = widget.page.keyboard
    widget.open("fc.weight")
    widget.heatmap.focus()
    for key in ("Home", "ArrowDown", "ArrowRight", "ArrowRight"):
        keyboard.press(key)
    expect(widget.readout).to_contain_text("[1, 2] =")
    widget.region.focus()
    keyboard.type("[1, 2]")
    keyboard.press("Enter")
    expect(widget.region).to_have_value("[1, 2]")
    widget.button("Zero").focus()
    widget.changes(lambda: keyboard.press("Enter"))
    assert notebook.value("[model.fc.weight[1, 2].item(), changed()]") == [0.0, ["fc.weight"]]  # P6
