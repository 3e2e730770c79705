"""safetensors files: save a model's tensors, read them by name.

The format holds every tensor once: tied names are left out and listed in the metadata as alias -> name, which is what
`safetensors.torch.load_model` expects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from weightlab.errors import EditRefused, WeightLabError
from weightlab.files.writing import write
from weightlab.model import dtypes
from weightlab.model.storage import whole, why_not_readable
from weightlab.model.tree import ParameterTree


def save(tree: ParameterTree, path: str | os.PathLike[str], recipe: Mapping[str, Any] | None = None) -> Path:
    """Write all parameters and persistent buffers; a half-written file never replaces a good one.

    Raises:
        EditRefused: a tensor has no values, or the file cannot be written.
        Cancelled: the file that was there is as it was.
    """
    target = Path(path)
    names = set(tree.model.state_dict(keep_vars=True))
    names = {name.replace("_orig_mod.", "") for name in names}
    tensors: dict[str, Tensor] = {}
    metadata = {"format": "pt"}
    for info in tree:
        if info.kind == "computed" or not names & {info.name, *info.aliases}:
            continue
        tensor = tree.tensor(info.name)
        reason = why_not_readable(tensor)
        if reason:
            raise EditRefused(f"{info.title}: it cannot be saved: {reason}")
        tensors[info.name] = whole(tensor)
        for alias in info.aliases:
            metadata[alias] = info.name
    if recipe is not None:
        metadata["weightlab_recipe"] = json.dumps(recipe, allow_nan=False)
    write(tensors, target, metadata)
    return target


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors of a safetensors file or of a sharded index (`*.safetensors.index.json`), by name, tied names included.

    Raises:
        WeightLabError: the file is missing or damaged.
    """
    if not isinstance(path, str | os.PathLike):
        raise WeightLabError(f"open: the path must be a str or a Path, got {type(path).__name__}. Name a file.")
    source = Path(path)
    try:
        if source.name.endswith(".json"):
            files = [source.parent / name for name in _shards(json.loads(source.read_text(encoding="utf-8")))]
        else:
            files = [source]
        tensors: dict[str, Tensor] = {}
        for file in files:
            with safe_open(str(file), framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    tensors[name] = opened.get_tensor(name)
                for alias, name in (opened.metadata() or {}).items():
                    if name in tensors and alias not in tensors:
                        tensors[alias] = tensors[name]
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise WeightLabError(
            f"open: {source} cannot be read as safetensors: {error}. "
            "Give a .safetensors file, or the .safetensors.index.json of its parts; what torch.save wrote goes by torch.load."
        ) from error
    return tensors


def _shards(index: Any) -> list[str]:
    """The files that an index names, each once."""
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError("an index must hold 'weight_map', an object of file names by tensor")
    return list(dict.fromkeys(files.values()))


class Checkpoint(nn.Module):
    """The tensors of a file as a tree of modules, with the names that they have there; it has no forward."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        made: dict[int, nn.Parameter] = {}
        for name, tensor in tensors.items():
            try:
                self._hold(name, tensor, made)
            except KeyError as error:  # torch's modules keep their tensors as attributes
                raise WeightLabError(
                    f"open: {name!r} {list(tensor.shape)} cannot be the name of a tensor in a torch module: "
                    f"{error.args[0]}. Rename it in the file."
                ) from error

    def _hold(self, name: str, tensor: Tensor, made: dict[int, nn.Parameter]) -> None:
        *path, local = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if tensor.is_floating_point() or tensor.is_complex():
            key = id(tensor)
            made.setdefault(key, nn.Parameter(tensor, requires_grad=dtypes.wide(tensor.dtype) is tensor.dtype))
            module.register_parameter(local, made[key])
        else:
            module.register_buffer(local, tensor)

    def forward(self) -> Tensor:
        """A file holds weights and no computation."""
        raise EditRefused(
            "this Lab is over a file: it holds weights, but no model to run. Load them into your model to check."
        )
