"""What an operation is, and the checking, wording and spelling of its arguments."""

from __future__ import annotations

import base64
import math
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weightlab.edit.saved import SPELLED
from weightlab.errors import EditRefused
from weightlab.model import dtypes
from weightlab.model.fit import in_words
from weightlab.model.storage import whole

Args = Mapping[str, Any]
Change = Callable[[Tensor], None]


@dataclass(frozen=True, slots=True)
class Target:
    """The cells that an operation is about to change, as far as its arguments depend on them.

    Attributes:
        title: `fc.weight [10, 5]`, for errors.
        shape: of the whole tensor; `view_shape`: of the cells.
        pick: the region's cells of any tensor shaped like the whole one, as a copy.
        index_code: the region as index text, for `init_`.
        is_sharded: each process holds a part, and all make this edit.
    """

    title: str
    shape: tuple[int, ...]
    view_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    is_parameter: bool
    pick: Callable[[Tensor], Tensor]
    index_code: Callable[[], str]
    is_sharded: bool = False

    @property
    def dtype_name(self) -> str:
        return dtypes.name(self.dtype)

    @property
    def is_float(self) -> bool:
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def is_ordered(self) -> bool:
        return not self.dtype.is_complex and self.dtype is not torch.bool

    @property
    def wide(self) -> torch.dtype:
        """The type to compute in: torch lacks or wraps arithmetic of integers and float8."""
        return dtypes.wide(self.dtype)

    @property
    def drawing(self) -> torch.dtype:
        """The type to draw random numbers in: narrow types are drawn in a wider one and rounded."""
        return dtypes.drawn_in(self.dtype)


@dataclass(frozen=True, slots=True)
class Operation:
    """How one kind of edit is checked, done, worded and written as PyTorch.

    Attributes:
        check: raw arguments to complete, valid ones; raises `EditRefused`.
        change: complete arguments to the in-place change of cells.
        text: what it does, with `{target}` where the tensor's name goes.
        code: a PyTorch expression on the cells, which are written `{w}`.
        random: draws numbers, so that a cell must not be named twice.
    """

    check: Callable[[Args, Target], Args]
    change: Callable[[Args, Target], Change]
    text: Callable[[Args], str]
    code: Callable[[Args, Target], str]
    random: bool = False


def refuse(target: Target, what: str) -> EditRefused:
    """`EditRefused` with the tensor's name and shape in front; `what` is a rule, what was expected, what to do."""
    return EditRefused(f"{target.title}: {what}.")


def only(args: Args, known: tuple[str, ...], target: Target) -> None:
    """Refuse arguments that the operation does not know."""
    unknown = [key for key in args if key not in known]
    if unknown:
        expected = ", ".join(known) or "none"
        raise refuse(target, f"unknown argument {unknown[0]!r}. Expected: {expected}")


def number(args: Args, key: str, target: Target) -> Any:
    """A Python number of a kind that the tensor's dtype can be computed with.

    Raises:
        EditRefused: it is missing, no number, or complex for a real tensor.
    """
    value = args.get(key)
    if isinstance(value, Tensor) and (value.is_meta or value.layout is not torch.strided):
        raise refuse(target, f"{key} must be one number, got a tensor without values on {value.device}")
    if (isinstance(value, Tensor) and value.numel() == 1) or (
        type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    ):
        value = value.item()  # type: ignore[union-attr]
    if not isinstance(value, bool | int | float | complex):
        got = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
        raise refuse(target, f"{key} must be one number, got {got}")
    if isinstance(value, complex) and not target.dtype.is_complex:
        raise refuse(target, f"{target.dtype_name} holds real numbers only, got {value}")
    return value


def whole_number(args: Args, key: str, target: Target, low: int, high: int) -> int:
    """An int in `low..high`."""
    value = number(args, key, target)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise refuse(target, f"{key} must be a whole number from {low} to {high}, got {value!r}")
    return value


def axis(args: Args, key: str, target: Target) -> int:
    """An axis of the cells' shape, negative ones counted from the end."""
    rank = len(target.view_shape)
    if rank == 0:
        raise refuse(target, "a scalar has no axis")
    value = whole_number(args, key, target, -rank, rank - 1)
    return value % rank


def seed(args: Args, target: Target) -> int:
    """The seed that was given, or a fresh one from the system: torch's and Python's global generators do not move."""
    if args.get("seed") is None:
        if target.is_sharded:
            raise refuse(
                target, "it is sharded over processes, and each would draw other numbers. Give all the same seed"
            )
        return random.SystemRandom().randrange(2**31)
    return whole_number(args, "seed", target, 0, 2**63 - 1)


def fitting(value: Any, target: Target) -> Any:
    """The number, if a cell of this dtype can hold it (rule J11).

    Raises:
        EditRefused: a fraction or NaN for integers, out of range, or infinite after rounding.
    """
    dtype = target.dtype
    if dtype is torch.bool:
        if value in (0, 1):
            return bool(value)
        raise refuse(target, f"bool holds True and False only, got {value}. Use 0 or 1")
    if target.is_float:
        parts = (value.real, value.imag) if isinstance(value, complex) else (value,)
        limit = torch.finfo(dtype).max
        for part in parts:
            if dtypes.only_positive(dtype) and part < 0:
                raise refuse(target, f"{target.dtype_name} holds positive numbers only, got {part}. Give one above 0")
            # Rounding to the nearest may still reach the largest number, so let torch round.
            if abs(part) > limit and not _rounds_finite(part, dtype):
                got = f"{part:g}" if abs(part) < 1e300 else "a number above 1e300"
                raise refuse(
                    target, f"{target.dtype_name} holds at most ±{limit:.4g}, got {got}. Give a smaller number"
                )
        return float(value) if isinstance(value, int) and abs(value) > 2**53 else value
    if isinstance(value, float):
        if not value.is_integer():
            raise refuse(target, f"{target.dtype_name} holds whole numbers only, got {value!r}. Round it first")
        value = int(value)
    info = torch.iinfo(dtype)
    if not info.min <= value <= info.max:
        raise refuse(target, f"{target.dtype_name} holds {info.min} to {info.max}, got {value}. Give a number in range")
    return int(value)


def _rounds_finite(part: float, dtype: torch.dtype) -> bool:
    if dtype in dtypes.FLOAT8:  # some saturate: only what rounds to the largest number itself fits
        info = torch.finfo(dtype)
        return abs(part) <= info.max * (1 + info.eps / 4) or (math.isinf(part) and dtypes.has_infinity(dtype))
    kind = dtype.to_real() if dtype.is_complex else dtype
    try:
        return math.isinf(float(part)) or bool(
            torch.tensor(float(part), dtype=torch.float64).to(kind).double().isfinite()
        )
    except OverflowError:  # an int that even float64 cannot hold
        return False


def tensor(args: Args, key: str, target: Target) -> Tensor:
    """A tensor (or nested list, or array, or number) that broadcasts to the cells; a copy on the CPU, detached.

    Raises:
        EditRefused: it is no tensor, or its shape does not fit.
    """
    value = args.get(key)
    if isinstance(value, Tensor):
        made = whole(value)
        if made.is_meta or made.layout is not torch.strided or made.is_quantized:
            raise refuse(target, f"{key} must be a dense tensor with values, got {made.layout} on {made.device}")
    elif isinstance(value, list | tuple | bool | int | float | complex) or hasattr(value, "__array__"):
        try:
            exact = torch.float64 if target.dtype.is_floating_point else None
            made = _made(value, None if hasattr(value, "__array__") else exact)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise refuse(target, f"{key} is no tensor: {error}") from error
    else:
        got = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
        raise refuse(target, f"{key} must be a tensor or numbers, got {got}")
    try:
        fits = torch.broadcast_shapes(tuple(made.shape), target.view_shape) == target.view_shape
    except RuntimeError:
        fits = False
    if not fits:
        what = f"values of shape {list(made.shape)} do not broadcast to the {list(target.view_shape)} cells of the region. "
        what += f"Give shape {list(target.view_shape)}"
        raise refuse(target, f"{what}, or index: {in_words(target.view_shape, made.shape)}")
    if made.dtype.is_complex and not target.dtype.is_complex:
        raise refuse(target, f"{target.dtype_name} holds real numbers only, got {made.dtype}. Give values.real")
    # A copy: the caller may change his tensor later, and redo must give the first result.
    return made.to("cpu").clone(memory_format=torch.contiguous_format)


def _made(value: Any, exact: torch.dtype | None) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=exact, device="cpu")
    except (ValueError, RuntimeError) as error:
        try:  # whole numbers from 2**63 on
            return torch.as_tensor(value, dtype=torch.uint64, device="cpu")
        except OverflowError:
            raise OverflowError("whole numbers must fit into 64 bits, all of them signed or all unsigned") from error


def number_or_tensor(args: Args, key: str, target: Target) -> Any:
    """A number, or a tensor of more than one cell that broadcasts."""
    value = args.get(key)
    single = not isinstance(value, list | tuple) and not hasattr(value, "__array__") and not isinstance(value, Tensor)
    if single or (isinstance(value, Tensor) and value.ndim == 0) or getattr(value, "shape", None) == ():
        return number(args, key, target)
    return tensor(args, key, target)


def fitting_tensor(values: Tensor, target: Target) -> Tensor:
    """The values, if cells of this dtype can hold them (rule J11)."""
    if not values.numel() or values.dtype == target.dtype:
        return values
    if target.is_float:
        looked = values.double() if values.dtype is torch.uint64 else dtypes.widened(values)
        if dtypes.only_positive(target.dtype) and bool((looked < 0).any()):
            raise refuse(target, f"{target.dtype_name} holds positive numbers only, got others. Give numbers above 0")
        if target.dtype in dtypes.FLOAT8:
            lost = looked.abs().double() > torch.finfo(target.dtype).max
            lost &= ~looked.isinf() if dtypes.has_infinity(target.dtype) else True
        else:
            lost = looked.isfinite() & ~dtypes.finite(values.to(target.dtype))
        if bool(lost.any()):
            worst = looked[lost].abs().double().max().item()
            most = torch.finfo(target.dtype).max
            raise refuse(target, f"{target.dtype_name} holds at most ±{most:.4g}, got ±{worst:g}")
        return values
    if values.is_floating_point():
        values = dtypes.widened(values)
        if not bool((values == values.trunc()).all() and values.isfinite().all()):
            raise refuse(
                target, f"{target.dtype_name} holds whole numbers only, got fractions or NaN. Round the values first"
            )
    info = (0, 1) if target.dtype is torch.bool else (torch.iinfo(target.dtype).min, torch.iinfo(target.dtype).max)
    low, high = dtypes.ends(values)
    if low < info[0] or high > info[1]:
        raise refuse(target, f"{target.dtype_name} holds {info[0]} to {info[1]}, got {low} to {high}")
    return values


def only_finite(args: Args) -> bool:
    """Whether all numbers and tensors among the arguments are finite."""
    for value in args.values():
        if isinstance(value, Tensor) and not bool(dtypes.finite(value).all()):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if isinstance(value, complex) and not (math.isfinite(value.real) and math.isfinite(value.imag)):
            return False
    return True


def literal(value: Any, device: str = "") -> str:
    """Python source for an argument; a tensor of more than SPELLED cells as compressed bytes."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, complex):  # repr() of it is an expression that loses inf, nan and the sign of a zero
        return f"complex({literal(value.real)}, {literal(value.imag)})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if not isinstance(value, Tensor):
        return repr(value)
    if value.numel() <= SPELLED and value.dtype not in dtypes.FLOAT8 and bool(dtypes.finite(value).all()):
        text = f"torch.tensor({literal(value.tolist())}, dtype={value.dtype})"
    else:
        packed = base64.b64encode(zlib.compress(_bytes(value))).decode("ascii")
        text = (
            f"torch.frombuffer(bytearray(__import__('zlib').decompress(__import__('base64').b64decode('{packed}'))), "
            f"dtype={value.dtype}).view({list(value.shape)})"
        )
    return f"{text}.to({device!r})" if device and device != "cpu" else text


def show(value: Any) -> str:
    """An argument in a sentence: short, for people."""
    if isinstance(value, Tensor):
        if value.numel() <= 4:
            return ", ".join(show(item) for item in value.flatten().tolist()) if value.numel() else "nothing"
        return f"a tensor {list(value.shape)}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def to_json(value: Any) -> Any:
    """An argument as strict JSON."""
    if isinstance(value, Tensor):
        packed = base64.b64encode(zlib.compress(_bytes(value))).decode("ascii")
        return {"tensor": packed, "dtype": dtypes.name(value.dtype), "shape": list(value.shape)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, complex):
        return {"complex": [to_json(value.real), to_json(value.imag)]}
    return value


def from_json(value: Any) -> Any:
    """What `to_json` wrote.

    Raises:
        EditRefused: it is damaged.
    """
    if not isinstance(value, dict):
        return value
    try:
        if "float" in value:
            return float(value["float"])
        if "complex" in value:
            real, imaginary = map(from_json, value["complex"])
            return complex(real, imaginary)
        if value["dtype"] not in dtypes.BY_NAME:
            raise ValueError(f"there is no dtype {value['dtype']!r:.40}")
        dtype = dtypes.BY_NAME[value["dtype"]]
        raw = bytearray(zlib.decompress(base64.b64decode(value["tensor"], validate=True)))
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.view([int(size) for size in value["shape"]])
    except (KeyError, TypeError, ValueError, RuntimeError, zlib.error) as error:
        raise EditRefused(f"an argument of a recipe cannot be read: {error}.") from error
