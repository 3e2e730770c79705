"""`Step`: what one edit did before it is part of an entry, and the small makers of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from weightlab.edit.arguments import Target
from weightlab.edit.entry import CellPatch, CompanionPatch, Find, FlagPatch, Patch, changed_by, may_overlap
from weightlab.edit.operations import Edit, Prepared, index_code
from weightlab.edit.saved import Saved
from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.model.sharded import is_sharded
from weightlab.model.tree import ParameterTree, TensorInfo

# What torch raises for arguments that a kernel does not take.
TORCH_SAYS_NO = (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError, OverflowError)


@dataclass(slots=True, eq=False)
class Step:
    """What one edit did, before it is part of an entry; `edit` is None for what is no edit, such as a hold."""

    edit: Edit | None
    text: str
    code: Callable[[], str]
    patches: list[Patch]
    names: tuple[str, ...]
    changed: tuple[tuple[str, Region], ...]
    cells: int = 0
    requested: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))
    stored: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))
    rounded: int = 0
    notes: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    zeroed: Region | None = None
    held: int = 0  # cells put under a hold; less than 0: released

    @property
    def cell_patches(self) -> list[CellPatch]:
        return [patch for patch in self.patches if isinstance(patch, CellPatch)]


class Companion(NamedTuple):
    """A tensor that is kept beside a parameter, of its shape: an optimizer's moment."""

    label: str
    tensor: Tensor


# Given an applied edit and its tensor, what is kept beside the tensor.
Companions = Callable[[Edit, Tensor], Iterable[Companion]]


def refusal(info: TensorInfo, edit: Edit, error: Exception) -> EditRefused:
    """What a kernel of torch says, as a refusal of ours."""
    if isinstance(error, EditRefused):
        return error
    what = str(error).split("\n")[0].rstrip(".")
    return EditRefused(f"{info.title}: {edit.op} failed: {what}. Nothing was changed.")


def target_of(info: TensorInfo, tensor: Tensor, region: Region) -> Target:
    """What an operation has to know of the cells."""
    return Target(
        title=info.title,
        shape=region.shape,
        view_shape=region.view_shape,
        dtype=tensor.dtype,
        device=tensor.device,
        is_parameter=info.kind == "parameter",
        pick=lambda whole: storage.read(whole, region),
        index_code=lambda: index_code(region),
        is_sharded=is_sharded(tensor),
    )


def set_flag(prepared: Prepared, info: TensorInfo, tensor: Tensor, find: Find) -> Step | None:
    """Freeze or train; None where the flag is so already."""
    flag, before = prepared.edit.args["flag"], tensor.requires_grad
    if not prepared.edit.region.is_whole:
        raise EditRefused(
            f"{info.title}: requires_grad belongs to the whole parameter, not to {prepared.edit.region}. "
            f"Call lab[{info.name!r}].requires_grad_({flag}), or hold() these cells."
        )
    if flag is before:
        return None
    if not tensor.is_leaf:
        raise EditRefused(f"{info.title}: it is not a leaf of the graph. Only leaf tensors can be frozen or trained.")
    tensor.requires_grad_(flag)
    names = (info.name, *info.aliases)
    changed = ((info.name, prepared.edit.region),)
    return Step(prepared.edit, prepared.text, prepared.code, [FlagPatch(info.name, find, before)], names, changed)


def zeroed(name: str, tensor: Tensor, find: Find, region: Region) -> Patch | None:
    """Zero a companion's cells, as a patch of its own; None where they are zero already."""
    before = storage.read(tensor, region)
    if not bool(before.any()):
        return None

    def change(cells: Tensor) -> None:
        cells.zero_()

    storage.write(tensor, region, change)
    mark = storage.fingerprint(storage.read(tensor, region))
    return CompanionPatch(name, find, region, Saved(before.cpu()), mark, change)


def take_back(patches: Iterable[Patch]) -> None:
    """Undo what was done so far, last first."""
    for patch in reversed(list(patches)):
        patch.swap()


def settle(steps: list[Step], tree: ParameterTree) -> int:
    """Count what a stroke changed in the end where it edited the same cells again; returns the cells in all.

    The last step on a tensor takes the count of the others. 0: the stroke took all of it back itself.
    """
    together: dict[str, list[Step]] = {}
    total = 0
    for step in steps:
        if isinstance(step.patches[0], CellPatch):
            together.setdefault(step.patches[0].name, []).append(step)
        else:
            total += 1
    for name, same in together.items():
        regions = [step.changed[0][1] for step in same]
        if name in tree and tree[name].shape == regions[-1].shape and may_overlap(regions):
            again = {step.changed[0][1]: step for step in same}
            for step in same:
                step.cells, step.rounded = 0, step.rounded if again[step.changed[0][1]] is step else 0
            same[-1].cells = changed_by([step.cell_patches[0] for step in same], tree.tensor(name))
        total += sum(step.cells for step in same)
    return total
