"""`Edit` values, and the in-place operation that each names.

An edit says what, not how: tensor name, region, operation, arguments. It goes to JSON and back. The same arguments
always give the same bytes, also the random ones: their seed is an argument and their generator is their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from weightlab.edit import arguments, unsigned
from weightlab.edit.arguments import Args, Change, Operation, Target, refuse
from weightlab.edit.elementwise import ELEMENTWISE
from weightlab.edit.saved import Arguments
from weightlab.edit.structured import STRUCTURED
from weightlab.errors import EditRefused
from weightlab.model import dtypes
from weightlab.model.region import Region

OPERATIONS: Mapping[str, Operation] = {**ELEMENTWISE, **STRUCTURED}


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One change as a value.

    Attributes:
        name: dotted name of the tensor.
        region: which cells.
        op: a key of `OPERATIONS`, spelled as the method: "zero_".
        args: numbers, texts and tensors by name.
    """

    name: str
    region: Region
    op: str
    args: Args = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: numbers that JSON lacks become texts, tensors become compressed bytes."""
        args = {key: arguments.to_json(value) for key, value in self.args.items()}
        return {"name": self.name, "region": self.region.to_json(), "op": self.op, "args": args}

    @classmethod
    def from_json(cls, value: Any, shape: Sequence[int], title: str = "") -> Edit:
        """What `to_json` wrote, for a tensor of this shape.

        Raises:
            EditRefused: it is damaged, or the region does not fit.
        """
        try:
            name, op, args = value["name"], value["op"], dict(value["args"])
            region = Region.from_json(value["region"], shape, title)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EditRefused):
                raise
            raise EditRefused(f"{title}: an edit of a recipe cannot be read: {error!r}.") from error
        return cls(name, region, op, {str(key): arguments.from_json(item) for key, item in args.items()})


def edit_is_sound(edit: object) -> None:
    """Refuse what is no Edit, before anything is looked up.

    Raises:
        EditRefused: it is not one, or one of its fields has a wrong type.
    """
    if not isinstance(edit, Edit):
        raise EditRefused(f"apply: expected an Edit or a list of Edits, got {type(edit).__name__}. See weightlab.Edit.")
    kinds = (("name", str), ("region", Region), ("op", str), ("args", Mapping))
    for field_name, kind in kinds:
        value = getattr(edit, field_name)
        if not isinstance(value, kind):
            raise EditRefused(f"Edit: '{field_name}' must be a {kind.__name__}, got {type(value).__name__}.")
    if not _exists(edit.region):
        raise EditRefused(
            f"{edit.name}: the region names cells that its own shape does not have. Index lab[{edit.name!r}], or use "
            f"Region.whole, Region.of_cells or Region.parse."
        )


def _exists(region: Region) -> bool:
    """Whether a region names cells of its shape: anybody can make one by hand, and nothing else looks at it again."""
    whole, cells = Region.whole(region.shape), region.cells
    if cells is not None:
        if not isinstance(cells, Tensor) or cells.dtype != torch.int64 or cells.device.type != "cpu":
            return False
        return not cells.numel() or (int(cells.min()) >= 0 and int(cells.max()) < whole.numel)
    if not len(region.axes) == len(region.dropped) == len(region.shape):
        return False
    boxes = zip(region.axes, region.dropped, region.shape, strict=True)
    return all(
        0 <= start <= stop <= size and step >= 1 and (not drop or stop == start + 1)
        for (start, stop, step), drop, size in boxes
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """An edit that fits its tensor: complete arguments, the change of cells, and how it reads."""

    edit: Edit
    args: Arguments
    change: Change
    text: str
    code: Callable[[], str]


def prepare(edit: Edit, target: Target, expression: str) -> Prepared:
    """Check an edit against its tensor.

    Args:
        expression: plain PyTorch for the whole tensor, such as `model.get_parameter('fc.weight')`.

    Raises:
        EditRefused: unknown operation, or arguments that do not fit this tensor.
    """
    operation = OPERATIONS.get(edit.op)
    if operation is None:
        raise refuse(target, f"there is no operation {edit.op!r}. Known: {', '.join(OPERATIONS)}")
    args = Arguments(operation.check(edit.args, target))
    per_cell = operation.random or any(isinstance(value, Tensor) and value.numel() > 1 for value in args.values())
    if per_cell and edit.region.has_duplicates:
        raise refuse(
            target, "the index names a cell more than once, so that several values would meet in it. Name each once"
        )
    complete = Edit(edit.name, edit.region, edit.op, args)
    name = edit.name if edit.region.is_whole else f"{edit.name}{edit.region}"
    exact = unsigned.does(edit.op, target)
    change = unsigned.change(edit.op, args, target) if exact else operation.change(args, target)
    return Prepared(
        complete,
        args,
        change if edit.op in _BY_BITS else _through_wider(change, target),
        operation.text(args).replace("{target}", name),
        lambda: _statement(
            # Not the edit as it was given: its tensors would stay in memory.
            unsigned.code(complete.op, args, target) if exact else operation.code(args, target),
            complete,
            target,
            expression,
        ),
    )


_BY_BITS = ("copy_", "permute_", "prune_")  # cells are moved or set to 0: the others keep their bits, NaN too


def _through_wider(change: Change, target: Target) -> Change:
    """Run the change on a wider copy where the dtype lacks or wraps arithmetic, then check the range."""
    if target.wide is target.dtype and target.dtype is not torch.int64:
        return change

    def run(cells: Tensor) -> None:
        if cells.dtype != target.dtype:  # somebody computes the asked values on a wider copy already
            change(cells)
            return
        work = cells.to(target.wide, copy=True)
        change(work)
        if target.wide is torch.int64 and work.numel():
            info = torch.iinfo(target.dtype)
            low, high = int(work.min()), int(work.max())
            if low < info.min or high > info.max:
                raise refuse(
                    target, f"{target.dtype_name} holds {info.min} to {info.max}, a result would be {low} to {high}"
                )
        if dtypes.only_positive(target.dtype) and bool((work < 0).any()):
            raise refuse(
                target,
                f"{target.dtype_name} holds positive numbers only, a result would be {float(work.nan_to_num().amin()):g}",
            )
        cells.copy_(work)

    return run


def _statement(code: str, edit: Edit, target: Target, expression: str) -> str:
    """The whole statement: one line for a box, a gather and a scatter for listed cells."""
    if edit.op == "requires_grad_":
        return code.replace("{w}", expression)
    wider = target.wide is not target.dtype and edit.op not in _BY_BITS
    if wider and code.startswith("{w}.") and not code.startswith("{w}.copy_("):
        code = f"{{w}}.copy_({{w}}.to({target.wide}){code.removeprefix('{w}')})"
    if target.is_sharded:  # a part of a DTensor is a copy: change the gathered one, and shard it again
        alone = replace(target, is_sharded=False)
        return (
            f"with torch.no_grad():\n"
            f"    sharded = {expression}\n"
            f"    whole = sharded.full_tensor()\n"
            + "\n".join(f"    {line}" for line in _statement(code, edit, alone, "whole").splitlines())
            + "\n    sharded.copy_(torch.distributed.tensor.distribute_tensor(whole, sharded.device_mesh, sharded.placements))"
        )
    if edit.region.is_box:
        return f"with torch.no_grad(): {code.replace('{w}', expression + index_code(edit.region))}"
    cells = edit.region.cells
    assert cells is not None
    # Where torch has no index kernel, bits are indexed. A scalar has no coordinates, and `weight[()]` is a view.
    kind = dtypes.bits(target.dtype)
    bits, back = (f".view({kind})", f".view({target.dtype})") if kind else ("", "")
    back += "" if target.shape else ".reshape(1)"
    return (
        f"with torch.no_grad():\n"
        f"    weight = {expression}\n"
        f"    at = torch.unravel_index({arguments.literal(cells)}.to(weight.device), weight.shape)\n"
        f"    cells = weight{bits}[at]{back}\n"
        f"    {code.replace('{w}', 'cells')}\n"
        f"    weight{bits}[at] = cells{bits}"
    )


def index_code(region: Region) -> str:
    """A region as Python index text that gives the same view shape; empty for the whole tensor."""
    if region.is_whole and not any(region.dropped):  # [:, 0] of [3, 1] names all cells, in another shape
        return ""
    if region.cells is not None:
        return f"[torch.unravel_index({arguments.literal(region.cells)}, {list(region.shape)})]"
    return str(region)
