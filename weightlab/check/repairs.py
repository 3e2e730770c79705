"""Which repair each finding gets: the Edits for it, with sizes from the model's own scheme."""

from __future__ import annotations

import math
import zlib
from typing import Any

from torch import Tensor

from weightlab.check.evidence import units_text
from weightlab.check.expected import Layer, Scheme
from weightlab.check.repair import Repair
from weightlab.edit.operations import Edit
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree


def seed_of(name: str) -> int:
    """A seed of its own for each tensor, or part of one, the same each time.

    Layers of one shape must not be drawn alike, nor units of one layer that are repaired one after another.
    """
    return zlib.crc32(name.encode())


def region_of(tree: ParameterTree, name: str, mask: Tensor | None, axis: int = 0) -> Region:
    """The region of these units of a tensor; all of it without a mask."""
    whole = Region.whole(tree[name].shape)
    if mask is None or bool(mask.all()):
        return whole
    at = mask.nonzero().flatten()
    first, last = (int(at[0]), int(at[-1])) if len(at) else (0, 0)
    # A range reads better than its indices, in the history and in the script.
    units: Any = slice(first, last + 1) if last - first + 1 == len(at) else at
    return whole.index((*[slice(None)] * axis, units), name)


def draw(name: str, region: Region, size: float) -> Edit:
    """Normal numbers of this standard deviation."""
    return Edit(name, region, "normal_", {"mean": 0.0, "std": size, "seed": seed_of(f"{name}{region}")})


def redraw(tree: ParameterTree, layer: Layer, scheme: Scheme, mask: Tensor | None, why: str) -> Repair | None:
    """Draw a weight, or the units of the mask, from N(0, s^2) with the s that the model's scheme or He's rule says."""
    if not tree[layer.name].editable:
        return None
    size = scheme.fresh_size(layer)
    if mask is None and layer.axis == 0 and layer.blocks == 1:
        # Orthogonal rows keep all directions alike (Saxe et al. 2014); a tall matrix shares its gain among more outputs.
        rows, columns = layer.shape[0], math.prod(layer.shape[1:])
        gain = size * math.sqrt(max(rows, columns))
        edit = Edit(
            layer.name,
            Region.whole(layer.shape),
            "init_",
            {"method": "orthogonal_", "gain": gain, "seed": seed_of(layer.name)},
        )
        return Repair(f"{why}: {layer.name} orthogonal, with root mean square {size:.3g}.", (edit,))
    region = region_of(tree, layer.name, mask, layer.axis or 0)
    place = layer.name if region.is_whole or mask is None else f"{units_text(mask, 'unit')} of {layer.name}"
    return Repair(f"{why}: {place} from N(0, {size:.3g}²).", (draw(layer.name, region, size),))


def rescale(tree: ParameterTree, layers: list[tuple[Layer, float]]) -> Repair | None:
    """Multiply weights so that each gets the given size; their pattern stays."""
    held = [
        (layer, size) for layer, size in layers if tree[layer.name].editable and tree[layer.name].kind == "parameter"
    ]
    if not held or any(not layer.direct for layer, _ in held):
        return None
    edits = []
    for layer, size in held:
        region = Region.whole(layer.shape)
        factor = size / layer.size
        edits.append(
            Edit(layer.name, region, "mul_", {"value": factor})
            if 1e-30 < factor < 1e30
            else draw(layer.name, region, size)
        )
    said = ", ".join(f"{layer.name} × {size / layer.size:.3g}" for layer, size in held[:3])
    more = f" and {len(held) - 3} more" if len(held) > 3 else ""
    return Repair(f"Rescale to the healthy size: {said}{more}.", tuple(edits))


def fill(tree: ParameterTree, name: str, mask: Tensor | None, value: float, text: str) -> Repair:
    """Set the cells of a vector to one value."""
    return Repair(text, (Edit(name, region_of(tree, name, mask), "fill_", {"value": value}),))


def not_finite(tree: ParameterTree, name: str, size: float) -> Repair | None:
    """Draw the cells of a tensor that are NaN or infinite anew; in vectors and buffers set them to a neutral value."""
    if not tree[name].editable:
        return None
    value = tree.tensor(name).detach()
    mask = ~value.isfinite()
    region = Region.of_cells(tuple(value.shape), mask.flatten().nonzero().flatten().cpu())
    count = int(mask.sum())
    if value.ndim >= 2:
        return Repair(f"Draw {count} cells of {name} from N(0, {size:.3g}²).", (draw(name, region, size),))
    neutral = 1.0 if name.endswith(("running_var", "weight")) else 0.0
    return Repair(f"Set {count} cells of {name} to {neutral:g}.", (Edit(name, region, "fill_", {"value": neutral}),))
