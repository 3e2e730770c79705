"""Differentiate a loss and measure each gradient as it becomes complete, so that no two are held together (rule G5).

Two cases hold all gradients to the end: reentrant checkpointing, which delivers them in parts, and a batch in pieces,
whose gradients add up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from weightlab.check.memory import out_of_memory
from weightlab.check.sandbox import Sandbox
from weightlab.check.sizes import Gradient
from weightlab.errors import Cancelled, ProbeFailed


class Backward:
    """The gradients of one check; *state*.

    Args:
        axes: the axis of output units of each parameter.
        keep: names whose gradients are handed over and not freed.
        tell: called with the share of parameters whose gradient is complete.

    Attributes:
        found: what is kept of each gradient, by name.
        kept: the gradients that were asked for, on their own device.
    """

    def __init__(
        self, axes: dict[str, int], keep: tuple[str, ...], sandbox: Sandbox, tell: Callable[[float], None]
    ) -> None:
        self.found: dict[str, Gradient] = {}
        self.kept: dict[str, Tensor] = {}
        self._axes, self._keep, self._sandbox, self._tell = axes, keep, sandbox, tell
        self._waiting: dict[int, tuple[str, Tensor]] = {}  # leaves that hold a gradient, or a part of one, by id

    def run(self, loss: Tensor, last: bool = True) -> None:
        """Differentiate one loss; before the last one of several gradients only add up.

        Raises:
            ProbeFailed: the backward raised.
        """
        if loss.requires_grad:
            self._differentiate(loss, last)
        if last:
            for name, leaf in self._waiting.values():
                self._measure(name, leaf)
            self._waiting.clear()

    def _differentiate(self, loss: Tensor, last: bool) -> None:
        leaves, reentrant = graph_of(loss)
        reached = {id(leaf) for leaf in leaves}
        # A closure, or a list two levels deep, may have brought a real parameter into the graph: it is measured there.
        # A forward may freeze its own parameters: those take no hook, and no gradient.
        sources = [(name, leaf) for name, leaf in self._sandbox.aliases.items() if leaf.requires_grad]
        for name, held in self._sandbox.real.items():
            for parameter in held:
                if reentrant or id(parameter) in reached:  # a recomputation may reach what this graph does not show
                    self._sandbox.put_aside(parameter)
                if id(parameter) in reached and parameter.requires_grad:
                    sources.append((name, parameter))
        handles = []
        for name, leaf in sources:
            if id(leaf) not in self._waiting:
                leaf.grad = None
            if reentrant or not last:
                self._waiting[id(leaf)] = name, leaf
            else:
                handles.append(leaf.register_post_accumulate_grad_hook(self._hook(name)))
        try:
            if reentrant:  # refuses `inputs`; what else is in the graph keeps its .grad
                ours = {id(leaf) for _, leaf in sources}
                with grads_aside([leaf for leaf in leaves if id(leaf) not in ours]):
                    torch.autograd.backward(loss)
            elif any(id(leaf) in reached for _, leaf in sources):
                torch.autograd.backward(loss, inputs=[leaf for _, leaf in sources])
        except (Cancelled, ProbeFailed):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise ProbeFailed(f"the backward pass raised {type(error).__name__}: {error}") from error
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Any:
        def hook(leaf: Tensor) -> None:
            self._waiting.pop(id(leaf), None)
            self._measure(name, leaf)
            self._tell(len(self.found) / max(1, len(self._axes)))

        return hook

    def _measure(self, name: str, leaf: Tensor) -> None:
        if leaf.grad is None:
            return
        gradient = Gradient(leaf.grad, self._axes.get(name, 0), len(self.found))
        if name in self.found:
            self.found[name].add(gradient)
        else:
            self.found[name] = gradient
        if name in self._keep:
            own = leaf.grad.detach()
            self.kept[name] = self.kept[name] + own if name in self.kept else own
        leaf.grad = None


def graph_of(loss: Tensor) -> tuple[list[Tensor], bool]:
    """The leaves that the loss depends on, and whether reentrant checkpointing hides others."""
    leaves: list[Tensor] = []
    reentrant = False
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        reentrant = reentrant or node.name() == "CheckpointFunctionBackward"
        stack.extend(following for following, _ in node.next_functions)
    return leaves, reentrant


@contextlib.contextmanager
def grads_aside(leaves: list[Tensor]) -> Iterator[None]:
    aside = [(leaf, leaf.grad) for leaf in leaves]
    try:
        for leaf, _ in aside:
            leaf.grad = None
        yield
    finally:
        for leaf, grad in aside:
            leaf.grad = grad
