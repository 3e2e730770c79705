"""What outlives a moment: snapshots, other models, recipes and files. A part of `Lab`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from weightlab.edit import recipe as recipes
from weightlab.edit.entry import Entry
from weightlab.edit.operations import Edit
from weightlab.edit.snapshots import Diff, compare
from weightlab.edit.transfer import Match, Transfer, plan
from weightlab.errors import EditRefused
from weightlab.files import checkpoint
from weightlab.files.writing import path_to_write, replacing
from weightlab.model import given
from weightlab.model.fit import in_words
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, TensorInfo
from weightlab.part import Part


class Archive(Part):
    """Snapshots, diffs, transfers, recipes and files of a Lab."""

    def snapshot(self, label: str) -> None:
        """Remember the model's values under a label, to compare with and to restore.

        A warning says where the model is too large to be copied at once, and what that means for other code.
        """
        with self.lock:
            if isinstance(label, str) and label in self.offers:
                raise EditRefused(f"snapshot: '{label}' is another model that was offered. Choose another label.")
            self.snapshots.take(label)
        self._tell([])

    def offer(self, label: str, other: nn.Module | Part | str | os.PathLike[str] | Mapping[str, Tensor] | None) -> None:
        """Give another model a label, so that the page and `diff`, `transfer` and views can name it.

        Nothing is copied: its values are read when they are asked for.

        Args:
            other: a model, a Lab, a state dict or a safetensors file; None takes the label back.

        Raises:
            EditRefused: a label that is taken by a snapshot, or something that has no tensors.

        Example:
            >>> lab.offer("pretrained", trained)                          # doctest: +SKIP
            >>> lab.transfer("pretrained"); lab.diff("pretrained")        # doctest: +SKIP
        """
        if not isinstance(label, str) or not 0 < len(label) <= 100:
            raise EditRefused(f"offer: the label must be a text of 1 to 100 characters, got {label!r:.120}.")
        with self.lock:
            if label in self.snapshots.labels:
                raise EditRefused(f"offer: '{label}' is a snapshot. Choose another label.")
            if other is None:
                self.offers.pop(label, None)
            else:
                self._values_of(other)
                self.offers[label] = other
        self._tell([])

    def source(self, label: str) -> Mapping[str, Tensor]:
        """Tensors by name of a snapshot, or of what was offered under this label.

        Raises:
            UnknownName: neither has this label.
        """
        with self.lock:
            if isinstance(label, str) and label in self.offers:
                return self._values_of(self.offers[label])[0]
            return self.snapshots.tensors(label)

    def diff(self, other: str | os.PathLike[str] | nn.Module | Part | Mapping[str, Tensor]) -> Diff:
        """The model against a snapshot, another model, a state dict or a safetensors file: a row per tensor that differs.

        Raises:
            UnknownName: no snapshot of this label, and no such file.
        """
        with self.lock:
            values, against = self._values_of(other)
            return compare(self.tree, values, against)

    def restore(self, label: str, names: Sequence[str] | None = None, *, check: bool = True) -> Entry | None:
        """Give all tensors, or those named, the values of a snapshot, as one undo entry.

        A computed weight gets them through what it is computed from. A warning names what is newer than the snapshot.

        Raises:
            UnknownName: no such snapshot or tensor.
            EditRefused: a tensor has another shape by now, or is newer than the snapshot; nothing was changed.
        """
        with self.lock:
            values = self.snapshots.tensors(label)
            names = [names] if isinstance(names, str) else names
            if names is not None and not isinstance(names, Sequence):
                raise EditRefused(
                    f"restore: names must be a list of names, got {type(names).__name__}. Give ['fc.weight']."
                )
            if names is None:
                chosen = [name for name in values if name in self.tree]
                newer = [info.name for info in self.tree if info.editable and not self._kept(info, values)]
            else:
                asked = dict.fromkeys(self.tree[name].name for name in names)
                chosen = list(dict.fromkeys(each for name in asked for each in self._kept(self.tree[name], values)))
                lacking = next((name for name in asked if not self._kept(self.tree[name], values)), None)
                if lacking is not None:
                    raise EditRefused(
                        f"{self.tree[lacking].title}: the snapshot '{label}' does not have it. It is newer than the snapshot, "
                        f"or could not be edited then. Name other tensors, or go back in the history: lab.undo()."
                    )
                newer = []
            for name in chosen:
                if self.tree[name].shape != values[name].shape:
                    raise EditRefused(
                        f"{self.tree[name].title}: the snapshot '{label}' has it with shape {list(values[name].shape)}. "
                        f"Name the tensors to restore, or copy_ a part: {in_words(self.tree[name].shape, values[name].shape)}."
                    )
            edits = [
                Edit(name, Region.whole(self.tree[name].shape), "copy_", {"values": values[name]}) for name in chosen
            ]
        if newer:
            warnings.warn(
                f"restore: the snapshot '{label}' does not have {', '.join(newer[:4])}"
                f"{f' and {len(newer) - 4} more' if len(newer) > 4 else ''}, which keep their values of now.",
                stacklevel=2,
            )
        return self.apply(
            edits, f"Restore {label}" if names is None else f"Restore {', '.join(chosen)} from {label}", check=check
        )

    def _kept(self, info: TensorInfo, values: Mapping[str, Tensor]) -> list[str]:
        """What of a snapshot gives a tensor its values: itself, or for a computed one all that it is computed from."""
        if info.name in values or info.kind != "computed":
            return [info.name] if info.name in values else []
        originals = [self.tree[name].name for name in self.tree.originals(info.name) if name in self.tree]
        return originals if originals and all(name in values for name in originals) else []

    def transfer(
        self,
        other: nn.Module | Part | str | os.PathLike[str] | Mapping[str, Tensor],
        match: Match = None,
        weight: float = 1.0,
    ) -> Transfer:
        """Copy all that fits by name and shape, as one undo entry.

        Args:
            other: a model, a Lab, a state dict, a snapshot's label or a safetensors file.
            match: this model's name to the other's, as a function, or as a dict of those that differ; None leaves a tensor alone.
            weight: 1 copies; 0.5 gives the average of the two models, where the cells are no whole numbers.

        Returns:
            A table of what was copied and what was left, and why.
        """
        return self.carry_over(other, match, weight)[0]

    def carry_over(
        self, other: Any, match: Match = None, weight: float = 1.0, *, check: bool = True
    ) -> tuple[Transfer, Entry | None]:
        """`transfer`, with its entry."""
        weight = given.real_number(weight, "transfer: weight")
        with self.lock:
            values, against = self._values_of(other)
            edits, report = plan(self.tree, values, match, weight)
        many = f"{len(edits)} tensor{'' if len(edits) == 1 else 's'}"
        text = f"Transfer {many} from {against}" if weight == 1 else f"Average {many} with {against} ({weight:g})"
        return report, self.apply(edits, text, check=check)

    def recipe(self) -> dict[str, Any]:
        """The applied entries as strict JSON, for `weightlab.replay`.

        Repairs that changed the structure (a registered Parameter, a shape given back, a relinked optimizer) are no edits, nor are
        holds: they stand under "left_out" in words, and a warning says so. `to_python()` has them, holds as comments.
        """
        made = recipes.recipe_of(self.history, self.tree, self._holds_in_words())
        recipes.warn_of_left_out(made, "recipe")
        return made

    def _holds_in_words(self) -> list[str]:
        return [hold.text for hold in self.holds.active]

    def save_recipe(self, path: str | os.PathLike[str]) -> None:
        """Write `recipe()` to a file; a half-written one never replaces a good one."""
        target = path_to_write(path, "save_recipe")
        with replacing(target, "save_recipe") as file:
            file.write(recipes.text_of(self.recipe()).encode())

    def to_python(self) -> str:
        """Source text that defines `apply(model)`: the applied entries as plain PyTorch."""
        return recipes.script_of(self.history, self._holds_in_words())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model's tensors to a safetensors file, with the recipe in its metadata.

        Raises:
            EditRefused: a tensor has no values, or the file cannot be written; an old file stays as it was.
        """
        with self.lock:
            checkpoint.save(self.tree, path_to_write(path, "save"), self.recipe())

    def _values_of(self, other: Any) -> tuple[Mapping[str, Tensor], str]:
        """Tensors by name, and what to call them."""
        if isinstance(other, str) and other in self.offers:
            return self._values_of(self.offers[other])[0], other
        if isinstance(other, str) and other in self.snapshots.labels:
            return self.snapshots.tensors(other), other
        if isinstance(other, Part):
            other = other.model
        if isinstance(other, nn.Module):
            tree = ParameterTree(other)
            tensors = {name: tree.tensor(info.name) for info in tree for name in (info.name, *info.aliases)}
            return tensors, type(other).__name__
        if isinstance(other, Mapping):
            return {name: value for name, value in other.items() if isinstance(value, Tensor)}, "the state dict"
        if isinstance(other, str | os.PathLike) and (os.path.exists(other) or not isinstance(other, str)):
            return checkpoint.load(other), os.path.basename(other)
        if isinstance(other, str):
            self.snapshots.tensors(other)
        raise EditRefused(f"expected a snapshot's label, a model, a state dict or a file, got {type(other).__name__}.")
