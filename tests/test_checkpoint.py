"""safetensors files: tied tensors, metadata, opening and saving; a half-written file never replaces a good one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file
from torch import Tensor, nn

import weightlab as wl
from tests.cells import raw
from weightlab.files import writing


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_buffer("narrow", torch.randn(4, 3).half().t())
        self.conv = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)


def test_a_saved_model_loads_with_the_formats_own_function(tmp_path: Path) -> None:
    model, other = Mixed(), Mixed()
    lab = wl.Lab(model)
    lab["head.weight"][1].fill_(-0.0)
    lab["embed.weight"][0, 0].fill_(float("nan"))
    lab.save(tmp_path / "m.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    missing, unexpected = load_model(other, tmp_path / "m.safetensors")
    assert not missing
    assert not unexpected
    assert {n: raw(t) for n, t in other.state_dict().items()} == {n: raw(t) for n, t in model.state_dict().items()}
    assert "scratch" not in load_file(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as opened:
        metadata = opened.metadata()
    assert metadata["head.weight"] == "embed.weight"
    recipe = json.loads(metadata["weightlab_recipe"])
    assert [entry["text"] for entry in recipe["entries"]] == [entry.text for entry in lab.history]


def test_a_file_is_opened_edited_and_saved(tmp_path: Path) -> None:
    wl.Lab(Mixed()).save(tmp_path / "m.safetensors")
    lab = wl.open(tmp_path / "m.safetensors")
    assert lab.tree["head.weight"].name == "embed.weight"
    lab["head.weight"].zero_()
    lab["norm.num_batches_tracked"].fill_(3)
    lab.save(tmp_path / "m.safetensors")
    again = load_file(tmp_path / "m.safetensors")
    assert bool((again["embed.weight"] == 0).all())
    assert again["norm.num_batches_tracked"].item() == 3


def test_a_write_that_fails_leaves_the_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = wl.Lab(Mixed())
    path = tmp_path / "m.safetensors"
    lab.save(path)
    good = path.read_bytes()

    def full(tensor: Tensor) -> Iterator[Tensor]:
        yield torch.ones(3)
        raise OSError("No space left on device")

    monkeypatch.setattr(writing, "_pieces", full)
    lab["head.bias"].zero_()
    with pytest.raises(wl.EditRefused, match="No space left"):
        lab.save(path)
    assert path.read_bytes() == good
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(wl.WeightLabError):
        lab.save(tmp_path / "no such folder" / "m.safetensors")


def test_a_sharded_index_is_one_model(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 3)}, tmp_path / "one.safetensors")
    save_file({"b.weight": torch.zeros(4)}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    lab = wl.open(tmp_path / "model.safetensors.index.json")
    assert [info.name for info in lab.tree] == ["a.weight", "b.weight"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}", b"x" * 100, None])
@pytest.mark.parametrize("name", ["m.safetensors", "m.safetensors.index.json"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None, name: str) -> None:
    if content == b"\x08\0\0\0\0\0\0\0{}" and name == "m.safetensors":
        content += b"garbage"
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(wl.WeightLabError, match="cannot be read"):
        wl.open(tmp_path / name)


def test_what_has_no_values_is_not_saved_in_silence(tmp_path: Path) -> None:
    with pytest.raises(wl.EditRefused, match="cannot be saved"):
        wl.Lab(nn.Linear(2, 2, device="meta")).save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


SAVES_FOR_EVER = """
import sys, torch, weightlab
from torch import nn
model = nn.Linear(4000, 4000)
lab = weightlab.Lab(model)
for value in range(1000):
    lab["weight"].fill_(value)
    lab["bias"].fill_(value)
    lab.save(sys.argv[1])
    print(value, flush=True)
"""


def half_written(folder: Path, size: int) -> bool:
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # renamed since
            if file.stat().st_size not in (0, size):
                return True
    return False


def test_a_save_that_is_killed_half_way_leaves_the_file_of_the_save_before(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    with subprocess.Popen(
        [sys.executable, "-c", SAVES_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        saved = int(child.stdout.readline())
        size = path.stat().st_size
        while not half_written(tmp_path, size):
            assert child.poll() is None
        child.kill()
        saved = max([saved, *map(int, child.stdout.read().split())])
    kept = load_file(path)
    assert saved <= float(kept["bias"][0]) <= saved + 1
    assert bool((kept["weight"] == kept["bias"][0]).all())
    assert bool((kept["bias"] == kept["bias"][0]).all())


@pytest.mark.parametrize("names", [["training"], ["forward"], ["a..b"], ["a", "a.b"], [""], ["x.eval.y"]])
def test_a_name_that_torch_cannot_hold_is_told(names: list[str], tmp_path: Path) -> None:
    save_file({name: torch.ones(2) for name in names}, tmp_path / "m.safetensors")
    with pytest.raises(wl.WeightLabError, match=r"open: '.*' \[2\] cannot be the name of a tensor in a torch module"):
        wl.open(tmp_path / "m.safetensors")


@pytest.mark.parametrize("index", ["[1]", "5", "null", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', "[" * 100_000])
def test_an_index_that_is_none_is_told(index: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(wl.WeightLabError, match="cannot be read as safetensors"):
        wl.open(path)


def test_a_path_that_is_none_is_told() -> None:
    with pytest.raises(wl.WeightLabError, match="must be a str or a Path, got NoneType"):
        wl.open(None)  # type: ignore[arg-type]
