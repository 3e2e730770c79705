"""How far an optimizer's step moves a parameter, read from what it keeps: no step is taken, and no hook is set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from weightlab.see.sample import spread

SAMPLE = 1 << 16


def step_norm(optimizer: torch.optim.Optimizer, parameter: Tensor, gradient: float | None) -> float | None:
    """Euclidean norm of the step without weight decay; None for optimizers whose rule is not known here.

    SGD moves by lr * momentum buffer, or by lr * gradient where it keeps none. Adam and AdamW move by
    lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) (Kingma and Ba 2015, algorithm 1) with the moments as the last step left
    them; before the first one every cell with a gradient moves by lr. Moments are looked at through 65,536 evenly spread cells.

    Args:
        gradient: norm of the present gradient; None where none arrives, and then there is no step.
    """
    group = next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)
    if group is None or gradient is None or not math.isfinite(gradient):
        return None
    state = optimizer.state.get(parameter, {})
    rate = float(group["lr"])
    if isinstance(optimizer, torch.optim.SGD):
        kept = state.get("momentum_buffer")
        if kept is None:
            return rate * gradient
        return rate * _norm(spread(kept.detach(), SAMPLE), kept.numel())
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        if gradient == 0 and not state:
            return 0.0
        if "exp_avg" not in state:
            return rate * math.sqrt(parameter.numel())
        return rate * _adam(group, state)
    return None


def _adam(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    first, second = group["betas"]
    count = float(state["step"])
    mean = state["exp_avg"].detach()
    square = state.get("max_exp_avg_sq", state["exp_avg_sq"]).detach()
    m, v = spread(mean, SAMPLE).double(), spread(square, SAMPLE).double()
    step = m / (1 - first**count) / ((v / (1 - second**count)).sqrt() + group["eps"])
    return _norm(step, mean.numel())


def _norm(looked: Tensor, count: int) -> float:
    """Scaled up from the cells that were looked at."""
    if not looked.numel():
        return 0.0
    return float(torch.linalg.vector_norm(looked.double())) * math.sqrt(count / looked.numel())
