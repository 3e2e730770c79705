"""The panels beside the picture: other models, snapshots, holds, targets, moments, and contact sheets, in a live JupyterLab."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, copy, torch, weightlab
import torch.nn.functional as F
from torch import nn
def net(seed, classes):
    torch.manual_seed(seed)
    return nn.Sequential(collections.OrderedDict(
        conv1=nn.Conv2d(1, 24, 3), bn1=nn.BatchNorm2d(24), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(),
        fc=nn.Linear(24, classes)))
model, trained = net(0, 6), net(1, 5)
start = copy.deepcopy(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
x, y = torch.randn(4, 1, 9, 9), torch.randint(5, (4,))
def step():
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
def zero_filters():
    return [i for i, one in enumerate(model.conv1.weight) if not one.any()]
def alike(one, other):
    return bool((one == other).all())
lab = weightlab.Lab(model, batch=(x, y), loss=F.cross_entropy, optimizer=optimizer)
lab.offer("pretrained", trained)
"""

SLOW_STEP = """
import time
loss = F.cross_entropy(model(x), y)
time.sleep(6)
loss.backward()
optimizer.zero_grad()
optimizer.step()
trained = True
"""


def row_of(widget: Widget, listed: str, text: str) -> Locator:
    return widget.root.get_by_role("list", name=listed).get_by_role("listitem").filter(has_text=text)


def test_a_part_of_another_model_is_copied_and_averaged_by_mouse(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    widget.choose("More…", "Copy from…")
    dialog = widget.root.get_by_role("dialog", name="Copy from")
    expect(dialog.get_by_role("combobox", name="From")).to_have_value("pretrained")
    # The whole tensor has another shape: the refusal stands in the form before anything is applied.
    expect(dialog.get_by_role("alert")).to_contain_text("fc.weight [6, 24]")
    dialog.get_by_role("button", name="Cancel").click()
    widget.select("[:5]")
    expect(widget.region).to_have_value("[0:5]")
    widget.choose("More…", "Copy from…")
    expect(dialog).to_contain_text("120 cells change")
    widget.changes(dialog.get_by_role("button", name="Apply").click)
    assert notebook.value("alike(model.fc.weight[:5], trained.fc.weight)")
    widget.press("Undo")
    widget.choose("More…", "Average with…")
    dialog = widget.root.get_by_role("dialog", name="Average with")
    dialog.get_by_role("textbox", name="Weight").fill("0.25")
    widget.changes(dialog.get_by_role("button", name="Apply").click)
    assert notebook.value("alike(model.fc.weight[:5], torch.lerp(start.fc.weight[:5], trained.fc.weight, 0.25))")
    drawn = widget.drawn_value("fc.weight", (2, 3))
    assert drawn == pytest.approx(notebook.value("model.fc.weight[2, 3].item()"))


def test_a_model_is_transferred_and_averaged_with_its_table(notebook: LiveNotebook, widget: Widget) -> None:
    row_of(widget, "Other models", "pretrained").get_by_role("button", name="Transfer…").click()
    table = widget.root.get_by_role("dialog", name="Transfer from pretrained")
    expect(table.get_by_role("row").filter(has_text="fc.weight")).to_contain_text("left: shape [6, 24], there [5, 24]")
    assert notebook.value("alike(model.conv1.weight, start.conv1.weight)")
    widget.changes(table.get_by_role("button", name="Apply").click)
    expect(table.get_by_role("row").filter(has_text="conv1.weight")).to_contain_text("copied")
    assert notebook.value("alike(model.conv1.weight, trained.conv1.weight)")
    table.get_by_role("button", name="Close", exact=True).click()
    widget.press("Undo")
    row_of(widget, "Other models", "pretrained").get_by_role("button", name="Transfer…").click()
    table.get_by_role("textbox", name="Weight").fill("0.5")
    widget.changes(lambda: widget.page.keyboard.press("Enter"))
    assert notebook.value(
        "alike(model.conv1.weight, torch.lerp(start.conv1.weight, trained.conv1.weight, 0.5)) and len(lab.history) == 1"
    )
    widget.page.keyboard.press("Escape")
    expect(table).to_have_count(0)


def test_a_snapshot_is_compared_and_one_tensor_restored(notebook: LiveNotebook, widget: Widget) -> None:
    label = widget.root.get_by_role("textbox", name="Snapshot label")
    label.fill("before")
    label.press("Enter")
    widget.open("fc.bias")
    widget.press("Zero")
    widget.open("conv1.bias")
    widget.press("Zero")
    row_of(widget, "Snapshots", "before").get_by_role("button", name="Compare").click()
    table = widget.root.get_by_role("dialog", name="Compared with before")
    widget.changes(table.get_by_role("button", name="Restore fc.bias").click)
    expect(table.get_by_role("row").filter(has_text="fc.bias")).to_have_count(0)
    assert notebook.value("[alike(model.fc.bias, start.fc.bias), bool(model.conv1.bias.any())]") == [True, False]
    table.get_by_role("button", name="Show where conv1.bias differs").or_(
        table.get_by_role("button", name="conv1.bias", exact=True)
    ).first.click()
    expect(widget.heatmap).to_have_attribute("data-view", "diff:before")
    shown = widget.drawn_value("conv1.bias", (3,))
    assert shown == pytest.approx(notebook.value("-start.conv1.bias[3].item()"))
    widget.changes(row_of(widget, "Snapshots", "before").get_by_role("button", name="Restore").click)
    assert notebook.value("alike(model.conv1.bias, start.conv1.bias)")


def test_the_norm_behind_a_zeroed_filter_is_offered_and_zeroed(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("conv1.weight")
    widget.select("[2]")
    widget.press("Zero")
    offer = widget.root.get_by_role("button", name="Also zero bn1")
    widget.changes(offer.click)
    expect(offer).to_have_count(0)
    assert notebook.value("[model.bn1.weight[2].item(), model.bn1.weight[3].item(), len(lab.history)]") == [0, 1, 2]


def test_moments_are_kept_when_asked(notebook: LiveNotebook, widget: Widget) -> None:
    expect(widget.root.get_by_role("combobox", name="Moments")).to_have_count(0)
    notebook.kernel("step(); lab.refresh()")
    choice = widget.root.get_by_role("combobox", name="Moments")
    choice.select_option("keep")
    widget.open("fc.weight")
    widget.press("Zero")
    assert notebook.value("bool(optimizer.state[model.fc.weight]['exp_avg'].any())")
    widget.press("Undo")
    choice.select_option("")
    widget.press("Zero")
    assert not notebook.value("bool(optimizer.state[model.fc.weight]['exp_avg'].any())")


def test_a_cell_that_trains_is_noticed_when_it_ends(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    revision = widget.revision
    notebook.kernel("step()")
    expect(widget.root).to_have_attribute("data-revision", str(revision + 1))
    widget.painted("fc.weight")
    widget.page.mouse.move(*widget.point_of("fc.weight", (0, 0)))
    expect(widget.readout).to_contain_text(f"= {notebook.value('str(model.fc.weight[0, 0].detach().numpy())')}")


def test_an_edit_during_a_step_of_training_is_queued_and_lands_when_the_step_ends(
    notebook: LiveNotebook, widget: Widget
) -> None:  # T1, T3
    widget.open("fc.weight")
    revision = widget.revision
    notebook.start_kernel(SLOW_STEP)
    notebook.wait_busy()
    widget.button("Zero").click()
    expect(widget.status).to_have_text("1 edit queued")
    widget.tree_row("conv1.weight").click()  # the page goes on looking
    widget.painted("conv1.weight")
    assert widget.revision == revision
    # The edit, and what the step did to the statistics of the norm.
    expect(widget.root).to_have_attribute("data-revision", re.compile(f"^({revision + 1}|{revision + 2})$"))
    assert notebook.value("bool(model.fc.weight.any())") is False
    assert notebook.value("trained")  # torch had no reason to refuse the backward
    expect(widget.status).to_have_text("kernel ready")


def test_listed_cells_are_held_and_hatched_and_released(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    target = widget.root.get_by_role("toolbar", name="Picture").get_by_role("combobox", name="Target")
    target.select_option("largest")
    widget.root.get_by_role("textbox", name="Target number").fill("5")
    widget.choose("Hold", "Keep values…")
    widget.changes(widget.button("Apply").click)
    expect(widget.tree_row("fc.weight")).to_have_attribute("aria-label", re.compile("some cells are held"))
    target.select_option("")  # what is the largest after the step would be marked, too
    notebook.kernel("held = model.fc.weight.detach().abs().flatten().argsort(descending=True)[:5]\nstep()")
    assert notebook.value("alike(model.fc.weight.flatten()[held], start.fc.weight.flatten()[held])")  # T4
    # Marks of values past the colour range stand there, too, until the range of the new values has come.
    widget.page.wait_for_function(
        f"([stage, held]) => {{ const found = ({HATCHED})(stage, held); return found.held === 5 && found.others === 0; }}",
        arg=[widget.heatmap.element_handle(), notebook.value("held.tolist()")],
    )
    holds = widget.root.get_by_role("list", name="Holds")
    widget.changes(holds.get_by_role("button", name="Release hold").click)
    expect(holds).to_have_count(0)
    assert notebook.value("len(lab.constraints)") == 0


# Of the overlay's pixels in the middle of each cell: in how many cells is anything drawn?
HATCHED = """(stage, held) => {
  const canvas = stage.querySelector('.wl-overlay');
  const box = canvas.getBoundingClientRect();
  const dpr = canvas.width / box.width;
  const context = canvas.getContext('2d');
  const found = {held: 0, others: 0};
  for (let i = 0; i < 6; i++) for (let j = 0; j < 24; j++) {
    const {x, y} = stage.__wl_value(i, j);
    const half = 4 * dpr;
    const {data} = context.getImageData((x - box.left) * dpr - half, (y - box.top) * dpr - half, 2 * half, 2 * half);
    if (data.some(each => each > 0)) found[held.includes(i * 24 + j) ? 'held' : 'others'] += 1;
  }
  return found;
}"""


def test_a_rule_shows_its_code_and_what_python_holds_is_listed(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.select("[1]")
    widget.choose("Hold", "By a rule…")
    dialog = widget.root.get_by_role("dialog", name="Hold to a rule")
    expect(dialog).to_contain_text('lab["fc.bias"][1].hold(rule=rule)')
    widget.page.keyboard.press("Escape")
    notebook.kernel("lab['fc.bias'][1].hold(rule=lambda cells: cells * 0 + 0.5)")
    item = row_of(widget, "Holds", "Hold fc.bias[1] to a rule")
    widget.changes(item.get_by_role("button", name="Release").click)
    expect(item).to_have_count(0)


def test_a_drag_over_bands_of_a_contact_sheet_takes_the_filters_under_it(
    notebook: LiveNotebook, widget: Widget
) -> None:
    widget.open("conv1.weight")
    wrap = widget.heatmap.evaluate(
        "stage => { let n = 0; const y = stage.__wl_value(0, 0, 0, 0).y;"
        " while (n < 24 && stage.__wl_value(n, 0, 0, 0).y === y) n++; return n; }"
    )
    assert 3 < wrap < 24
    widget.drag("conv1.weight", (1, 0, 1, 1), (wrap + 2, 0, 1, 1))
    wanted = [1, 2, wrap + 1, wrap + 2]
    expect(widget.region).to_have_value(f"[{wanted}]")
    widget.press("Zero")
    assert notebook.value("zero_filters()") == wanted
    widget.heatmap.focus()
    widget.page.keyboard.press("i")
    expect(widget.root).to_contain_text(f"{(24 - 4) * 9} cells")


def test_history_is_walked_copied_and_saved(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.bias")
    widget.press("Zero")
    widget.dialog("Fill…", Value="2")
    expect(widget.history.get_by_role("listitem").filter(has_text="Fill")).to_be_visible()
    widget.history.get_by_role("listitem").filter(has_text="Zero").press("Enter")
    expect(widget.button("Redo")).to_be_enabled()
    assert notebook.value("model.fc.bias.tolist()") == [0] * 6
    notebook.kernel("import pathlib; pathlib.Path('edited.safetensors').unlink(missing_ok=True)")
    widget.choose("Export", "Save safetensors…")
    dialog = widget.root.get_by_role("dialog", name="Save safetensors")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_contain_text("Saved edited.safetensors")
    assert notebook.value("weightlab.open('edited.safetensors')['fc.bias'].value.tolist()") == [0] * 6


def test_a_selection_is_inverted_and_widened_by_keys_and_the_last_edit_repeated_on_it(
    notebook: LiveNotebook, widget: Widget
) -> None:
    zeros = "[i for i, v in enumerate(model.fc.bias.tolist()) if v == 0]"
    widget.open("fc.bias")
    widget.select("[1]")
    widget.press("Zero")
    keys = widget.page.keyboard
    for start, key, wanted in (("[1]", "i", [0, 1, 2, 3, 4, 5]), ("[4]", "g", [1, 3, 4, 5])):
        widget.select(start)
        widget.heatmap.focus()
        keys.press(key)
        expect(widget.region).not_to_have_value(start)
        widget.changes(lambda: keys.press("r"))
        assert notebook.value(zeros) == wanted
        widget.press("Undo")
    assert notebook.value(zeros) == [1]


def test_a_downloaded_recipe_gives_another_copy_the_same_bytes(notebook: LiveNotebook, widget: Widget) -> None:
    widget.open("fc.weight")
    widget.select("[2]")
    widget.dialog("Scale…", Factor="-3")
    expect(widget.history.get_by_role("listitem").filter(has_text="Scale")).to_be_visible()
    with widget.page.expect_download() as download:
        widget.choose("Export", "Download recipe")
    text = download.value.path().read_text()
    notebook.kernel(f"import copy, json; twin = copy.deepcopy(start); weightlab.replay(json.loads({text!r}), twin)")
    assert notebook.value(
        "torch.equal(twin.fc.weight, model.fc.weight) and not torch.equal(start.fc.weight, model.fc.weight)"
    )
