"""Where two regions meet, exactly, at the cost of their cells and never of the tensor's; which tensors share memory."""

from __future__ import annotations

from collections.abc import Mapping

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


def sharing(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """For each tensor the others whose stretch of memory overlaps its own; those that overlap none are left out."""
    stretches: dict[object, list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        found = _stretch(tensor)
        if found is not None:
            stretches.setdefault(found[0], []).append((*found[1:], name))
    found_for: dict[str, list[str]] = {}
    for together in stretches.values():
        going_on: list[tuple[int, int, str]] = []
        for stretch in sorted(together) if len(together) > 1 else ():
            going_on = [other for other in going_on if other[1] > stretch[0]]
            for other in going_on[-_MOST:]:
                found_for.setdefault(stretch[2], []).append(other[2])
                found_for.setdefault(other[2], []).append(stretch[2])
            going_on.append(stretch)
    place = {name: at for at, name in enumerate(tensors)}
    return {name: tuple(sorted(others, key=place.__getitem__)) for name, others in found_for.items()}


_MOST = 64  # overlaps looked at per tensor: columns of one buffer all overlap one another in their stretches


def _stretch(tensor: Tensor) -> tuple[object, int, int] | None:
    """Storage, first byte and the byte behind the last; None where there is no memory to share."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.numel() == 0:
        return None
    try:
        storage = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, ValueError):  # uninitialised, or a subclass without storage of its own
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start, size = int(tensor.storage_offset()), tensor.element_size()
    return ((storage, tensor.device), start * size, (start + last + 1) * size) if storage else None


def same_memory(tensor: Tensor, region: Region, other: Tensor, theirs: Region) -> Region:
    """The cells of `theirs`, of another tensor, that lie where the region's cells of this one lie."""
    meant = torch.isin(_addresses(other, theirs), _addresses(tensor, region))
    return Region.of_cells(theirs.shape, flat_cells(theirs).flatten()[meant])


def _addresses(tensor: Tensor, region: Region) -> Tensor:
    """First byte of each cell, from the storage's beginning, on the CPU."""
    places = torch.unravel_index(flat_cells(region).flatten(), region.shape or (1,))
    along = torch.full_like(places[0], int(tensor.storage_offset()))
    for at, stride in zip(places, tensor.stride(), strict=False):
        along += at * stride
    return along * tensor.element_size()
