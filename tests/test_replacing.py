"""Files that take the place of others: whole or not at all, by whatever ends them; what no file can be called is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import weightlab as wl
from weightlab.files.writing import replacing

WRITES = {"save": wl.Lab.save, "save_recipe": wl.Lab.save_recipe}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", ["a" * 300, "\ud800", "", ".", "a\0b", "x/" * 3000 + "a"], ids=ascii)
def test_what_cannot_name_a_file_is_refused(write: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(wl.EditRefused, match=f"{write}: "):
        WRITES[write](wl.Lab(nn.Linear(2, 2)), f"{tmp_path}/{name}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, " x"])
def test_the_longest_names_are_written(write: str, name: str, tmp_path: Path) -> None:
    WRITES[write](wl.Lab(nn.Linear(2, 2)), tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("write", WRITES)
def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(write: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    real = tmp_path / "data" / "real"
    real.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(real)
    WRITES[write](wl.Lab(nn.Linear(2, 2)), link)
    assert link.is_symlink()
    assert real.read_bytes() != b"old"
    assert {file.name for file in (*tmp_path.iterdir(), *(tmp_path / "data").iterdir())} == {"data", "link", "real"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, wl.UnknownName, OSError, ValueError])
def test_whatever_ends_a_write_leaves_the_old_file_and_nothing_beside_it(
    error: type[BaseException], tmp_path: Path
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(wl.EditRefused if error in (OSError, ValueError) else error), replacing(target, "save") as file:
        file.write(b"half")
        raise error("stopped")
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("write", WRITES)
def test_the_bytes_are_on_the_disk_before_the_name_is(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("sync")
        sync(descriptor)

    def replaced(*names: Any) -> None:
        done.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    WRITES[write](wl.Lab(nn.Linear(2, 2)), tmp_path / "file")
    assert done == ["sync", "replace"]
