"""What the brush paints, by mouse and by keyboard, in a live JupyterLab. Cells are asserted in the kernel."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(9, 12))
lab = weightlab.Lab(model)
def painted(value):
    return (model[0].weight == value).nonzero().tolist()
"""
NAME = "0.weight"


def test_outside_the_picture_nothing_is_painted(notebook: LiveNotebook, widget: Widget) -> None:
    # J1: a cell that the pointer never touched is not painted.
    widget.open(NAME)
    widget.button("Brush").click()
    widget.root.get_by_role("textbox", name="Brush value").fill("0.5")
    mouse = widget.page.mouse
    x, y = widget.point_of(NAME, (2, 6))
    right, below = widget.point_of(NAME, (10, 8))
    mouse.move(x, y)
    mouse.down()
    mouse.move(right, y, steps=6)
    mouse.move(right + 60, y, steps=4)
    mouse.move(right + 60, below, steps=6)
    mouse.move(right, below)
    widget.changes(mouse.up)
    assert notebook.value("painted(0.5)") == [[2, 6], [2, 7], [2, 8], [10, 8]]


def test_the_brush_paints_by_keyboard(notebook: LiveNotebook, widget: Widget) -> None:
    # P6
    widget.open(NAME)
    widget.button("Brush").click()
    widget.root.get_by_role("textbox", name="Brush value").fill("0.5")
    keyboard = widget.page.keyboard
    widget.heatmap.focus()
    for key in ("ArrowDown", "ArrowRight"):
        keyboard.press(key)
    widget.changes(lambda: keyboard.press("Space"))
    assert notebook.value("painted(0.5)") == [[1, 1]]
    # Held Shift paints along, and one stroke is one entry.
    keyboard.down("Shift")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        keyboard.press(key)
    widget.changes(lambda: keyboard.up("Shift"))
    assert notebook.value("[painted(0.5), len(lab.history)]") == [[[1, 1], [1, 2], [1, 3], [2, 3]], 2]
    # Its size and its mode are the mouse's; Enter ends a stroke, too.
    widget.root.get_by_label("Brush size").fill("2")
    widget.root.get_by_label("Brush mode").select_option("scale")
    widget.root.get_by_role("textbox", name="Brush value").fill("2")
    widget.heatmap.focus()
    keyboard.down("Shift")
    keyboard.press("ArrowLeft")
    widget.changes(lambda: keyboard.press("Enter"))
    keyboard.up("Shift")
    assert notebook.value("painted(1.0)") == [[2, 3]]
    assert notebook.value("lab.history[-1].cells") == 6
    # Esc forgets: nothing is sent, and the key that comes up selects nothing.
    keyboard.down("Space")
    keyboard.press("ArrowRight")
    keyboard.press("Escape")
    keyboard.up("Space")
    assert notebook.value("len(lab.history)") == 3
    expect(widget.region).to_have_value("")
