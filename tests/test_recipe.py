"""J3 and section 9a: a recipe is strict JSON, replays to the same bytes or changes nothing, and reads as plain PyTorch."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import weightlab as wl
from tests.cells import state


def net() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def edited() -> wl.Lab:
    lab = wl.Lab(net())
    with lab.stroke("a stroke"):
        lab["0.weight"][1].zero_()
        lab["0.bias"].fill_(float("nan"))
    lab["0.weight"][lab["0.weight"].value > 0.2].mul_(3)
    lab["2.weight"].init_("xavier_normal_")
    lab["2.bias"][[1]].copy_(torch.tensor([0.1], dtype=torch.float64))
    lab["1.num_batches_tracked"].fill_(7)
    lab["0.weight"].normal_()
    lab["0.weight"].prune_(0.4, by="random")
    lab["2.bias"].requires_grad_(False)
    lab["1.running_var"].fill_(float("inf"))
    lab["2.weight"].hold(max=0.3).release()
    return lab


def test_a_recipe_goes_through_a_file_to_the_same_bytes(tmp_path: Path) -> None:
    """J2: on a fresh model, flags included; holds are not edits of values and are not replayed, but their clamp is."""
    lab = edited()
    text = json.dumps(lab.recipe(), allow_nan=False)
    lab.save_recipe(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail) == json.loads(text)
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    for source in (json.loads(text), tmp_path / "r.json", str(tmp_path / "r.json")):
        other = net()
        again = wl.replay(source, other)
        assert state(other) == state(lab.model)
        assert not other[2].bias.requires_grad
        assert [entry.text for entry in again.history] == [entry.text for entry in lab.history if entry.edits]
        while again.undo():
            pass
        assert state(other) == state(net())


def test_scalar_edits_of_large_tensors_make_small_recipes() -> None:
    lab = wl.Lab(nn.Linear(500, 400))
    lab["weight"].mul_(2)
    lab["weight"][::2, 3:400:5].normal_(seed=1)
    assert len(json.dumps(lab.recipe())) < 1000


@pytest.mark.parametrize("fate", ["gone", "another"])
def test_a_recipe_tells_of_a_layer_as_it_was_edited(fate: str, tmp_path: Path) -> None:
    model = net()
    fresh = copy.deepcopy(model)
    lab = wl.Lab(model)
    lab["2.weight"].zero_()
    lab["2.bias"].requires_grad_(False)
    if fate == "gone":
        del model[2]
    else:
        model[2] = nn.Linear(4, 5, dtype=torch.float64)
    lab.save(tmp_path / "edited.safetensors")
    again = wl.replay(lab.recipe(), fresh)
    assert not again["2.weight"].value.any()
    assert not again["2.bias"].info.requires_grad


def test_undone_entries_are_not_part_of_the_recipe() -> None:
    lab = wl.Lab(net())
    lab["0.weight"].zero_()
    lab["0.bias"].zero_()
    lab.undo()
    assert len(lab.recipe()["entries"]) == 1
    assert "0.bias" not in lab.to_python()


def damaged() -> dict[str, Any]:
    good = json.loads(json.dumps(edited().recipe()))

    def broken(*path: Any, value: Any) -> Any:
        made = copy.deepcopy(good)
        at = made
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return made

    last = len(good["entries"]) - 1
    return {
        "no format": {key: value for key, value in good.items() if key != "format"},
        "another version": broken("version", value=2),
        "entries of no list": broken("entries", value={"a": 1}),
        "a missing file": "no-such-file.json",
        "not a mapping": [1, 2],
        "a number": 3,
        "another shape": broken("tensors", "0.weight", "shape", value=[9, 9]),
        "an unknown tensor": broken("entries", last, "edits", 0, "name", value="nope"),
        "an unknown operation": broken("entries", last, "edits", 0, "op", value="explode_"),
        "an operation of no text": broken("entries", last, "edits", 0, "op", value=["fill_"]),
        "a damaged region": broken("entries", last, "edits", 0, "region", value="[99]"),
        "a region of no text": broken("entries", last, "edits", 0, "region", value=7),
        "damaged cells": broken("entries", 1, "edits", 0, "region", "cells", value="AAAA"),
        "damaged values": broken("entries", 3, "edits", 0, "args", "values", "tensor", value="AAAA"),
        "values of an unknown dtype": broken("entries", 3, "edits", 0, "args", "values", "dtype", value="os"),
        "args of no mapping": broken("entries", last, "edits", 0, "args", value=3),
        "an argument that does not fit": broken("entries", last, "edits", 0, "args", value={"value": "x"}),
        "an edit of no mapping": broken("entries", last, "edits", 0, value=3),
        "edits of no list": broken("entries", last, "edits", value=3),
        "an entry of no mapping": broken("entries", last, value=3),
    }


@pytest.mark.parametrize("kind", damaged())
def test_a_damaged_recipe_is_refused_and_changes_nothing(kind: str) -> None:
    """J3, J11: also when only the last entry is bad, or fails on its way."""
    model = net()
    before = state(model)
    with pytest.raises(wl.WeightLabError) as caught:
        wl.replay(damaged()[kind], model)
    assert state(model) == before
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert str(caught.value).endswith(".")


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:  # J11
    path = tmp_path / "list.json"
    path.write_text("[]")
    with pytest.raises(wl.EditRefused, match=r"list\.json holds a list, expected an object"):
        wl.replay(path, net())


def test_a_recipe_for_another_architecture_names_all_that_does_not_fit_before_any_change() -> None:
    other = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU())
    before = state(other)
    with pytest.raises(wl.EditRefused, match="does not fit this model") as caught:
        wl.replay(edited().recipe(), other)
    for part in (
        "0.weight: the recipe is for shape [4, 3], the model has [5, 3]",
        "2.weight: the model has no such tensor",
    ):
        assert part in str(caught.value)
    assert state(other) == before


def test_a_recipe_for_another_dtype_says_so_before_any_change() -> None:  # J3
    lab = edited()
    model = net().half()
    before = state(model)
    with pytest.raises(wl.EditRefused, match=r"0\.weight: the recipe is for float32, the model has float16"):
        wl.replay(lab.recipe(), model)
    assert state(model) == before


def test_a_recipe_that_fails_halfway_takes_all_of_it_back() -> None:
    """J3: the second edit overflows on other values."""
    lab = wl.Lab(net())
    lab["0.weight"].fill_(1.0)
    lab["2.weight"].mul_(1e30)
    other = net()
    with torch.no_grad():
        other[2].weight.fill_(1e20)
    before = state(other)
    with pytest.raises(wl.EditRefused, match="finite"):
        wl.replay(lab.recipe(), other)
    assert state(other) == before


def test_a_recipe_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = edited()
    lab.save_recipe(tmp_path / "r.json")
    good = (tmp_path / "r.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(wl.EditRefused, match="No space left"):
        lab.save_recipe(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_bytes() == good
    assert len(list(tmp_path.iterdir())) == 1


RUNNER = """
import sys
sys.modules["weightlab"] = None
import torch
model, source, out = sys.argv[1:]
scope = {}
exec(open(source).read(), scope)
torch.save(scope["apply"](torch.load(model, weights_only=False)).state_dict(), out)
"""


def test_the_script_runs_without_weightlab_to_the_same_values(tmp_path: Path) -> None:
    lab = edited()
    torch.save(net(), tmp_path / "model.pt")
    (tmp_path / "edits.py").write_text(lab.to_python())
    files = [str(tmp_path / name) for name in ("model.pt", "edits.py", "out.pt")]
    subprocess.run([sys.executable, "-c", RUNNER, *files], check=True, cwd=tmp_path)
    made: dict[str, Tensor] = torch.load(tmp_path / "out.pt")
    for name, value in lab.model.state_dict().items():
        assert torch.equal(made[name].nan_to_num(99), value.nan_to_num(99)), name


def test_an_index_that_drops_an_axis_of_one_is_written_in_the_script() -> None:
    """[:, 0] of [3, 1] names all cells, but values for it have shape [3]."""
    model = nn.Linear(1, 3)
    twin = copy.deepcopy(model)
    lab = wl.Lab(model)
    lab["weight"][:, 0].add_(torch.tensor([1.0, 0.0, -3.0]))
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    assert state(scope["apply"](twin)) == state(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (3, 3), (2, 3, 4)])
@pytest.mark.parametrize("by", ["magnitude", "random"])
def test_pruning_along_an_axis_reads_the_same_in_the_script(
    dtype: torch.dtype, shape: tuple[int, ...], by: str
) -> None:
    """Narrow types are computed on a wider copy there: its axes must come back in their order."""
    model = nn.Module()
    model.register_buffer("n", torch.randint(1, 8, shape).to(dtype))
    for axis in range(len(shape)):
        lab, twin = wl.Lab(copy.deepcopy(model)), copy.deepcopy(model)
        lab["n"].prune_(2, by=by, axis=axis)
        scope: dict[str, Any] = {}
        exec(lab.to_python(), scope)
        assert state(scope["apply"](twin)) == state(lab.model)


BREAKS = ["\n", "\r", "\r\n", "\f", "\v", "\x85", "\u2028", "\u2029", "\x1c", "\0", "\u202e"]


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
def test_names_and_texts_never_become_code(end: str, tmp_path: Path) -> None:
    """A file's names and a recipe's texts are somebody else's: none of them ends a line of what lab.to_python() writes."""
    ran: list[str] = []
    bad = f'w"\\{end}    ran.append("name"){end}    #\U0001f600'
    save_file({bad: torch.ones(2, 3)}, tmp_path / "t.safetensors")
    lab = wl.open(tmp_path / "t.safetensors")
    assert list(lab) == [bad]
    lab[bad][0].zero_()
    lab[bad][torch.tensor([[True, False, True], [False] * 3])].add_(1)
    recipe = lab.recipe()
    recipe["entries"][0]["text"] = f'x{end}ran.append("text"){end}def apply(model):{end}    pass'
    again = wl.replay(recipe, wl.open(tmp_path / "t.safetensors").model)
    with again.stroke(f"a{end}    ran.append('stroke'){end}b"):
        again[bad][1, 2] = 7.0
    fresh = wl.open(tmp_path / "t.safetensors").model
    scope: dict[str, Any] = {"ran": ran}
    exec(again.to_python(), scope)
    scope["apply"](fresh)
    assert state(fresh) == state(again.model)
    assert ran == []
    for entry in again.history:
        for line in entry.code.split("\n"):
            assert line.isprintable(), "one statement a line, and nothing that cannot be seen"
    assert all(line.isprintable() for line in again.to_python().split("\n"))


@pytest.mark.parametrize(
    "value", [complex(math.inf, 1), complex(-0.0, math.nan), complex(-0.0, -2), complex(0.0, -0.0)]
)
def test_the_script_spells_every_complex_number(value: complex) -> None:
    model, fresh = nn.Module(), nn.Module()
    for each in (model, fresh):
        each.register_buffer("turn", torch.zeros(2, dtype=torch.complex64))
    lab = wl.Lab(model)
    lab["turn"][0].fill_(value)
    lab["turn"][1:].copy_(torch.tensor([value]))
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    scope["apply"](fresh)
    assert torch.equal(
        torch.view_as_real(model.turn).view(torch.int32), torch.view_as_real(fresh.turn).view(torch.int32)
    )


def test_the_script_spells_infinite_arguments_of_init() -> None:
    lab = wl.Lab(nn.Linear(2, 2))
    lab["weight"].init_("constant_", val=-math.inf)
    fresh = nn.Linear(2, 2)
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    assert bool((scope["apply"](fresh).weight == -math.inf).all())
