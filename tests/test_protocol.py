"""The kernel's side of the wire (rules P1, P2, S4): one reply for anything, checked before anything is done."""

from __future__ import annotations

import json
import math
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import weightlab as wl
from tests.wire_examples import Example, ask
from weightlab.jupyter.protocol import Session

EXAMPLES = json.loads((Path(__file__).parent / "messages.json").read_text())


@pytest.fixture
def session() -> Session:
    return Session(wl.Lab(Example()))


def buffers_of(example: dict[str, Any]) -> tuple[bytes, ...]:
    return (np.array(example["buffer"], dtype=np.float64).tobytes(),) if "buffer" in example else ()


@pytest.mark.parametrize("example", EXAMPLES["requests"], ids=lambda e: e["why"])
def test_every_example_is_answered_as_it_says(session: Session, example: dict[str, Any]) -> None:
    """P1, P2: both test suites read these."""
    before = {name: tensor.clone() for name, tensor in session.lab.model.state_dict().items()}
    reply, _ = session.handle(example["message"], buffers_of(example))
    json.dumps(reply, allow_nan=False)
    assert reply["ok"] is example["ok"], reply
    assert reply["v"] == 1
    assert isinstance(reply["revision"], int)
    if not reply["ok"]:
        assert reply["error"]["kind"] in ("BadMessage", "EditRefused", "UnknownName"), reply
        assert reply["error"]["message"].endswith(".")
        assert all(torch.equal(tensor, before[name]) for name, tensor in session.lab.model.state_dict().items())
        assert session.lab.revision == 0


def shape_of(value: Any) -> Any:
    """Keys and kinds of a JSON value, for comparing example replies with real ones."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return "list" if isinstance(value, list) else "value"


@pytest.mark.parametrize("example", EXAMPLES["replies"], ids=lambda e: e["op"] if "op" in e else str(e)[:20])
def test_real_replies_have_the_fields_of_the_examples(session: Session, example: dict[str, Any]) -> None:
    good = [e for e in EXAMPLES["requests"] if e["ok"] and e["message"]["op"] == example["op"]]
    if example["op"] in ("undo", "redo", "check"):
        session.lab["fc.bias"].zero_()
        session.lab.check_gradients()
    if example["op"] == "redo":
        session.lab.undo()
    reply, _ = session.handle(good[0]["message"], buffers_of(good[0]))
    wanted = example["message"]
    assert wanted.keys() == reply.keys() or not wanted["ok"]
    for key in ("model", "layout", "summary", "region", "tensors", "modules", "glances", "thumbnails", "spectrum"):
        if key in wanted:
            assert shape_of(wanted[key]) == shape_of(reply[key])
    if "state" in wanted:
        assert wanted["state"].keys() == reply["state"].keys()


@pytest.mark.parametrize("example", EXAMPLES["sequences"], ids=lambda e: e["why"])
def test_messages_that_follow_each_other_are_answered_as_the_examples(
    session: Session, example: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: what needs a message before it, such as releasing a hold. `save` writes into the working directory."""
    monkeypatch.chdir(tmp_path)
    reply: dict[str, Any] = {}
    for message in example["messages"]:
        reply, _ = session.handle(message, ())
    json.dumps(reply, allow_nan=False)
    assert reply["ok"], reply
    assert reply.keys() == example["reply"].keys()


def test_a_tensor_without_values_is_told_as_one_and_its_rows_are_there() -> None:
    """A mixture of experts on the meta device opens; the page shows no alert for this kind."""
    experts = nn.ModuleList(nn.Linear(7, 5, device="meta") for _ in range(200))
    session = Session(wl.Lab(experts))
    told = ask(session, "hello")
    assert told["tensors"]["device"] == {"of": ["meta"], "at": [], "count": 400}
    assert told["tensors"]["shape"]["of"] == [[5, 7], [5]]
    assert told["tensors"]["shape"]["at"] == [0, 1] * 200
    assert told["tensors"]["name"][399] == "199.bias"
    reply, _ = session.handle({"v": 1, "id": "1", "op": "open", "name": "7.weight"})
    assert reply["error"]["kind"] == "NoValues"
    assert "its values are not there" in reply["error"]["message"]


def test_messages_of_any_shape_get_exactly_one_reply(session: Session) -> None:
    """P1: fuzz, seeded. Nothing raises, nothing is changed by what is refused."""
    rng = random.Random(0)
    odd: list[Any] = [
        None,
        True,
        -1,
        1,
        2**70,
        1.5,
        "",
        "x",
        "conv.weight",
        [],
        [[]],
        {},
        {"a": 1},
        [1, 2],
        math.nan,
        "[3]",
        "zero_",
    ]
    keys = [
        "v",
        "id",
        "op",
        "name",
        "text",
        "region",
        "cells",
        "edit",
        "args",
        "tiles",
        "encoding",
        "force",
        "auto_check",
        "extra",
    ]
    ops = [
        "hello",
        "open",
        "tiles",
        "read",
        "region",
        "edit",
        "undo",
        "redo",
        "check",
        "set",
        "refresh",
        "summary",
        "nope",
    ]
    for _ in range(1500):
        message: Any = {key: rng.choice(odd) for key in rng.sample(keys, rng.randrange(6))}
        if rng.random() < 0.8:
            message |= {"v": 1, "id": "f", "op": rng.choice(ops)}
        if rng.random() < 0.05:
            message = rng.choice(odd)
        reply, made = session.handle(message, [b"12345678"] if rng.random() < 0.1 else [])
        json.dumps(reply, allow_nan=False)
        assert reply["ok"] in (True, False)
        if not reply["ok"]:
            assert reply["error"]["kind"] != "InternalError", (message, reply)
            assert made == []


def test_painted_cells_are_edited_and_come_back(session: Session) -> None:
    before = session.lab.model.fc.weight.detach().clone()
    cells = np.array([0, 5, 5, 23], dtype=np.float64).tobytes()
    reply = ask(session, "edit", (cells,), name="fc.weight", cells=True, edit="fill_", args={"value": "2.5"})
    assert reply["entry"]["cells"] == 3
    assert session.lab.model.fc.weight.view(-1)[[0, 5, 23]].tolist() == [2.5] * 3
    assert reply["state"]["history"]["position"] == 1
    ask(session, "undo")
    assert torch.equal(session.lab.model.fc.weight, before)
    for bad in (np.array([24.0]), np.array([-1.0]), np.array([0.5]), np.array([math.nan])):
        refused, _ = session.handle(
            {"v": 1, "id": "1", "op": "edit", "name": "fc.weight", "cells": True, "edit": "zero_", "args": {}},
            [bad.tobytes()],
        )
        assert not refused["ok"]
        assert refused["error"]["kind"] != "InternalError"
    assert torch.equal(session.lab.model.fc.weight, before)


def test_the_error_on_the_wire_is_the_one_in_python(session: Session) -> None:
    for region, edit, args in (
        ("[99]", "zero_", {}),
        ("[0]", "fill_", {"value": "1e39"}),
        ("[a]", "zero_", {}),
        ("[0]", "fill_", {"value": "x"}),
    ):
        reply, _ = session.handle(
            {"v": 1, "id": "1", "op": "edit", "name": "fc.weight", "region": region, "edit": edit, "args": args}, []
        )
        assert reply["error"]["kind"] == "EditRefused"
        assert reply["error"]["message"].startswith("fc.weight [3, 8]: ")
    with pytest.raises(wl.EditRefused) as caught:
        session.lab["fc.weight"][0].fill_(1e39)
    reply, _ = session.handle(
        {
            "v": 1,
            "id": "1",
            "op": "edit",
            "name": "fc.weight",
            "region": "[0]",
            "edit": "fill_",
            "args": {"value": "1e39"},
        },
        [],
    )
    assert reply["error"]["message"] == str(caught.value)


def test_a_conflict_reaches_the_page_and_force_restores(session: Session) -> None:
    """J8 over the wire."""
    before = session.lab.model.fc.bias.detach().clone()
    ask(session, "edit", name="fc.bias", region="[0]", edit="zero_", args={})
    with torch.no_grad():
        session.lab.model.fc.bias[0] = 4
    reply, _ = session.handle({"v": 1, "id": "1", "op": "undo"}, [])
    assert reply["error"]["kind"] == "UndoConflict"
    # Beside a button that insists no call is told.
    assert reply["error"]["message"].endswith("would overwrite that.")
    with pytest.raises(wl.UndoConflict, match=r"overwrite that\. Call undo\(force=True\)"):
        session.lab.undo()
    ask(session, "undo", force=True)
    assert torch.equal(session.lab.model.fc.bias, before)


def test_a_file_is_replaced_only_when_the_page_says_so(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J3: what lay there stays, byte for byte, until somebody asks for it."""
    monkeypatch.chdir(tmp_path)
    Path("kept.safetensors").write_bytes(b"somebody's work")
    reply, _ = session.handle({"v": 1, "id": "1", "op": "save", "file": "kept"}, [])
    assert reply["error"]["kind"] == "FileExists"
    assert reply["error"]["message"].startswith("kept.safetensors: a file of this name is there already.")
    assert Path("kept.safetensors").read_bytes() == b"somebody's work"
    assert ask(session, "save", file="kept", replace=True)["bytes"] == Path("kept.safetensors").stat().st_size > 15
    session.lab.save("kept.safetensors")  # Python says which file in so many words


def test_a_check_over_the_wire_names_the_cause(session: Session) -> None:
    ask(session, "edit", name="fc.weight", region="[...]", edit="zero_", args={})
    gradients = ask(session, "check")["state"]["gradients"]
    status = {row["name"]: row["status"] for row in gradients["rows"]}
    assert status["conv.weight"] == "zero"
    assert gradients["synthetic"]
    causes = [cause for cause in gradients["causes"] if "conv.weight" in cause["affects"]]
    assert causes[0]["kind"] == "zero_weight"
    assert causes[0]["at"] == "fc.weight"


def test_handlers_on_many_threads_leave_one_history() -> None:
    """T2: any thread, one lock."""
    session = Session(wl.Lab(nn.Linear(8, 8, bias=False)))
    start = session.lab.model.weight.detach().clone()

    def work(row: int) -> None:
        for value in range(1, 6):
            ask(session, "edit", name="weight", region=f"[{row}]", edit="fill_", args={"value": value})
            ask(session, "tiles", name="weight", tiles=[[0, 0, 0, 0]], encoding="q8")

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.lab.revision == len(session.lab.history) == 40
    assert session.lab.model.weight.unique().tolist() == [5.0]
    while session.lab.undo():
        pass
    assert torch.equal(session.lab.model.weight, start)


def test_a_tensor_without_values_says_so(session: Session) -> None:
    session.lab.model.register_buffer("ghost", torch.empty(3, 3, device="meta"))
    session.lab.refresh()
    reply, _ = session.handle({"v": 1, "id": "1", "op": "open", "name": "ghost"}, [])
    assert "values are not there" in reply["error"]["message"]


def test_between_picks_by_value_by_magnitude_and_by_another_view(session: Session) -> None:
    weight = session.lab.model.get_parameter("conv.weight").detach().clone()

    def picked(kind: str, low: float, high: float, **more: str) -> int:
        where = {"kind": kind, "value": [low, high], **more}
        return ask(session, "region", name="conv.weight", text="[...]", where=where)["region"]["numel"]

    low, high = sorted(weight.flatten()[:2].tolist())
    assert picked("between", low, high) == int(((weight >= low) & (weight <= high)).sum())  # both ends belong to it
    assert picked("size_between", 0.05, 0.1) == int(((weight.abs() >= 0.05) & (weight.abs() <= 0.1)).sum())
    gradient = session.lab.view("conv.weight", "gradient")
    middle = float(gradient.median())
    assert picked("between", middle, 1e9, view="gradient") == int((gradient >= middle).sum())
    where = {"kind": "between", "value": [middle, 1e9], "view": "gradient"}
    ask(session, "edit", name="conv.weight", region="[...]", where=where, edit="zero_", args={})
    assert torch.equal(session.lab.model.get_parameter("conv.weight") == 0, gradient >= middle)


@pytest.mark.parametrize("fields", [
    {"op": "transfer", "label": "a", "weight": 10**400},
    {"op": "hold", "name": "fc.bias", "region": "", "kind": "clamp", "min": 10**400},
])  # fmt: skip
def test_a_number_past_the_largest_float_is_the_senders_mistake(session: Session, fields: dict[str, Any]) -> None:
    reply, _ = session.handle({"v": 1, "id": "1", **fields}, [])
    assert reply["error"]["kind"] == "BadMessage"
