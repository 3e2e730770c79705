"""The wire's answers about many tensors at once (rules P1, S4): in time, in size, and beside other work."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.jupyter import overview
from weightlab.jupyter.protocol import Session
from weightlab.see import spectrum as see_spectrum
from weightlab.see.glance import BARS


@pytest.fixture
def session() -> Session:
    return Session(wl.Lab(nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))))


def ask(session: Session, op: str, **fields: Any) -> tuple[dict[str, Any], list[bytes]]:
    reply, made = session.handle({"v": 1, "id": "t", "op": op, **fields})
    json.dumps(reply, allow_nan=False)
    assert reply["ok"], reply
    return reply, made


def test_glances_are_columns_and_their_bars_one_buffer(session: Session) -> None:
    names = list(session.lab)
    reply, [bars] = ask(session, "glances", names=names)
    columns = reply["glances"]
    assert columns["name"] == names
    assert {len(column) for column in columns.values()} == {len(names)}
    assert len(bars) == len(names) * BARS
    assert columns["std"][0] == pytest.approx(session.lab.model[0].weight.std(correction=0).item(), rel=1e-5)


def test_names_that_do_not_fit_into_the_time_are_left(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_SECONDS", -1)
    names = list(session.lab)
    for op, columns in (("glances", "glances"), ("thumbnails", "thumbnails")):
        got: list[str] = []
        left = names
        while left:
            reply, _ = ask(session, op, names=left)
            assert reply[columns]["name"] == left[:1]
            got += reply[columns]["name"]
            left = reply["left"]
        assert got == names


def test_thumbnails_lie_one_after_another(session: Session) -> None:
    reply, [codes] = ask(session, "thumbnails", names=list(session.lab))
    columns = reply["thumbnails"]
    sizes = [rows * across for rows, across in zip(columns["rows"], columns["columns"], strict=True)]
    assert len(codes) == sum(sizes)
    first = np.frombuffer(codes[: sizes[0]], dtype=np.uint8).reshape(columns["rows"][0], columns["columns"][0])
    weight = session.lab.model[0].weight.detach().numpy()
    drawn = (first.astype(float) - 128) / 126 * columns["limit"][0]
    assert drawn == pytest.approx(weight.clip(-columns["limit"][0], columns["limit"][0]), abs=columns["limit"][0] / 200)


def test_what_has_no_values_has_a_reason_in_a_glance_and_an_empty_thumbnail() -> None:
    session = Session(wl.Lab(nn.Linear(3, 2, device="meta")))
    reply, _ = ask(session, "glances", names=["weight"])
    assert "meta device" in reply["glances"]["reason"][0]
    assert reply["glances"]["std"] == [None]
    reply, [codes] = ask(session, "thumbnails", names=["weight"])
    assert (reply["thumbnails"]["rows"], codes) == ([0], b"")


def test_a_glance_at_gradients_is_one_at_the_present_grad(session: Session) -> None:
    session.lab.model[0].weight.grad = torch.full((5, 7), 2.0)
    reply, _ = ask(session, "glances", names=["0.weight", "1.weight"], view="gradient")
    assert reply["glances"]["mean"] == [2.0, None]
    assert "no .grad" in reply["glances"]["reason"][1]


def wait_for(session: Session, name: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        reply, _ = ask(session, "spectrum", name=name)
        if reply["spectrum"] is not None:
            return reply
    raise AssertionError("no spectrum in a minute")


def test_a_long_spectrum_is_computed_beside_other_requests(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """T3: the first answers say how far it is, others are answered meanwhile; an edit makes a new one."""
    monkeypatch.setattr(overview, "_PATIENCE", 0.0)
    wait, go = [False], see_spectrum._exactly

    def slow(matrix: Any, tell: Any) -> Any:
        while not wait[0]:
            time.sleep(0.001)
            tell(0.5)
        return go(matrix, tell)

    monkeypatch.setattr(see_spectrum, "_exactly", slow)
    first, _ = ask(session, "spectrum", name="0.weight")
    assert first["spectrum"] is None
    ask(session, "glances", names=["0.weight"])
    wait[0] = True
    found = wait_for(session, "0.weight")
    values = torch.linalg.svdvals(session.lab.model[0].weight.detach().double())
    assert found["spectrum"]["values"] == pytest.approx(values.tolist(), rel=1e-5)
    session.lab["0.weight"].mul_(2.0)
    assert wait_for(session, "0.weight")["spectrum"]["values"][0] == pytest.approx(2 * values[0].item(), rel=1e-5)


def test_a_spectrum_that_is_stopped_ends(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_PATIENCE", 0.0)

    def endless(matrix: Any, tell: Any) -> Any:
        while True:
            time.sleep(0.001)
            tell(0.1)

    monkeypatch.setattr(see_spectrum, "_exactly", endless)
    ask(session, "spectrum", name="0.weight")
    [job] = session.spectra._jobs.values()
    ask(session, "spectrum", name="0.weight", stop=True)
    job.thread.join(10)
    assert not job.thread.is_alive()
    assert not session.spectra._jobs
    # A view that still wants it has a new one begun, and not the silence of the old.
    monkeypatch.undo()
    assert len(wait_for(session, "0.weight")["spectrum"]["values"]) == min(session.lab.model[0].weight.shape)


def test_a_spectrum_that_fails_says_so_instead_of_being_asked_for_ever(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1."""

    def fails(matrix: Any, tell: Any) -> Any:
        raise ValueError("math domain error")

    monkeypatch.setattr(see_spectrum, "_exactly", fails)
    ask_again = {"v": 1, "id": "1", "op": "spectrum", "name": "0.weight"}
    for _ in range(2):
        reply, _ = session.handle(ask_again, [])
        assert not reply["ok"]
        assert "no spectrum could be computed: math domain error" in reply["error"]["message"]


def test_copied_cells_are_bounded(session: Session) -> None:
    """S4."""
    large = Session(wl.Lab(nn.Linear(300, 300)))
    reply, _ = large.handle({"v": 1, "id": "t", "op": "values", "name": "weight", "region": "[...]", "form": "tsv"})
    assert "90,000 cells are too many to copy" in reply["error"]["message"]
    told, _ = ask(session, "values", name="1.bias", region="[1:]", form="torch")
    assert told["cells"] == 2
    assert torch.equal(eval(told["text"]), session.lab.model[1].bias.detach()[1:])


def test_the_text_of_a_target_has_exactly_its_cells(session: Session) -> None:
    # S1: listed cells, and what a condition picks among those of a region
    weight = session.lab["0.weight"].value
    flat = torch.tensor([3, 4, 20, 33], dtype=torch.float64)
    message = {"v": 1, "id": "t", "op": "values", "name": "0.weight", "cells": True, "form": "tsv"}
    reply, _ = session.handle(message, [flat.numpy().tobytes()])
    assert reply["ok"], reply
    assert reply["cells"] == 4
    assert [float(text) for text in reply["text"].split("\t")] == pytest.approx(weight.flatten()[flat.long()].tolist())
    where = {"kind": "above", "value": "0.1"}
    picked, _ = ask(session, "values", name="0.weight", region="[1:3]", where=where, form="torch")
    wanted = weight[1:3][weight[1:3].abs() > 0.1]
    assert picked["cells"] == wanted.numel() < 14
    assert torch.equal(eval(picked["text"], {"torch": torch}), wanted)
