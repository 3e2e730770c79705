"""message -> Lab call -> reply: the kernel's side of docs/protocol.md, without a word about transport.

`Session.handle` answers every message with exactly one reply, whatever happens (rule P1). Every field is checked
before anything is done; nothing from the wire is evaluated or used as an attribute name (rule P2).
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from weightlab.edit.entry import Entry
from weightlab.edit.operations import Edit
from weightlab.errors import BadMessage, ProbeFailed, WeightLabError
from weightlab.jupyter import describe
from weightlab.jupyter.wire import LIMIT, encode_tile
from weightlab.lab import Lab
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.see.numbers import parse_number, texts

VERSION = 1
REQUEST_LIMIT = 512 * 1024
_SAMPLE_ABOVE = 1 << 20

Reply = dict[str, Any]
Buffers = list[bytes]


class Session:
    """Answers the messages of one page about one Lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def handle(self, message: Any, buffers: Sequence[Any] = ()) -> tuple[Reply, Buffers]:
        """One reply for one message, on any thread.

        Args:
            message: the JSON content, of any shape.
            buffers: binary parts, as bytes or memoryviews.

        Returns:
            The reply and its buffers; errors are replies too.
        """
        identity = message.get("id") if isinstance(message, Mapping) else None
        known = (isinstance(identity, str) and len(identity) <= 64) or isinstance(identity, int)
        head: Reply = {"v": VERSION, "id": identity if known else None}
        made: Buffers = []
        try:
            operation, fields = _checked(message, buffers)
            with self.lab.lock:
                body = operation.run(self, fields, buffers, made)
            reply = {**head, "ok": True, **body}
        except WeightLabError as error:
            made.clear()
            reply = {**head, "ok": False, "error": {"kind": type(error).__name__, "message": str(error)}}
        except Exception as error:
            made.clear()
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}. This is a bug in WeightLab; the model was left as it was."
            reply = {**head, "ok": False, "error": {"kind": "InternalError", "message": text}}
        reply["revision"] = self.lab.revision
        return reply, made

    def hello(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return {**describe.model(self.lab), "state": describe.state(self.lab)}

    def refresh(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        self.lab.refresh()
        return self.hello(fields, buffers, made)

    def open(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        tensor = self.lab.tree.tensor(info.name)
        return {
            "name": info.name,
            "layout": describe.layout(self.lab.pyramid(info.name).layout),
            "summary": describe.summary(_readable(self.lab, info.name), exact=info.numel <= _SAMPLE_ABOVE),
            "cell_bytes": tensor.element_size(),
            "exact_text": describe.exact_text(info.dtype),
        }

    def summary(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        return {"name": info.name, "summary": describe.summary(_readable(self.lab, info.name), exact=True)}

    def tiles(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        _readable(self.lab, info.name)
        pyramid = self.lab.pyramid(info.name)
        heads: list[Reply] = []
        parts: list[bytes] = []
        left: list[list[int]] = []
        size = 0
        for at in fields["tiles"]:
            try:
                head, data = encode_tile(pyramid.tile(tuple(at), self.lab.revision), fields["encoding"], size)
            except IndexError as error:
                raise BadMessage(f"{info.title}: {error}. Ask for tiles of the sheet.") from error
            if size + len(data) > LIMIT and parts:
                left.append(at)
                continue
            heads.append(head)
            parts.append(data)
            size += len(data)
        made.append(b"".join(parts))
        return {"name": info.name, "tiles": heads, "left": left}

    def read(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        tensor = _readable(self.lab, info.name)
        flat = []
        for cell in fields["cells"]:
            if len(cell) != len(info.shape) or any(not 0 <= i < n for i, n in zip(cell, info.shape, strict=True)):
                raise BadMessage(f"{info.title}: there is no cell {cell}. Give one index per axis, inside the shape.")
            number = 0
            for index, size in zip(cell, info.shape, strict=True):
                number = number * size + index
            flat.append(number)
        region = Region.of_cells(info.shape, torch.tensor(flat, dtype=torch.int64), info.title)
        return {"name": info.name, "texts": texts(storage.read(tensor, region))}

    def region(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        region = Region.parse(fields["text"], info.shape, info.title)
        axes = region.axes if region.is_box else [(start, stop, 1) for start, stop in region.bounds]
        return {
            "name": info.name,
            "region": {"text": str(region), "numel": region.numel, "axes": [list(a) for a in axes]},
        }

    def edit(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        if "cells" in fields:
            flat = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float64)
            if not bool((flat == flat.trunc()).all()):
                raise BadMessage(f"{info.title}: cell indices must be whole numbers.")
            region = Region.of_cells(info.shape, flat.to(torch.int64).unique(), info.title)
        else:
            region = Region.parse(fields["region"], info.shape, info.title)
        args = _arguments(fields["edit"], fields["args"], info.title)
        # The page asks for the check itself, once it has drawn what the edit did.
        return self._after(self.lab.apply(Edit(info.name, region, fields["edit"], args), check=False))

    def undo(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return self._after(self.lab.undo(fields.get("force", False), check=False))

    def redo(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return self._after(self.lab.redo(fields.get("force", False), check=False))

    def check(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        try:
            self.lab.check_gradients()
        except ProbeFailed:
            pass  # a failed check is a state of the gradient panel, not of the request: describe.state carries it
        return {"state": describe.state(self.lab)}

    def set(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        self.lab.auto_check = fields["auto_check"]
        return {"state": describe.state(self.lab)}

    def _after(self, entry: Entry | None) -> Reply:
        return {"entry": None if entry is None else describe.entry(entry), "state": describe.state(self.lab)}


def _readable(lab: Lab, name: str) -> torch.Tensor:
    """The live tensor, if it has values to look at."""
    tensor = lab.tree.tensor(name)
    reason = storage.why_not_readable(tensor)
    if reason:
        raise WeightLabError(f"{lab.tree[name].title}: {reason}")
    return tensor.detach()


def _arguments(op: str, args: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Arguments of an edit, with the user's texts read as numbers; which are known is the operation's business."""
    made: dict[str, Any] = {}
    for key, value in args.items():
        if key == "method" or value is None:
            made[key] = value
        elif isinstance(value, list):
            made[key] = [parse_number(item, title) for item in value]
        else:
            made[key] = parse_number(value, title)
    return made


# What a field may be: a sentence for the error, and a test.
Check = tuple[str, Callable[[Any], bool]]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 100
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list(low: int, high: int, item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(item, value))


_EDITS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "zero_": {},
    "fill_": {"value": _number},
    "copy_": {"values": _list(1, 1 << 16, _number)},
    "clamp_": {"min": lambda v: v is None or _number(v), "max": lambda v: v is None or _number(v)},
    "mul_": {"value": _number},
    "init_": {"method": lambda v: isinstance(v, str) and len(v) <= 40},
}

_NAME: Check = ("a text of at most 500 characters", lambda v: isinstance(v, str) and len(v) <= 500)
_TEXT: Check = ("a text of at most 2000 characters", lambda v: isinstance(v, str) and len(v) <= 2000)
_FLAG: Check = ("true or false", lambda v: isinstance(v, bool))
_TILES: Check = (
    "1 to 64 lists of four whole numbers from 0 to 2**40",
    _list(1, 64, _list(4, 4, lambda v: _whole(v) and 0 <= v <= 2**40)),
)
_CELLS: Check = ("1 to 256 lists of at most 32 whole numbers", _list(1, 256, _list(0, 32, _whole)))
_ENCODING: Check = ("'q8' or 'f32'", lambda v: isinstance(v, str) and v in ("q8", "f32"))
_EDIT: Check = (f"one of {', '.join(_EDITS)}", lambda v: isinstance(v, str) and v in _EDITS)
_ARGS: Check = ("an object of arguments", lambda v: isinstance(v, dict))
_TRUE: Check = ("true", lambda v: v is True)


@dataclass(frozen=True, slots=True)
class _Operation:
    run: Callable[[Session, Reply, Sequence[Any], Buffers], Reply]
    required: Mapping[str, Check]
    optional: Mapping[str, Check]


_OPERATIONS: dict[str, _Operation] = {
    "hello": _Operation(Session.hello, {}, {}),
    "refresh": _Operation(Session.refresh, {}, {}),
    "open": _Operation(Session.open, {"name": _NAME}, {}),
    "summary": _Operation(Session.summary, {"name": _NAME}, {}),
    "tiles": _Operation(Session.tiles, {"name": _NAME, "tiles": _TILES, "encoding": _ENCODING}, {}),
    "read": _Operation(Session.read, {"name": _NAME, "cells": _CELLS}, {}),
    "region": _Operation(Session.region, {"name": _NAME, "text": _TEXT}, {}),
    "edit": _Operation(Session.edit, {"name": _NAME, "edit": _EDIT, "args": _ARGS}, {"region": _TEXT, "cells": _TRUE}),
    "undo": _Operation(Session.undo, {}, {"force": _FLAG}),
    "redo": _Operation(Session.redo, {}, {"force": _FLAG}),
    "check": _Operation(Session.check, {}, {}),
    "set": _Operation(Session.set, {"auto_check": _FLAG}, {}),
}


def _checked(message: Any, buffers: Sequence[Any]) -> tuple[_Operation, Reply]:
    """The operation of a message and its fields.

    Raises:
        BadMessage: anything that docs/protocol.md does not say.
    """
    if not isinstance(message, Mapping):
        raise BadMessage(f"message: expected an object, got {type(message).__name__}.")
    if message.get("v") != VERSION or isinstance(message.get("v"), bool):
        raise BadMessage(
            f"message: protocol version {VERSION} is spoken here, got {message.get('v')!r:.40}. Reload the page."
        )
    identity = message.get("id")
    if not ((isinstance(identity, str) and 0 < len(identity) <= 64) or _whole(identity)):
        raise BadMessage("message: 'id' must be a text of 1 to 64 characters.")
    op = message.get("op")
    operation = _OPERATIONS.get(op) if isinstance(op, str) else None
    if operation is None:
        raise BadMessage(f"message: there is no operation {op!r:.60}. Known: {', '.join(_OPERATIONS)}.")
    fields = {key: value for key, value in message.items() if key not in ("v", "id", "op")}
    known = {**operation.required, **operation.optional}
    for key in fields:
        if key not in known:
            raise BadMessage(f"{op}: unknown field {key!r:.60}. Expected: {', '.join(known) or 'none'}.")
    for key, (expected, fits) in known.items():
        if key in fields and not fits(fields[key]):
            raise BadMessage(f"{op}: '{key}' must be {expected}, got {fields[key]!r:.60}.")
        if key in operation.required and key not in fields:
            raise BadMessage(f"{op}: the field '{key}' is missing: {expected}.")
    size = sum(memoryview(buffer).nbytes for buffer in buffers) + len(repr(fields))
    if size > REQUEST_LIMIT:
        raise BadMessage(f"{op}: {size} bytes are too many; at most {REQUEST_LIMIT} are taken. Send less at a time.")
    if op == "edit":
        _check_edit(fields, buffers)
    elif buffers:
        raise BadMessage(f"{op}: it takes no buffers, got {len(buffers)}.")
    return operation, fields


def _check_edit(fields: Reply, buffers: Sequence[Any]) -> None:
    if ("region" in fields) == ("cells" in fields):
        raise BadMessage("edit: give either 'region' as text, or 'cells': true with one buffer.")
    if len(buffers) != ("cells" in fields):
        raise BadMessage(f"edit: expected {int('cells' in fields)} buffers, got {len(buffers)}.")
    if "cells" in fields and memoryview(buffers[0]).nbytes % 8:
        raise BadMessage("edit: the buffer of cells must hold float64 numbers of 8 bytes each.")
    allowed = _EDITS[fields["edit"]]
    if set(fields["args"]) != set(allowed):
        raise BadMessage(
            f"edit: {fields['edit']} takes {', '.join(allowed) or 'no arguments'}, got {', '.join(fields['args']) or 'none'}."
        )
    for key, fits in allowed.items():
        if not fits(fields["args"][key]):
            raise BadMessage(f"edit: '{key}' of {fields['edit']} cannot be {fields['args'][key]!r:.60}.")
