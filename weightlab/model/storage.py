"""Reading and writing cells of each kind of tensor; what is refused, and why.

Nothing of WeightLab changes a tensor's values but `write` and `put`. `write` hands the cells to a change that works in
place: for a box they are a view of the parameter itself, for listed cells a gathered copy that is scattered back. `put`
writes given bytes. Both go through the parameter under `no_grad`, so that autograd's version counter sees it (rule J4).

Cells are moved as integers of the same width wherever bits must survive (NaN payloads, -0.0, dtypes that lack an
index kernel).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from weightlab.model import dtypes, sharded
from weightlab.model.region import Region

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 1 << 20
_PAGED = 1 << 22  # bytes, from which NumPy asks for huge pages
_FOLD = 1 << 16
_fold_weights: dict[torch.device, Tensor] = {}


def is_uninitialized(tensor: Tensor) -> bool:
    """Whether this is a lazy layer's parameter before its first forward: it has no shape yet, and raises when asked."""
    return isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)


def _wraps_others(tensor: Tensor) -> bool:
    return bool(is_traceable_wrapper_subclass(tensor))


def why_not_editable(tensor: Tensor) -> str:
    """Why the values of this tensor cannot be set, and what to do about it; empty where they can (rule J11)."""
    if is_uninitialized(tensor):
        return "it is not initialised yet. Run one forward pass, then call lab.refresh()."
    if sharded.is_sharded(tensor):
        return sharded.why_not_editable(tensor)
    if tensor.is_meta or type(tensor).__name__ == "FakeTensor":
        return "it is on the meta device and has no values. Load the model on a real device first."
    if tensor.layout is not torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.')}. Edit a dense copy (to_dense) instead."
    if tensor.is_quantized:
        return "it is quantized. Edit the float weight and quantize again."
    why = dtypes.why_no_cells(tensor.dtype)
    if why:
        return why
    if _wraps_others(tensor):
        return f"it is a {type(tensor).__name__}, whose cells WeightLab does not know. Edit the tensors that it wraps."
    if tensor.is_inference():
        return "it was made in inference mode. Make the model outside torch.inference_mode()."
    if tensor.is_conj() or tensor.is_neg():
        return (
            "it is a lazy conjugate or negative of another tensor. Replace it by tensor.resolve_conj().resolve_neg()."
        )
    if _cells_overlap(tensor):
        return "several cells share one place in memory (an expanded tensor). Replace it by its clone() first."
    return ""


def why_not_readable(tensor: Tensor, alone: bool = False) -> str:
    """Why the values of this tensor cannot be looked at; empty where they can.

    Args:
        alone: by one process of several, as a page does.
    """
    if is_uninitialized(tensor):
        return "it is not initialised yet, so it has no values. Run one forward pass, then refresh."
    if alone and sharded.among_processes(tensor):
        return "its values cannot be drawn: it is sharded over processes, and one of them alone would wait for ever."
    if sharded.is_sharded(tensor):
        return sharded.why_not_editable(tensor)
    if tensor.is_meta or type(tensor).__name__ == "FakeTensor":
        return "it is on the meta device: its values are not there. Load the model on a real device to see them."
    no_cells = tensor.is_quantized or tensor.dtype not in dtypes.KNOWN or _wraps_others(tensor)
    if tensor.layout is not torch.strided or no_cells:
        return f"its values cannot be drawn ({why_not_editable(tensor).split('.')[0]})."
    return ""


def _cells_overlap(tensor: Tensor) -> bool:
    extent = 0
    for stride, size in sorted(
        (stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1
    ):
        if stride <= extent:
            return True
        extent += (size - 1) * stride
    return False


@contextmanager
def writing(tensor: Tensor) -> Iterator[None]:
    """The modes that an in-place write needs, whatever thread or block it is called from (rule T2)."""
    with torch.inference_mode(False), torch.no_grad():
        if tensor.is_cuda:
            with torch.cuda.device(tensor.device):
                yield
        else:
            yield


def as_integers(cells: Tensor) -> Tensor:
    """The same memory as integers of the same width; complex128 as pairs along a last axis."""
    cells = cells.detach()
    if cells.dtype == torch.complex128:
        return torch.view_as_real(cells.resolve_conj()).view(torch.int64)
    return cells.view(_INTEGERS[cells.element_size()])


def _with_axes(tensor: Tensor) -> Tensor:
    """The tensor as integers, to be indexed by `Region.coordinates`; a scalar as [1]."""
    return as_integers(tensor if tensor.ndim else tensor.unsqueeze(0))


def _in_line(tensor: Tensor) -> Tensor | None:
    """The tensor as integers in one row [cells], where it lies so in memory: no coordinates have to be computed then."""
    if not tensor.is_contiguous():
        return None
    integers = as_integers(tensor)
    return integers.view(tensor.numel(), *integers.shape[tensor.ndim :])


def _flat_of(region: Region, tensor: Tensor) -> Tensor:
    assert region.cells is not None
    return region.cells.flatten().to(tensor.device)


def apart(cells: Tensor) -> Tensor:
    """The same memory in a storage of its own, which `numpy()` may mark as not resizable: the model's is left as it is."""
    made: Tensor = torch.from_dlpack(cells.detach())  # type: ignore[attr-defined]
    return made


def as_array(integers: Tensor) -> Any:
    """The same memory for NumPy to read. `tensor.numpy()` would forbid torch to resize it from then on, as FSDP does."""
    return np.from_dlpack(integers)


def read(tensor: Tensor, region: Region) -> Tensor:
    """A copy of the region's cells, contiguous, on the tensor's device, shaped `region.view_shape`."""
    tensor = whole(tensor)
    with writing(tensor):
        if region.is_box:
            cells = tensor.detach()[region.slices]
            if cells.device.type == "cpu" and cells.numel() * cells.element_size() > _PAGED:
                return _room(cells.shape, cells.dtype).copy_(cells)
            return cells.clone(memory_format=torch.contiguous_format)
        tensor = tensor.resolve_conj().resolve_neg()
        line = _in_line(tensor)
        if line is None:
            picked = _with_axes(tensor)[region.coordinates(tensor.device)]
        else:
            picked = line.index_select(0, _flat_of(region, tensor))
        if tensor.dtype == torch.complex128:
            picked = torch.view_as_complex(picked.view(torch.float64))
        return picked.view(tensor.dtype).view(region.view_shape)


def seen(tensor: Tensor, region: Region) -> Tensor:
    """The region's cells to look at: a view where there is one, else a copy."""
    return whole(tensor)[region.slices] if region.is_box else read(tensor, region)


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, detached; one that is sharded over processes is gathered, on all of them at once."""
    return sharded.gather(tensor) if sharded.is_sharded(tensor) else tensor.detach()


def _room(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """An empty tensor for many cells, made by NumPy: it asks the system for huge pages, torch does not.

    A fresh page costs more to get than to fill: with huge ones a copy of 64 MB takes about half the time.
    """
    return torch.from_numpy(np.empty(shape.numel() * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


def write(tensor: Tensor, region: Region, change: Callable[[Tensor], None]) -> None:
    """Run a change in place on the region's cells, and on no others (rule J1).

    Args:
        tensor: the parameter or buffer itself.
        region: of the same shape.
        change: gets the cells shaped `region.view_shape` and works in place. If it raises, cells of a box may hold
            part of its work: the caller puts the old ones back.
    """
    if sharded.is_sharded(tensor):
        cells = read(tensor, region)
        with writing(cells):
            change(cells)
        put(tensor, region, cells)
        return
    with writing(tensor):
        if region.is_box:
            change(tensor.detach()[region.slices])
            return
        cells = read(tensor, region)
        change(cells)
        _put_listed(tensor, region, cells)


def put(tensor: Tensor, region: Region, cells: Tensor) -> None:
    """Write these very bytes; `cells` has the region's shape and the tensor's dtype, on any device."""
    if sharded.is_sharded(tensor):
        with writing(tensor):
            shard = as_integers(sharded.local_shard(tensor))
            sharded.put(shard, sharded.local_box(tensor), region, as_integers(cells))
        torch.autograd.graph.increment_version(tensor)  # autograd saves the DTensor, not its shard (rule J4)
        return

    with writing(tensor):
        if region.is_box:
            as_integers(tensor.detach()[region.slices]).copy_(as_integers(cells))
        else:
            _put_listed(tensor, region, cells)


def _put_listed(tensor: Tensor, region: Region, cells: Tensor) -> None:
    integers = as_integers(cells.to(tensor.device).flatten())
    line = _in_line(tensor)
    if line is None:
        _with_axes(tensor)[region.coordinates(tensor.device)] = integers
    else:
        line[_flat_of(region, tensor)] = integers


def differing(before: Tensor, after: Tensor) -> Tensor:
    """Which cells differ in their bytes, as a bool tensor of the cells' shape."""
    different = as_integers(before) != as_integers(after)
    return different.any(-1) if before.dtype == torch.complex128 else different


def fingerprint(cells: Tensor) -> bytes:
    """16 bytes that tell these cells, in order, from any others, at about the cost of two passes over them.

    Over 1 MB the words are first folded: blocks of 2**16 words become one sum with fixed odd random weights (mod
    2**64), which tells where in the block a word stood; BLAKE2 over the sums and the tail tells the blocks' order.
    """
    # Also one cell of a strided tensor counts as contiguous, whatever its stride, and cannot be viewed as bytes then.
    flat = as_integers(cells.contiguous()).reshape(-1)
    flat = (flat if flat.stride() == (1,) else flat.clone(memory_format=torch.contiguous_format)).view(torch.uint8)
    digest = hashlib.blake2b(digest_size=16)
    if flat.numel() > _CHUNK:
        usable = flat.numel() // (8 * _FOLD) * (8 * _FOLD)
        words = flat[:usable].view(torch.int64).view(-1, _FOLD)
        weights = _fold_weights.get(flat.device)
        if weights is None:
            made = torch.randint(
                -(2**62), 2**62, (_FOLD,), generator=torch.Generator().manual_seed(20260101), device="cpu"
            )
            weights = _fold_weights[flat.device] = made.mul_(2).add_(1).to(flat.device)
        for block in words.split(16):
            digest.update((block * weights).sum(1).cpu().numpy().tobytes())
        flat = flat[usable:]
    digest.update(as_array(flat.cpu()).tobytes())
    return digest.digest()
