"""G1, T1: a check on another thread never meets a step of training, and waits for its end without holding the page up."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

import weightlab as wl
from weightlab.errors import ProbeFailed

PATIENCE = 20  # seconds


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))


BATCH = torch.randn(8, 6), torch.arange(8) % 3


@pytest.fixture
def lab() -> Iterator[wl.Lab]:
    model = net()
    lab = wl.Lab(model, batch=BATCH, loss=F.cross_entropy, optimizer=torch.optim.Adam(model.parameters()))
    lab.steps.watch(lab.optimizer)
    yield lab
    lab.steps.unwatch()


def elsewhere(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def in_flight(lab: wl.Lab) -> bool:
    found: list[bool] = []
    elsewhere(lambda: found.append(lab.steps.elsewhere)).join(PATIENCE)
    return found[0]


def wait_for_one_that_waits(lab: wl.Lab) -> None:
    begun = time.monotonic()
    while not lab.steps._waiting:
        assert time.monotonic() - begun < PATIENCE
        time.sleep(0.001)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
        assert all(type(p) is nn.Parameter and p.grad is not None for p in model.parameters())
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_checks_on_another_thread_do_not_change_what_a_training_loop_computes(lab: wl.Lab) -> None:
    twin = copy.deepcopy(lab.model)
    wanted = train(twin, torch.optim.Adam(twin.parameters()), 120)
    over, checks = threading.Event(), []

    def check() -> None:
        while not over.is_set():
            checks.append(lab.check_gradients().loss)

    thread = elsewhere(check)
    assert lab.optimizer is not None
    try:
        got = train(lab.model, lab.optimizer, 120)
    finally:
        over.set()
        lab.steps.end()
        thread.join(PATIENCE)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert len(checks) > 3


def test_what_is_asked_for_later_runs_on_the_training_thread_when_its_step_ends(lab: wl.Lab) -> None:
    ran: list[threading.Thread] = []

    def ask() -> None:
        lab.steps.call(lambda: ran.append(threading.current_thread()))

    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    elsewhere(lambda: [lab.steps.later("one", ask) for _ in range(3)]).join()
    wait_for_one_that_waits(lab)
    assert ran == []
    loss.backward()
    assert ran == []
    assert lab.optimizer is not None
    lab.optimizer.step()
    assert ran == [threading.current_thread()]  # once for each key


@pytest.mark.parametrize("how", ["step", "lab.step", "graph", "eval", "no_grad", "raises"])
def test_a_step_is_over(how: str, lab: wl.Lab) -> None:
    model = lab.model
    if how in ("step", "lab.step", "graph"):
        loss = F.cross_entropy(model(BATCH[0]), BATCH[1])
        assert in_flight(lab)
        with torch.no_grad():
            model(BATCH[0])
        assert in_flight(lab)
    if how == "step":
        loss.backward()
        lab.optimizer.step()
    elif how == "lab.step":
        lab.step()
    elif how == "graph":
        del loss
    elif how == "eval":
        output = model.eval()(BATCH[0])
        assert output.requires_grad
    elif how == "no_grad":
        with torch.no_grad():
            model(BATCH[0])
    else:
        with pytest.raises(RuntimeError):
            model(torch.randn(2, 5))
    gc.collect()
    assert not in_flight(lab)


def test_without_a_known_optimizer_a_step_is_over_at_the_forward_that_follows_its_backward(lab: wl.Lab) -> None:
    lab.steps.unwatch()
    lab.steps.watch(None)
    landed: list[int] = []

    def losses(*, backward: bool) -> None:
        one = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
        thread = elsewhere(lambda: lab.steps.call(lambda: landed.append(1)))
        wait_for_one_that_waits(lab)
        if backward:
            one.backward()
        assert landed == []
        two = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
        assert landed == ([1] if backward else [])
        (one.detach() + two if backward else one + two).backward()
        lab.step()
        thread.join(PATIENCE)
        assert landed == [1]
        landed.clear()

    losses(backward=True)
    losses(backward=False)


def whole(lab: wl.Lab, name: str, op: str, **args: float) -> wl.Edit:
    return wl.Edit(name, wl.Region.whole(lab.tree[name].shape), op, args)


EDITS: dict[str, Callable[[wl.Lab], object]] = {
    "an edit": lambda lab: lab["0.weight"][0].zero_(),
    "edits": lambda lab: lab.apply([whole(lab, "0.weight", "fill_", value=2.0), whole(lab, "0.bias", "zero_")]),
    "undo": lambda lab: lab.undo(force=True),  # the step has changed those cells
    "a hold": lambda lab: lab["2.bias"].hold(min=0.1, max=0.2),
    "a stroke": lambda lab: stroke_of_two(lab),
}


def stroke_of_two(lab: wl.Lab) -> None:
    with lab.stroke("both"):
        lab["0.weight"].zero_()
        lab["0.bias"].fill_(1.0)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_another_thread_lands_when_the_step_ends_and_never_before_its_backward(
    name: str, lab: wl.Lab
) -> None:  # T1
    lab["2.weight"].mul_(0.5)
    entries = len(lab.history)
    before = [parameter.detach().clone() for parameter in lab.model.parameters()]
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    thread = elsewhere(lambda: EDITS[name](lab))
    wait_for_one_that_waits(lab)
    loss.backward()  # torch would refuse it, had the edit landed
    assert all(torch.equal(a, b) for a, b in zip(before, lab.model.parameters(), strict=True))
    lab.optimizer.step()
    thread.join(PATIENCE)
    assert len(lab.history) == entries + (-1 if name == "undo" else 1)
    if name == "a stroke":
        assert not lab["0.weight"].value.any()
        assert (lab["0.bias"].value == 1).all()


def one_step(lab: wl.Lab, ask: Callable[[], object]) -> None:
    """A step of training, with something asked for on another thread between its forward and its backward."""
    assert lab.optimizer is not None
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    thread = elsewhere(ask)
    wait_for_one_that_waits(lab)
    loss.backward()
    lab.optimizer.step()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_waiting_edit_is_computed_from_the_values_that_it_meets(lab: wl.Lab) -> None:
    def twice() -> None:
        lab["0.weight"].apply_(lambda cells: cells * 2)
        lab["2.weight"][0] = lab["2.weight"][1]

    after: list[Tensor] = []
    lab.after_step.put("updates", lambda: after.append(lab.model[0].weight.detach().clone()))
    one_step(lab, twice)
    assert torch.equal(lab.model[0].weight, after[0] * 2)
    assert torch.equal(lab.model[2].weight[0], lab.model[2].weight[1])


def test_what_is_held_is_enforced_before_a_waiting_edit_moves_it(lab: wl.Lab) -> None:  # T4
    lab["0.bias"].fill_(1.0)
    lab["0.bias"].hold()  # after the page has begun to watch
    one_step(lab, lambda: lab["0.bias"].mul_(2))
    assert lab["0.bias"].value.tolist() == [2.0] * 9
    one_step(lab, lambda: lab["2.bias"].zero_())
    assert lab["0.bias"].value.tolist() == [2.0] * 9


def test_a_backward_that_no_step_follows_does_not_keep_others_waiting(lab: wl.Lab) -> None:
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    loss.backward()
    thread = elsewhere(lambda: lab["0.bias"].zero_())
    wait_for_one_that_waits(lab)
    del loss
    thread.join(PATIENCE)
    assert not lab["0.bias"].value.any()


@dataclasses.dataclass
class Output:
    loss: Tensor


def test_a_step_is_seen_in_an_output_of_the_users_own_class() -> None:
    class Wrapped(nn.Linear):
        def forward(self, x: Tensor) -> Output:  # type: ignore[override]
            return Output(super().forward(x).square().mean())

    lab = wl.Lab(Wrapped(6, 2))
    lab.steps.watch(None)
    output = lab.model(BATCH[0])
    assert in_flight(lab)
    del output
    gc.collect()
    assert not in_flight(lab)


@pytest.mark.parametrize("optimizer", [True, False])
def test_a_checkpoint_that_runs_the_model_again_in_its_backward_ends_no_step(lab: wl.Lab, optimizer: bool) -> None:
    if not optimizer:
        lab.steps.unwatch()
        lab.steps.watch(None)
    before = lab["0.bias"].value
    seen: list[Tensor] = []
    lab.model[2].register_full_backward_hook(lambda *_: seen.append(lab.model[0].bias.detach().clone()))
    output = torch.utils.checkpoint.checkpoint(lab.model, BATCH[0], use_reentrant=False)
    thread = elsewhere(lambda: lab["0.bias"].zero_())
    wait_for_one_that_waits(lab)
    F.cross_entropy(output, BATCH[1]).backward()
    assert torch.equal(seen[0], before)
    assert torch.equal(lab.model[0].bias, before)
    lab.step() if not optimizer else lab.optimizer.step()
    thread.join(PATIENCE)
    assert not lab["0.bias"].value.any()


def test_a_tensor_is_found_while_another_thread_checks(lab: wl.Lab) -> None:
    over, trouble = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            try:
                assert lab["2.weight"].value.shape == (3, 9)
            except Exception as error:
                trouble.append(error)

    thread = elsewhere(look)
    for _ in range(30):
        lab.check_gradients()
    over.set()
    thread.join(PATIENCE)
    assert trouble == []


def test_edits_of_another_thread_beside_a_training_loop_land_whole_and_raise_where_they_were_made(lab: wl.Lab) -> None:
    torch.manual_seed(0)
    over, seen, refused = threading.Event(), [], []

    def edit() -> None:
        for value in range(40):
            with lab.stroke("both"):
                lab["0.bias"].fill_(value)
                lab["2.bias"].fill_(value)
            with pytest.raises(wl.EditRefused) as error:
                lab["0.bias"].copy_(torch.ones(4))
            refused.append(error.value)
        over.set()

    optimizer = torch.optim.SGD(lab.model.parameters(), 0.0)
    lab.steps.unwatch()
    lab.steps.watch(optimizer)
    thread = elsewhere(edit)
    while not over.is_set():
        loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
        pair = lab["0.bias"].value[0].item(), lab["2.bias"].value[0].item()
        loss.backward()
        assert pair == (lab["0.bias"].value[0].item(), lab["2.bias"].value[0].item())
        seen.append(pair)
        optimizer.step()
    thread.join(PATIENCE)
    assert len(lab.history) == 40
    assert len(refused) == 40
    assert all(a == b for a, b in seen if a == int(a))


def test_a_step_ends_with_its_thread(lab: wl.Lab) -> None:
    kept: list[Tensor] = []
    elsewhere(lambda: kept.append(lab.model(BATCH[0]))).join()
    assert not lab.steps.elsewhere
    assert lab.check_gradients().loss > 0


def test_a_check_that_cannot_wait_is_refused_with_a_reason(lab: wl.Lab) -> None:
    said: list[str] = []

    def look() -> None:
        with pytest.raises(ProbeFailed) as error:
            lab.view("0.weight", "gradient")
        said.append(str(error.value))

    output = lab.model(BATCH[0])
    elsewhere(look).join(PATIENCE)
    assert output.requires_grad
    assert "a step of training is running on another thread" in said[0]


def test_what_a_waiting_check_raises_is_raised_where_it_was_asked_for(lab: wl.Lab) -> None:
    lab.probe.loss = lambda output, target: output
    said: list[str] = []

    def check() -> None:
        with pytest.raises(ProbeFailed) as error:
            lab.check_gradients()
        said.append(str(error.value))

    output = lab.model(BATCH[0]).sum()
    output.backward()
    thread = elsewhere(check)
    thread.join(0.2)
    assert said == []
    lab.optimizer.step()
    thread.join(PATIENCE)
    assert "expected one number" in said[0]


def test_the_hooks_do_not_travel_and_do_not_stay(lab: wl.Lab) -> None:
    twin, thawed = copy.deepcopy(lab.model), pickle.loads(pickle.dumps(lab.model))
    for other in (twin, thawed):
        other(BATCH[0])
        assert not in_flight(lab)
    lab.steps.unwatch()
    assert not lab.model._forward_pre_hooks
    assert not lab.model._forward_hooks
    assert not lab.optimizer._optimizer_step_post_hooks


def test_without_a_page_there_is_no_hook() -> None:
    model = net()
    lab = wl.Lab(model, batch=BATCH, loss=F.cross_entropy, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    lab.check_gradients()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_the_page_is_answered_while_a_step_is_in_flight_and_told_when_the_check_has_run(lab: wl.Lab) -> None:
    from weightlab.jupyter.protocol import Session

    told: list[object] = []
    lab.on_change(told.append)
    replies: list[dict[str, object]] = []
    loss = F.cross_entropy(lab.model(BATCH[0]), BATCH[1])
    elsewhere(lambda: replies.append(Session(lab).handle({"v": 1, "id": "a", "op": "check"})[0])).join(PATIENCE)
    assert replies[0]["ok"]
    assert lab.report is None
    wait_for_one_that_waits(lab)
    loss.backward()
    lab.optimizer.step()
    assert lab.report is not None
    begun = time.monotonic()
    while not told and time.monotonic() - begun < PATIENCE:
        time.sleep(0.001)
    assert told == [[]]
