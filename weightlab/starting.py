"""Two other ways to a Lab: over a file, and over a model to which a recipe is applied."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from weightlab.edit import recipe as recipes
from weightlab.files import checkpoint
from weightlab.lab import Lab


def replay(recipe: str | os.PathLike[str] | Mapping[str, Any], model: nn.Module) -> Lab:
    """Apply a recipe to a model, all of it or nothing; the entries are in the history of the returned Lab.

    Raises:
        EditRefused: the recipe is damaged or does not fit this model; no byte was changed.
    """
    lab = Lab(model)
    read = recipes.read(recipe)
    strokes = recipes.strokes_of(read, lab.tree)
    recipes.warn_of_left_out(read, "replay")
    try:
        for text, edits in strokes:
            lab.apply(edits, text)
    except BaseException:
        while lab.undo():
            pass
        raise
    return lab


def open(path: str | os.PathLike[str]) -> Lab:
    """A Lab over the tensors of a safetensors file or a sharded index: see, edit, save.

    Raises:
        WeightLabError: the file cannot be read.
    """
    return Lab(checkpoint.Checkpoint(checkpoint.load(path)))
