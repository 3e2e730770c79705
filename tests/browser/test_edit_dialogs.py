"""The small windows of editing: which tensor they are about, how they close, and what they say; in a live JupyterLab."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, torch, weightlab
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(collections.OrderedDict(emb=nn.Embedding(9, 6), fc=nn.Linear(6, 40)))
start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
lab = weightlab.Lab(model)
"""


@pytest.fixture
def notebook(open_notebook: Open) -> LiveNotebook:
    live = open_notebook(MODEL, "lab")
    live.run_all()
    return live


@pytest.fixture
def widget(notebook: LiveNotebook) -> Widget:
    return notebook.widget()


def window(widget: Widget, name: str) -> Locator:
    return widget.root.get_by_role("dialog", name=name, exact=True)


def pick(widget: Widget, menu: str, item: str) -> None:
    widget.button(menu).click()
    widget.root.get_by_role("menuitem", name=item, exact=True).click()


def test_a_form_names_its_tensor_and_closes_when_another_is_opened(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("emb.weight")
    widget.select("[5]")
    widget.button("Fill…").click()
    form = window(widget, "Fill")
    form.get_by_role("textbox", name="Value").fill("1")
    expect(form).to_contain_text("emb.weight [5]")
    widget.tree_row("fc.weight").click()
    widget.painted("fc.weight")
    expect(form).to_have_count(0)
    assert notebook.value("len(lab.history)") == 0


def test_escape_closes_every_window_wherever_the_focus_is(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    keyboard = widget.page.keyboard
    pick(widget, "Hold", "By a rule…")
    keyboard.press("Escape")
    expect(window(widget, "Hold to a rule")).to_have_count(0)
    pick(widget, "Export", "Save safetensors…")
    saving = window(widget, "Save safetensors")
    saving.get_by_role("button", name="Save").click()
    expect(saving).to_contain_text("Saved edited.safetensors")
    keyboard.press("Escape")
    expect(saving).to_have_count(0)
    widget.button("Fill…").click()
    widget.tree_row("fc.weight").focus()
    keyboard.press("Escape")
    expect(window(widget, "Fill")).to_have_count(0)
    # A list that is open goes first.
    widget.button("Fill…").click()
    widget.button("Hold").click()
    keyboard.press("Escape")
    expect(window(widget, "Fill")).to_be_visible()
    keyboard.press("Escape")
    expect(window(widget, "Fill")).to_have_count(0)


def test_one_window_is_open_at_a_time(widget: Widget) -> None:
    widget.open("fc.weight")
    pick(widget, "Export", "Save safetensors…")
    widget.button("Scale…").click()
    expect(window(widget, "Save safetensors")).to_have_count(0)
    expect(window(widget, "Scale")).to_be_visible()
    expect(widget.root.get_by_role("dialog")).to_have_count(1)
    widget.button("Scale…").click()
    expect(widget.root.get_by_role("dialog")).to_have_count(0)
