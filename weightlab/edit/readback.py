"""What an edit did, read back from the tensor: refused results, asked against stored values (rules J7 and J11)."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from weightlab.edit.arguments import Target, only_finite
from weightlab.edit.operations import Prepared
from weightlab.errors import EditRefused
from weightlab.model import dtypes, storage
from weightlab.model.region import Region

SHOWN = 8
_PIECE = 1 << 18  # cells
_HASHED = 1 << 20  # bytes, up to which a fingerprint costs microseconds


def refuse_not_finite(prepared: Prepared, target: Target, before: Tensor, after: Tensor) -> None:
    """Rule J11: finite cells and finite arguments give finite results, or nothing is changed."""
    moves = prepared.edit.op in (
        "zero_",
        "clamp_",
        "permute_",
        "prune_",
    )  # no cell gets a value that was not there, but 0
    if not target.is_float or moves or not only_finite(prepared.edit.args):
        return
    after, before = dtypes.widened(after), dtypes.widened(before)
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


def refuse_lost(title: str, before: Tensor, made: object) -> None:
    """Rule J11 for what a user's function made of the cells; what does not broadcast to them is refused by `copy_`."""
    if not isinstance(made, Tensor) or not (before.is_floating_point() or before.is_complex()):
        return
    try:
        lost = int((dtypes.finite(before) & ~dtypes.finite(made.detach().to(before.device))).count_nonzero())
    except RuntimeError:
        return
    if lost:
        raise EditRefused(
            f"{title}: the function of apply_ made {lost} finite cells nan or inf. "
            f"Use fill_(float('nan')) if that is what you want."
        )


def asked_values(prepared: Prepared, before: Tensor) -> Tensor | None:
    """The asked values, wider than narrow types; None where the type itself is the precision that was asked in."""
    wide, op = dtypes.asked_in(before.dtype), prepared.edit.op
    has_zero = not dtypes.only_positive(before.dtype)
    plain = wide is before.dtype or not (before.is_floating_point() or before.is_complex())
    if plain or op == "permute_" or (op in ("zero_", "prune_") and has_zero):
        return None
    asked = before.to(wide)
    if op == "copy_":
        asked.copy_(prepared.edit.args["values"])
    else:
        prepared.change(asked)
    return asked


def notes_on(prepared: Prepared, after: Tensor, asked: Tensor | None) -> tuple[str, ...]:
    """What the user should know about the result: clamp passes NaN through (rule J5), and a type may have no zero."""
    if asked is not None and dtypes.only_positive(after.dtype):
        zeros = int((asked == 0).count_nonzero())
        if zeros:
            least = f"{torch.finfo(after.dtype).min:.3g}, the least that it holds"
            return (f"{dtypes.name(after.dtype)} has no zero: {zeros} cell{'s' if zeros != 1 else ''} became {least}",)
    if prepared.edit.op == "clamp_" and after.is_floating_point():
        wide = dtypes.ordered(after)
        if bool(wide.amax().isnan()):  # a maximum is NaN where any cell is: one cheap pass
            nan = int(wide.isnan().sum())
            if nan:
                return (
                    f"{nan} NaN cell{'s' if nan != 1 else ''} stay{'s' if nan == 1 else ''} NaN: clamp passes NaN through",
                )
    return ()


def differences(before: Tensor, after: Tensor, count: int) -> tuple[int, Tensor]:
    """How many cells differ in their bytes, and the flat indices of the first ones.

    Large cells on the CPU are compared piece by piece, each into a small buffer that stays in the processor's cache, by
    NumPy on as many threads as torch has: torch waits for all threads after each piece, and misses the cache without pieces.
    """
    in_pieces = after.device.type == "cpu" and after.is_contiguous() and before.is_contiguous()
    if after.numel() <= _PIECE or not in_pieces or before.dtype == torch.complex128:
        different = storage.differing(before, after).reshape(-1)
        if after.numel() <= _PIECE:
            found = different.nonzero().flatten()
            return len(found), found[:count]
        total, some = int(different.count_nonzero()), different[:0].nonzero().flatten()
        for start in range(0, different.numel(), _PIECE):  # an index is eight times a mark: list no more than are shown
            if len(some) >= min(count, total):
                break
            some = torch.cat([some, different[start : start + _PIECE].nonzero().flatten() + start])[:count]
        return total, some
    one, other = (storage.as_array(storage.as_integers(cells).view(-1)) for cells in (before, after))

    def compare(start: int, stop: int) -> tuple[int, list[int]]:
        buffer = np.empty(_PIECE, dtype=bool)
        total = 0
        first: list[int] = []
        for at in range(start, stop, _PIECE):
            until = min(at + _PIECE, stop)
            piece = np.not_equal(one[at:until], other[at:until], out=buffer[: until - at])
            total += int(np.count_nonzero(piece))
            if len(first) < count:
                first += (piece.nonzero()[0][: count - len(first)] + at).tolist()
        return total, first

    threads = torch.get_num_threads()
    share = -(-len(one) // threads)
    starts = range(0, len(one), share)
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(compare, starts, (min(start + share, len(one)) for start in starts)))
    first = [index for _, indices in parts for index in indices][:count]
    return sum(total for total, _ in parts), torch.tensor(first, dtype=torch.int64, device="cpu")


def cells_at(cells: Tensor, flat: Tensor) -> Tensor:
    """Cells at flat indices, without a contiguous copy of all."""
    if cells.ndim == 0:
        return cells.reshape(1).cpu().clone()
    return cells[torch.unravel_index(flat, cells.shape)].cpu()


def made_zero(region: Region, before: Tensor, after: Tensor) -> Region | None:
    """The cells that an edit turned into 0; None when there are none."""
    if dtypes.nonzero(after) == after.numel():  # one pass without a mask
        return None
    zero = after == 0
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


def mark_of(prepared: Prepared, after: Tensor, has_nan: bool) -> bytes | None:
    """What tells these cells from any others later (rule J8): a fingerprint, or None where computing them again does.

    An operation that only selects (a constant, a given value, a bound) gives the same bytes on every device and in every
    order of cells, so that a hundred milliseconds of hashing are left to the undo that asks. That needs care with a bound
    of 0 (which of 0 and -0.0 is the larger depends on the kernel), and with NaN, whose payload a kernel may normalise.
    """
    op, args = prepared.edit.op, prepared.edit.args
    selects = (
        op in ("zero_", "fill_")
        or (op == "copy_" and args["values"].dtype == after.dtype)
        or (op == "clamp_" and not has_nan and args["min"] != 0 and args["max"] != 0)
    )
    large = after.numel() * after.element_size() > _HASHED
    return None if large and selects else storage.fingerprint(after)
