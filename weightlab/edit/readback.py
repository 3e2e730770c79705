"""What an edit did, read back from the tensor: refused results, asked against stored values (rules J7 and J11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from weightlab.edit.arguments import Target, only_finite
from weightlab.edit.operations import Prepared
from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.region import Region

SHOWN = 8
_PIECE = 1 << 22  # cells


def refuse_not_finite(prepared: Prepared, target: Target, before: Tensor, after: Tensor) -> None:
    """Rule J11: finite cells and finite arguments give finite results, or nothing is changed."""
    if not target.is_float or prepared.edit.op in ("zero_", "clamp_") or not only_finite(prepared.edit.args):
        return
    after = after.float() if after.dtype.itemsize == 1 else after
    before = before.float() if before.dtype.itemsize == 1 else before
    # One cheap pass: a finite sum has only finite terms. A sum may overflow by itself, so look closer only then.
    wide = torch.float32 if after.dtype.itemsize == 2 else after.dtype
    if bool(after.sum(dtype=wide).isfinite()):
        return
    lost = int((before.isfinite() & ~after.isfinite()).sum())
    if lost:
        raise EditRefused(
            f"{target.title}: {prepared.edit.op} would make {lost} finite cell{'s' if lost != 1 else ''} nan or inf in "
            f"{target.dtype_name}. Use smaller numbers, or fill_(float('inf')) if that is what you want."
        )


def asked_values(prepared: Prepared, before: Tensor) -> Tensor | None:
    """The asked values in float32 for narrower types; None where the type itself is the precision that was asked in."""
    if (
        not before.is_floating_point()
        or before.dtype.itemsize > 2
        or prepared.edit.op in ("zero_", "permute_", "prune_")
    ):
        return None
    asked = before.float()
    if prepared.edit.op == "copy_":
        asked.copy_(prepared.edit.args["values"])
    else:
        prepared.change(asked)
    return asked


def notes_on(prepared: Prepared, after: Tensor) -> tuple[str, ...]:
    """What the user should know about the result: clamp passes NaN through (rule J5)."""
    if prepared.edit.op == "clamp_" and after.is_floating_point():
        wide = after.float() if after.dtype.itemsize == 1 else after
        if not bool(wide.sum(dtype=torch.promote_types(wide.dtype, torch.float32)).isfinite()):
            nan = int(wide.isnan().sum())
            if nan:
                return (
                    f"{nan} NaN cell{'s' if nan != 1 else ''} stay{'s' if nan == 1 else ''} NaN: clamp passes NaN through",
                )
    return ()


def differences(before: Tensor, after: Tensor, count: int) -> tuple[int, Tensor]:
    """How many cells differ in their bytes, and the flat indices of the first ones.

    Large cells are compared in pieces, into one small buffer that stays in the processor's cache. Not smaller ones: each
    call waits for all threads, which costs milliseconds where they share their cores.
    """
    if after.numel() <= _PIECE or not after.is_contiguous() or before.dtype == torch.complex128:
        different = storage.differing(before, after).reshape(-1)
        found = different.nonzero().flatten()
        return len(found), found[:count]
    one, other = (storage.as_integers(cells).view(-1) for cells in (before, after))
    buffer = torch.empty(_PIECE, dtype=torch.bool, device=after.device)
    total = torch.zeros((), dtype=torch.int64, device=after.device)
    first: list[Tensor] = []
    missing = count
    for start in range(0, one.numel(), _PIECE):
        piece = buffer[: min(_PIECE, one.numel() - start)]
        torch.ne(one[start : start + _PIECE], other[start : start + _PIECE], out=piece)
        total += piece.count_nonzero()
        if missing:
            found = piece.nonzero().flatten()[:missing]
            first.append(found + start)
            missing -= len(found)
    return int(total), torch.cat(first)


def cells_at(cells: Tensor, flat: Tensor) -> Tensor:
    """Cells at flat indices, without a contiguous copy of all."""
    if cells.ndim == 0:
        return cells.reshape(1).cpu().clone()
    return cells[torch.unravel_index(flat, cells.shape)].cpu()


def made_zero(region: Region, before: Tensor, after: Tensor) -> Region | None:
    """The cells that an edit turned into 0; None when there are none."""
    zero = after == 0
    if not bool(zero.any()):
        return None
    zero &= storage.differing(before, after)
    if not bool(zero.any()):
        return None
    return region if bool(zero.all()) else region.index(zero)


def missed_by_far(value: object, stored: Tensor) -> bool:
    """Whether a cell of float32 or wider missed a number by more than rounding to its own precision.

    Such as 16777217, or 1e-60; that 0.1 is stored as 0.100000001 is what everybody means by float32.
    """
    if isinstance(value, bool | complex) or not isinstance(value, int | float) or not stored.is_floating_point():
        return False
    asked, got = float(value), float(stored)
    if not math.isfinite(asked) or asked == got:
        return False
    return asked.is_integer() or abs(asked - got) > torch.finfo(stored.dtype).eps * abs(asked)
