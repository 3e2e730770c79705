"""Operations that treat every cell by itself: zero, fill, arithmetic, clamp, copy, blend, sign and rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from weightlab.edit import arguments
from weightlab.edit.arguments import Args, Change, Operation, Target, literal, number, only, refuse, show
from weightlab.errors import EditRefused
from weightlab.model import dtypes


def _do(action: Callable[[Tensor], Any]) -> Change:
    """A change from an expression: what in-place methods return is of no use."""

    def run(cells: Tensor) -> None:
        action(cells)

    return run


def _no_bool(name: str, target: Target) -> None:
    if target.dtype is torch.bool:
        raise refuse(target, f"{name} has no meaning for bool. Use fill_(True), fill_(False) or copy_")


def _zero_check(args: Args, target: Target) -> Args:
    only(args, (), target)
    return {}


def _fill_check(args: Args, target: Target) -> Args:
    only(args, ("value",), target)
    return {"value": arguments.fitting(number(args, "value", target), target)}


def _copy_check(args: Args, target: Target) -> Args:
    only(args, ("values",), target)
    return {"values": arguments.fitting_tensor(arguments.tensor(args, "values", target), target)}


def _copy_text(args: Args) -> str:
    count = args["values"].numel()
    return f"Set {{target}} to {show(args['values'])}" if count <= 4 else f"Set {{target}} to {count} values"


def _clamp_check(args: Args, target: Target) -> Args:
    only(args, ("min", "max"), target)
    if not target.is_ordered:
        raise refuse(target, f"clamp_ needs an order, which {target.dtype_name} lacks")
    low, high = (
        None if args.get(k) is None else arguments.fitting(number(args, k, target), target) for k in ("min", "max")
    )
    if low is None and high is None:
        raise refuse(target, "clamp_ needs a minimum, a maximum or both, got neither. For example clamp_(-1, 1)")
    if any(isinstance(bound, float) and math.isnan(bound) for bound in (low, high)):
        raise refuse(target, "a bound of clamp_ must be a number, got nan")
    if low is not None and high is not None and low > high:
        raise refuse(target, f"the minimum must not be above the maximum, got {low} and {high}. Swap them")
    return {"min": low, "max": high}


def _bounds(args: Args) -> str:
    return ", ".join(f"{key}={literal(value)}" for key, value in args.items() if value is not None)


def _clamp_text(args: Args) -> str:
    low, high = args["min"], args["max"]
    if low is None or high is None:
        return f"Clamp {{target}} to at {'most' if low is None else 'least'} {show(high if low is None else low)}"
    return f"Clamp {{target}} to ±{show(high)}" if low == -high else f"Clamp {{target}} to {show(low)} … {show(high)}"


def _lerp_check(args: Args, target: Target) -> Args:
    only(args, ("end", "weight"), target)
    if not target.is_float:
        raise refuse(target, f"lerp_ gives fractions, which {target.dtype_name} cannot hold")
    return {"end": arguments.tensor(args, "end", target), "weight": number(args, "weight", target)}


def _lerp_change(args: Args, target: Target) -> Change:
    return _do(lambda cells: cells.lerp_(args["end"].to(cells.device, cells.dtype).expand(cells.shape), args["weight"]))


def _lerp_code(args: Args, target: Target) -> str:
    end = f"{literal(args['end'])}.to({str(target.device)!r}, {target.wide}).expand({list(target.view_shape)})"
    return f"{{w}}.lerp_({end}, {literal(args['weight'])})"


def _unary(name: str, verb: str) -> Operation:
    def check(args: Args, target: Target) -> Args:
        only(args, (), target)
        _no_bool(name, target)
        if target.dtype.is_complex and name in ("round_", "sign_", "abs_"):
            raise refuse(target, f"{name} is not defined for {target.dtype_name} in place")
        return {}

    # torch's round_ has no kernel for integers, which are whole already.
    def run(cells: Tensor) -> None:
        if name in ("neg_", "abs_") and cells.dtype is torch.int64 and cells.numel() and int(cells.min()) == -(2**63):
            raise EditRefused(f"{name} of -2**63 does not fit into 64 bits. Change that cell first.")
        if name != "round_" or cells.is_floating_point():
            getattr(cells, name)()

    return Operation(
        check, lambda args, target: run, lambda args: f"{verb} {{target}}", lambda args, target: f"{{w}}.{name}()"
    )


def _arithmetic(name: str, verb: str) -> Operation:
    """add_, sub_, mul_, div_ with a number or a tensor that broadcasts."""

    def check(args: Args, target: Target) -> Args:
        only(args, ("value",), target)
        _no_bool(name, target)
        value = arguments.number_or_tensor(args, "value", target)
        if name == "div_" and bool(
            (torch.as_tensor(value, device="cpu" if not isinstance(value, Tensor) else None) == 0).any()
        ):
            raise refuse(target, "division by 0 gives cells that are not finite. Give a divisor other than 0")
        if not target.is_float and not _is_whole(value):
            raise refuse(target, f"{target.dtype_name} holds whole numbers only, got fractions. Give whole numbers")
        if not target.is_float and _too_large(value, target):
            raise refuse(target, "the argument does not fit into 64 bits. Give smaller numbers")
        return {"value": value if target.is_float else _as_whole(value)}

    def change(args: Args, target: Target) -> Change:
        def run(cells: Tensor) -> None:
            value = args["value"].to(cells.device) if isinstance(args["value"], Tensor) else args["value"]
            if not cells.is_floating_point() and not cells.is_complex():
                _refuse_overflow(cells, value, name, target)
                if name == "div_":
                    if bool((cells.remainder(value) != 0).any()):
                        raise refuse(
                            target, f"not all quotients are whole, and {target.dtype_name} holds whole numbers only"
                        )
                    cells.div_(value, rounding_mode="floor")
                    return
            elif isinstance(value, Tensor) and not value.is_floating_point() and not value.is_complex():
                value = value.to(cells.dtype)
            getattr(cells, name)(value)

        return run

    def code(args: Args, target: Target) -> str:
        rounding = ", rounding_mode='floor'" if name == "div_" and not target.is_float else ""
        value = literal(args["value"], device=str(target.device))
        return f"{{w}}.{name}({value}{rounding})"

    return Operation(check, change, lambda args: verb.replace("{0}", show(args["value"])), code)


def _is_whole(value: Any) -> bool:
    if isinstance(value, Tensor):
        value = dtypes.widened(value)
        return not value.is_floating_point() or bool((value.isfinite() & (value == value.trunc())).all())
    return not isinstance(value, float) or value.is_integer()


def _too_large(value: Any, target: Target) -> bool:
    """Beyond what int64 holds, so that a cast would wrap; cells of uint64 take all of 64 bits."""
    most = 2**64 if target.dtype is torch.uint64 else 2**63
    if isinstance(value, Tensor):
        low, high = dtypes.ends(value) if value.numel() else (0, 0)
        return not -(2**63) <= low <= high < (most if low >= 0 else 2**63)
    return not -most <= int(value) < most


def _as_whole(value: Any) -> Any:
    """As int64, or as uint64 where that alone holds it."""
    if not isinstance(value, Tensor):
        return int(value)
    return value.to(torch.uint64 if value.numel() and dtypes.ends(value)[1] >= 2**63 else torch.int64)


def _refuse_overflow(cells: Tensor, value: Any, name: str, target: Target) -> None:
    """int64 wraps without a word; Python's ints at the extremes tell beforehand."""
    if not cells.numel():
        return
    if name == "div_":
        if int(cells.min()) == -(2**63) and bool((torch.as_tensor(value, device="cpu") == -1).any()):
            raise refuse(target, "-2**63 divided by -1 does not fit into 64 bits. Change that cell first")
        return
    ends = [int(cells.min()), int(cells.max())]
    others = [int(value.min()), int(value.max())] if isinstance(value, Tensor) else [int(value)]
    combine = {"add_": int.__add__, "sub_": int.__sub__, "mul_": int.__mul__}[name]
    results = [combine(a, b) for a in ends for b in others]
    if min(results) < -(2**63) or max(results) >= 2**63:
        raise refuse(
            target,
            f"a result of {name} may not fit into 64 bits, got up to {max(map(abs, results))}. Give smaller numbers",
        )


def _flag_check(args: Args, target: Target) -> Args:
    only(args, ("flag",), target)
    flag = args.get("flag", True)
    if not isinstance(flag, bool):
        raise refuse(target, f"requires_grad_ takes True or False, got {flag!r}")
    if not target.is_parameter:
        raise refuse(target, "it is a buffer, and buffers take no gradient. Only parameters can be frozen or trained")
    if flag and not target.is_float:
        raise refuse(target, f"only floating and complex tensors take gradients, got {target.dtype_name}")
    return {"flag": flag}


ELEMENTWISE = {
    "zero_": Operation(
        _zero_check, lambda a, t: _do(Tensor.zero_), lambda a: "Zero {target}", lambda a, t: "{w}.zero_()"
    ),
    "fill_": Operation(
        _fill_check,
        lambda a, t: _do(lambda cells: cells.fill_(a["value"])),
        lambda a: f"Fill {{target}} with {show(a['value'])}",
        lambda a, t: f"{{w}}.fill_({literal(a['value'])})",
    ),
    "add_": _arithmetic("add_", "Add {0} to {target}"),
    "sub_": _arithmetic("sub_", "Subtract {0} from {target}"),
    "mul_": _arithmetic("mul_", "Scale {target} by {0}"),
    "div_": _arithmetic("div_", "Divide {target} by {0}"),
    "clamp_": Operation(
        _clamp_check,
        lambda a, t: _do(lambda cells: cells.clamp_(a["min"], a["max"])),
        _clamp_text,
        lambda a, t: f"{{w}}.clamp_({_bounds(a)})",
    ),
    "copy_": Operation(
        _copy_check,
        lambda a, t: _do(lambda cells: cells.copy_(a["values"])),
        _copy_text,
        lambda a, t: f"{{w}}.copy_({literal(a['values'])})",
    ),
    "lerp_": Operation(
        _lerp_check,
        _lerp_change,
        lambda a: f"Blend {{target}} with other values, weight {show(a['weight'])}",
        _lerp_code,
    ),
    "neg_": _unary("neg_", "Negate"),
    "abs_": _unary("abs_", "Take absolute values of"),
    "round_": _unary("round_", "Round"),
    "sign_": _unary("sign_", "Take signs of"),
    # Not a change of cells: the journal sets the flag. It is in the table so that it goes through recipes as the others do.
    "requires_grad_": Operation(
        _flag_check,
        lambda a, t: _do(lambda cells: None),
        lambda a: "Train {target}" if a["flag"] else "Freeze {target}",
        lambda a, t: f"{{w}}.requires_grad_({a['flag']})",
    ),
}
