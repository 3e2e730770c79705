"""Where two regions of one tensor meet, exactly, at the cost of their cells and never of the tensor's."""

from __future__ import annotations

import torch
from torch import Tensor

from weightlab.model.region import Region


def meet(one: Region, other: Region) -> bool:
    """Whether they share a cell. Regions of tensors of different shapes share none."""
    if one.shape != other.shape or one.numel == 0 or other.numel == 0:
        return False
    if not all(a < d and c < b for (a, b), (c, d) in zip(one.bounds, other.bounds, strict=True)):
        return False
    if one.is_box and other.is_box:
        lines = [sorted((range(*a), range(*b)), key=len) for a, b in zip(one.axes, other.axes, strict=True)]
        return all(any(place in long for place in short) for short, long in lines)
    small, large = sorted((one, other), key=lambda region: region.numel)
    return bool((positions(small, large) >= 0).any())


def flat_cells(region: Region) -> Tensor:
    """Row-major flat indices of the region's cells, shaped `region.view_shape`, on the CPU."""
    return region.cells if region.cells is not None else region._flat((...,))


def positions(region: Region, other: Region) -> Tensor:
    """For each cell of `region`, its place among the flattened cells of `other`; -1 where it is not one of them."""
    flat = flat_cells(region)
    if other.cells is not None:
        theirs, order = other.cells.flatten().sort(stable=True)
        if theirs.numel() == 0:
            return torch.full(flat.shape, -1, dtype=torch.int64, device="cpu")
        at = torch.searchsorted(theirs, flat.contiguous()).clamp_(max=theirs.numel() - 1)
        return torch.where(theirs[at] == flat, order[at], -1)
    place = torch.zeros(flat.shape, dtype=torch.int64, device="cpu")
    inside = torch.ones(flat.shape, dtype=torch.bool, device="cpu")
    rest, weight = flat, 1
    for size, (start, stop, step) in reversed(list(zip(other.shape, other.axes, strict=True))):
        along, rest = rest % size, rest // size
        inside &= (along >= start) & (along < stop) & ((along - start) % step == 0)
        place += torch.div(along - start, step, rounding_mode="floor") * weight
        weight *= len(range(start, stop, step))
    return torch.where(inside, place, -1)
