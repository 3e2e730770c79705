"""What an optimizer keeps beside each weight: momentum and second moments.

Any state tensor shaped like its parameter counts, whatever the optimizer calls it: `exp_avg`, `exp_avg_sq` (Adam),
`momentum_buffer` (SGD), `square_avg` (RMSprop), `sum` (Adagrad). `step` counts steps: beside a parameter without axes it
has the parameter's shape, and is no moment all the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from weightlab.model.storage import why_not_editable


def moments_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """State tensors of a parameter that have its shape, by the optimizer's own name for them."""
    state = optimizer.state.get(parameter, {})
    return {
        name: value
        for name, value in state.items()
        if name != "step"
        and isinstance(value, Tensor)
        and value.shape == parameter.shape
        and not why_not_editable(value)
    }


def strangers(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> int:
    """How many tensors the optimizer trains that are not among these."""
    known = {id(parameter) for parameter in parameters}
    return sum(id(held) not in known for group in optimizer.param_groups for held in group["params"])
