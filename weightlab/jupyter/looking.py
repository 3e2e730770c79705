"""What the page asks about one tensor beside its picture: numbers, profiles and cells; and the tables of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weightlab.errors import BadMessage, NoValues
from weightlab.jupyter import describe
from weightlab.jupyter.fields import AXIS, CELLS, EDGES, FLAG, NAME, RANGE, STATISTIC, TEXT, VIEW, WHERE
from weightlab.jupyter.laid_out import profile_bytes
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.targets import shown_cells, target_region
from weightlab.lab import Lab
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.see import colours
from weightlab.see.bar import bar
from weightlab.see.numbers import texts

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

_EXACT_UP_TO = 1 << 28


def hello(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    return {**describe.model(session.lab), "state": describe.state(session.lab)}


def summary_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    # Past that a pass takes over a second, in which nothing else is answered: the sample stays, and says so.
    exact = info.numel <= _EXACT_UP_TO
    return {"name": info.name, "summary": describe.summary(shown(session.lab, fields), exact=exact)}


def bar_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """The histogram on the range that is looked at."""
    info = session.lab.tree[fields["name"]]
    low, high = fields["range"]
    seen = bar(shown(session.lab, fields), fields["edges"], low, high, size=fields.get("size", False))
    counts = {"counts": list(seen.counts), "above": seen.above, "below": seen.below, "exact": seen.exact}
    return {"name": info.name, "bar": {**counts, "sampled": seen.sampled}}


def profile_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    tensor = shown(session.lab, fields)
    axis, stat = fields["axis"], fields["stat"]
    made.append(profile_bytes(session.lab, info, tensor, axis, stat))
    return {"name": info.name, "axis": axis, "stat": stat}


def read_cells(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    tensor = shown(session.lab, fields)
    flat = [flat_index(cell, info.shape, info.title) for cell in fields["cells"]]
    region = Region.of_cells(info.shape, torch.tensor(flat, dtype=torch.int64), info.title)
    return {"name": info.name, "texts": texts(storage.read(tensor, region))}


def region_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    region = Region.parse(fields["text"], info.shape, info.title)
    if "where" in fields:
        region = target_region(session.lab, info, {"region": fields["text"], "where": fields["where"]}, ())
        made.append(shown_cells(region))
    axes = region.axes if region.is_box else [(start, stop, 1) for start, stop in region.bounds]
    return {
        "name": info.name,
        "region": {"text": str(region), "numel": region.numel, "axes": [list(a) for a in axes]},
    }


def extent_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    low, high = session.lab.extremes()
    return {"low": low, "high": high}


def colour_tables(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    made.append(b"".join(colours.table(name) for name in colours.MAPS))
    return {"maps": [{"name": name, "kind": kind} for name, kind in colours.MAPS.items()]}


def shown(lab: Lab, fields: Json) -> torch.Tensor:
    """The tensor behind the view that is asked for, if it has values to look at."""
    readable(lab, fields["name"])
    return lab.view(fields["name"], fields.get("view", "value"))


def flat_index(cell: Sequence[int], shape: Sequence[int], title: str) -> int:
    """Row-major number of a cell.

    Raises:
        BadMessage: there is no such cell.
    """
    if len(cell) != len(shape) or any(not 0 <= i < n for i, n in zip(cell, shape, strict=True)):
        raise BadMessage(f"{title}: there is no cell {list(cell)}. Give one index per axis, inside the shape.")
    at = 0
    for index, size in zip(cell, shape, strict=True):
        at = at * size + index
    return at


def readable(lab: Lab, name: str) -> None:
    """Whether there are values to look at.

    Raises:
        NoValues: there are none.
    """
    reason = storage.why_not_readable(lab.tree.tensor(name), alone=True)
    if reason:
        raise NoValues(f"{lab.tree[name].title}: {reason}")


_VIEW = {"view": VIEW}

OPERATIONS: Mapping[str, Operation] = {
    "hello": Operation(hello, {}, reads=True),
    "summary": Operation(summary_of, {"name": NAME}, _VIEW, reads=True),
    "bar": Operation(bar_of, {"name": NAME, "edges": EDGES, "range": RANGE}, {**_VIEW, "size": FLAG}, reads=True),
    "profile": Operation(profile_of, {"name": NAME, "axis": AXIS, "stat": STATISTIC}, _VIEW, reads=True),
    "read": Operation(read_cells, {"name": NAME, "cells": CELLS}, _VIEW, reads=True),
    "region": Operation(region_of, {"name": NAME, "text": TEXT}, {"where": WHERE}, reads=True),
    "extent": Operation(extent_of, {}, reads=True),
    "colours": Operation(colour_tables, {}),
}
