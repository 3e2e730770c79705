"""A few cells of a tensor, evenly spread: no pattern of the weight can meet theirs.

Every `step`-th cell would: of a weight with each 16th column pruned, steps of 16 (or of 8, 4 or 2) see nothing but zeros, or
none, and any other step meets the period that is its multiple. So the cells are cut into stretches of `step`, and each stretch
gives one, drawn from a generator with a seed of its own. Each cell is as likely as any other, whatever the pattern: a share q
of all cells has the expected share q of the N that are looked at, with a standard error of at most sqrt(q (1 - q) / N), which
is that of cells drawn one by one. The same tensor gives the same cells from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model.storage import apart, as_integers

_SEED = 20210617

Indices = Any  # an ascending array of int64


def spread(tensor: Tensor, most: int) -> Tensor:
    """At most `most` cells in a row: a copy on the tensor's device, in row-major order; the tensor itself if it has no more."""
    count = tensor.numel()
    if count <= most:
        return tensor
    flat = _indices(count, -(-count // most), 0)
    return _taken(tensor, [flat] if tensor.is_contiguous() else list(np.unravel_index(flat, tuple(tensor.shape))))


def thinned(tensor: Tensor, most: int, axes: Sequence[int] | None = None) -> Tensor:
    """A tensor of fewer indices along the given axes (all by default), for a picture: about `most` cells at most.

    Along an axis the indices that stay are spread as cells are by `spread`; a picture of them is that of the tensor, smaller.
    """
    steps = [1] * tensor.ndim
    among = tuple(range(tensor.ndim)) if axes is None else tuple(axes)
    while among and math.prod(-(-size // step) for size, step in zip(tensor.shape, steps, strict=True)) > most:
        axis = max(among, key=lambda a: -(-tensor.shape[a] // steps[a]))
        if steps[axis] >= tensor.shape[axis]:
            break
        steps[axis] = min(steps[axis] + max(1, steps[axis] // 8), tensor.shape[axis])
    if all(step == 1 for step in steps):
        return tensor
    kept = [_indices(size, step, axis) for axis, (size, step) in enumerate(zip(tensor.shape, steps, strict=True))]
    return _taken(tensor, list(np.ix_(*kept)))


@lru_cache(16)
def _indices(size: int, step: int, axis: int) -> Indices:
    """One of each `step` neighbours; of the last few, if they are fewer, perhaps none: else they would count more."""
    if step == 1:
        return np.arange(size)
    starts = np.arange(0, size, step)
    found = starts + np.random.default_rng((_SEED, axis)).integers(0, step, starts.size)
    return found[found < size]


def _taken(tensor: Tensor, indices: list[Indices]) -> Tensor:
    """By NumPy on the CPU: torch would wake its threads for more than 32,768 cells, and waiting for them takes longer."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    plain = as_integers(tensor)  # torch does not pick among all of its dtypes
    if len(indices) < tensor.ndim:
        plain = plain.view(tensor.numel(), *plain.shape[tensor.ndim :])
    if tensor.device.type == "cpu":
        made = torch.from_numpy(apart(plain).numpy()[tuple(indices)])
    else:
        made = plain[tuple(torch.from_numpy(each).to(tensor.device) for each in indices)]
    return (
        torch.view_as_complex(made.view(torch.float64)) if tensor.dtype == torch.complex128 else made.view(tensor.dtype)
    )
