"""What a Lab does before and after its optimizer steps: one hook each, and parts in one order.

The optimizer runs its hooks straight from their dict. Who removes one meanwhile, on another thread or in a hook, ends that step
with "OrderedDict mutated during iteration". So parts come and go here, and the hook goes with the last of them, or, where that
happens while it runs, when a part is put the next time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

# Holds put cells right, updates measure what is left of the step, and only then comes what waited for its end.
ORDER = ("holds", "updates", "waiting")


class AfterStep:
    """Parts by name, each a function without arguments; *state*. The optimizer does not keep it alive.

    Args:
        optimizer: gets the hook with the first part.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._parts: dict[str, Callable[[], None]] = {}
        self._before: Callable[[], None] | None = None
        self._handles: list[Any] = []
        self._running = 0
        weakref.finalize(self, _remove, self._handles)

    def wait_before(self, function: Callable[[], None] | None) -> None:
        """Run this before each step from now on, for as long as there are parts; None for nothing."""
        self._before = function
        self._hook()

    def put(self, part: str, function: Callable[[], None] | None) -> None:
        """Run this for a part of `ORDER` after each step from now on; None for nothing."""
        assert part in ORDER
        others = {name: known for name, known in self._parts.items() if name != part}
        self._parts = others if function is None else {**others, part: function}
        self._hook()

    def _hook(self) -> None:
        if self._parts and not self._handles:
            self._handles.append(self.optimizer.register_step_post_hook(_Hook(weakref.ref(self), AfterStep.run)))
        if self._parts and self._before is not None and len(self._handles) == 1:
            self._handles.append(self.optimizer.register_step_pre_hook(_Hook(weakref.ref(self), AfterStep.wait)))
        elif not self._parts and not self._running:
            _remove(self._handles)

    def wait(self) -> None:
        """What a step waits for before it begins."""
        before = self._before
        if before is not None:
            self._running += 1
            try:
                before()
            finally:
                self._running -= 1

    def run(self) -> None:
        """All parts, also where one of them raises."""
        parts = self._parts
        self._running += 1
        try:
            with ExitStack() as stack:
                for part in reversed(ORDER):
                    if part in parts:
                        stack.callback(parts[part])
        finally:
            self._running -= 1


def _remove(handles: list[Any]) -> None:
    while handles:
        handles.pop().remove()


class _Hook:
    """A hook; in a copy of the optimizer it does nothing."""

    def __init__(
        self, found: Callable[[], AfterStep | None] = lambda: None, act: Callable[[AfterStep], None] | None = None
    ) -> None:
        self._found = found
        self._act = act

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, ()

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        after = self._found()
        if after is not None and self._act is not None:
            self._act(after)
