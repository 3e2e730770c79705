"""Progress and cancelling: told seldom, heard from another thread, nothing changed by it (rules T2, T3, T5, P1)."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import weightlab as wl
from weightlab import progress
from weightlab.files import writing
from weightlab.jupyter.kernel import Worker
from weightlab.jupyter.protocol import Session
from weightlab.progress import Progress, report
from weightlab.see import tiles

EXAMPLES = json.loads((Path(__file__).parent / "messages.json").read_text())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every report is told, and work is cut into small pieces."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(writing, "_PIECE", 1 << 6)
    monkeypatch.setattr(tiles, "BASE_BINS", 1 << 8)
    monkeypatch.setattr(tiles, "CHUNK", 1 << 9)


def test_reports_are_told_from_the_first_moments_on_at_most_ten_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: the clock is ours, so that a slow machine tells the same."""
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    told: list[int] = []
    with Progress(lambda done, total, words: told.append(done)).listening():
        for step in range(100):
            report(step, 100, "counting")
            now += 0.011
    assert told[0] * 0.011 >= progress.FIRST_SECONDS
    assert all((later - earlier) * 0.011 >= 0.1 for earlier, later in pairwise(told))
    assert 5 < len(told) < 10


def test_a_report_that_nobody_follows_is_silent() -> None:
    report(1, 2, "counting")
    heard: list[int] = []
    with Progress(lambda *told: heard.append(1)).listening():
        pass
    report(1, 2, "counting")
    assert heard == []


def test_cancelling_is_heard_at_the_next_report_and_only_by_its_own_computation() -> None:
    mine, other = Progress(), Progress()
    mine.cancel()
    with other.listening():
        report(1, 2, "counting")
        with mine.listening(), pytest.raises(wl.Cancelled, match=r"Cancelled while counting\. Nothing was changed\."):
            report(1, 2, "counting")
        report(1, 2, "counting")


def test_a_cancelled_save_leaves_the_good_file(tmp_path: Path, at_once: None) -> None:
    """J3: not one byte of it is written, and nothing else lies beside it."""
    lab = wl.Lab(nn.Linear(20, 20))
    path = tmp_path / "m.safetensors"
    lab.save(path)
    good = path.read_bytes()
    lab["weight"].zero_()
    following = Progress(lambda done, total, words: following.cancel())
    with following.listening(), pytest.raises(wl.Cancelled, match="saving"):
        lab.save(path)
    assert path.read_bytes() == good
    assert [each.name for each in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.complex64, torch.bool])
def test_a_file_written_in_pieces_reads_back_as_any(dtype: torch.dtype, tmp_path: Path, at_once: None) -> None:
    wide = torch.randn(3, 1, 7, 11)
    odd = {
        "scalar": wide.sum(),
        "empty": wide[:0],
        "view": wide.transpose(1, 3),
        "one": wide[:1],
        "long": wide.flatten(),
    }
    tensors = {name: tensor.to(dtype) for name, tensor in odd.items()}
    writing.write(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    again = load_file(tmp_path / "m.safetensors")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (again[name].shape, again[name].dtype) == (tensor.shape, dtype)
        assert again[name].flatten().view(torch.uint8).tolist() == tensor.flatten().view(torch.uint8).tolist()


def test_a_request_says_how_far_it_is_and_is_cancelled_while_it_holds_the_lock(at_once: None) -> None:
    """T2, P1: the wish comes on another thread and is answered at once; the request itself gets its one reply, too."""
    lab = wl.Lab(nn.Linear(300, 200, bias=False))
    session = Session(lab)
    pushes: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []

    def cancel() -> None:
        answers.append(session.handle({"v": 1, "id": "c", "op": "cancel", "request": "t"})[0])

    def push(message: dict[str, Any]) -> None:
        pushes.append(message)
        if len(pushes) == 3:
            beside = threading.Thread(target=cancel)
            beside.start()
            beside.join(10)
            assert not beside.is_alive()

    message = {"v": 1, "id": "t", "op": "tiles", "name": "weight", "tiles": [[4, 4, 0, 0]], "encoding": "q8"}
    reply, buffers = session.handle(message, [], push)
    assert answers == [{"v": 1, "id": "c", "ok": True, "cancelled": True, "revision": 0}]
    assert reply["error"]["kind"] == "Cancelled"
    assert reply["error"]["message"] == "Cancelled while reading 60,000 cells. Nothing was changed."
    assert buffers == []
    assert [each["done"] for each in pushes] == sorted({each["done"] for each in pushes})
    assert {each["id"] for each in pushes} == {"t"}
    assert pushes[0].keys() == EXAMPLES["pushes"][0]["message"].keys()
    assert session.handle(message, [])[0]["ok"]
    late, _ = session.handle({"v": 1, "id": "c", "op": "cancel", "request": "t"})
    assert late["cancelled"] is False


def test_a_cancelled_check_is_as_if_it_had_not_been_asked_for(at_once: None) -> None:
    def probe(model: nn.Module) -> Tensor:
        report(1, 2, "checking")
        return model(torch.ones(1, 3)).sum()

    lab = wl.Lab(nn.Linear(3, 2), probe=probe)
    first = lab.check_gradients()
    lab["bias"].fill_(1)
    following = Progress()
    following.cancel()
    with following.listening(), pytest.raises(wl.Cancelled):
        lab.check_gradients()
    assert lab.report is first
    assert lab.report_error is None
    assert lab.checked_revision == 0


def test_a_worker_answers_in_order_and_outlives_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[object] = []
    end = threading.Event()
    worker = Worker()
    worker.submit(done.append, threading.current_thread().name)
    worker.submit(lambda: 1 / 0)
    worker.submit(lambda: done.append(threading.current_thread().name))
    worker.submit(end.set)
    assert end.wait(10)
    worker.close()
    assert done == [threading.current_thread().name, "weightlab-answers"]
    assert "ZeroDivisionError" in capsys.readouterr().err
