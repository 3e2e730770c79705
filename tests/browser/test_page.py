"""What the page shows, and how it lives beside JupyterLab and the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.live import LiveNotebook
from tests.browser.server import JupyterServer
from tests.browser.test_editing import MODEL


def test_the_drawn_values_are_the_tensors(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")
    wanted = np.array(notebook.value("model.conv1.weight.tolist()"), dtype=np.float32)
    for index in [(0, 0, 0, 0), (3, 1, 0, 2), (7, 2, 2, 2)]:
        assert np.float32(widget.drawn_value("conv1.weight", index)) == wanted[index]
        widget.page.mouse.move(*widget.point_of("conv1.weight", index))
        expect(widget.readout).to_contain_text(f"[{', '.join(map(str, index))}] = ")
        read = re.search(r"= (\S+)", widget.readout.text_content() or "")
        assert read is not None
        assert np.float32(read[1]) == wanted[index]


def test_negative_cells_are_blue_and_positive_ones_red(notebook: LiveNotebook) -> None:
    notebook.kernel("lab['fc.weight'].copy_(torch.linspace(-1, 1, 40).view(5, 8))")
    widget = notebook.widget()
    widget.open("fc.weight")
    red, _, blue = widget.drawn_colour("fc.weight", (0, 0))
    assert blue > red + 50
    red, _, blue = widget.drawn_colour("fc.weight", (4, 7))
    assert red > blue + 50


def test_nan_and_inf_are_marked(notebook: LiveNotebook) -> None:
    notebook.kernel("with torch.no_grad(): model.fc.weight[0, 0] = float('nan'); model.fc.weight[0, 1] = float('inf')")
    widget = notebook.widget()
    widget.open("fc.weight")
    widget.page.mouse.move(*widget.point_of("fc.weight", (0, 0)))
    expect(widget.readout).to_contain_text("[0, 0] = nan")
    widget.page.mouse.move(*widget.point_of("fc.weight", (0, 1)))
    expect(widget.readout).to_contain_text("[0, 1] = inf")
    expect(widget.root).to_contain_text(re.compile("nan", re.IGNORECASE))  # S3


def test_names_with_html_are_shown_as_text(open_notebook: Open) -> None:
    evil = '<img src=x onerror="harmed=1"><b>bold</b>'
    notebook = open_notebook(
        f"import torch, weightlab\nmodel = torch.nn.Sequential()\nmodel.add_module({evil!r}, torch.nn.Linear(3, 2))\n"
        "lab = weightlab.Lab(model)\nlab"
    )
    notebook.run_all()
    widget = notebook.widget()
    row = widget.root.locator('[data-wl="tree"] [role="treeitem"]').filter(has_text="<b>bold</b>").first
    expect(row).to_be_visible()
    row.click()
    assert notebook.page.evaluate("() => window.harmed") is None  # P3
    assert widget.root.locator("img").count() == 0


def test_keys_inside_the_widget_do_not_reach_the_notebook(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")
    cells = notebook.cell_count()
    for place in (widget.heatmap, widget.button("Pan"), widget.tree_row("conv1.weight"), widget.button("Zero")):
        place.focus()
        for key in ("d", "d", "b", "a", "x"):
            notebook.page.keyboard.press(key)
    assert notebook.cell_count() == cells  # P6


def test_light_and_dark_follow_the_host(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")

    def brightness() -> float:
        colour: str = widget.root.evaluate("element => getComputedStyle(element).backgroundColor")
        return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3])

    light = brightness()
    notebook.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
    notebook.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    widget.painted("conv1.weight")
    dark = brightness()
    notebook.command("apputils:change-theme", {"theme": "JupyterLab Light"})
    assert light > 600
    assert dark < 200


def test_two_views_stay_in_step(open_notebook: Open) -> None:
    notebook = open_notebook(MODEL, "lab", "lab")
    notebook.run_all()
    first, second = notebook.widget(0), notebook.widget(1)
    second.open("conv1.weight")
    first.open("conv1.weight")
    first.select("[3]")
    first.press("Zero")
    expect(second.root).to_have_attribute("data-revision", str(first.revision))
    second.painted("conv1.weight")
    assert second.drawn_value("conv1.weight", (3, 0, 0, 0)) == 0
    second.press("Undo")
    expect(first.root).to_have_attribute("data-revision", str(second.revision))
    assert notebook.value("changed()") == []


def test_the_page_follows_edits_in_python(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")
    widget.changes(lambda: notebook.kernel("lab['conv1.weight'][3].zero_()"))
    widget.painted("conv1.weight")
    assert widget.drawn_value("conv1.weight", (3, 2, 1, 0)) == 0
    expect(widget.history).to_contain_text("conv1.weight")
    widget.changes(lambda: notebook.kernel("lab.undo()"))
    expect(widget.button("Undo")).to_be_disabled()


def test_the_filter_finds_any_part_of_a_name(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    box = widget.root.get_by_role("textbox", name="Filter parameters")
    for text, seen, hidden in [("FC.b", "fc.bias", "conv1.bias"), ("c*weight", "conv1.weight", "fc.bias")]:
        box.fill(text)
        expect(widget.tree_row(seen)).to_be_visible()
        expect(widget.tree_row(hidden)).to_have_count(0)


# A cell that runs until the test lets it end. Where JupyterLab sends comm messages to a subshell, a handler runs beside
# it; a host that does not says "busy".
BUSY = """
import pathlib, time
end = time.monotonic() + 60
while time.monotonic() < end and not pathlib.Path("let-go").exists():
    time.sleep(0.05)
pathlib.Path("ended").touch()
"""


def let_go(server: JupyterServer) -> None:
    (server.notebooks / "let-go").touch()


def still_runs(server: JupyterServer) -> bool:
    """By a file: the kernel's status is no sign, as a subshell that has answered reports "idle" beside a busy cell."""
    return not (server.notebooks / "ended").exists()


@pytest.fixture(autouse=True)
def _every_busy_cell_ends(jupyter: JupyterServer, jupyter_without_subshells: JupyterServer) -> Iterator[None]:
    servers = (jupyter, jupyter_without_subshells)
    for server in servers:
        for name in ("let-go", "ended"):
            (server.notebooks / name).unlink(missing_ok=True)
    yield
    for server in servers:
        let_go(server)


def test_the_page_answers_while_a_cell_runs(open_notebook: Open, jupyter: JupyterServer) -> None:
    notebook = open_notebook(MODEL, "lab", BUSY)
    for cell in (0, 1):
        notebook.run_cell(cell)
    widget = notebook.widget()
    notebook.start_cell(2)
    notebook.wait_busy()
    widget.open("fc.weight")
    widget.select("[1]")
    widget.press("Zero")
    assert still_runs(jupyter)
    let_go(jupyter)
    assert notebook.value("model.fc.weight[1].tolist()") == [0.0] * 8


def test_the_page_answers_in_run_all_with_a_long_cell_behind_it(open_notebook: Open, jupyter: JupyterServer) -> None:
    notebook = open_notebook(MODEL, "lab", BUSY)
    notebook.start_all()
    widget = notebook.widget()
    widget.open("fc.weight")
    assert still_runs(jupyter)
    let_go(jupyter)


def test_without_subshells_the_page_says_busy_and_catches_up(
    open_notebook: Open, jupyter_without_subshells: JupyterServer
) -> None:
    notebook = open_notebook(MODEL, "lab", BUSY, server=jupyter_without_subshells)
    for cell in (0, 1):
        notebook.run_cell(cell)
    widget = notebook.widget()
    widget.open("fc.weight")
    notebook.start_cell(2)
    notebook.wait_busy()
    widget.button("Zero").click()
    expect(widget.status).to_contain_text("kernel busy")  # P9, T3
    let_go(jupyter_without_subshells)
    expect(widget.status).to_contain_text("kernel ready")
    assert notebook.value("bool((model.fc.weight == 0).all())")


def test_a_long_request_shows_how_far_it_is_and_is_cancelled(
    open_notebook: Open, jupyter: JupyterServer, jupyter_without_subshells: JupyterServer
) -> None:
    """T3: the wish is heard while the kernel works, wherever its host lets messages in; nothing is an error."""
    endless = """
import time, torch, weightlab as wl
from weightlab.progress import report

def probe(model):
    for step in range(10**6):
        report(step, 10**6, "checking gradients")
        time.sleep(0.01)

lab = wl.Lab(torch.nn.Linear(5, 3), probe=probe, auto_check=False)
lab
"""
    for server in (jupyter, jupyter_without_subshells):
        notebook = open_notebook(endless, server=server)
        notebook.run_all()
        widget = notebook.widget()
        widget.button("Check gradients").click()
        expect(widget.root.get_by_role("progressbar", name="checking gradients")).to_be_visible()
        widget.button("Cancel checking gradients").click()
        expect(widget.root.get_by_role("progressbar")).to_have_count(0)
        expect(widget.root).to_contain_text("Cancelled while checking gradients. Nothing was changed.")
        expect(widget.alert).to_have_count(0)
        widget.press("Zero")
