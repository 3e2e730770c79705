"""What a message may be: every field is checked before anything is done (rule P2)."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from weightlab.errors import BadMessage
from weightlab.see.find import WHATS
from weightlab.see.numbers import parse_number
from weightlab.see.profiles import ORDERS

VERSION = 1
REQUEST_LIMIT = 512 * 1024
_LARGEST = sys.float_info.max

# What a field may be: a sentence for the error, and a test.
Check = tuple[str, Callable[[Any], bool]]


def is_whole(value: Any) -> bool:
    """An int that is no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 100
    # Compared, not `isfinite`: that raises for an int past the largest float, which JSON may hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _plain(value: Any) -> bool:
    return _number(value) and not isinstance(value, str)


def _maybe(value: Any) -> bool:
    return value is None or _number(value)


def _identity(value: Any) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= 64) or is_whole(value)


def _list(low: int, high: int, item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and low <= len(value) <= high and all(map(item, value))


def _text(longest: int, shortest: int = 0) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and shortest <= len(value) <= longest


_label = _text(100, 1)


def _one_of(*texts: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in texts


# Arguments of each edit that the page may send; all of them must be there.
EDITS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "zero_": {},
    "fill_": {"value": _number},
    "add_": {"value": _number},
    "sub_": {"value": _number},
    "mul_": {"value": _number},
    "div_": {"value": _number},
    "copy_": {"values": _list(1, 1 << 16, _number)},
    "lerp_": {"source": _label, "weight": _number},
    "clamp_": {"min": _maybe, "max": _maybe},
    "neg_": {},
    "abs_": {},
    "round_": {},
    "sign_": {},
    "normal_": {"mean": _number, "std": _number, "seed": _maybe},
    "uniform_": {"a": _number, "b": _number, "seed": _maybe},
    "init_": {"method": lambda v: isinstance(v, str) and len(v) <= 40},
    "permute_": {"axis": _number, "order": _list(1, 1 << 16, _number)},
    "prune_": {"amount": _number, "by": _one_of("magnitude", "random")},
    "quantize_": {"bits": _number},
    "requires_grad_": {"flag": lambda v: isinstance(v, bool)},
}
# Values may come from a snapshot or an offered model instead: of which tensor, and of which part of it.
_SOURCE: dict[str, Callable[[Any], bool]] = {"source": _label}
_OF_SOURCE: dict[str, Callable[[Any], bool]] = {"tensor": _text(500), "part": _text(2000)}
_SEED: dict[str, Callable[[Any], bool]] = {"seed": _maybe}
_INIT: dict[str, Callable[[Any], bool]] = {
    "mode": _one_of("fan_in", "fan_out"),
    "nonlinearity": lambda v: isinstance(v, str) and len(v) <= 40,
    **dict.fromkeys(("gain", "mean", "std", "a", "b", "val", "groups", "sparsity"), _number),
}
_AXIS_OF: dict[str, Callable[[Any], bool]] = {"axis": _number}
_MAY_HAVE: dict[str, dict[str, Callable[[Any], bool]]] = {
    "init_": {**_SEED, **_INIT},
    "prune_": {**_SEED, **_AXIS_OF},
    "quantize_": _AXIS_OF,
    "lerp_": _OF_SOURCE,
}
_WHERE = ("below", "above", "smallest", "largest", "nan", "zero", "between", "size_between")


def _where(value: Any) -> bool:
    if not isinstance(value, dict) or not {"kind", "value"} <= set(value) <= {"kind", "value", "view"}:
        return False
    if not _one_of(*_WHERE)(value["kind"]) or not VIEW[1](value.get("view", "")):
        return False
    return (_list(2, 2, _number) if "between" in value["kind"] else _maybe)(value["value"])


NAME: Check = ("a text of at most 500 characters", _text(500))
TEXT: Check = ("a text of at most 20000 characters", _text(20_000))
LABEL: Check = ("a text of 1 to 100 characters", _label)
VIEW: Check = ("a text of at most 120 characters", _text(120))
FLAG: Check = ("true or false", lambda v: isinstance(v, bool))
TILES: Check = (
    "1 to 64 lists of two levels from 0 to 62 and two whole numbers from 0 to 2**40",
    _list(1, 64, lambda v: _list(4, 4, lambda n: is_whole(n) and 0 <= n <= 2**40)(v) and max(v[:2]) <= 62),
)
AXIS: Check = ("an axis from 0 to 31", lambda v: is_whole(v) and 0 <= v < 32)
STATISTIC: Check = (
    "'norm', 'mean', 'zeros', 'largest', 'scale' or 'shift'",
    _one_of("norm", "mean", "zeros", "largest", "scale", "shift"),
)
_AXES = _list(0, 32, AXIS[1])
_LAYOUT: dict[str, Callable[[Any], bool]] = {
    "rows": _AXES,
    "columns": _AXES,
    "facets": _AXES,
    "fixed": _list(0, 32, lambda v: _list(2, 2, is_whole)(v) and AXIS[1](v[0])),
    "sort": _list(0, 32, lambda v: isinstance(v, list) and len(v) == 2 and AXIS[1](v[0]) and _one_of(*ORDERS)(v[1])),
    "orders": _list(0, 32, lambda v: isinstance(v, str) and len(v) <= 40),
}
LAYOUT: Check = (
    "an object of axes: 'rows', 'columns', 'facets', and 'fixed', 'sort' and 'orders' as docs/protocol.md says",
    lambda v: isinstance(v, dict) and all(key in _LAYOUT and _LAYOUT[key](item) for key, item in v.items()),
)
EDGES: Check = (
    "2 to 129 ascending numbers",
    lambda v: _list(2, 129, _plain)(v) and all(one < next_ for one, next_ in itertools.pairwise(v)),
)
RANGE: Check = ("two numbers, the lower one first", lambda v: _list(2, 2, _plain)(v) and v[0] <= v[1])
CELLS: Check = ("1 to 256 lists of at most 32 whole numbers", _list(1, 256, _list(0, 32, is_whole)))
INDEX: Check = ("a list of at most 32 whole numbers", _list(0, 32, is_whole))
NAMES: Check = ("1 to 256 texts of at most 500 characters", _list(1, 256, NAME[1]))
MANY: Check = ("1 to 2048 texts of at most 500 characters", _list(1, 2048, NAME[1]))
FIND: Check = (f"one of {', '.join(WHATS)}", _one_of(*WHATS))
FORM: Check = ("'tsv' or 'torch'", _one_of("tsv", "torch"))
NUMBER_TEXT: Check = ("a number, or a text of at most 100 characters", _number)
PLANES: Check = (
    "1 to 5 different ones of 'mean', 'min', 'max', 'rms' and 'extreme'",
    lambda v: _list(1, 5, _one_of("mean", "min", "max", "rms", "extreme"))(v) and len(set(v)) == len(v),
)
SCREEN: Check = (
    "an object with 'rows' and 'columns' (pixels from 1 to 100,000), and 'planes' (optional)",
    lambda v: (
        isinstance(v, dict)
        and {"rows", "columns"} <= v.keys() <= {"rows", "columns", "planes"}
        and all(is_whole(v[key]) and 1 <= v[key] <= 100_000 for key in ("rows", "columns"))
        and PLANES[1](v.get("planes", ["mean"]))
    ),
)
ENCODING: Check = ("'q8' or 'f32'", _one_of("q8", "f32"))
EDIT: Check = (f"one of {', '.join(EDITS)}", _one_of(*EDITS))
ARGS: Check = ("an object of arguments", lambda v: isinstance(v, dict))
TRUE: Check = ("true", lambda v: v is True)
_FINDING = {"kind": _text(40), "name": _text(500), "at": _text(500), "text": _text(4000)}
FINDING: Check = (
    "an object of the texts 'kind', 'name', 'at' and 'text' of a finding",
    lambda v: isinstance(v, dict) and set(v) == set(_FINDING) and all(fits(v[key]) for key, fits in _FINDING.items()),
)
WHERE: Check = (
    f"an object with 'kind' (one of {', '.join(_WHERE)}), 'value' (a number, null, or two numbers between which), and 'view'",
    _where,
)
# Which cells: a region, or listed cells in a buffer; a condition picks among those of a region.
TARGET = {"region": TEXT, "cells": TRUE, "where": WHERE}
MOMENTS: Check = ("'keep' or 'zero'", _one_of("keep", "zero"))
HOLD: Check = ("'keep', 'clamp' or 'sign'", _one_of("keep", "clamp", "sign"))
BOUND: Check = ("a number, or null", _maybe)
WEIGHT: Check = ("a number", _number)
NUMBER: Check = ("a whole number from 0", lambda v: is_whole(v) and v >= 0)
REQUEST: Check = ("the id of a request: a text of 1 to 64 characters", _identity)
EXPORT: Check = ("'python' or 'recipe'", _one_of("python", "recipe"))
FILE: Check = (
    "a file name without folders, of 1 to 100 characters",
    lambda v: isinstance(v, str) and 0 < len(v) <= 100 and not set(v) & set("/\\:\0") and v.strip(". ") != "",
)


def check_message(message: Any, operations: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Operation and fields of a message.

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
    if not _identity(identity):
        raise BadMessage("message: 'id' must be a text of 1 to 64 characters.")
    op = message.get("op")
    if not isinstance(op, str) or op not in operations:
        raise BadMessage(f"message: there is no operation {op!r:.60}. Known: {', '.join(operations)}.")
    return op, {key: value for key, value in message.items() if key not in ("v", "id", "op")}


def check_fields(
    op: str,
    fields: Mapping[str, Any],
    required: Mapping[str, Check],
    optional: Mapping[str, Check],
    buffers: Sequence[Any],
) -> None:
    """Fields of an operation: all that are required, none that are unknown, each of its kind.

    Raises:
        BadMessage: one is not.
    """
    known = {**required, **optional}
    for key in fields:
        if key not in known:
            raise BadMessage(f"{op}: unknown field {key!r:.60}. Expected: {', '.join(known) or 'none'}.")
    for key, (expected, fits) in known.items():
        if key in fields and not fits(fields[key]):
            raise BadMessage(f"{op}: '{key}' must be {expected}, got {fields[key]!r:.60}.")
        if key in required and key not in fields:
            raise BadMessage(f"{op}: the field '{key}' is missing: {expected}.")
    if not all(isinstance(buffer, bytes | bytearray | memoryview) for buffer in buffers):
        raise BadMessage(f"{op}: buffers must be bytes.")
    size = sum(memoryview(buffer).nbytes for buffer in buffers) + len(repr(fields))
    if size > REQUEST_LIMIT:
        raise BadMessage(f"{op}: {size} bytes are too many; at most {REQUEST_LIMIT} are taken. Send less at a time.")
    if "cells" in optional:
        _check_target(op, fields, buffers)
    elif buffers:
        raise BadMessage(f"{op}: it takes no buffers, got {len(buffers)}.")
    if "edit" in required:
        _check_arguments(op, fields["edit"], fields["args"])


def _check_target(op: str, fields: Mapping[str, Any], buffers: Sequence[Any]) -> None:
    if ("region" in fields) == ("cells" in fields):
        raise BadMessage(f"{op}: give either 'region' as text, or 'cells': true with one buffer.")
    if "where" in fields and "cells" in fields:
        raise BadMessage(f"{op}: 'where' picks cells of a region. Give a region.")
    if len(buffers) != ("cells" in fields):
        raise BadMessage(f"{op}: expected {int('cells' in fields)} buffers, got {len(buffers)}.")
    if "cells" in fields and (not memoryview(buffers[0]).nbytes or memoryview(buffers[0]).nbytes % 8):
        raise BadMessage(f"{op}: the buffer of cells must hold float64 numbers of 8 bytes each.")


def _check_arguments(op: str, edit: str, args: Mapping[str, Any]) -> None:
    given = edit == "copy_" and "source" in args
    allowed = _SOURCE if given else EDITS[edit]
    also = _OF_SOURCE if given else _MAY_HAVE.get(edit, {})
    if not set(allowed) <= set(args) <= set(allowed) | set(also):
        raise BadMessage(f"{op}: {edit} takes {', '.join(allowed) or 'no arguments'}, got {', '.join(args) or 'none'}.")
    for key, fits in {**allowed, **also}.items():
        if key in args and not fits(args[key]):
            raise BadMessage(f"{op}: '{key}' of {edit} cannot be {args[key]!r:.60}.")


def arguments_of(args: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Arguments of an edit, with the user's texts read as numbers.

    Raises:
        EditRefused: a text is no number.
    """
    made: dict[str, Any] = {}
    for key, value in args.items():
        if key in ("method", "mode", "nonlinearity", "by", "flag", "source", "tensor", "part") or value is None:
            made[key] = value
        elif isinstance(value, list):
            made[key] = [parse_number(item, title) for item in value]
        else:
            made[key] = parse_number(value, title)
    return made
