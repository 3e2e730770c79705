"""T1 without a page: the first thing that another thread asks for meets a step that nobody has followed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab as wl

PATIENCE = 20  # seconds
BATCH = torch.randn(8, 6), torch.arange(8) % 3


class Stopping(nn.Module):
    """Passes its input on, forward or backward, once somebody says so."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = threading.Event(), threading.Event()
        self.where = ""

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "forward":
            self._stop()
        made = x * 1
        if self.where == "backward":
            made.register_hook(lambda gradient: self._stop())
        return made

    def _stop(self) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), Stopping(), nn.Linear(9, 3))


@pytest.fixture(params=["known", "unknown"])
def lab(request: pytest.FixtureRequest) -> Iterator[wl.Lab]:
    """Whether the Lab was given the optimizer, or its loop calls `lab.step()`."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lab = wl.Lab(model, optimizer=optimizer if request.param == "known" else None)
    step = optimizer.step if request.param == "known" else lambda: (optimizer.step(), lab.step())
    lab.finish = step  # type: ignore[attr-defined]
    yield lab
    lab.steps.unwatch()


class Edit:
    """Zeroes a bias on a thread of its own."""

    def __init__(self, lab: wl.Lab) -> None:
        self.bias: Tensor = lab.model[3].bias  # type: ignore[index, assignment, union-attr]
        self.thread = threading.Thread(target=lambda: lab["3.bias"].zero_(), daemon=True)
        self.thread.start()

    def waits(self) -> bool:
        self.thread.join(0.2)
        return self.thread.is_alive() and bool(self.bias.any())

    def lands(self) -> bool:
        self.thread.join(PATIENCE)
        return not self.thread.is_alive() and not self.bias.any()


@pytest.mark.parametrize("before", [0, 2])
def test_an_edit_waits_for_the_step_that_it_meets(lab: wl.Lab, before: int) -> None:
    model, loss, edit = lab.model, None, None
    for turn in range(before + 1):
        out = model(BATCH[0])  # the loss of the step before is still there
        if turn == before:
            edit = Edit(lab)
            assert edit.waits()
        loss = F.cross_entropy(out, BATCH[1])
        assert edit is None or edit.waits()
        loss.backward()
        assert edit is None or edit.waits()
        lab.finish()  # type: ignore[attr-defined]
    assert edit is not None
    assert edit.lands()


def test_the_step_of_a_thread_is_met_from_the_main_one(lab: wl.Lab) -> None:
    begun, go = threading.Event(), threading.Event()
    seen: list[bool] = []
    bias: Tensor = lab.model[3].bias  # type: ignore[index, assignment, union-attr]

    def train() -> None:
        loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
        begun.set()
        go.wait(PATIENCE)
        time.sleep(0.2)
        seen.append(bool(bias.any()))
        loss.backward()
        lab.finish()  # type: ignore[attr-defined]

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    go.set()
    lab["3.bias"].zero_()
    assert not bias.any()
    thread.join(PATIENCE)
    assert seen == [True]


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_is_met_in_the_midst_of_it(lab: wl.Lab, where: str) -> None:
    stopping: Stopping = lab.model[2]  # type: ignore[index, assignment]
    stopping.where = where
    waited: list[bool] = []
    edits: list[Edit] = []

    def meet() -> None:
        stopping.reached.wait(PATIENCE)
        edits.append(Edit(lab))
        waited.append(edits[0].waits())
        stopping.go.set()

    meeting = threading.Thread(target=meet, daemon=True)
    meeting.start()
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    if where == "forward":
        meeting.join(PATIENCE)
        assert edits[0].waits()
    loss.backward()
    meeting.join(PATIENCE)
    assert edits[0].waits()
    lab.finish()  # type: ignore[attr-defined]
    assert edits[0].lands()
    assert waited == [True]


def after_training(lab: wl.Lab) -> Tensor:
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    loss.backward()
    lab.finish()  # type: ignore[attr-defined]
    return loss


def after_a_step_with_the_graph_retained(lab: wl.Lab) -> Tensor:
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    loss.backward(retain_graph=True)
    lab.finish()  # type: ignore[attr-defined]
    return loss


def gone(lab: wl.Lab) -> None:
    lab.model(BATCH[0])


def evaluated(lab: wl.Lab) -> Tensor:
    lab.model.eval()
    return lab.model(BATCH[0])  # type: ignore[no-any-return]


def without(lab: wl.Lab) -> Tensor:
    with torch.no_grad():
        return lab.model(BATCH[0])  # type: ignore[no-any-return]


def of_another(lab: wl.Lab) -> Tensor:
    return net()(BATCH[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "what", [after_training, after_a_step_with_the_graph_retained, gone, evaluated, without, of_another]
)
def test_where_no_step_is_in_flight_an_edit_lands(lab: wl.Lab, what: Callable[[wl.Lab], object]) -> None:
    kept = what(lab)
    assert Edit(lab).lands()
    del kept


def test_who_trains_and_edits_on_one_thread_has_no_hooks(lab: wl.Lab) -> None:
    waiting = threading.Event()
    beside = threading.Thread(target=waiting.wait, args=(PATIENCE,), daemon=True)
    beside.start()
    out = lab.model(BATCH[0])
    lab["3.bias"].zero_()
    waiting.set()
    assert not lab.model._forward_hooks
    assert not lab.model._forward_pre_hooks
    assert out.requires_grad


def test_a_forward_waits_for_an_edit_that_began_before_it(lab: wl.Lab) -> None:
    """The edit has met no step; the one that begins meanwhile must not meet it."""
    begun = threading.Event()

    def slowly(cells: Tensor) -> Tensor:
        begun.set()
        time.sleep(0.2)
        return cells * 2

    edit = threading.Thread(target=lambda: lab["3.weight"].apply_(slowly), daemon=True)
    edit.start()
    assert begun.wait(PATIENCE)
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    edit.join(PATIENCE)
    loss.backward()  # torch refuses it where the edit landed after the forward
    lab.finish()  # type: ignore[attr-defined]


def test_a_hold_comes_and_goes_from_another_thread_while_a_loop_trains() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lab = wl.Lab(model, optimizer=optimizer)
    over, failed, steps = threading.Event(), [], []

    def train() -> None:
        while not over.is_set():
            try:
                F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
                optimizer.step()
                optimizer.zero_grad()
                steps.append(1)
            except RuntimeError as error:
                failed.append(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    for _ in range(10):
        hold = lab["3.bias"].hold()
        hold.release()
        lab.undo()
        lab.undo()
    over.set()
    thread.join(PATIENCE)
    lab.steps.unwatch()
    assert not failed
    assert steps


class HaltingSGD(torch.optim.SGD):
    """Stops in the midst of its first step: one half of the parameters has moved."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, 0.5)
        self.reached, self.go = threading.Event(), threading.Event()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        super().step()
        self.reached.set()
        assert self.go.wait(PATIENCE)
        return super().step()


def test_an_edit_waits_for_the_optimizers_step_that_it_meets() -> None:
    model = net()
    optimizer = HaltingSGD(list(model.parameters()))
    lab = wl.Lab(model, optimizer=optimizer)
    F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
    trains = threading.Thread(target=optimizer.step)
    trains.start()
    assert optimizer.reached.wait(PATIENCE)
    edits = threading.Thread(target=lab["0.bias"].zero_)
    edits.start()
    edits.join(0.3)
    assert edits.is_alive()
    optimizer.go.set()
    for thread in (edits, trains):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not lab["0.bias"].value.any()
    lab.steps.unwatch()


def test_the_optimizers_step_waits_for_an_edit_that_began_before_it() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    lab = wl.Lab(model, optimizer=optimizer)
    F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
    lab.steps.watch(optimizer)
    trains = threading.Thread(target=optimizer.step)
    with lab.lock:
        before = lab["0.weight"].value
        trains.start()
        trains.join(0.2)
        assert torch.equal(lab["0.weight"].value, before)
    trains.join(PATIENCE)
    assert not torch.equal(lab["0.weight"].value, before)
    lab.steps.unwatch()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
