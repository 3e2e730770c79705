"""Layer-sequential unit variance (Mishkin and Matas 2016, "All you need is a good init", algorithm 1).

Each layer is scaled while the forward pass is at it, so that one pass does for all: what comes behind sees what the scaled
layers before it put out. Behind a layer whose output enters a sigmoid the spread is not 1 but 2.1, what Kumar 2017 ("On weight
initialization in deep neural networks", section 4) finds for a gain of 3.6: with it a sigmoid layer passes 0.6 of a gradient
on, with unit spread 0.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from weightlab.check.evidence import MATRIX
from weightlab.check.gradients import observe
from weightlab.check.layers import layers_that_ran
from weightlab.check.listening import Listening
from weightlab.check.probe import Probe
from weightlab.check.roles import Roles
from weightlab.check.sandbox import Sandbox, same_surroundings, seeded
from weightlab.errors import Cancelled, ProbeFailed
from weightlab.model.tree import ParameterTree

# Mishkin and Matas stop at a variance within 0.1 of 1.
CLOSE = 0.05
ROUNDS = 3  # a bias does not scale with the weight, so that once is not exact
SPREADS = {"sigmoid": 2.1}


def factors(tree: ParameterTree, probe: Probe, names: Sequence[str]) -> dict[str, float]:
    """By what to multiply each of these weights so that its layer puts out a mean square of 1 on the probe.

    Left out: those that do so, whose layer puts out nothing or what is not finite, recurrent and attention layers, and weights
    that the forward takes through a view of them. Leaves no trace. Cost: one check and one forward.
    """
    try:
        seen = observe(tree, probe, Listening)
    except ProbeFailed:
        return {}
    assert isinstance(seen.recording, Listening)
    layers = layers_that_ran(seen.evidence, seen.recording, Roles(seen.evidence))
    wanted = {layer.name: SPREADS.get(layer.activation, 1.0) for layer in layers if layer.name in names}
    roots = [probe.model, tree.model, *(part for part in (probe.loss, probe.probe) if isinstance(part, nn.Module))]
    with same_surroundings(), Sandbox(tree, roots) as sandbox:
        for attempt in probe.attempts():
            scaling = _Scaling(sandbox, wanted)
            try:
                with seeded(), scaling, torch.no_grad():
                    attempt.run()
            except Cancelled:
                raise
            except Exception:  # of several made-up inputs one fits
                continue
            return {name: by for name, by in scaling.factors.items() if by != 1.0}
    return {}


class _Scaling(TorchFunctionMode):
    """A forward in which every weight is taken times its factor, found when the first function takes it."""

    def __init__(self, sandbox: Sandbox, wanted: dict[str, float]) -> None:
        super().__init__()
        self.factors: dict[str, float] = {}
        self._sandbox, self._wanted = sandbox, wanted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        held = next((n for value in args if isinstance(value, Tensor) and (n := self._name(value)) is not None), None)
        if held is None or not (name in MATRIX or name.startswith("conv")):
            return func(*args, **kwargs)
        by = self.factors.get(held, 1.0)
        result = func(*self._times(args, held, by), **kwargs)
        if held in self.factors:
            return result
        for _ in range(ROUNDS):
            size = math.sqrt(float(result.detach().double().square().mean())) / self._wanted[held]
            if not math.isfinite(size) or size <= 0 or abs(size - 1) < CLOSE:
                break
            by /= size
            result = func(*self._times(args, held, by), **kwargs)
        self.factors[held] = by
        return result

    def _name(self, tensor: Tensor) -> str | None:
        name = self._sandbox.stands_for(tensor)
        return name if name in self._wanted else None

    def _times(self, args: Any, name: str, by: float) -> list[Any]:
        return [arg * by if isinstance(arg, Tensor) and self._name(arg) == name else arg for arg in args]
