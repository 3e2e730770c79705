"""An edit tried on a copy of its cells: what it would do, or why it would be refused."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from weightlab.edit.operations import Edit, Prepared, prepare
from weightlab.edit.readback import refuse_not_finite
from weightlab.edit.step import TORCH_SAYS_NO, refusal, target_of
from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.tree import ParameterTree


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The cells before and after, as copies; the model is as it was."""

    prepared: Prepared
    before: Tensor
    after: Tensor


def tried(tree: ParameterTree, edit: Edit) -> Trial:
    """Try an edit. Memory: three times its cells.

    Raises:
        EditRefused: what `Lab.apply` would refuse.
    """
    info = tree[edit.name]
    if not info.editable:
        raise EditRefused(f"{info.title}: {info.reason}")
    tensor = tree.tensor(info.name)
    target = target_of(info, tensor, edit.region)
    try:
        prepared = prepare(edit, target, "weight")
        before = storage.read(tensor, edit.region)
        after = before.clone()
        with storage.writing(after):
            prepared.change(after)
        refuse_not_finite(prepared, target, before, after)
    except TORCH_SAYS_NO as error:
        raise refusal(info, edit, error) from error
    return Trial(prepared, before, after)
