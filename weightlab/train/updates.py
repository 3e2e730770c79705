"""What the last step of the optimizer changed, for the tensors that somebody looks at.

A step writes over what it read, so the values before it have to be kept beside: only of the tensors that were asked for,
at most two of them (two can be seen side by side), on their own device.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from weightlab.train.after_step import AfterStep

WATCHED = 2


class Updates:
    """Differences that the last step made; *state*. Without a watched tensor no hook is on the optimizer.

    Args:
        after_step: of the optimizer whose steps are watched. It does not keep this object alive.
    """

    def __init__(self, after_step: AfterStep) -> None:
        self._after_step = after_step
        self._watched: dict[str, tuple[Tensor, Tensor | None, Tensor | None]] = {}  # tensor, before, update
        self._has_hook = False
        self.steps = 0

    def watches(self, name: str) -> bool:
        """Whether the values of this tensor are kept before each step."""
        return name in self._watched

    def watch(self, name: str, tensor: Tensor) -> Tensor | None:
        """The update of the last step that was seen since this tensor is watched; None before the first."""
        known = self._watched.pop(name, None)
        if known is None or known[0] is not tensor:
            known = (tensor, None, None)
        self._watched[name] = known
        while len(self._watched) > WATCHED:
            del self._watched[next(iter(self._watched))]
        if not self._has_hook:
            self._hook()
        return known[2]

    def before(self) -> None:
        """A step begins: keep the watched values."""
        with torch.inference_mode(False), torch.no_grad():
            for name, (tensor, _, update) in self._watched.items():
                self._watched[name] = (tensor, tensor.detach().clone(), update)

    def after(self) -> None:
        """A step has ended, and its holds are put right."""
        with torch.inference_mode(False), torch.no_grad():
            for name, (tensor, before, _) in self._watched.items():
                if before is not None:
                    self._watched[name] = (tensor, before, tensor.detach() - before)
        self.steps += 1

    def _hook(self) -> None:
        found = weakref.ref(self)

        def before(optimizer: Any, args: Any, kwargs: Any) -> None:
            updates = found()
            if updates is not None:
                updates.before()

        def after() -> None:
            updates = found()
            if updates is not None:
                updates.after()

        self._has_hook = True
        self._after_step.put("updates", after)
        handle = self._after_step.optimizer.register_step_pre_hook(before)
        weakref.finalize(self, handle.remove)
