"""Operations that look at cells together: random draws, torch.nn.init, permutation, pruning, quantisation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weightlab.edit import arguments
from weightlab.edit.arguments import Args, Change, Operation, Target, literal, number, only, refuse, show, whole_number
from weightlab.model import dtypes


def _needs_fractions(name: str, target: Target) -> None:
    if not target.is_float:
        raise refuse(target, f"{name} gives fractions, which {target.dtype_name} cannot hold")


def _generator(args: Args, target: Target) -> str:
    return f"torch.Generator({str(target.device)!r}).manual_seed({args['seed']})"


def _empty(shape: Sequence[int], target: Target) -> str:
    return f"torch.empty({list(shape)}, dtype={target.drawing}, device={str(target.device)!r})"


def _draw(name: str, defaults: dict[str, float], text: Callable[[Args], str]) -> Operation:
    """normal_ and uniform_: drawn into a contiguous tensor of the region's shape by a generator of their own."""

    def check(args: Args, target: Target) -> Args:
        only(args, (*defaults, "seed"), target)
        _needs_fractions(name, target)
        complete = {key: number({key: args.get(key, value)}, key, target) for key, value in defaults.items()}
        first, second = complete.values()
        if not all(isinstance(v, bool | int | float) and math.isfinite(v) for v in (first, second)):
            raise refuse(target, f"the arguments of {name} must be finite, got {first} and {second}")
        if name == "normal_" and second < 0:
            raise refuse(target, f"the standard deviation of normal_ must not be negative, got {second}")
        if name == "uniform_" and first > second:
            raise refuse(
                target, f"the lower end of uniform_ must not be above the upper, got {first} and {second}. Swap them"
            )
        return {**complete, "seed": arguments.seed(args, target)}

    def change(args: Args, target: Target) -> Change:
        def run(cells: Tensor) -> None:
            drawn = torch.empty(cells.shape, dtype=target.drawing, device=cells.device)
            generator = torch.Generator(cells.device).manual_seed(args["seed"])
            cells.copy_(getattr(drawn, name)(*(args[key] for key in defaults), generator=generator))

        return run

    def code(args: Args, target: Target) -> str:
        numbers = ", ".join(literal(args[key]) for key in defaults)
        return (
            f"{{w}}.copy_({_empty(target.view_shape, target)}.{name}({numbers}, generator={_generator(args, target)}))"
        )

    return Operation(check, change, text, code, random=True)


def _sparse(tensor: Tensor, sparsity: float, std: float = 0.01, generator: torch.Generator | None = None) -> Tensor:
    """`nn.init.sparse_`, whose own permutations come from torch's global generator whatever it is given."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity is a share from 0 to 1, got {sparsity}")
    rows, columns = tensor.shape
    tensor.normal_(0, std, generator=generator)
    gone = [torch.randperm(rows, generator=generator, device=tensor.device) for _ in range(columns)]
    return tensor.scatter_(0, torch.stack(gone, 1)[: math.ceil(sparsity * rows)], 0) if gone else tensor


_INIT_METHODS = {
    name: _sparse if name == "sparse_" else getattr(nn.init, name)
    for name in [
        "uniform_",
        "normal_",
        "trunc_normal_",
        "constant_",
        "ones_",
        "zeros_",
        "eye_",
        "dirac_",
        "xavier_uniform_",
        "xavier_normal_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "orthogonal_",
        "sparse_",
    ]
}


def _init_check(args: Args, target: Target) -> Args:
    method = args.get("method")
    if not isinstance(method, str) or method not in _INIT_METHODS:
        raise refuse(
            target, f"init_ takes a function of torch.nn.init, got {method!r}. Known: {', '.join(_INIT_METHODS)}"
        )
    _needs_fractions(method, target)
    known = set(inspect.signature(_INIT_METHODS[method]).parameters) - {"tensor", "generator"}
    extra = {key: value for key, value in args.items() if key not in ("method", "seed")}
    for key, value in extra.items():
        if key not in known:
            raise refuse(target, f"{method} has no argument {key!r}. Known: {', '.join(sorted(known)) or 'none'}")
        if not isinstance(value, bool | int | float | str):
            raise refuse(target, f"{key} must be a number or a text, got {type(value).__name__}")
    complete = {"method": method, **extra}
    if "generator" in inspect.signature(_INIT_METHODS[method]).parameters:
        complete["seed"] = arguments.seed(args, target)
    return complete


def _initialised(args: Args, target: Target, device: torch.device) -> Tensor:
    """A tensor shaped like the whole one, so that fan_in and fan_out are the layer's, after the init function."""
    extra = {key: value for key, value in args.items() if key not in ("method", "seed")}
    if "seed" in args:
        extra["generator"] = torch.Generator(device).manual_seed(args["seed"])
    try:
        made: Tensor = _INIT_METHODS[args["method"]](
            torch.empty(target.shape, dtype=target.drawing, device=device), **extra
        )
    except (ValueError, TypeError, AttributeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise refuse(target, f"{args['method']} cannot initialise this tensor: {str(error).rstrip('.')}") from error
    return made


def _init_change(args: Args, target: Target) -> Change:
    def run(cells: Tensor) -> None:
        cells.copy_(target.pick(_initialised(args, target, cells.device)))

    return run


def _init_code(args: Args, target: Target) -> str:
    if args["method"] == "sparse_":
        rows, columns = target.shape
        gone = f"torch.stack([torch.randperm({rows}, generator=g, device=g.device) for _ in range({columns})], 1)"
        drawn = f"{_empty(target.shape, target)}.normal_(0, {literal(args.get('std', 0.01))}, generator=g)"
        made = f"(lambda g: {drawn}.scatter_(0, {gone}[:{math.ceil(args['sparsity'] * rows)}], 0))"
        return f"{{w}}.copy_({made}({_generator(args, target)}){target.index_code()})"
    extra = "".join(f", {key}={literal(value)}" for key, value in args.items() if key not in ("method", "seed"))
    if "seed" in args:
        extra += f", generator={_generator(args, target)}"
    return f"{{w}}.copy_(torch.nn.init.{args['method']}({_empty(target.shape, target)}{extra}){target.index_code()})"


def _permute_check(args: Args, target: Target) -> Args:
    only(args, ("axis", "order"), target)
    axis = arguments.axis(args, "axis", target)
    order, size = args.get("order"), target.view_shape[axis]
    if isinstance(order, Tensor) or hasattr(order, "__array__"):
        order = order.tolist()  # type: ignore[union-attr]
    plain = isinstance(order, Sequence) and all(isinstance(i, int) and not isinstance(i, bool) for i in order)
    if not plain or sorted(order) != list(range(size)):  # type: ignore[arg-type]
        raise refuse(
            target, f"the order must hold each of 0 to {size - 1} once, got {str(order)[:60]}. new[i] = old[order[i]]"
        )
    return {"axis": axis, "order": list(order)}  # type: ignore[arg-type]


def _permute_change(args: Args, target: Target) -> Change:
    def run(cells: Tensor) -> None:
        order = torch.tensor(args["order"], dtype=torch.int64, device=cells.device)
        held = dtypes.movable(cells)
        held.copy_(held.index_select(args["axis"], order))

    return run


def _permute_code(args: Args, target: Target) -> str:
    held = f"{{w}}{_movable(target)}"
    return f"{held}.copy_({held}.index_select({args['axis']}, torch.tensor({args['order']}, device={str(target.device)!r})))"


def _movable(target: Target) -> str:
    kind = dtypes.bits(target.dtype)
    return f".view({kind})" if kind else ""


def _prune_check(args: Args, target: Target) -> Args:
    only(args, ("amount", "by", "axis", "seed"), target)
    by = args.get("by", "magnitude")
    if by not in ("magnitude", "random"):
        raise refuse(target, f"prune_ goes by 'magnitude' or 'random', got {by!r}")
    if by == "magnitude" and target.dtype is torch.bool:
        raise refuse(target, "bool has no magnitude. Use by='random'")
    complete: dict[str, Any] = {"by": by}
    size = math.prod(target.view_shape)
    if args.get("axis") is not None:
        complete["axis"] = arguments.axis(args, "axis", target)
        size //= max(target.view_shape[complete["axis"]], 1)
    amount = number(args, "amount", target)
    if isinstance(amount, bool) or (isinstance(amount, float) and not 0 <= amount <= 1):
        raise refuse(target, f"the amount is a share from 0.0 to 1.0 or a whole number of cells, got {amount!r}")
    if isinstance(amount, int) and not 0 <= amount <= size:
        raise refuse(target, f"the amount must be 0 to {size} cells, got {amount}")
    complete["amount"] = amount
    if by == "random":
        complete["seed"] = arguments.seed(args, target)
    return complete


def _prune_count(args: Args, size: int) -> int:
    return args["amount"] if isinstance(args["amount"], int) else round(args["amount"] * size)


def _prune_change(args: Args, target: Target) -> Change:
    """Zero the first `count` cells in ascending order of magnitude (stable: ties by index), or of a random draw."""

    def run(cells: Tensor) -> None:
        if args["by"] == "random":
            generator = torch.Generator(cells.device).manual_seed(args["seed"])
            score = torch.rand(cells.shape, generator=generator, device=cells.device)
        else:
            score = _score(cells)
        axis = args.get("axis")
        # At least one axis beside `axis`, so that a slice of cells with a single axis is one cell.
        rows = score.flatten()[None] if axis is None else score.movedim(axis, 0).unsqueeze(-1).flatten(1)
        count = _prune_count(args, rows.shape[1])
        order = rows.argsort(dim=1, stable=True)[:, :count]
        gone = torch.zeros(rows.shape, dtype=torch.bool, device=cells.device).scatter_(1, order, True)
        held = dtypes.movable(cells) if axis is None else dtypes.movable(cells).movedim(axis, 0)
        held.masked_fill_(gone.view(held.shape), 0)

    return run


def _score(cells: Tensor) -> Tensor:
    """In the order of the magnitudes. |-2**63| wraps to itself: less 1, it is the largest."""
    if cells.dtype is torch.uint64:
        return dtypes.ordered(cells)
    return cells.abs() - 1 if cells.dtype is torch.int64 else dtypes.widened(cells).abs()


def _prune_code(args: Args, target: Target) -> str:
    moved, rows = "", 1
    if "axis" in args:
        moved, rows = f".movedim({args['axis']}, 0)", target.view_shape[args["axis"]]
    size = math.prod(target.view_shape) // max(rows, 1)
    if args["by"] == "random":
        score = f"torch.rand({list(target.view_shape)}, generator={_generator(args, target)}, device={str(target.device)!r})"
        score += moved
    elif target.dtype is torch.uint64:
        score = f"({{w}}{moved}.view(torch.int64) ^ -2**63)"
    else:
        score = f"{{w}}{moved}{_widening(target)}.abs(){'.sub(1)' if target.dtype is torch.int64 else ''}"
    order = f"{score}.reshape({rows}, {size}).argsort(dim=1, stable=True)[:, :{_prune_count(args, size)}]"
    gone = f"torch.zeros({rows}, {size}, dtype=torch.bool, device={str(target.device)!r}).scatter_(1, {order}, True)"
    held = f"{{w}}{_movable(target)}{moved}"
    return f"{held}.masked_fill_({gone}.view_as({held}), 0)"


def _widening(target: Target) -> str:
    return f".to({target.wide})" if target.wide is not target.dtype else ""


def _prune_text(args: Args) -> str:
    amount = f"{args['amount']:.4g} of" if isinstance(args["amount"], float) else f"{args['amount']} cells of"
    along = f" along axis {args['axis']}" if "axis" in args else ""
    return f"Prune {amount} {{target}} by {args['by']}{along}"


def _quantize_check(args: Args, target: Target) -> Args:
    only(args, ("bits", "axis"), target)
    if not target.dtype.is_floating_point:
        raise refuse(target, f"quantize_ rounds real fractions, and {target.dtype_name} holds none")
    complete: dict[str, Any] = {"bits": whole_number(args, "bits", target, 2, 16)}
    if args.get("axis") is not None:
        complete["axis"] = arguments.axis(args, "axis", target)
    return complete


def _quantize_change(args: Args, target: Target) -> Change:
    r"""Uniform and symmetric: `scale = max|w| / (2**(bits - 1) - 1)`, `w = round(w / scale) * scale`, in float32 or wider."""

    def run(cells: Tensor) -> None:
        work = cells.to(torch.promote_types(cells.dtype, torch.float32))
        axes = [i for i in range(work.ndim) if i != args.get("axis")]
        largest = work.abs().amax(axes, keepdim=True) if work.ndim and work.numel() else work.abs()
        scale = largest / (2 ** (args["bits"] - 1) - 1)
        scale = scale.masked_fill(scale == 0, 1)
        cells.copy_((work / scale).round() * scale)

    return run


def _quantize_code(args: Args, target: Target) -> str:
    axes = [i for i in range(len(target.view_shape)) if i != args.get("axis")]
    wide = torch.promote_types(target.wide, torch.float32)
    work = f"{{w}}.to({wide})"
    largest = f"{work}.abs().amax({axes}, keepdim=True)" if target.view_shape else f"{work}.abs()"
    scale = f"(lambda s: s.masked_fill(s == 0, 1))({largest} / {2 ** (args['bits'] - 1) - 1})"
    return f"{{w}}.copy_((lambda w, s: (w / s).round() * s)({work}, {scale}))"


STRUCTURED = {
    "normal_": _draw(
        "normal_", {"mean": 0.0, "std": 1.0}, lambda a: f"Draw {{target}} from N({show(a['mean'])}, {show(a['std'])}²)"
    ),
    "uniform_": _draw(
        "uniform_", {"a": 0.0, "b": 1.0}, lambda a: f"Draw {{target}} from U({show(a['a'])}, {show(a['b'])})"
    ),
    "init_": Operation(
        _init_check, _init_change, lambda a: f"Reinitialize {{target}} with {a['method']}", _init_code, random=True
    ),
    "permute_": Operation(
        _permute_check,
        _permute_change,
        lambda a: f"Permute axis {a['axis']} of {{target}}",
        _permute_code,
    ),
    "prune_": Operation(_prune_check, _prune_change, _prune_text, _prune_code, random=True),
    "quantize_": Operation(
        _quantize_check, _quantize_change, lambda a: f"Quantize {{target}} to {a['bits']} bits", _quantize_code
    ),
}
