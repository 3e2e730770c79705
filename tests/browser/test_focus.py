"""The focus stays in the widget, whatever is switched off or taken away under it (P6), in a live JupyterLab."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, 4))
lab = weightlab.Lab(model)
"""
NAME = "0.weight"


def inside(widget: Widget) -> None:
    """Wait until something of the widget has the focus, so that its keys are heard."""
    widget.page.wait_for_function("root => root.contains(document.activeElement)", arg=widget.root.element_handle())


def pressed(widget: Widget, button: Locator) -> None:
    """By keyboard, as the focus of a click is the same."""
    button.focus()
    widget.page.keyboard.press("Enter")


def test_keys_are_heard_after_a_control_has_gone(notebook: LiveNotebook, widget: Widget) -> None:
    keyboard = widget.page.keyboard
    widget.open(NAME)
    widget.select("[2]")
    widget.press("Zero")
    widget.changes(lambda: pressed(widget, widget.button("Undo")))
    expect(widget.button("Undo")).to_be_disabled()
    inside(widget)
    widget.changes(lambda: keyboard.press("Control+Shift+Z"))
    widget.changes(lambda: keyboard.press("Control+Z"))
    # A hold that is released takes its row along; two stand there, and the next one has the focus.
    notebook.kernel("lab['0.weight'][1].hold(); lab['0.weight'][3].hold()")
    holds = widget.root.get_by_role("list", name="Holds")
    expect(holds.get_by_role("listitem")).to_have_count(2)
    for left in (1, 0):
        release = holds.get_by_role("button", name="Release").first
        pressed(widget, release)
        expect(holds.get_by_role("listitem")).to_have_count(left)
        inside(widget)
        if left:
            expect(release).to_be_focused()
    expect(widget.heatmap).to_be_focused()
    # An alert that is closed, a snapshot that is dropped.
    widget.select("[99]")
    pressed(widget, widget.button("Close this message"))
    inside(widget)
    widget.select("")
    notebook.kernel("lab.snapshot('start')")
    pressed(widget, widget.button("Drop start"))
    expect(widget.button("Drop start")).to_have_count(0)
    inside(widget)
    # A conflict that is answered: then undo is heard again.
    widget.press("Zero")
    notebook.kernel("with torch.no_grad(): model[0].weight[0] += 1\nlab.notice()")
    keyboard.press("Control+Z")
    pressed(widget, widget.button("Keep"))
    expect(widget.button("Keep")).to_have_count(0)
    inside(widget)
    keyboard.press("Control+Z")
    expect(widget.button("Restore anyway")).to_be_visible()
    # Who clicks elsewhere has left.
    notebook.page.locator(".jp-Cell .cm-content").first.click()
    widget.alert.get_by_role("button", name="Keep").evaluate("button => button.click()")
    expect(widget.button("Keep")).to_have_count(0)
    assert not notebook.page.evaluate("root => root.contains(document.activeElement)", widget.root.element_handle())


def test_what_is_held_is_selected_and_a_comparison_keeps_the_selection(notebook: LiveNotebook, widget: Widget) -> None:
    notebook.kernel("lab.snapshot('start')\nwith torch.no_grad(): model[0].weight[2] += 1\nlab.notice()")
    notebook.kernel("lab['0.weight'][1:3, 4:6].hold()\nlab['0.weight'][model[0].weight > 1].hold()")
    many = notebook.value("int((model[0].weight > 1).sum())")
    widget.open(NAME)
    widget.select("[2, 1:4]")
    widget.root.get_by_role("list", name="Snapshots").get_by_role("button", name="Compare").click()
    widget.window("Compared with start").get_by_role("button", name="0.weight", exact=True).click()
    expect(widget.heatmap).to_have_attribute("data-view", "diff:start")
    expect(widget.region).to_have_value("[2, 1:4]")
    shown = widget.root.get_by_role("list", name="Holds").get_by_role("button", name="Show hold")
    shown.first.click()
    expect(widget.region).to_have_value("[1:3, 4:6]")
    widget.open("2.weight")
    shown.nth(1).click()
    widget.painted(NAME)
    expect(widget.region).to_have_value(f"[{many} cells]")
    # In a menu the keys are the list's: nothing scrolls, and no letter chooses a tool.
    keyboard = widget.page.keyboard
    pressed(widget, widget.button("More…"))
    menu = widget.root.get_by_role("menu", name="More…")
    for key, item in (("End", "Freeze, train…"), ("Home", "Repeat the last edit (R)"), ("p", "Prune…")):
        keyboard.press(key)
        expect(menu.get_by_role("menuitem", name=item, exact=True)).to_be_focused()
    expect(widget.button("Pan")).to_have_attribute("aria-pressed", "false")
    keyboard.press("Escape")
