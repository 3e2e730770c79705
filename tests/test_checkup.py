"""Diagnosis and repair over the wire: rules P1, P2, G9 and T1."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab as wl
from weightlab import progress
from weightlab.jupyter.protocol import Session

PATIENCE = 20
BATCH = torch.randn(12, 7, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 9), nn.Tanh(), nn.Linear(9, 3))


def session_of(model: nn.Module, **options: Any) -> Session:
    return Session(wl.Lab(model, batch=BATCH, loss=F.cross_entropy, **options))


def answer(session: Session, op: str, **fields: Any) -> tuple[dict[str, Any], list[bytes]]:
    reply, buffers = session.handle({"v": 1, "id": "t", "op": op, **fields})
    json.dumps(reply, allow_nan=False)
    return reply, buffers


def ask(session: Session, op: str, **fields: Any) -> dict[str, Any]:
    reply, _ = answer(session, op, **fields)
    assert reply["ok"], reply
    return reply


def words(finding: dict[str, Any]) -> dict[str, str]:
    return {key: finding[key] for key in ("kind", "name", "at", "text")}


def planted() -> Session:
    """Unit 4 of the first layer is dead, the second layer is constant."""
    model = net()
    with torch.no_grad():
        model[0].bias[4] = -50.0
        model[2].weight.fill_(0.1)
    return session_of(model)


def kinds(reply: dict[str, Any]) -> list[str]:
    return [f["kind"] for f in reply["diagnosis"]["findings"] if f["severity"] != "info"]


def test_a_diagnosis_names_what_was_planted_and_what_to_show() -> None:
    session = planted()
    assert ask(session, "findings")["diagnosis"] is None
    reply = ask(session, "diagnose")
    assert "symmetric_units" in kinds(reply)
    dead = next(f for f in reply["diagnosis"]["findings"] if f["kind"] == "dead_relu")
    assert (dead["show"], dead["region"]) == ("0.bias", "[4]")
    assert reply["state"]["diagnosed"] == {"number": 1, "revision": 0}
    assert {row["name"] for row in reply["state"]["gradients"]["rows"]} == set(session.lab)
    assert ask(session, "findings")["diagnosis"] == reply["diagnosis"]


def test_the_numbers_of_the_signal_travel_as_float64() -> None:
    session = planted()
    reply, (buffer,) = answer(session, "diagnose")
    rows = list(session.lab.diagnosis.signal)
    assert reply["diagnosis"]["signal"]["name"] == [row.name for row in rows]
    numbers = list(struct.iter_unpack("<16d", buffer))
    assert len(numbers) == len(rows) > 3
    for told, row in zip(numbers, rows, strict=True):
        assert told[:5] == row.activation
        assert row.gradient is None or told[5:10] == row.gradient
        assert told[10] == row.variance
        assert row.expected is None or told[12] == row.expected


def test_a_repair_is_one_entry_that_says_whether_it_helped_and_undo_takes_it_back() -> None:
    """G9."""
    session = planted()
    before = {name: tensor.clone() for name, tensor in session.lab.model.state_dict().items()}
    found = next(f for f in ask(session, "diagnose")["diagnosis"]["findings"] if f["kind"] == "symmetric_units")
    reply = ask(session, "repair", finding=words(found))
    assert reply["revision"] == 1
    assert reply["state"]["history"]["position"] == 1
    assert reply["repaired"]["helped"]
    assert reply["repaired"]["entry"] == reply["entry"]["id"]
    assert [name for name, _ in reply["entry"]["changed"]] == ["2.weight"]
    assert "symmetric_units" not in kinds(reply)
    assert reply["state"]["diagnosed"]["revision"] == reply["state"]["gradients"]["revision"] == 1
    ask(session, "undo")
    assert all(torch.equal(tensor, before[name]) for name, tensor in session.lab.model.state_dict().items())
    assert "symmetric_units" in kinds(ask(session, "diagnose"))


def test_repair_all_mends_what_is_serious_in_one_entry() -> None:
    session = planted()
    reply = ask(session, "repair_all")
    assert reply["state"]["history"]["position"] == 1
    assert [f["left"] for f in reply["repaired"]["findings"]] == [False] * len(reply["repaired"]["findings"])
    assert kinds(reply) == []
    nothing = ask(session, "repair_all")
    assert nothing["entry"] is None
    assert nothing["revision"] == 1


def test_a_finding_that_was_mended_meanwhile_is_refused_and_an_older_one_is_looked_for_again() -> None:
    """All or nothing: a repair computed for other values must not be applied."""
    session = planted()
    found = next(f for f in ask(session, "diagnose")["diagnosis"]["findings"] if f["kind"] == "symmetric_units")
    session.lab["2.weight"].mul_(2.0)
    assert ask(session, "repair", finding=words(found))["repaired"]["helped"]
    reply, _ = answer(session, "repair", finding=words(found))
    assert reply["error"]["kind"] == "EditRefused"
    assert "is not there any more. Diagnose again." in reply["error"]["message"]
    assert session.lab.revision == 2


def test_a_cause_is_new_where_the_check_before_did_not_have_it() -> None:
    """What the last edit made is told apart from what was there."""
    session = session_of(net())

    def made(kind: str) -> list[bool]:
        causes = ask(session, "check")["state"]["gradients"]["causes"]
        return [cause["new"] for cause in causes if cause["kind"] == kind]

    assert made("dead_relu") == []
    session.lab["0.bias"].fill_(-50.0)
    assert made("dead_relu") == [True]
    assert made("dead_relu") == [False]


def test_the_causes_of_a_first_check_are_not_new() -> None:
    model = net()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    assert [cause["new"] for cause in ask(session_of(model), "check")["state"]["gradients"]["causes"]] == [False]


def test_a_cause_of_the_check_is_repaired_by_its_words() -> None:
    model = net()
    with torch.no_grad():
        model[0].bias.fill_(-50.0)
    session = session_of(model)
    cause = ask(session, "check")["state"]["gradients"]["causes"][0]
    assert cause["kind"] == "dead_relu"
    assert cause["mends"]
    words_of = {"kind": cause["kind"], "name": cause["name"], "at": cause["at"], "text": cause["text"]}
    reply = ask(session, "repair", finding=words_of)
    assert reply["repaired"]["helped"]
    assert not model[0].bias.any()


def test_what_cannot_be_repaired_says_what_to_do_and_changes_nothing() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(7, 3), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    session = session_of(Idle())
    found = next(f for f in ask(session, "diagnose")["diagnosis"]["findings"] if f["kind"] == "unreached")
    assert found["repair"] is None
    assert found["affected"] == 2
    reply, _ = answer(session, "repair", finding=words(found))
    assert reply["error"]["kind"] == "EditRefused"
    assert "has no repair of its own" in reply["error"]["message"]
    assert session.lab.revision == 0


def test_a_model_that_cannot_run_is_diagnosed_from_its_weights() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    reply = ask(session_of(model), "diagnose")
    assert "the forward pass raised" in reply["diagnosis"]["failure"]
    assert reply["state"]["gradients"]["error"]["kind"] == "ProbeFailed"
    assert "symmetric_units" in kinds(reply)
    assert reply["diagnosis"]["signal"]["name"] == []


def test_a_diagnosis_cancelled_on_its_way_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PAUSE_SECONDS", 0.0)
    session = planted()
    told: list[dict[str, Any]] = []

    def push(message: dict[str, Any]) -> None:
        told.append(message)
        if len(told) == 3:
            session.handle({"v": 1, "id": "c", "op": "cancel", "request": "d"})

    reply, _ = session.handle({"v": 1, "id": "d", "op": "diagnose"}, (), push)
    assert reply["error"]["kind"] == "Cancelled"
    assert [message["id"] for message in told] == ["d"] * 3
    assert session.lab.diagnosis is None
    shares = [message["done"] / message["total"] for message in told]
    assert shares == sorted(shares)
    before = {name: tensor.clone() for name, tensor in session.lab.model.state_dict().items()}
    told.clear()
    reply, _ = session.handle({"v": 1, "id": "d", "op": "repair_all"}, (), push)
    assert reply["error"]["kind"] == "Cancelled"
    assert all(torch.equal(tensor, before[name]) for name, tensor in session.lab.model.state_dict().items())
    assert session.lab.history == ()


def test_progress_of_a_diagnosis_grows_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PAUSE_SECONDS", 0.0)
    told: list[tuple[float, str]] = []
    session = planted()
    session.handle(
        {"v": 1, "id": "d", "op": "diagnose"}, (), lambda m: told.append((m["done"] / m["total"], m["words"]))
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] > 0.9
    assert {text.partition(":")[0] for _, text in told} == {"checking gradients", "diagnosing"}


def elsewhere(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def until(true: Callable[[], object]) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < PATIENCE
        time.sleep(0.001)


@pytest.fixture
def training() -> Iterator[tuple[Session, torch.optim.Optimizer]]:
    session = planted()
    optimizer = torch.optim.SGD(session.lab.model.parameters(), lr=0.0)
    session.lab.steps.watch(optimizer)
    yield session, optimizer
    session.lab.steps.unwatch()


def test_behind_a_step_of_training_a_diagnosis_is_answered_at_once_and_a_repair_lands_when_that_ends(
    training: tuple[Session, torch.optim.Optimizer],
) -> None:
    """T1, T3."""
    session, optimizer = training
    lab = session.lab
    told: list[int] = []
    lab.on_change(lambda changed: told.append(lab.diagnosed.number))
    replies: list[dict[str, Any]] = []
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    elsewhere(lambda: replies.append(ask(session, "diagnose"))).join(PATIENCE)
    assert replies[0]["waits"]
    assert replies[0]["diagnosis"] is None
    until(lambda: lab.steps._waiting)
    loss.backward()
    optimizer.step()
    until(lambda: told)
    assert lab.diagnosis is not None
    assert not ask(session, "findings")["waits"]
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    thread = elsewhere(lambda: replies.append(ask(session, "repair_all")))
    until(lambda: lab.steps._waiting)
    loss.backward()
    assert not lab.history
    optimizer.step()
    thread.join(PATIENCE)
    assert replies[1]["repaired"]["helped"]
    assert len(lab.history) == 1


def test_a_diagnosis_that_waits_can_be_given_up_and_what_fails_then_is_told(
    training: tuple[Session, torch.optim.Optimizer],
) -> None:
    session, optimizer = training
    lab = session.lab
    output = lab.model(BATCH[0])
    elsewhere(lambda: ask(session, "diagnose")).join(PATIENCE)
    elsewhere(lambda: ask(session, "diagnose", stop=True)).join(PATIENCE)
    until(lambda: lab.steps._waiting)
    output.sum().backward()
    optimizer.step()
    until(lambda: not lab.steps._late)
    assert lab.diagnosis is None
    told: list[int] = []
    lab.on_change(lambda changed: told.append(1))
    output = lab.model(BATCH[0])
    elsewhere(lambda: ask(session, "diagnose")).join(PATIENCE)
    until(lambda: lab.steps._waiting)
    lab.tree = None  # type: ignore[assignment]  # whatever breaks there must not end the user's loop
    output.sum().backward()
    optimizer.step()
    until(lambda: told)
    assert session.checkup.trouble is not None
    assert session.checkup.trouble["kind"] == "InternalError"


def test_the_page_learns_that_a_repair_or_its_undo_changed_the_structure() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.scale = nn.Linear(7, 3), torch.ones(7)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x * self.scale)

    session = session_of(Scaled())
    first = ask(session, "diagnose")
    reply = ask(session, "repair", finding=words(first["diagnosis"]["findings"][0]))
    assert reply["state"]["readings"] > first["state"]["readings"]
    assert "scale" in ask(session, "hello")["tensors"]["name"]
    assert ask(session, "undo")["state"]["readings"] > reply["state"]["readings"]
    assert "scale" not in ask(session, "hello")["tensors"]["name"]


def test_rows_tell_the_size_of_weights_and_of_the_steps_that_the_optimizer_takes() -> None:
    model = net()
    for optimizer in (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(model.parameters(), lr=0.01),
        torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0),
    ):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
            before = [p.detach().clone() for p in model.parameters()]
            norms = [float(p.grad.norm()) for p in model.parameters()]
            session = session_of(model, optimizer=optimizer)
            plain = isinstance(optimizer, torch.optim.SGD) and not optimizer.defaults["momentum"]
            told_before = [row["step"] for row in ask(session, "check")["state"]["gradients"]["rows"]]
            optimizer.step()
        moved = [float((p.detach() - old).norm()) for p, old in zip(model.parameters(), before, strict=True)]
        rows = ask(session, "check")["state"]["gradients"]["rows"]
        assert [row["weight"] for row in rows] == pytest.approx([float(p.detach().norm()) for p in model.parameters()])
        if plain:  # without a buffer the step is the one that the present gradient makes
            assert told_before == pytest.approx([0.1 * norm for norm in norms])
        else:
            assert [row["step"] for row in rows] == pytest.approx(moved, rel=1e-3)
