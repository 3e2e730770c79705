"""Parameters that are sharded over processes: DTensors, as `fully_shard` and `distribute_tensor` make them.

An in-place operation on a part of one (`w[2].zero_()`) works on a copy that torch made for the index, and changes nothing.
So the cells are gathered, every process computes the same new cells from them, and each writes those that lie in its own
shard, through the local tensor that the DTensor holds.

Every process must make the same call, in the same order, as in the rest of a distributed program: reading gathers, and
waits for the others. Random operations need a `seed`, since each process would draw another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from weightlab.model.region import Axis, Region

DTensor = Any  # torch.distributed.tensor.DTensor, which is not imported: not every build of torch has it


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is a DTensor."""
    return type(tensor).__name__ == "DTensor"


def among_processes(tensor: Tensor) -> bool:
    """Whether reading it waits for other processes, so that one of them alone must not do it."""
    return is_sharded(tensor) and int(tensor.device_mesh.size()) > 1


def why_not_editable(tensor: DTensor) -> str:
    """Why its cells cannot be set; empty where they can."""
    for placement in tensor.placements:
        if type(placement).__name__ not in ("Shard", "Replicate"):
            return (
                f"it is a DTensor placed as {placement}. Edit one placed by Shard or Replicate (tensor.redistribute)."
            )
    if local_shard(tensor).layout is not torch.strided or local_shard(tensor).is_meta:
        return "it is a DTensor whose shards hold no values here. Load the model on a real device first."
    if tuple(local_shard(tensor).shape) != tuple(stop - start for start, stop in local_box(tensor)):
        return "it is a DTensor whose shards are not cut as torch.chunk cuts. Edit a full copy (full_tensor) instead."
    return ""


def is_gathered_for_now(tensor: Tensor, above: Iterable[nn.Module]) -> bool:
    """Whether `fully_shard` has put it in the place of its DTensor, as it does from a forward to the end of the backward.

    After a forward without a backward it stays for longer. What is written to it is dropped with it (rule J10).

    Args:
        above: the modules that hold it, from the model down. Which of them were sharded is not public: where torch tells
            it otherwise some day, nothing is found here.
    """
    for module in above:
        find: Any = getattr(module, "_get_fsdp_state", None)
        state = None if find is None else find()
        group = getattr(state, "_fsdp_param_group", None)
        if any(getattr(held, "_unsharded_param", None) is tensor for held in getattr(group, "fsdp_params", ())):
            return True
    return False


def gather(tensor: DTensor) -> Tensor:
    """All cells as a plain tensor, the same on every process; a collective call, and costs the whole tensor."""
    with torch.no_grad():
        made: Tensor = tensor.detach().full_tensor()
    return made.clone() if made.data_ptr() == local_shard(tensor).data_ptr() else made


def local_box(tensor: DTensor) -> list[tuple[int, int]]:
    """Which cells this process holds, `(start, stop)` per axis; each mesh axis cuts into chunks of equal size, rounded up."""
    box = [(0, size) for size in tensor.shape]
    for mesh_axis, placement in enumerate(tensor.placements):
        if not placement.is_shard():
            continue
        axis = placement.dim % max(len(box), 1)
        start, stop = box[axis]
        chunk = -(-(stop - start) // tensor.device_mesh.size(mesh_axis))
        rank = tensor.device_mesh.get_local_rank(mesh_axis)
        box[axis] = (min(start + rank * chunk, stop), min(start + (rank + 1) * chunk, stop))
    return box


def put(shard: Tensor, box: Sequence[tuple[int, int]], region: Region, cells: Tensor) -> None:
    """Write those of a region's cells that lie in this process's shard; no process waits for another.

    Args:
        shard: the cells in `box`; it and `cells` as integers, complex128 as pairs along one more axis.
    """
    more = shard.shape[len(box) :]
    if region.cells is not None:
        at = torch.unravel_index(region.cells.flatten(), region.shape)
        here = torch.ones(region.cells.numel(), dtype=torch.bool, device="cpu")
        for line, (start, stop) in zip(at, box, strict=True):
            here &= (line >= start) & (line < stop)
        index = tuple((line[here] - start).to(shard.device) for line, (start, _) in zip(at, box, strict=True))
        shard[index] = cells.reshape(region.cells.numel(), *more)[here.to(cells.device)].to(shard.device)
        return
    parts = [_cut(axis, part) for axis, part in zip(region.axes, box, strict=True)]
    whole = cells.reshape([len(range(*axis)) for axis in region.axes] + list(more))
    shard[tuple(into for into, _ in parts)] = whole[tuple(out for _, out in parts)].to(shard.device)


def _cut(axis: Axis, part: Sequence[int]) -> tuple[slice, slice]:
    """The steps of an axis that lie in a part of it: as a slice of the part, and as a slice of the steps."""
    start, _, step = axis
    first = max(0, -(-(part[0] - start) // step))
    last = max(first, min(len(range(*axis)), -(-(part[1] - start) // step)))
    if first == last:
        return slice(0, 0), slice(0, 0)
    begin = start + first * step - part[0]
    return slice(begin, begin + (last - first - 1) * step + 1, step), slice(first, last)


def local_shard(tensor: DTensor) -> Tensor:
    """The local shard itself: inside `no_grad` torch hands out the very tensor that the DTensor holds."""
    with torch.no_grad():
        local: Tensor = tensor.to_local()
    return local.detach()
