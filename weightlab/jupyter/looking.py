"""What the page asks to see one tensor: its layout, numbers, tiles, profiles and cells, and the tables of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weightlab.errors import BadMessage, NoValues
from weightlab.jupyter import describe
from weightlab.jupyter.fields import AXIS, CELLS, ENCODING, LAYOUT, NAME, PLANES, STATISTIC, TEXT, TILES, VIEW, WHERE
from weightlab.jupyter.laid_out import layout_asked, profile_bytes
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.targets import target_region
from weightlab.jupyter.wire import LIMIT, USUAL, encode_tile
from weightlab.lab import Lab
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.see import colours
from weightlab.see.groups import following_norm
from weightlab.see.numbers import texts

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

_SAMPLE_ABOVE = 1 << 20
_EXACT_UP_TO = 1 << 28


def hello(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    return {**describe.model(session.lab), "state": describe.state(session.lab)}


def open_tensor(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    tensor = shown(session.lab, fields)
    layout = layout_asked(session.lab, fields)
    if layout.orders:
        made.append(b"".join(order.indices.to(torch.int32).numpy().tobytes() for order in layout.orders))
    return {
        "name": info.name,
        "layout": describe.layout(layout, following_norm(info, session.lab.tree.modules)),
        "summary": describe.summary(tensor, exact=info.numel <= _SAMPLE_ABOVE),
        "cell_bytes": tensor.element_size(),
        "exact_text": describe.exact_text(tensor.dtype),
        **describe.views(session.lab, info.name, fields.get("view", "value")),
    }


def summary_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    # Past that a pass takes over a second, in which nothing else is answered: the sample stays, and says so.
    exact = info.numel <= _EXACT_UP_TO
    return {"name": info.name, "summary": describe.summary(shown(session.lab, fields), exact=exact)}


def tiles(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    _readable(session.lab, info.name)
    pyramid = session.lab.pyramid(info.name, fields.get("view", "value"), layout_asked(session.lab, fields))
    heads: list[Json] = []
    parts: list[bytes] = []
    left: list[list[int]] = []
    size = 0
    encoding, planes = fields["encoding"], tuple(fields.get("planes", USUAL))
    for at in fields["tiles"]:

        def encoded(at: tuple[int, int, int, int] = tuple(at)) -> tuple[Json, bytes]:
            return encode_tile(pyramid.tile(at, session.lab.revision), encoding, 0, planes)

        try:
            head, data = pyramid.kept((tuple(at), encoding, planes), encoded)
        except IndexError as error:
            raise BadMessage(f"{info.title}: {error}. Ask for tiles of the sheet.") from error
        head = {**head, "offset": size}
        if size + len(data) > LIMIT and parts:
            left.append(at)
            continue
        heads.append(head)
        parts.append(data)
        size += len(data)
    made.append(b"".join(parts))
    return {"name": info.name, "tiles": heads, "left": left}


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
    _readable(lab, fields["name"])
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


def _readable(lab: Lab, name: str) -> None:
    reason = storage.why_not_readable(lab.tree.tensor(name), alone=True)
    if reason:
        raise NoValues(f"{lab.tree[name].title}: {reason}")


_VIEW = {"view": VIEW}
_LAID = {**_VIEW, "layout": LAYOUT}
_TILED = {**_LAID, "planes": PLANES}

OPERATIONS: Mapping[str, Operation] = {
    "hello": Operation(hello, {}, reads=True),
    "open": Operation(open_tensor, {"name": NAME}, _LAID, reads=True),
    "summary": Operation(summary_of, {"name": NAME}, _VIEW, reads=True),
    "tiles": Operation(tiles, {"name": NAME, "tiles": TILES, "encoding": ENCODING}, _TILED, reads=True),
    "profile": Operation(profile_of, {"name": NAME, "axis": AXIS, "stat": STATISTIC}, _VIEW, reads=True),
    "read": Operation(read_cells, {"name": NAME, "cells": CELLS}, _VIEW, reads=True),
    "region": Operation(region_of, {"name": NAME, "text": TEXT}, {"where": WHERE}, reads=True),
    "extent": Operation(extent_of, {}, reads=True),
    "colours": Operation(colour_tables, {}),
}
