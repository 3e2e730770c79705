"""All tensors at once, and one to the last digit: statistics in the tree, map, spectrum, cells, search, room."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.live import LiveNotebook, Widget
from tests.browser.test_editing import MODEL


def names_of(widget: Widget) -> list[str]:
    rows = widget.root.locator('[data-wl="tree"] [role="treeitem"]:not([data-kind="module"])')
    return [str(row.get_attribute("data-name")) for row in rows.all()]


def test_rows_say_what_their_tensors_hold_and_an_edit_refreshes_its_own(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    row = widget.tree_row("fc.weight")
    std = notebook.value("float(model.fc.weight.detach().std(correction=0))")
    expect(row).to_have_accessible_name(re.compile(r"mean .*, std "))
    shown = re.search(r"std ([\d.e-]+)", row.get_attribute("aria-label") or "")
    assert shown is not None
    assert float(shown[1]) == pytest.approx(std, rel=1e-3)
    other = widget.tree_row("conv1.weight").get_attribute("aria-label") or ""
    notebook.kernel("import math; lab['fc.weight'][0].zero_(); lab['fc.weight'][1, :2].fill_(math.nan)")
    expect(row).to_have_accessible_name(re.compile(r"8 zeros, 2 NaN"))
    expect(row).to_contain_text("2 NaN")
    expect(row).to_contain_text("20% 0")
    statistics = other[other.index("mean") :]
    assert statistics in (widget.tree_row("conv1.weight").get_attribute("aria-label") or "")


def test_rows_sort_by_a_statistic_and_come_back(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    control = widget.root.get_by_role("combobox", name="Sort parameters")
    before = names_of(widget)
    control.select_option("std")
    notebook.kernel("spread = lambda name: float(lab.tree.tensor(name).detach().double().std(correction=0))")
    wanted = notebook.value("sorted(lab, key=lambda name: -spread(name))")
    expect(widget.root.locator('[data-wl="tree"] [role="treeitem"]').first).to_have_attribute("data-name", wanted[0])
    assert names_of(widget) == wanted
    assert widget.tree_row(wanted[0]).get_attribute("aria-level") == "1"
    widget.button("Largest first").click()
    expect(widget.root.locator('[data-wl="tree"] [role="treeitem"]').first).to_have_attribute("data-name", wanted[-1])
    control.select_option("")
    expect(widget.root.locator('[data-wl="tree"] [data-kind="module"]').first).to_be_visible()
    assert names_of(widget) == before


def test_the_map_shows_every_tensor_and_opens_one(notebook: LiveNotebook) -> None:
    notebook.kernel("lab['fc.bias'].fill_(1.0)")
    widget = notebook.widget()
    widget.open("conv1.weight")
    widget.button("Map").click()
    tiles = widget.root.get_by_role("listbox", name="Map of the model")
    expect(tiles).to_have_attribute("data-painted", re.compile(r"^picture@\d+$"))
    spot = tiles.evaluate("host => host.__wl_tile('fc.bias')")
    red, _, blue = spot["color"][:3]
    assert red > blue + 50  # all ones: the colour of the upper end
    widget.page.mouse.move(spot["x"], spot["y"])
    expect(widget.root.locator('[data-wl="map"]')).to_contain_text("fc.bias · 5")
    widget.page.mouse.click(spot["x"], spot["y"])
    widget.painted("fc.bias")
    expect(tiles).to_have_count(0)


def test_the_map_is_worked_by_keyboard_and_coloured_by_status(notebook: LiveNotebook) -> None:
    """P6, P7."""
    widget = notebook.widget()
    widget.open("conv1.weight")
    widget.button("Check gradients").click()
    expect(widget.gradient_row("conv1.weight")).to_be_visible()
    widget.heatmap.focus()
    widget.page.keyboard.press("m")
    tiles = widget.root.get_by_role("listbox", name="Map of the model")
    expect(tiles).to_be_focused()
    expect(tiles.get_by_role("option")).to_have_attribute("data-name", "conv1.weight")
    widget.root.get_by_role("combobox", name="Colour of the map").select_option("status")
    expect(tiles).to_have_attribute("data-painted", re.compile(r"^status@"))
    expect(tiles.get_by_role("option")).to_have_accessible_name(re.compile("gradient"))
    tiles.focus()
    widget.page.keyboard.press("End")
    last = notebook.value("list(lab)[-1]")
    expect(tiles.get_by_role("option")).to_have_attribute("data-name", last)
    widget.page.keyboard.press("Enter")
    widget.painted(last)


def test_the_spectrum_has_the_ranks_that_python_has(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("fc.weight")
    widget.button("Spectrum").click()
    panel = widget.root.get_by_role("region", name="Spectrum")
    expect(panel.get_by_role("img")).to_have_accessible_name(re.compile("^5 singular values"))
    rank = notebook.value("lab['fc.weight'].spectrum().effective_rank")
    expect(panel).to_contain_text(f"effective rank{rank:.4g}")
    notebook.kernel("lab['fc.weight'][1:].zero_()")
    expect(panel).to_contain_text(re.compile(r"effective rank1(?!\.[1-9])"))
    widget.open("fc.bias")
    expect(panel).to_contain_text("belongs to a matrix")


def test_cells_are_exact_and_a_search_goes_from_one_to_the_next(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")
    widget.button("Cells").click()
    grid = widget.root.get_by_role("grid", name="Cells of conv1.weight")
    expect(grid.get_by_role("gridcell").first).to_have_text(
        notebook.value("str(model.conv1.weight[0,0,0,0].detach().numpy())")
    )
    # The longest number is read to its last digit, and the head of its column is above it.
    notebook.kernel("lab['conv1.weight'][0, 0, 0, 1].fill_(-0.000123456789)")
    cell = grid.get_by_role("gridcell").nth(1)
    expect(cell).to_have_text(notebook.value("str(model.conv1.weight[0,0,0,1].detach().numpy())"))
    widget.page.wait_for_function("cell => cell.scrollWidth <= cell.clientWidth", arg=cell.element_handle())
    head = grid.locator('[role="columnheader"]').nth(2).bounding_box()
    place = cell.bounding_box()
    assert head is not None
    assert place is not None
    assert (head["x"], head["width"]) == (place["x"], place["width"])
    widget.press("Undo")
    order = notebook.value("model.conv1.weight.flatten().argsort(descending=True)[:2].tolist()")
    found = widget.root.get_by_role("status", name="Found cell")
    told = []
    for button in ("Next cell", "Next cell", "Previous cell"):
        before = found.text_content() or ""
        widget.button(button).click()
        expect(found).not_to_have_text(before)
        told.append(found.text_content())
        expect(widget.region).to_have_value((found.text_content() or "").partition(" = ")[0])
    wanted = [
        notebook.value(f"list(map(int, torch.unravel_index(torch.tensor({at}), model.conv1.weight.shape)))")
        for at in order
    ]
    assert [str(text).partition(" = ")[0] for text in told] == [str(wanted[0]), str(wanted[1]), str(wanted[0])]
    expect(grid.locator('[aria-selected="true"]')).to_be_visible()
    widget.root.get_by_role("combobox", name="Find").select_option("nan")
    widget.button("Next cell").click()
    expect(found).to_have_text("there is none")


def test_selected_cells_are_copied_as_text(notebook: LiveNotebook) -> None:
    notebook.context.grant_permissions(["clipboard-read", "clipboard-write"])
    widget = notebook.widget()
    widget.open("fc.weight")
    widget.button("Cells").click()
    widget.select("[1, 2:4]")
    expect(widget.root.get_by_role("grid", name="Cells of fc.weight").get_by_role("gridcell")).to_have_count(2)
    widget.button("Copy torch").click()
    expect(widget.root.get_by_role("status", name="Found cell")).to_have_text("2 cells copied")
    code = notebook.page.evaluate("() => navigator.clipboard.readText()")
    assert notebook.value(f"torch.equal({code}, model.fc.weight[1, 2:4].detach())")


def test_splitters_move_by_keyboard_and_are_remembered(notebook: LiveNotebook) -> None:
    """P6."""
    widget = notebook.widget()
    bar = widget.root.get_by_role("separator", name="Width of the tree")
    tree = widget.root.get_by_role("navigation", name="Model")
    before = tree.bounding_box()
    assert before is not None
    bar.focus()
    widget.page.keyboard.press("ArrowRight")
    widget.page.keyboard.press("ArrowRight")
    expect(bar).to_have_attribute("aria-valuenow", str(round(before["width"]) + 32))
    after = tree.bounding_box()
    assert after is not None
    assert after["width"] == pytest.approx(before["width"] + 32, abs=2)
    notebook.command("notebook:clear-all-cell-outputs")
    notebook.run_all()
    again = notebook.widget()
    expect(again.root.get_by_role("separator", name="Width of the tree")).to_have_attribute(
        "aria-valuenow", str(round(before["width"]) + 32)
    )
    again.root.get_by_role("separator", name="Width of the tree").dblclick()
    expect(again.root.get_by_role("separator", name="Width of the tree")).to_have_attribute(
        "aria-valuenow", str(round(before["width"]))
    )


def test_the_widget_fills_the_window_and_escape_brings_it_back(notebook: LiveNotebook) -> None:
    widget = notebook.widget()
    widget.open("conv1.weight")
    before = widget.root.bounding_box()
    widget.button("Fill the window").click()
    size = notebook.page.viewport_size
    assert size is not None
    widget.page.wait_for_function(
        "([root, width]) => Math.round(root.getBoundingClientRect().width) === width",
        arg=[widget.root.element_handle(), size["width"]],
    )
    box = widget.root.bounding_box()
    assert box is not None
    assert (box["x"], box["y"], box["height"]) == (0, 0, size["height"])
    widget.painted("conv1.weight")
    widget.page.keyboard.press("Escape")
    expect(widget.button("Fill the window")).to_have_attribute("aria-pressed", "false")
    assert widget.root.bounding_box() == before


def test_an_output_view_of_its_own_is_filled(notebook: LiveNotebook) -> None:
    """JupyterLab's "Create New View for Output"; another view of the same Lab stays in the notebook."""
    notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
    tab = notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.id")
    notebook.command("notebook:create-output-view")
    view = notebook.page.locator('.jp-LinkedOutputView [data-wl="lab"]')
    notebook.page.wait_for_function(
        """() => { const root = document.querySelector('.jp-LinkedOutputView [data-wl="lab"]');
            const panel = root?.closest('.jp-LinkedOutputView');
            return panel && Math.abs(root.getBoundingClientRect().height - Math.max(420, panel.clientHeight - 16)) < 2; }"""
    )
    expect(notebook.page.locator('[data-wl="lab"]')).to_have_count(2)
    expect(view).to_have_attribute("data-revision", re.compile(r"\d"))
    notebook.page.evaluate("() => window.jupyterapp.shell.currentWidget.close()")
    notebook.page.evaluate("id => window.jupyterapp.shell.activateById(id)", tab)
    expect(view).to_have_count(0)


def test_a_closed_view_leaves_nothing_behind(open_notebook: Open) -> None:
    """P4: its canvases and listeners are gone with it, while another view of the same Lab goes on."""
    notebook = open_notebook(MODEL, "lab", "lab")
    notebook.run_all()
    first, second = notebook.widget(0), notebook.widget(1)
    # No handle on its element may be taken here: it would keep it alive, as a forgotten listener would.
    second.tree_row("conv1.weight").click()
    expect(second.heatmap).to_have_attribute("data-painted", re.compile("^conv1.weight@"))
    second.button("RGB").click()
    expect(second.root.locator(".wl-colours")).to_have_count(1)
    second.button("Cells").click()
    second.button("Map").click()
    expect(second.root.get_by_role("listbox", name="Map of the model")).to_have_attribute(
        "data-painted", re.compile("@")
    )
    second.root.evaluate(
        """root => { window.closedView = new WeakRef(root); window.closedContexts =
            [...root.querySelectorAll('canvas')].map(c => c.getContext('webgl2')).filter(Boolean); }"""
    )
    assert notebook.page.evaluate("() => window.closedContexts.length") == 1
    notebook.page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; }")
    notebook.command("notebook:clear-cell-output")
    expect(notebook.page.locator('[data-wl="lab"]')).to_have_count(1)
    assert notebook.page.evaluate("() => window.closedContexts.every(gl => gl.isContextLost())")
    # Whatever listened for it would keep its element alive: with the garbage it goes. The browser itself keeps what was
    # clicked last.
    first.button("Pan").click()
    notebook.page.evaluate("() => { delete window.closedContexts; }")
    heap = notebook.context.new_cdp_session(notebook.page)
    for _ in range(20):
        heap.send("HeapProfiler.collectGarbage")
        if notebook.page.evaluate("() => window.closedView.deref() === undefined"):
            break
        notebook.page.wait_for_timeout(100)
    else:
        raise AssertionError("the element of the closed view is still held")
    first.open("fc.weight")
    first.press("Zero")
    first.painted("fc.weight")
    first.press("Undo")
