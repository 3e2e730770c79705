"""Units of a layer that are alike, so that training cannot tell them apart.

Two units with the same incoming weights compute the same thing. Where they are also used alike they get the same
gradient and stay equal for ever (Goodfellow et al. 2016, "Deep Learning", section 8.4); where they are used differently their
gradients are still parallel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from weightlab.check.evidence import Evidence, Severity, region_text, units_text
from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.repairs import redraw
from weightlab.check.sizes import Gradient
from weightlab.model.tree import ParameterTree

# Rows whose difference is below this share of their size are taken to be alike; so few cells that this could happen by chance
# are not looked at: with u units and k cells each, about u^2 / 2 pairs agree with probability (ALIKE)^k.
ALIKE = 1e-4
CHANCE = 1e-3


def symmetry(
    tree: ParameterTree, layers: list[Layer], scheme: Scheme, evidence: Evidence | None, gradients: dict[str, Gradient]
) -> list[Finding]:
    """`symmetric_units` where all units of a weight are alike, `duplicate_units` where some are."""
    found = []
    for layer in layers:
        if not layer.trained or layer.axis is None or not layer.direct:
            continue
        value = tree.tensor(layer.name).detach()
        if layer.size == 0:
            finding = _all_zero(tree, layer, scheme, evidence, gradients)
        else:
            finding = _alike(tree, layer, scheme, value)
        if finding is not None:
            found.append(finding)
    return found


def _alike(tree: ParameterTree, layer: Layer, scheme: Scheme, value: Tensor) -> Finding | None:
    assert layer.axis is not None
    rows = value.movedim(layer.axis, 0).flatten(1).to(torch.float64 if value.device.type != "mps" else torch.float32)
    units, cells = rows.shape
    blocks = layer.blocks if units % layer.blocks == 0 else 1
    size = units // blocks
    eps = 4 * torch.finfo(value.dtype).eps
    if size < 2:
        return None
    # Of few cells in a row less must agree by chance: rows have to be closer, down to what rounding tells apart.
    alike = max(min(ALIKE, (CHANCE / (size**2 / 2 * blocks)) ** (1 / cells)), eps)
    # Cells of one magnitude, as Adam's first step away from zeros leaves them, differ by their signs alone.
    part_of_one = 0.5 if _have_one_magnitude(rows) else alike
    by_chance = size**2 / 2 * part_of_one**cells * blocks > CHANCE  # of a pair; that all units agree is no chance
    copies = torch.zeros(units, dtype=torch.bool)
    whole = 0
    for block in range(blocks):
        part = rows[block * size : (block + 1) * size]
        if not bool(part.isfinite().all()):
            continue
        same = _copies(part, alike)
        copies[block * size : (block + 1) * size] = same
        whole += int(same.sum()) == size - 1 and bool(part.any())
    if not bool(copies.any()) or (by_chance and whole < blocks):
        return None
    word = "channel" if len(layer.shape) > 2 else "unit"
    if whole == blocks:
        text = f"{layer.name}: all {units} {word}s have the same incoming weights, so they all compute the same."
        seen: tuple[str, ...] = (f"all {units} rows of {cells} cells agree to {alike:.0e} of their size",)
        title = f"all {word}s of {layer.name} are alike"
        repair = redraw(tree, layer, scheme, None, "Break the symmetry")
        return Finding("symmetric_units", layer.name, (layer.name,), "error", text, seen, repair, title, layer.name)
    count = int(copies.sum())
    text = (
        f"{layer.name}: {units_text(copies, word)} repeat{'s' if count == 1 else ''} another {word}'s incoming weights."
    )
    seen = (f"{count} of {units} rows agree with an earlier one to {alike:.0e} of their size",)
    title = f"{count} of {units} {word}s are copies"
    repair = redraw(tree, layer, scheme, copies, "Draw the copies anew")
    region = region_text(copies, layer.axis)
    # Units of the output learn what their targets say: alike where those are, as classes that never occur.
    severity: Severity = "info" if layer.ops and layer.roles == {"loss"} else "warning"
    return Finding(
        "duplicate_units", layer.name, (layer.name,), severity, text, seen, repair, title, layer.name, region
    )


def _have_one_magnitude(rows: Tensor) -> bool:
    sizes = rows.abs()
    return bool((sizes[sizes > 0] > sizes.max() / 2).all())


def _copies(rows: Tensor, alike: float) -> Tensor:
    """Which rows repeat an earlier one, bool [units]. Zero rows repeat nothing: nothing of theirs can be told apart.

    Rows are sorted by a random projection, in which equal ones are neighbours.
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64).to(rows)
    place = rows @ direction
    order = place.argsort(stable=True)
    ordered = rows[order]
    size = torch.linalg.vector_norm(ordered, dim=1)
    apart = torch.linalg.vector_norm(ordered[1:] - ordered[:-1], dim=1)
    same = (apart <= alike * size[1:]) & (size[1:] > 0)
    copies = torch.zeros(rows.shape[0], dtype=torch.bool)
    # Of a run of equal rows the first in the model's order stays.
    group = torch.cat([torch.zeros(1, dtype=torch.long), (~same.cpu()).cumsum(0)])
    first = torch.full((int(group[-1]) + 1,), rows.shape[0])
    order = order.cpu()
    first.scatter_reduce_(0, group, order, "amin")
    copies[order] = order != first[group]
    return copies


def _all_zero(
    tree: ParameterTree, layer: Layer, scheme: Scheme, evidence: Evidence | None, gradients: dict[str, Gradient]
) -> Finding | None:
    """A zero weight leaves zero by its gradient; if that is the same for all units they leave it together."""
    gradient = gradients.get(layer.name)
    if evidence is None or gradient is None or layer.roles <= {"loss"} or gradient.axis != layer.axis:
        return None
    per_unit = gradient.largest.double().cpu()
    top = float(per_unit.max()) if per_unit.numel() > 1 else 0.0
    if top == 0 or not math.isfinite(top) or float(per_unit.max() - per_unit.min()) > ALIKE * top:
        return None
    text = f"{layer.name}: it is zero, and all {per_unit.numel()} units get the same gradient, so they stay alike."
    seen = ("all rows are zero", f"largest |gradient| of each row is the same, {top:.3g}")
    repair = redraw(tree, layer, scheme, None, "Break the symmetry")
    title = f"all units of {layer.name} are alike"
    return Finding("symmetric_units", layer.name, (layer.name,), "error", text, seen, repair, title, layer.name)
