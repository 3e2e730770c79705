"""The journal as a recipe: strict JSON that replays to the same bytes, and a plain PyTorch script.

{"format": "weightlab-recipe", "version": 1, "model": "ResNet",
"tensors": {"fc.weight": {"shape": [10, 5], "dtype": "float32"}},
"entries": [{"text": "Zero fc.weight[3]", "edits": [{"name": ..., "region": "[3]", "op": "zero_", "args": {}}]}]}
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weightlab.edit.entry import CellPatch, Entry
from weightlab.edit.operations import OPERATIONS, Edit
from weightlab.errors import EditRefused
from weightlab.model.tree import ParameterTree, one_line

FORMAT, VERSION = "weightlab-recipe", 1


def recipe_of(entries: Sequence[Entry], tree: ParameterTree, holds: Sequence[str] = ()) -> dict[str, Any]:
    """What the entries asked for, with every seed and every value that cannot be computed again.

    Args:
        holds: those in force, in words: no Edit says them either.
    """
    left_out = [patch.left_out for entry in entries for patch in entry.patches if patch.left_out]
    left_out += [f"{hold}: a hold is made on a Lab." for hold in holds]
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": type(tree.model).__name__,
        "tensors": _tensors_of(entries),
        "entries": [
            {"text": entry.text, "edits": [edit.to_json() for edit in entry.edits]} for entry in entries if entry.edits
        ],
        **({"left_out": left_out} if left_out else {}),
    }


def _tensors_of(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Shape and dtype of each edited tensor as they were at its first edit: the model may have lost it, or another by now."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        dtypes = {patch.name: patch.dtype for patch in entry.patches if isinstance(patch, CellPatch)}
        for edit in entry.edits:
            told = found.setdefault(edit.name, {"shape": list(edit.region.shape)})
            if edit.name in dtypes:  # freezing depends on none
                told.setdefault("dtype", str(dtypes[edit.name]).removeprefix("torch."))
    return found


def warn_of_left_out(recipe: Mapping[str, Any], where: str) -> None:
    """A change of structure or a hold is no Edit: a recipe tells that it lacks it, to who writes it and to who replays it."""
    left = recipe.get("left_out")
    if isinstance(left, list) and left:
        warnings.warn(
            f"{where}: it leaves out {len(left)} of the changes, which are no edits of cells: "
            f"{' '.join(one_line(str(text)[:200]) for text in left[:3])} lab.to_python() tells all of them.",
            stacklevel=3,
        )


def read(source: str | os.PathLike[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe from a file or a dict, with its frame checked.

    Raises:
        EditRefused: it is no recipe, or of a newer version.
    """
    origin = "the mapping" if isinstance(source, Mapping) else str(source)[:200]
    if isinstance(source, Mapping):
        made: Any = source
    else:
        try:
            made = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise EditRefused(f"recipe: {origin} cannot be read: {error}. Give what lab.save_recipe wrote.") from error
    if not isinstance(made, Mapping):
        raise EditRefused(
            f"recipe: {origin} holds a {type(made).__name__}, expected an object. Give what lab.save_recipe wrote."
        )
    if made.get("format") != FORMAT:
        raise EditRefused(
            f"recipe: {origin} is no recipe of WeightLab: expected 'format' {FORMAT!r}, got {str(made.get('format'))[:50]!r}. "
            "Give what lab.recipe() returned."
        )
    if made.get("version") != VERSION:
        raise EditRefused(f"recipe: version {VERSION} is understood, got {made.get('version')!r}. Update WeightLab.")
    return made


def strokes_of(recipe: Mapping[str, Any], tree: ParameterTree) -> list[tuple[str, list[Edit]]]:
    """The recipe's entries as Edits for this model.

    Raises:
        EditRefused: names, shapes or dtypes that do not fit, all of them named; nothing was changed.
    """
    entries = recipe.get("entries")
    if not isinstance(entries, list):
        raise EditRefused("recipe: 'entries' must be a list. The file is damaged.")
    strokes: list[tuple[str, list[Edit]]] = []
    problems = _misfits(recipe.get("tensors"), tree)
    for entry in () if problems else entries:
        items = entry.get("edits") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(items, list):
            raise EditRefused("recipe: an entry must hold a list of edits. The file is damaged; nothing was changed.")
        edits = []
        for item in items:
            name = item.get("name") if isinstance(item, Mapping) else None
            if not isinstance(name, str) or name not in tree:
                problems.append(f"{name}: the model has no such tensor")
                continue
            edit = Edit.from_json(item, tree[name].shape, tree[name].title)
            if not isinstance(edit.op, str) or edit.op not in OPERATIONS:
                problems.append(f"{name}: there is no operation {edit.op!r}")
            edits.append(edit)
        strokes.append((str(entry.get("text", "")), edits))
    if problems:
        raise _does_not_fit(problems, recipe.get("left_out"))
    return strokes


def _misfits(tensors: object, tree: ParameterTree) -> list[str]:
    """What of the recipe's tensors this model lacks, or has otherwise.

    Another dtype too: it rounds otherwise, and a recipe gives the same bytes or says that it cannot.
    """
    if not isinstance(tensors, Mapping):
        return []
    problems = []
    for name, wanted in tensors.items():
        shape, dtype = (wanted.get("shape"), wanted.get("dtype")) if isinstance(wanted, Mapping) else (None, None)
        if name not in tree:
            problems.append(f"{name}: the model has no such tensor")
            continue
        info = tree[name]
        has = str(info.dtype).removeprefix("torch.")
        if shape is not None and list(info.shape) != shape:
            problems.append(f"{name}: the recipe is for shape {shape}, the model has {list(info.shape)}")
        elif dtype is not None and dtype != has:
            problems.append(f"{name}: the recipe is for {str(dtype)[:40]}, the model has {has}")
        elif not info.editable:
            problems.append(f"{name}: {info.reason.rstrip('.')}")
    return problems


def _does_not_fit(problems: list[str], left_out: object) -> EditRefused:
    different = list(dict.fromkeys(problems))
    shown = "; ".join(different[:8])
    if len(different) > 8:
        shown += f"; and {len(different) - 8} more"
    if isinstance(left_out, list) and left_out:
        shown += f". The recipe leaves out: {' '.join(str(text)[:200] for text in left_out[:3])} Do that first"
    return EditRefused(f"recipe: it does not fit this model: {shown}. Nothing was changed.")


def script_of(entries: Sequence[Entry], holds: Sequence[str] = ()) -> str:
    """Python source that defines `apply(model)`: plain PyTorch, without WeightLab. Holds are comments: they belong to a loop."""
    lines = ["import torch", "", "", "def apply(model):", '    """Apply the edits, in order, in place."""']
    for entry in entries:
        code = entry.code
        if code:
            lines.append(f"    # {one_line(entry.text)}")
            lines += [f"    {line}" for line in code.split("\n")]
    lines += [f"    # Not done here, since it takes an optimizer's steps: {one_line(hold)}" for hold in holds]
    lines.append("    return model")
    return "\n".join(lines) + "\n"


def text_of(recipe: Mapping[str, Any]) -> str:
    """A recipe as it stands in a file."""
    return json.dumps(recipe, allow_nan=False, indent=1)
