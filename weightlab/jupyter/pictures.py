"""What the page asks to show one tensor: how it lies on the sheet, and tiles of its picture.

`open` says how, and brings the tiles of the first screen along: asked for one after the other, a click would wait for two
answers, and the way of a message takes longer than the work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weightlab.errors import BadMessage
from weightlab.jupyter import describe
from weightlab.jupyter.fields import ENCODING, LAYOUT, NAME, PLANES, SCREEN, TILES, VIEW
from weightlab.jupyter.laid_out import layout_asked
from weightlab.jupyter.looking import readable, shown
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.wire import LIMIT, USUAL, encode_tile
from weightlab.see.groups import following_norm
from weightlab.see.layout import Layout
from weightlab.see.tiles import TILE, At, Pyramid

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

_SAMPLE_ABOVE = 1 << 20
_AT_ONCE = (
    1 << 25
)  # cells: the pictures of larger tensors are asked for by themselves, with progress and a way to cancel
# The page's rules for its first view (js/src/heatmap/viewport.ts). Where they differ by a gap between blocks, it asks again.
_FIT_CELL = 48
_EXACT_CELL = 6
_THINNEST = 1 / 8
_MOST = 64  # tiles of one request


def open_tensor(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Layout, statistics (of a large tensor from a sample) and views; one buffer of the orders, then the tiles."""
    lab = session.lab
    info = lab.tree[fields["name"]]
    tensor = shown(lab, fields)
    layout = layout_asked(lab, fields)
    orders = b"".join(order.indices.to(torch.int32).numpy().tobytes() for order in layout.orders)
    heads: list[Json] = []
    parts = [orders]
    ends = None
    if "screen" in fields and info.numel <= _AT_ONCE:
        screen = fields["screen"]
        tiles, encoding = first_screen(layout, screen["rows"], screen["columns"])
        planes = tuple(screen.get("planes", USUAL))
        pyramid = lab.pyramid(info.name, fields.get("view", "value"), layout)
        heads, data, _ = _encoded(pyramid, lab.revision, tiles, encoding, planes, len(orders))
        parts += data
        ends = pyramid.extremes()
    if heads or orders:
        made.append(b"".join(parts))
    return {
        "name": info.name,
        "layout": describe.layout(layout, following_norm(info, lab.tree.modules)),
        "summary": describe.summary(tensor, exact=info.numel <= _SAMPLE_ABOVE, ends=ends),
        "cell_bytes": tensor.element_size(),
        # The page knows the dtype of the tensor itself: the text of other cells, such as a difference, is the kernel's.
        "exact_text": describe.exact_text(tensor.dtype) and tensor.dtype == lab.tree.tensor(info.name).dtype,
        "tiles": heads,
        **describe.views(lab, info.name, fields.get("view", "value")),
    }


def tiles(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """As many of the tiles as a reply holds."""
    lab = session.lab
    info = lab.tree[fields["name"]]
    readable(lab, info.name)
    pyramid = lab.pyramid(info.name, fields.get("view", "value"), layout_asked(lab, fields))
    planes = tuple(fields.get("planes", USUAL))
    wanted = [(at[0], at[1], at[2], at[3]) for at in fields["tiles"]]
    try:
        heads, parts, left = _encoded(pyramid, lab.revision, wanted, fields["encoding"], planes)
    except IndexError as error:
        raise BadMessage(f"{info.title}: {error}. Ask for tiles of the sheet.") from error
    made.append(b"".join(parts))
    return {"name": info.name, "tiles": heads, "left": [list(at) for at in left]}


def _encoded(
    pyramid: Pyramid, revision: int, wanted: Sequence[At], encoding: str, planes: tuple[str, ...], begin: int = 0
) -> tuple[list[Json], list[bytes], list[At]]:
    """Heads and bytes of tiles, from byte `begin` on, and those that found no room."""
    known = {at: pyramid.kept((at, encoding, planes)) for at in wanted}
    room, size = 0, begin
    for at in wanted:
        size += TILE * TILE * (len(planes) if any(at[:2]) else 1) * (4 if encoding == "f32" else 1)
        if size > LIMIT and room:
            break
        room += 1
    missing = [at for at in wanted[:room] if known[at] is None]
    for tile in pyramid.tiles(missing, revision):
        known[tile.at] = made = encode_tile(tile, encoding, planes)
        pyramid.keep((tile.at, encoding, planes), made)
    heads: list[Json] = []
    parts: list[bytes] = []
    end = begin
    for at in wanted[:room]:
        head, data = known[at] or ({}, b"")
        heads.append({**head, "offset": end})
        parts.append(data)
        end += len(data)
    return heads, parts, list(wanted[room:])


def first_screen(layout: Layout, rows: int, columns: int) -> tuple[list[At], str]:
    """Tiles, and their encoding, that show the whole sheet in a room of `rows` x `columns` pixels.

    Square cells, unless the sheet would be thinner than an eighth of the room; per axis the finest level that has at most one
    bin for a pixel.
    """
    sheet, room = layout.sheet, (rows, columns)
    if not all(sheet):
        return [], "q8"
    own = [min(_FIT_CELL, pixels / size) for pixels, size in zip(room, sheet, strict=True)]
    square = min(own)
    scales = [
        scale if square * size < pixels * _THINNEST else square
        for scale, size, pixels in zip(own, sheet, room, strict=True)
    ]
    levels = [
        min(max(0, math.ceil(math.log2(1 / scale) - 1e-6)), math.ceil(math.log2(size)))
        for scale, size in zip(scales, sheet, strict=True)
    ]
    exact = levels == [0, 0] and max(scales) >= _EXACT_CELL
    down, across = (-(-size // (TILE << level)) for size, level in zip(sheet, levels, strict=True))
    tiles = [(levels[0], levels[1], r, c) for r in range(down) for c in range(across)]
    return tiles[:_MOST], "f32" if exact else "q8"


_LAID = {"view": VIEW, "layout": LAYOUT}

OPERATIONS: Mapping[str, Operation] = {
    "open": Operation(open_tensor, {"name": NAME}, {**_LAID, "screen": SCREEN}, reads=True),
    "tiles": Operation(
        tiles, {"name": NAME, "tiles": TILES, "encoding": ENCODING}, {**_LAID, "planes": PLANES}, reads=True
    ),
}
