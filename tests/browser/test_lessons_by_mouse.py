"""Each lesson of the notebook on editing, done with the mouse: the lines of Python that its words replace are left out."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.lessons import CODE, Lesson, said
from tests.browser.live import LiveNotebook, Widget


@pytest.fixture
def live(open_notebook: Open) -> LiveNotebook:
    return open_notebook(*CODE)


def fill(widget: Widget, value: str) -> None:
    widget.changes(lambda: widget.dialog("Fill…", Value=value))


def click_row(widget: Widget, name: str, row: int) -> None:
    """A click in the margin beside a row of a matrix, where its number stands."""
    box = widget.heatmap.bounding_box()
    assert box
    widget.page.mouse.click(box["x"] + 12, widget.point_of(name, (row, 0))[1])
    expect(widget.region).to_have_value(f"[{row}]")


def go_to(widget: Widget, text: str) -> None:
    item = widget.history.get_by_role("listitem").filter(has_text=text)
    item.click()
    expect(item).to_have_attribute("aria-current", "true")


def kept(widget: Widget, listed: str, label: str) -> Locator:
    return widget.root.get_by_role("list", name=listed).get_by_role("listitem").filter(has_text=label)


def test_1_rows_of_a_linear_layer(live: LiveNotebook) -> None:
    assert '"Set row…"' in said("1")
    lesson = Lesson(live, "1")
    lesson.by_hand('lab["weight"].copy_(values)')
    widget = lesson.widget()
    widget.open("weight")
    for row in range(3):
        values = live.value(f"values[{row}].tolist()")
        text = ", ".join(f"{value:.1f}" for value in values)
        widget.changes(lambda row=row, text=text: widget.dialog("Set row…", Row=str(row), Values=text))
    lesson.rest()
    assert lesson.as_by_python()
    for _ in range(3):
        widget.press("Undo")
    assert not lesson.as_by_python()


def test_2_a_cell_a_row_and_a_rectangle(live: LiveNotebook) -> None:
    lesson = Lesson(live, "2", "1")
    lesson.by_hand('lab["weight"][0, 2].fill_(5)')
    widget = lesson.widget()
    widget.open("weight")
    widget.page.mouse.click(*widget.point_of("weight", (0, 2)))
    expect(widget.region).to_have_value("[0, 2]")
    fill(widget, "5")
    lesson.by_hand('lab["weight"][-1].fill_(-1)')
    click_row(widget, "weight", 2)
    fill(widget, "-1")
    lesson.by_hand('lab["weight"][[0, 1]][:, 3].fill_(7)')
    widget.drag("weight", (0, 3), (1, 3))
    fill(widget, "7")
    lesson.by_hand("lab.undo()")
    widget.press("Undo")
    assert lesson.as_by_python()
    # "or type": the same cell, and the line of PyTorch of each edit.
    assert "`[0, 2]`" in said("2")
    widget.select("[0, 2]")
    fill(widget, "4")
    expect(widget.code).to_contain_text("fill_(4)")
    expect(widget.code).to_contain_text("[0, 2]")


def test_3_a_constant_that_is_rounded(live: LiveNotebook) -> None:
    lesson = Lesson(live, "3", "1", model="half", lab="half_lab")
    lesson.by_hand('half_lab["bias"].fill_(1.003)')
    widget = lesson.widget()
    widget.open("bias")
    expect(widget.region).to_have_value("")
    fill(widget, "1.003")
    expect(widget.root).to_contain_text("asked 1.003 → stored 1.0, 3 cells rounded")
    lesson.rest()
    assert lesson.as_by_python()
    widget.button("Fill…").click()
    widget.window("Fill").get_by_role("textbox", name="Value").fill("1e39")
    expect(widget.alert).to_contain_text("bias [3]")
    widget.page.keyboard.press("Escape")
    assert lesson.as_by_python()


def test_4_a_pattern_into_a_bias(live: LiveNotebook) -> None:
    assert "`1, 0, 1`" in said("4")
    lesson = Lesson(live, "4", "1")
    lesson.by_hand('lab["bias"].copy_(pattern)')
    widget = lesson.widget()
    widget.open("bias")
    widget.changes(lambda: widget.dialog("Set row…", Values="1, 0, 1"))
    lesson.by_hand('lab["bias"][::2].fill_(0.5)')
    widget.select("[::2]")
    fill(widget, "0.5")
    lesson.by_hand('lab["bias"] = [1, 0, 1]')
    widget.select("")
    widget.changes(lambda: widget.dialog("Set row…", Values="1, 0, 1"))
    lesson.rest()
    assert lesson.as_by_python()


def test_5_a_kernel_a_filter_and_the_norm_behind(live: LiveNotebook) -> None:
    lesson = Lesson(live, "5")
    lesson.by_hand('lab["conv.weight"][2, 0].zero_()')
    widget = lesson.widget()
    widget.open("conv.weight")
    widget.select("[2, 0]")
    widget.press("Zero")
    lesson.by_hand('lab["conv.weight"][1].zero_()')
    widget.page.mouse.click(*widget.label_of_filter("conv.weight", 1))
    expect(widget.region).to_have_value("[1]")
    widget.press("Zero")
    assert '"Also zero norm"' in said("5")
    lesson.by_hand('lab["conv.weight"][1::2].zero_()')
    widget.select("[1::2]")
    widget.press("Zero")
    expect(widget.root.locator(".wl-outcome")).to_contain_text("norm behind it still puts out")
    lesson.by_hand('lab["conv.weight"][1::2].zero_(linked=True)')
    widget.press("Also zero norm")
    for _ in range(2):
        lesson.by_hand("lab.undo()")
        widget.press("Undo")
    lesson.rest()
    assert lesson.as_by_python()


def test_6_slices_of_kernels(live: LiveNotebook) -> None:
    lesson = Lesson(live, "6", "5")
    lesson.by_hand('lab["conv.weight"][:, :, 1:2, 1:2].fill_(0.5)')
    widget = lesson.widget()
    widget.open("conv.weight")
    widget.select("[:, :, 1:2, 1:2]")
    fill(widget, "0.5")
    lesson.by_hand('lab["conv.weight"][:, :, ::2, ::2].zero_()')
    widget.select("[:, :, ::2, ::2]")
    widget.press("Zero")
    lesson.rest()
    assert lesson.as_by_python()


def test_7_clamps_and_nan_as_a_target(live: LiveNotebook) -> None:
    lesson = Lesson(live, "7", "5", "6")
    lesson.by_hand('lab["conv.weight"].clamp_(-0.1, 0.1)')
    widget = lesson.widget()
    widget.open("conv.weight")
    widget.changes(lambda: widget.dialog("Clamp…", Minimum="-0.1", Maximum="0.1"))
    lesson.by_hand('lab["conv.weight"].clamp_(min=0)')
    widget.changes(lambda: widget.dialog("Clamp…", Minimum="0"))
    lesson.by_hand("lab.undo()")
    widget.press("Undo")
    lesson.by_hand('lab["conv.bias"].clamp_(-0.01, 0.01)')
    widget.open("conv.bias")
    widget.changes(lambda: widget.dialog("Clamp…", Minimum="-0.01", Maximum="0.01"))
    lesson.by_hand('lab["conv.bias"][lab["conv.bias"].value.isnan()].zero_()')
    widget.root.get_by_role("toolbar", name="Picture").get_by_role("combobox", name="Target").select_option("NaN")
    widget.press("Zero")
    lesson.rest()
    assert lesson.as_by_python()


def test_8_rows_are_scaled_compared_and_restored(live: LiveNotebook) -> None:
    lesson = Lesson(live, "8")
    lesson.by_hand('lab["weight"][1].mul_(0)')
    widget = lesson.widget()
    widget.open("weight")
    click_row(widget, "weight", 1)
    widget.changes(lambda: widget.dialog("Scale…", Factor="0"))
    lesson.by_hand('lab["weight"][2].mul_(2)')
    click_row(widget, "weight", 2)
    widget.changes(lambda: widget.dialog("Scale…", Factor="2"))
    lesson.by_hand('lab["bias"].zero_()')
    widget.heatmap.focus()
    shown = widget.drawn_value("weight", (2, 0))
    widget.page.keyboard.down("o")
    widget.draws("weight", (2, 0), shown / 2, 1e-6)
    widget.page.keyboard.up("o")
    widget.draws("weight", (2, 0), shown, 1e-6)
    widget.open("bias")
    widget.press("Zero")
    lesson.by_hand('lab.restore("before")')
    kept(widget, "Snapshots", "before").get_by_role("button", name="Compare").click()
    table = widget.window("Compared with before")
    expect(table).to_contain_text("bias")
    widget.changes(table.get_by_role("button", name="Restore weight").click)
    assert live.value("bool((net.bias == 0).all())")
    widget.changes(table.get_by_role("button", name="Restore bias").click)
    widget.page.keyboard.press("Escape")
    lesson.rest()
    assert lesson.as_by_python()


def test_9_the_average_of_two_models(live: LiveNotebook) -> None:
    lesson = Lesson(live, "9", model="one")
    lesson.by_hand('lab.transfer("the other model", weight=0.5)')
    widget = lesson.widget()
    kept(widget, "Other models", "the other model").get_by_role("button", name="Transfer…").click()
    table = widget.window("Transfer from the other model")
    table.get_by_role("textbox", name="Weight").fill("0.5")
    widget.changes(table.get_by_role("button", name="Apply").click)
    widget.page.keyboard.press("Escape")
    lesson.by_hand("lab.undo()")
    widget.press("Undo")
    lesson.rest()
    assert lesson.as_by_python()
    # "for the selected cells alone"
    widget.open("weight")
    click_row(widget, "weight", 1)
    widget.choose("More…", "Average with…")
    widget.changes(widget.window("Average with").get_by_role("button", name="Apply").click)
    assert live.value("[torch.equal(one.weight[0], untouched.weight[0]), torch.equal(one.weight[1], plain.weight[1])]")


def test_10_ten_classes_into_twelve(live: LiveNotebook) -> None:
    assert '"as loaded"' in said("10")
    lesson = Lesson(live, "10")
    lesson.rest()
    widget = lesson.widget()
    go_to(widget, "as loaded")
    assert not lesson.as_by_python()
    kept(widget, "Other models", "trained").get_by_role("button", name="Transfer…").click()
    table = widget.window("Transfer from trained")
    widget.changes(table.get_by_role("button", name="Apply").click)
    for left in ("head.weight", "head.bias"):
        expect(table.get_by_role("row").filter(has_text=left)).to_contain_text("left")
    widget.page.keyboard.press("Escape")
    for left in ("head.weight", "head.bias"):
        widget.open(left)
        widget.select("[:10]")
        widget.choose("More…", "Copy from…")
        widget.changes(widget.window("Copy from").get_by_role("button", name="Apply").click)
    assert lesson.as_by_python()


def test_11_a_rule_is_begun_in_python_and_released_by_hand(live: LiveNotebook) -> None:
    lesson = Lesson(live, "11")
    lesson.by_hand("hold = lab")
    widget = lesson.widget()
    widget.open("weight")
    widget.choose("Hold", "By a rule…")
    shown = widget.window("Hold to a rule").locator("pre").inner_text()
    widget.page.keyboard.press("Escape")
    live.kernel(shown.replace("cells / cells.norm()", "unit_rows(cells)"))
    item = kept(widget, "Holds", "weight")
    expect(item).to_be_visible()
    lesson.by_hand("hold.release()")
    widget.changes(item.get_by_role("button", name="Release").click)
    lesson.rest()
    assert live.value("len(lab.constraints)") == 0
    assert lesson.as_by_python()


def test_12_bounds_that_last(live: LiveNotebook) -> None:
    lesson = Lesson(live, "12", "11")
    lesson.by_hand('lab["weight"].hold(min=-0.5, max=0.5)')
    widget = lesson.widget()
    widget.open("weight")
    widget.choose("Hold", "Inside bounds…")
    form = widget.window("Hold inside bounds")
    form.get_by_role("textbox", name="Minimum").fill("-0.5")
    form.get_by_role("textbox", name="Maximum").fill("0.5")
    widget.changes(form.get_by_role("button", name="Apply").click)
    lesson.rest()
    assert lesson.as_by_python()


def test_13_freezing_and_the_conflict(live: LiveNotebook) -> None:
    lesson = Lesson(live, "13", "11")
    lesson.by_hand('hold = lab["weight"][1].hold()')
    widget = lesson.widget()
    widget.open("weight")
    click_row(widget, "weight", 1)
    widget.choose("Hold", "Keep values…")
    widget.changes(widget.window("Hold").get_by_role("button", name="Apply").click)
    lesson.by_hand('lab["weight"][1, 0].fill_(0.25)')
    widget.painted("weight")
    widget.page.mouse.click(*widget.point_of("weight", (1, 0)))
    fill(widget, "0.25")
    lesson.by_hand("hold.release()")
    widget.changes(kept(widget, "Holds", "weight").get_by_role("button", name="Release").click)
    lesson.by_hand('lab["weight"].requires_grad_(False)')
    widget.choose("More…", "Freeze, train…")
    widget.changes(widget.window("Freeze or train").get_by_role("button", name="Apply").click)
    lesson.by_hand("lab.undo()")
    widget.press("Undo")
    lesson.by_hand('lab["weight"][0].fill_(0.1)')
    widget.painted("weight")
    click_row(widget, "weight", 0)
    fill(widget, "0.1")
    lesson.by_hand("lab.undo(force=True)")
    widget.button("Undo").click()
    widget.changes(widget.button("Restore anyway").click)
    lesson.rest()
    assert lesson.as_by_python()


def test_14_rows_of_a_pretrained_head(live: LiveNotebook) -> None:
    assert "`[[442, 985, 309]]`" in said("14")
    lesson = Lesson(live, "14", model="small")
    lesson.rest()
    widget = lesson.widget()
    go_to(widget, "as loaded")
    for name in ("_fc.weight", "_fc.bias"):
        widget.open(name)
        widget.choose("More…", "Copy from…")
        form = widget.window("Copy from")
        form.get_by_role("textbox", name="Part").fill("[[442, 985, 309]]")
        widget.changes(form.get_by_role("button", name="Apply").click)
    assert lesson.as_by_python()
    widget.open("_conv_stem.weight")
    widget.page.mouse.click(*widget.label_of_filter("_conv_stem.weight", 3))
    expect(widget.region).to_have_value("[3]")
    widget.press("Zero")
    expect(widget.gradient_row("_conv_stem.weight")).to_be_visible()


def test_e_a_row_that_stays_zero(live: LiveNotebook) -> None:
    lesson = Lesson(live, "E", "11", "13")
    lesson.by_hand('lab["weight"][0].zero_()')
    widget = lesson.widget()
    widget.open("weight")
    click_row(widget, "weight", 0)
    widget.press("Zero")
    lesson.by_hand('lab["weight"][0].hold()')
    widget.choose("Hold", "Keep values…")
    widget.changes(widget.window("Hold").get_by_role("button", name="Apply").click)
    lesson.rest()
    assert lesson.as_by_python()
