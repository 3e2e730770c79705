"""Which holds can be kept together: what is refused when one is made, and when an edit moves what is held (section 9a).

Cells that a tie makes equal share their bounds, kept values and signs: each cell has a range of values that all holds on
it and on its equals allow, and a hold that would leave it none is refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.overlap import flat_cells, meet, positions
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.train.bounds import inwards
from weightlab.train.hold import KINDS, Constraint

Range = tuple[Tensor, Tensor]  # lowest and highest value per cell, float64 on the CPU


def sound(tree: ParameterTree, new: Constraint) -> None:
    """Refuse what is no hold, or none for this tensor.

    Raises:
        EditRefused: a field of a wrong type, an unknown kind, cells that are not there, a bad bound or source.
    """
    if not isinstance(new, Constraint):
        raise EditRefused(
            f"hold: expected a Constraint, got {type(new).__name__}. Give lab['name'].hold(), for example."
        )
    info = tree[new.name]
    new.name = info.name
    tensor = tree.tensor(new.name)
    if new.active:
        raise EditRefused(f"{info.title}: '{new.text}' is in force already. Make another hold, or release this one.")
    if not isinstance(new.kind, str) or new.kind not in KINDS:
        raise EditRefused(f"{info.title}: there is no hold of kind {new.kind!r:.40}. Known: {', '.join(KINDS)}.")
    _fits(new.region, tuple(tensor.shape), info.title)
    if not info.editable or info.kind == "computed":
        raise EditRefused(f"{info.title}: {info.reason}")
    if new.region.numel == 0:
        raise EditRefused(f"{info.title}: there is no cell in {new.region} to hold. Name at least one.")
    given = {
        "clamp": new.min is not None or new.max is not None,
        "tie": new.source is not None,
        "rule": new.rule is not None,
    }
    needs = {"clamp": "a min or a max", "tie": "a source: the name and region of other cells", "rule": "a rule"}
    for kind, there in given.items():
        if there != (new.kind == kind):
            raise EditRefused(
                f"{info.title}: a hold of kind {kind!r} has {needs[kind]}, and no other has. Give both or none."
            )
    if new.rule is not None and not callable(new.rule):
        raise EditRefused(f"{info.title}: a rule is a function of the cells, got {type(new.rule).__name__}.")
    if new.kind in ("clamp", "sign") and (tensor.is_complex() or tensor.dtype is torch.bool):
        raise EditRefused(f"{info.title}: {tensor.dtype} has no order, so that it cannot be held to bounds or a sign.")
    if new.kind == "clamp":
        _bounded(new, info.title, tensor.dtype)
    if new.kind == "tie":
        _source_fits(tree, new, info.title, tensor)


def _bounded(new: Constraint, title: str, dtype: torch.dtype) -> None:
    """Check both bounds, and round them inwards to what the dtype holds."""
    new.min, new.max = (bound.item() if isinstance(bound, np.generic) else bound for bound in (new.min, new.max))
    for bound in (new.min, new.max):
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or bound != bound):
            raise EditRefused(f"{title}: a bound must be a number, got {bound!r:.60}.")
        if bound is not None and sys.float_info.max < abs(bound) < math.inf:
            raise EditRefused(f"{title}: a bound must be a number up to 1e308. Leave it out to hold no bound.")
    if new.min is not None and new.max is not None and new.min > new.max:
        raise EditRefused(
            f"{title}: the minimum must not be above the maximum, got {new.min} and {new.max}. Swap them."
        )
    asked = new.min, new.max
    new.min, new.max = inwards(new.min, new.max, dtype, title)
    moved = [f"{got:.9g} for {bound:g}" for bound, got in zip(asked, (new.min, new.max), strict=True) if got != bound]
    if moved:
        name = str(dtype).removeprefix("torch.")
        new.note = f"the bounds are rounded inwards to what {name} holds: {' and '.join(moved)}"


def _fits(region: object, shape: tuple[int, ...], title: str) -> None:
    if not isinstance(region, Region) or region.shape != shape:
        got = f"one for {list(region.shape)}" if isinstance(region, Region) else type(region).__name__
        raise EditRefused(
            f"{title}: a hold needs a Region of shape {list(shape)}, got {got}. Index the tensor as it is now."
        )


def _source_fits(tree: ParameterTree, new: Constraint, title: str, tensor: Tensor) -> None:
    if not isinstance(new.source, tuple) or len(new.source) != 2:
        raise EditRefused(f"{title}: the source of a tie is a name and a Region, got {type(new.source).__name__}.")
    name, region = new.source
    other = tree[name]
    _fits(region, other.shape, other.title)
    new.source = (other.name, region)
    if not other.editable or other.kind == "computed":
        raise EditRefused(f"{title}: it cannot follow {other.title}: {other.reason}")
    if region.view_shape != new.region.view_shape:
        raise EditRefused(
            f"{title}: a tie needs two regions of one shape, got {list(new.region.view_shape)} and "
            f"{list(region.view_shape)}. Index the larger one."
        )
    if not torch.can_cast(tree.tensor(other.name).dtype, tensor.dtype):
        raise EditRefused(f"{title}: {tensor.dtype} cannot follow {other.dtype}. Tie tensors of one dtype.")


def agree(tree: ParameterTree, held: Sequence[Constraint], new: Constraint) -> None:
    """Refuse a hold that cannot be kept together with those in force.

    Raises:
        EditRefused: a kept cell outside a bound, holds that exclude each other, ties in a circle or two on one cell.
    """
    title = tree[new.name].title
    if new.kind == "tie":
        _no_circle(held, new, title)
    for other in held:
        if other.name != new.name or not meet(other.region, new.region):
            continue
        kinds = {other.kind: other, new.kind: new}
        if not kinds.keys() <= {"keep", "clamp", "sign"}:
            continue
        if set(kinds) == {"clamp"} and not _apart(new, other):
            continue  # bounds are alike for all cells
        region = min(new.region, other.region, key=lambda region: region.numel)
        low, high = _joined(_own(tree, new, region), _own(tree, other, region))
        bad = int((low > high).sum())
        if not bad:
            continue
        if set(kinds) == {"keep", "clamp"}:
            raise EditRefused(
                f"{title}: {bad} kept cells lie outside the bounds of '{kinds['clamp'].text}'. "
                f"Clamp them first, or hold other cells."
            )
        if set(kinds) != {"keep"}:  # of two keeps the later one wins
            what = "these bounds and those of" if set(kinds) == {"clamp"} else "this hold and"
            raise EditRefused(f"{title}: {what} '{other.text}' exclude each other. Release that hold first.")
    if not any(other.kind == "tie" for other in (*held, new)):
        return
    low, high = _range(tree, (*held, new), new.name, new.region)
    bad = int((low > high).sum())
    if bad:
        raise EditRefused(
            f"{title}: {bad} cells and those that they are held equal to have holds that exclude each other. "
            f"Release those first, or copy the cells."
        )


def _apart(one: Constraint, other: Constraint) -> bool:
    """Whether the bounds of two clamps have no value in common."""
    low = max((c.min for c in (one, other) if c.min is not None), default=-math.inf)
    high = min((c.max for c in (one, other) if c.max is not None), default=math.inf)
    return low > high


def _no_circle(held: Sequence[Constraint], new: Constraint, title: str) -> None:
    for other in held:
        if other.kind == "tie" and other.name == new.name and meet(other.region, new.region):
            raise EditRefused(
                f"{title}: '{other.text}' has some of these cells follow others already. Release it first."
            )
    reached = [new]
    for tie in reached:  # grows: all ties that this one follows
        assert tie.source is not None
        name, region = tie.source
        if name == new.name and meet(region, new.region):
            raise EditRefused(f"{title}: some of these cells would follow themselves. Tie them to other cells.")
        reached += [
            t for t in held if t.kind == "tie" and t.name == name and meet(t.region, region) and t not in reached
        ]


def refuse_moved(tree: ParameterTree, held: Sequence[Constraint], name: str, region: Region) -> None:
    """Refuse an edit that has moved kept cells outside their bounds: a keep follows the user, bounds do not.

    Raises:
        EditRefused: it has; the caller takes the edit back.
    """
    clamps = [c for c in held if c.kind in ("clamp", "tie")]
    if all(c.kind == "tie" for c in clamps):
        return
    for keep in held:
        if (
            keep.kind not in ("keep", "sign")
            or keep.name != name
            or tree[name].dtype.is_complex
            or not meet(keep.region, region)
        ):
            continue
        flat = flat_cells(keep.region)[positions(keep.region, region) >= 0]
        both = Region.of_cells(region.shape, flat)
        low, high = _range(tree, clamps, name, both)
        values = _double(storage.read(tree.tensor(name), both))
        if keep.kind == "sign":  # any value of the new sign will do
            least, most = torch.where(values < 0, -math.inf, 0.0), torch.where(values > 0, math.inf, 0.0)
        else:
            least = most = values
        bad = int(((most < low) | (least > high)).sum())
        if bad:
            texts = ", ".join(f"'{c.text}'" for c in clamps if c.kind == "clamp")
            raise EditRefused(
                f"{tree[name].title}: {bad} cells of '{keep.text}' would lie outside of what they are held to by {texts}. "
                f"Give values inside, or release a hold. Nothing was changed."
            )


def _range(
    tree: ParameterTree, held: Iterable[Constraint], name: str, region: Region, path: tuple[Constraint, ...] = ()
) -> Range:
    """What the holds on these cells and on all that ties make equal to them allow."""
    found = _all(region)
    held = tuple(held)
    for hold in held:
        if hold.kind != "tie" and hold.name == name and meet(hold.region, region):
            found = _joined(found, _own(tree, hold, region))
    for tie in held:
        if tie.kind != "tie" or tie in path:
            continue
        assert tie.source is not None
        sides = ((tie.name, tie.region), tie.source)
        for (here, cells), (there, equals) in (sides, sides[::-1]):
            if here != name or not meet(cells, region):
                continue
            at = positions(region, cells)
            chosen = at >= 0
            flat = flat_cells(equals).flatten()[at[chosen]]
            low, high = _range(tree, held, there, Region.of_cells(equals.shape, flat), (*path, tie))
            found[0][chosen] = torch.maximum(found[0][chosen], low)
            found[1][chosen] = torch.minimum(found[1][chosen], high)
    return found


def _own(tree: ParameterTree, hold: Constraint, region: Region) -> Range:
    """What one hold alone allows on the cells of a region; ties and rules allow anything."""
    low, high = _all(region)
    at = positions(region, hold.region)
    chosen = at >= 0
    if hold.kind == "clamp":
        dtype = tree.tensor(hold.name).dtype
        low[chosen], high[chosen] = _stored(hold.min, dtype, -math.inf), _stored(hold.max, dtype, math.inf)
    elif hold.kind in ("keep", "sign") and hold.kept is not None and not hold.kept.is_complex():
        values = _double(hold.kept).flatten()[at[chosen]]
        if hold.kind == "keep":  # NaN passes bounds, as it passes clamp_
            low[chosen], high[chosen] = (
                values.nan_to_num(-math.inf, math.inf, -math.inf),
                values.nan_to_num(math.inf, math.inf, -math.inf),
            )
        else:
            low[chosen] = torch.where(values < 0, -math.inf, 0.0).double()
            high[chosen] = torch.where(values > 0, math.inf, 0.0).double()
    return low, high


def _all(region: Region) -> Range:
    low = torch.full(region.view_shape, -math.inf, dtype=torch.float64, device="cpu")
    return low, -low


def _joined(one: Range, other: Range) -> Range:
    return torch.maximum(one[0], other[0]), torch.minimum(one[1], other[1])


def _double(cells: Tensor) -> Tensor:
    return cells.detach().cpu().double()


def _stored(bound: float | None, dtype: torch.dtype, default: float) -> float:
    """A bound as a clamp stores it: 0.1 in half precision is not 0.1."""
    if bound is None or not dtype.is_floating_point:
        return default if bound is None else float(bound)
    kept = float(torch.tensor(bound, dtype=torch.float64, device="cpu").to(dtype))
    return kept if math.isfinite(kept) else float(bound)
