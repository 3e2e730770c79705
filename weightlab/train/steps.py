"""The safe point between two steps: what puts stand-ins into the model must not meet a step of training (rule T1).

A check replaces the model's parameters for its length. On a thread of its own, as a page asks for it, it would take the
gradients away from a training step that runs meanwhile. So a step is in flight from a forward of the model until the
optimizer's step or `lab.step()` (where the optimizer is not known, until that forward's graph is gone), until the next
forward, or until its cell or thread has ended. A check asked for on another thread waits, and runs on the training thread
at that point; a forward that begins while a check runs waits for it.

The two hooks on the model are there only while a page is. They do not travel: a pickled or deep-copied model has inert ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from weightlab.errors import ProbeFailed

PAUSE_SECONDS = 0.05  # between two looks whether a step that nothing ends is over

Made = TypeVar("Made")


class Steps:
    """Whether a step of training is in flight, and what waits for its end; *state*.

    Args:
        model: whose forwards begin steps.
        lock: the Lab's; a check holds it.
    """

    def __init__(self, model: nn.Module, lock: threading.RLock) -> None:
        self._model, self._lock = model, lock
        self._thread: threading.Thread | None = None  # whose step is in flight
        self._checker: int | None = None  # the thread whose forwards are a check's
        self._graph = 0  # counts forwards: tells the last one's graph from an older one
        self._asked: dict[str, Callable[[], None]] = {}
        self._waiter: threading.Thread | None = None
        self._handles: list[Any] = []
        self._knows_steps = False

    def watch(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Follow forwards and steps from now on, until `unwatch`."""
        # Inside a module that is compiled in place the hooks would be compiled, too.
        compiled = getattr(self._model, "_compiled_call_impl", None) is not None
        if self._handles or compiled or isinstance(self._model, torch.jit.ScriptModule):
            return
        gate = _Gate(self)
        self._handles = [
            self._model.register_forward_pre_hook(gate.enter, prepend=True),
            self._model.register_forward_hook(gate.leave, always_call=True),
        ]
        self._knows_steps = optimizer is not None
        if optimizer is not None:
            self._handles.append(optimizer.register_step_post_hook(gate.stepped))

    def unwatch(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._thread = None

    @property
    def elsewhere(self) -> bool:
        """Whether a step is in flight on another thread than this one."""
        thread = self._thread
        return thread is not None and thread.is_alive() and thread is not threading.current_thread()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For what replaces parameters: no step is in flight on another thread, and none begins meanwhile.

        Raises:
            ProbeFailed: one is. `call` and `later` wait for its end.
        """
        with self._lock:
            if self.elsewhere:
                raise ProbeFailed(
                    "a step of training is running on another thread, which a check would disturb. Ask again when it has ended."
                )
            before, self._checker = self._checker, threading.get_ident()
            try:
                yield
            finally:
                self._checker = before

    def call(self, function: Callable[[], Made]) -> Made:
        """Run it now, or at the end of another thread's step; wait, and hand over what it returns or raises."""
        with self._lock:
            if not self.elsewhere:
                return function()
        done = threading.Event()
        made: list[Made] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                made.append(function())
            except BaseException as error:
                failed.append(error)
            finally:
                done.set()

        self.later(f"call {id(done)}", run)
        done.wait()
        if failed:
            raise failed[0]
        return made[0]

    def later(self, key: str, function: Callable[[], None]) -> None:
        """Run it now, or at the end of another thread's step without waiting for it: once for each key."""
        with self._lock:
            waits = self.elsewhere
            if waits:
                self._asked[key] = function
                if self._waiter is None or not self._waiter.is_alive():
                    self._waiter = threading.Thread(target=self._wait, name="weightlab-safe-point", daemon=True)
                    self._waiter.start()
        if not waits:
            function()

    def end(self) -> None:
        """This thread's step is over: what was asked for meanwhile runs here and now."""
        with self._lock:
            if self.elsewhere:
                return
            self._thread = None
        self._run_asked()

    def _begin(self) -> None:
        """A forward begins on this thread: the step before it is over."""
        self._run_asked()
        with self._lock:  # waits for a check that runs now
            self._graph += 1
            self._thread = threading.current_thread()

    def _run_asked(self) -> None:
        with self._lock:
            asked, self._asked = self._asked, {}
        for function in asked.values():
            function()

    def _wait(self) -> None:
        """Where no hook tells the end of a step: its graph, its cell or its thread is gone."""
        while self._asked:
            if not self.elsewhere:
                self._run_asked()
            time.sleep(PAUSE_SECONDS)


class _Gate:
    """The hooks; without a Steps, as after a copy, they do nothing."""

    def __init__(self, steps: Steps | None = None) -> None:
        self._steps = steps

    def __reduce__(self) -> tuple[Any, ...]:
        return _Gate, ()

    def enter(self, module: nn.Module, args: Any) -> None:
        steps = self._steps
        if steps is not None and steps._checker != threading.get_ident():
            steps._begin()

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        steps = self._steps
        if steps is None or steps._checker == threading.get_ident():
            return
        graph = next((tensor for tensor in _tensors(output) if tensor.grad_fn is not None), None)
        if graph is None:
            steps.end()
        elif not steps._knows_steps:
            graph.register_hook(_Alive(steps))

    def stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._steps is not None:
            self._steps.end()


class _Alive:
    """Held by the graph of a forward's output; when the graph goes, the step is over."""

    def __init__(self, steps: Steps) -> None:
        self._steps, self._graph = steps, steps._graph

    def __call__(self, gradient: Tensor) -> None:
        """The gradient passes as it is."""

    def __del__(self) -> None:
        # Called by the garbage collector, wherever that runs: nothing but an assignment, no lock.
        if self._steps._graph == self._graph:
            self._steps._thread = None


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)
    elif isinstance(output, dict):
        for item in output.values():
            yield from _tensors(item)
