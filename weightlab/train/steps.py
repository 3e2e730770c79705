"""The safe point between two steps: no edit lands between a forward and its backward, and no check meets either (rule T1).

An edit there would change what the graph has saved, and torch refuses the backward; a check replaces the model's parameters
for its length, and would take the gradients away from a step that runs meanwhile. So a step is in flight from a grad-enabled
forward of the model in training mode until the optimizer's step or `lab.step()`, until the graph of that forward (of all, if
there were several) is gone, or until its cell or thread has ended. After a backward the optimizer's step is awaited a moment,
although the graph is gone. Where the optimizer is not known, a step is also over at the next forward, if every graph has had
its backward by then. What another thread asks for waits, and is done on the training thread at that point; a forward that
begins meanwhile waits for it, and so does the optimizer's step.

The hooks are there only while a page is, after `lab.steps.watch(optimizer)`, or once something was asked for on another thread
than the Lab was made on, or beside a thread that uses the model; a step that this meets is found on the stack of its thread
(stacks.py). They do not travel: a pickled or deep-copied model has inert ones. A model that is compiled in place
(`model.compile()`) or scripted is not followed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from weightlab.errors import ProbeFailed
from weightlab.model.nested import tensors_in
from weightlab.train.after_step import AfterStep
from weightlab.train.stacks import Found, is_used_beside, step_on_another_thread

PAUSE_SECONDS = 0.05  # between two looks whether a step that nothing ends is over
STEP_SECONDS = 1.0  # after a backward whose graph is gone: a loop that steps has done so long before

Made = TypeVar("Made")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Made]):
    """What is asked for, and what became of it."""

    function: Callable[[], Made]
    begun: bool = False
    made: list[Made] = field(default_factory=list)
    failed: BaseException | None = None

    def run(self) -> None:
        self.begun = True
        try:
            self.made.append(self.function())
        except BaseException as error:  # belongs to the thread that asked
            self.failed = error

    def result(self) -> Made:
        if self.failed is not None:
            raise self.failed
        return self.made[0]


class Steps:
    """Whether a step of training is in flight, and what waits for its end; *state*.

    Args:
        model: whose forwards begin steps.
        lock: the Lab's; what changes the model or checks it holds it.
        after: what follows a step of the Lab's optimizer, if it was given one.
    """

    def __init__(self, model: nn.Module, lock: threading.RLock, after: AfterStep | None = None) -> None:
        self._model = model
        self._after = after
        self._home = threading.get_ident()  # the thread that made the Lab
        self._lock = threading.Condition(lock)
        self._thread: threading.Thread | None = None  # whose step is in flight
        self._checker: int | None = None  # the thread whose forwards are a check's
        self._graphs: set[int] = set()  # of the step in flight, by number: those that no gradient came to
        self._alive: set[int] = set()  # all of its graphs that are not gone
        self._gone = math.inf  # when the last of them went, after a backward
        self._count = 0
        self._backward = False  # whether a gradient came in the step in flight
        self._unsure = (
            False  # the step in flight was met in the midst of a forward or a backward: to be looked at again
        )
        self._waiting: list[_Waiting[Any]] = []
        self._late: set[str] = set()
        self._handles: list[Any] = []
        self._sees_steps = False  # of the optimizer

    def watch(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Follow forwards and steps from now on, until `unwatch`."""
        if self._handles or not self._can_follow():
            return
        gate = _Gate(self)
        self._handles = [
            self._model.register_forward_pre_hook(gate.enter, prepend=True),
            self._model.register_forward_hook(gate.leave, always_call=True),
        ]
        self._sees_steps = optimizer is not None
        if optimizer is not None:
            if self._after is None or self._after.optimizer is not optimizer:
                self._after = AfterStep(optimizer)
            self._after.put("waiting", gate.stepped)
            self._after.wait_before(gate.steps)

    def _can_follow(self) -> bool:
        # Inside a module that is compiled in place the hooks would be compiled, too.
        compiled = getattr(self._model, "_compiled_call_impl", None) is not None
        return not compiled and not isinstance(self._model, torch.jit.ScriptModule)

    def unwatch(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._after is not None:
            self._after.wait_before(None)
            self._after.put("waiting", None)
        self._forget()

    @property
    def elsewhere(self) -> bool:
        """Whether a step is in flight on another thread than this one."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return False
        return time.monotonic() - self._gone < STEP_SECONDS

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what replaces parameters: no step is in flight on another thread, and none begins meanwhile.

        Raises:
            ProbeFailed: one is. `call` and `later` wait for its end.
        """
        with self._lock:
            if self._meets_a_step():
                raise ProbeFailed(
                    "a step of training is running on another thread, which a check would disturb. Ask again when it has ended."
                )
            before, self._checker = self._checker, threading.get_ident()
            try:
                yield
            finally:
                self._checker = before

    def call(self, function: Callable[[], Made]) -> Made:
        """Run it with the lock held: now, or on the training thread at the end of its step.

        Returns when it has run, with what it returned; what it raises is raised here.
        """
        with self._lock:
            asked = _Waiting(function)
            if not self._meets_a_step() or not self._done_there(asked):
                return function()
            return asked.result()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock where no step is in flight on another thread; at the end of one, its thread stands still meanwhile."""
        with self._lock:
            over: list[bool] = []

            def stand() -> None:
                self._lock.notify_all()
                self._lock.wait_for(lambda: over)

            if self._meets_a_step():
                self._done_there(_Waiting(stand))
            try:
                yield
            finally:
                over.append(True)
                self._lock.notify_all()

    def later(self, key: str, function: Callable[[], None]) -> None:
        """Run what waits by itself (with `call`) now, or where it would wait, beside this thread: once for each key."""
        with self._lock:
            waits = self._meets_a_step()
            if waits and key not in self._late:
                self._late.add(key)

                def run() -> None:
                    try:
                        function()
                    finally:
                        self._late.discard(key)

                threading.Thread(target=run, name="weightlab-safe-point", daemon=True).start()
        if not waits:
            function()

    def end(self) -> None:
        """This thread's step is over: what was asked for meanwhile is done here and now."""
        with self._lock:
            if self.elsewhere:
                return
            self._forget()
            while self._waiting:
                self._waiting.pop(0).run()
            self._lock.notify_all()

    def _meets_a_step(self) -> bool:
        """Whether one is in flight elsewhere; where nobody has followed so far, one is looked for."""
        if not self._handles and self._can_follow():
            found = self._look()
            optimizer = None if self._after is None else self._after.optimizer
            things = [thing for thing in (self._model, optimizer) if thing is not None]
            # Without a step a forward may begin before what is asked for is done: the hooks make it wait.
            if found is not None or threading.get_ident() != self._home or is_used_beside(*things):
                self.watch(optimizer)
                self._take_over(self._look())  # again: what has begun since then has not met the hooks
        return self.elsewhere

    def _look(self) -> Found | None:
        return step_on_another_thread(self._model, None if self._after is None else self._after.optimizer)

    def _take_over(self, found: Found | None) -> None:
        """Follow a step that has begun without the hooks."""
        self._forget()
        if found is None:
            return
        self._thread, self._unsure = found.thread, found.running
        for graph in () if found.running else found.graphs:
            self._follow(graph)
        if not found.running and not found.graphs:  # after its backward: the optimizer's step may be next
            self._backward, self._gone = True, time.monotonic()

    def _follow(self, graph: Tensor) -> None:
        self._count += 1
        self._graphs.add(self._count)
        self._alive.add(self._count)
        graph.register_hook(_Alive(self, self._count))

    def _forget(self) -> None:
        self._thread, self._backward, self._unsure, self._gone = None, False, False, math.inf
        self._graphs.clear()
        self._alive.clear()

    def _is_own(self) -> bool:
        """Whether a forward on this thread is no step of training: a check's, or a checkpoint's in the midst of a backward."""
        return self._checker == threading.get_ident() or torch._C._current_graph_task_id() != -1

    def _forward_begins(self) -> None:
        with self._lock:  # waits for a check or an edit that goes on now
            if not self._graphs and not (self._backward and self._sees_steps):
                self.end()
            if not self.elsewhere:
                self._thread, self._gone = threading.current_thread(), math.inf

    def _forward_ends(self, graph: Tensor | None) -> None:
        with self._lock:
            if self.elsewhere:
                return
            if graph is not None:
                self._thread, self._unsure = threading.current_thread(), False
                self._follow(graph)
            elif not self._graphs and not self._backward:
                self.end()

    def _done_there(self, asked: _Waiting[Any]) -> bool:
        """Wait until the training thread has begun it. False: it is not going to, because its graph, cell or thread is gone."""
        self._waiting.append(asked)
        while not asked.begun:
            if self._unsure:
                self._take_over(self._look())
            if not self.elsewhere:
                self._waiting.remove(asked)
                return False
            self._lock.wait(PAUSE_SECONDS)
        return True


class _Gate:
    """The hooks; without a Steps, as after a copy, they do nothing."""

    def __init__(self, steps: Steps | None = None) -> None:
        self._steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return _Gate, ()

    def enter(self, module: nn.Module, args: Any) -> None:
        steps = self._steps
        if steps is not None and not steps._is_own():
            steps._forward_begins()

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        steps = self._steps
        if steps is None or steps._is_own():
            return
        made = (tensor for tensor in tensors_in(output) if tensor.grad_fn is not None)
        steps._forward_ends(next(made, None) if module.training else None)

    def steps(self) -> None:
        """The optimizer's step waits for an edit or a check that goes on now."""
        if self._steps is not None:
            with self._steps._lock:
                pass

    def stepped(self) -> None:
        if self._steps is not None:
            self._steps.end()


class _Alive:
    """Held by the graph of a forward's output: tells when a gradient comes, and when the graph goes."""

    def __init__(self, steps: Steps, number: int) -> None:
        self._steps, self._number = steps, number

    def __call__(self, gradient: Tensor) -> None:
        """The gradient passes as it is."""
        self._steps._graphs.discard(self._number)
        self._steps._backward = True

    def __del__(self) -> None:
        # Called by the garbage collector, wherever that runs: assignments only, no lock.
        steps = self._steps
        if self._number in steps._alive:
            steps._graphs.discard(self._number)
            steps._alive.discard(self._number)
            if not steps._alive and steps._backward:
                steps._gone = time.monotonic()
            elif not steps._alive:
                steps._thread = None
