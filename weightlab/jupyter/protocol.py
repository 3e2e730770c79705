"""message -> Lab call -> reply: the kernel's side of docs/protocol.md, without a word about transport.

`Session.handle` answers every message with exactly one reply, whatever happens (rule P1). Every field is checked
before anything is done; nothing from the wire is evaluated or used as an attribute name (rule P2).
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from weightlab.edit.entry import Entry
from weightlab.edit.linked import linked_edits, norm_behind
from weightlab.edit.operations import Edit
from weightlab.edit.snapshots import compare
from weightlab.edit.transfer import plan
from weightlab.errors import BadMessage, EditRefused, NoValues, ProbeFailed, WeightLabError
from weightlab.jupyter import describe, overview
from weightlab.jupyter.built import built
from weightlab.jupyter.fields import (
    ARGS,
    AXIS,
    BOUND,
    CELLS,
    EDIT,
    ENCODING,
    EXPORT,
    FILE,
    FLAG,
    HOLD,
    LABEL,
    LAYOUT,
    MOMENTS,
    NAME,
    NUMBER,
    PLANES,
    REQUEST,
    STATISTIC,
    TEXT,
    TILES,
    TRUE,
    VERSION,
    VIEW,
    WEIGHT,
    WHERE,
    Check,
    arguments_of,
    check_fields,
    check_message,
)  # fmt: skip
from weightlab.jupyter.laid_out import layout_asked, profile_bytes
from weightlab.jupyter.targets import SHOWN_CELLS, preview, target_region, typed_values, values_from
from weightlab.jupyter.wire import LIMIT, USUAL, encode_tile
from weightlab.lab import Lab
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.model.sharded import among_processes
from weightlab.progress import Progress
from weightlab.see import colours
from weightlab.see.groups import following_norm
from weightlab.see.numbers import texts
from weightlab.train.constraints import Constraint

# What a page may ask of a model that is sharded over processes: nothing of it reads cells.
_ALONE = frozenset({"hello", "script", "refresh", "region", "drop", "cancel", "set"})
_SAMPLE_ABOVE = 1 << 20
_EXACT_UP_TO = 1 << 28

Reply = dict[str, Any]
Buffers = list[bytes]


class Session:
    """Answers the messages of one page about one Lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._running: dict[str | int, Progress] = {}  # by the id of the request
        self.spectra = overview.Spectra(lab)

    def handle(
        self, message: Any, buffers: Sequence[Any] = (), push: Callable[[Reply], None] | None = None
    ) -> tuple[Reply, Buffers]:
        """One reply for one message, on any thread.

        Args:
            message: the JSON content, of any shape.
            buffers: binary parts, as bytes or memoryviews.
            push: sends a message without being asked: how far this request is.

        Returns:
            The reply and its buffers; errors are replies too.
        """
        identity = message.get("id") if isinstance(message, Mapping) else None
        known = (isinstance(identity, str) and len(identity) <= 64) or isinstance(identity, int)
        head: Reply = {"v": VERSION, "id": _sendable(identity) if known else None}
        made: Buffers = []
        try:
            op, fields = check_message(message, _OPERATIONS)
            operation = _OPERATIONS[op]
            check_fields(op, fields, operation.required, operation.optional, buffers)
            self._refuse_alone(op, fields)
            # What changes the model takes the lock itself, so that listeners are told without it (rule T2).
            with self._followed(message["id"], push), self.lab.lock if operation.reads else nullcontext():
                body = operation.run(self, fields, buffers, made)
            reply = {**head, "ok": True, **body}
        except WeightLabError as error:
            made.clear()
            reply = {**head, "ok": False, "error": {"kind": type(error).__name__, "message": str(error)}}
        except Exception as error:
            made.clear()
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}. This is a bug in WeightLab: please report it."
            reply = {**head, "ok": False, "error": {"kind": "InternalError", "message": text}}
        reply["revision"] = self.lab.revision
        if "error" in reply:  # a lone surrogate in what was quoted would make the reply unsendable
            reply["error"]["message"] = _sendable(reply["error"]["message"])
        return reply, made

    def _refuse_alone(self, op: str, fields: Reply) -> None:
        """One process of several must not begin what all of them have to do together: it would wait for ever."""
        if op in _ALONE:
            return
        named = [self.lab.tree[fields["name"]]] if "name" in fields else list(self.lab.tree)
        for info in named:
            if info.kind == "parameter" and among_processes(self.lab.tree.held(info)):
                raise EditRefused(
                    f"{info.title}: it is sharded over processes, and this page belongs to one of them. "
                    f"Run the edit as code, on every process."
                )

    @contextmanager
    def _followed(self, request: str | int, push: Callable[[Reply], None] | None) -> Iterator[None]:
        """A request that can be cancelled, and says how far it is."""

        def tell(done: int, total: int, words: str) -> None:
            if push is not None:
                words = _sendable(words)
                push({"v": VERSION, "push": "progress", "id": request, "done": done, "total": total, "words": words})

        progress = Progress(tell)
        self._running[request] = progress
        try:
            with progress.listening():
                yield
        finally:
            if self._running.get(request) is progress:
                del self._running[request]

    def cancel(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        # No lock: what is to be cancelled may hold it.
        progress = self._running.get(fields["request"])
        if progress is not None:
            progress.cancel()
        return {"cancelled": progress is not None}

    def hello(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return {**describe.model(self.lab), "state": describe.state(self.lab)}

    def script(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        made.append(built("extra.js").read_bytes())
        return {"bytes": len(made[0])}

    def refresh(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        self.lab.refresh()
        return self.hello(fields, buffers, made)

    def open(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        tensor = self._shown(fields)
        layout = layout_asked(self.lab, fields)
        if layout.orders:
            made.append(b"".join(order.indices.to(torch.int32).numpy().tobytes() for order in layout.orders))
        return {
            "name": info.name,
            "layout": describe.layout(layout, following_norm(info, self.lab.tree.modules)),
            "summary": describe.summary(tensor, exact=info.numel <= _SAMPLE_ABOVE),
            "cell_bytes": tensor.element_size(),
            "exact_text": describe.exact_text(tensor.dtype),
            **describe.views(self.lab, info.name, fields.get("view", "value")),
        }

    def summary(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        # Past that a pass takes over a second, in which nothing else is answered: the sample stays, and says so.
        exact = info.numel <= _EXACT_UP_TO
        return {"name": info.name, "summary": describe.summary(self._shown(fields), exact=exact)}

    def tiles(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        self._readable(info.name)
        pyramid = self.lab.pyramid(info.name, fields.get("view", "value"), layout_asked(self.lab, fields))
        heads: list[Reply] = []
        parts: list[bytes] = []
        left: list[list[int]] = []
        size = 0
        encoding, planes = fields["encoding"], tuple(fields.get("planes", USUAL))
        for at in fields["tiles"]:

            def encoded(at: tuple[int, int, int, int] = tuple(at)) -> tuple[Reply, bytes]:
                return encode_tile(pyramid.tile(at, self.lab.revision), encoding, 0, planes)

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

    def profile(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        shown = self._shown(fields)
        axis, stat = fields["axis"], fields["stat"]
        made.append(profile_bytes(self.lab, info, shown, axis, stat))
        return {"name": info.name, "axis": axis, "stat": stat}

    def read(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        tensor = self._shown(fields)
        flat = [overview.flat_index(cell, info.shape, info.title) for cell in fields["cells"]]
        region = Region.of_cells(info.shape, torch.tensor(flat, dtype=torch.int64), info.title)
        return {"name": info.name, "texts": texts(storage.read(tensor, region))}

    def region(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        region = Region.parse(fields["text"], info.shape, info.title)
        if "where" in fields:
            region = target_region(self.lab, info, {"region": fields["text"], "where": fields["where"]}, ())
        axes = region.axes if region.is_box else [(start, stop, 1) for start, stop in region.bounds]
        return {
            "name": info.name,
            "region": {"text": str(region), "numel": region.numel, "axes": [list(a) for a in axes]},
        }

    def extent(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        low, high = self.lab.extremes()
        return {"low": low, "high": high}

    def colours(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        made.append(b"".join(colours.table(name) for name in colours.MAPS))
        return {"maps": [{"name": name, "kind": kind} for name, kind in colours.MAPS.items()]}

    def edit(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        edit = self._edit(fields, buffers)
        edits = [edit, *(linked_edits(self.lab.tree, edit) if fields.get("linked") else ())]
        # The page asks for the check itself, once it has drawn what the edit did.
        if len(edits) == 1:
            behind = norm_behind(self.lab.tree, edit) if edit.op == "zero_" else None
            entry = self.lab.apply(edit, moments=fields.get("moments"), check=False)
            return {**self._after(entry), "behind": behind[0] if behind else None}
        text = f"Zero {edit.name}{edit.region} and the norm behind it"
        entry = self.lab.apply(edits, text, moments=fields.get("moments"), check=False)
        return {**self._after(entry), "behind": None}

    def preview(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        edit = self._edit(fields, buffers)
        told, cells = preview(self.lab.tree, edit)
        made.append(cells)
        return {"name": edit.name, "preview": told}

    def hold(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        info = self.lab.tree[fields["name"]]
        region = target_region(self.lab, info, fields, buffers)
        bounds = arguments_of({key: fields.get(key) for key in ("min", "max")}, info.title)
        if (fields["kind"] == "clamp") != any(bound is not None for bound in bounds.values()):
            raise BadMessage("hold: 'min' or 'max' belong to kind 'clamp', and to no other.")
        self.lab.hold(Constraint(info.name, region, fields["kind"], bounds["min"], bounds["max"]))
        return self._after(self.lab.history[-1])

    def release(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        found = [c for c in self.lab.constraints if c.id == fields["hold"]]
        if not found:
            raise BadMessage(f"release: there is no hold {fields['hold']}. It was released already.")
        found[0].release()
        return self._after(self.lab.history[-1])

    def held(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        found = next((c for c in self.lab.constraints if c.id == fields["hold"]), None)
        flat = None if found is None else found.region.cells
        if flat is None:
            raise BadMessage(f"held: hold {fields['hold']} does not list cells. Its axes in the state tell which.")
        shown = flat.flatten()[:SHOWN_CELLS]
        made.append(shown.double().cpu().numpy().tobytes())
        return {"hold": fields["hold"], "truncated": shown.numel() < flat.numel()}

    def jump(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        ids = [0, *(entry.id for entry in self.lab.journal.entries)]
        if fields["entry"] not in ids:
            raise BadMessage(f"jump: there is no entry {fields['entry']} in the history.")
        self.lab.jump(ids.index(fields["entry"]), fields.get("force", False))
        return {"state": describe.state(self.lab)}

    def snapshot(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        self.lab.snapshot(fields["label"])
        return {"state": describe.state(self.lab)}

    def drop(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        if fields["label"] in self.lab.offers:
            self.lab.offer(fields["label"], None)
        else:
            self.lab.snapshots.drop(fields["label"])
        return {"state": describe.state(self.lab)}

    def diff(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return {
            "label": fields["label"],
            **describe.diff(compare(self.lab.tree, self.lab.source(fields["label"]), fields["label"])),
        }

    def restore(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        names = [fields["name"]] if "name" in fields else None
        return self._after(self.lab.restore(fields["label"], names, check=False))

    def transfer(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        label = fields["label"]
        values = self.lab.source(label)
        weight = arguments_of({"weight": fields.get("weight", 1)}, label)["weight"]
        if fields.get("plan"):
            report, done = plan(self.lab.tree, values, weight=weight)[1], self._after(None)
        else:
            report, entry = self.lab.carry_over(label, weight=weight, check=False)
            done = self._after(entry)
        return {"label": label, "rows": describe.transfer(report), **done}

    def export(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        if fields["what"] == "python":
            text = self.lab.to_python()
        else:
            text = json.dumps(self.lab.recipe(), allow_nan=False, indent=1)
        if len(text) > LIMIT:
            raise EditRefused(
                f"export: {len(text):,} characters are too many for the page. Call lab.to_python() or lab.save_recipe(path)."
            )
        return {"text": text}

    def save(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        name = fields["file"] if fields["file"].endswith(".safetensors") else f"{fields['file']}.safetensors"
        self.lab.save(name)
        return {"file": name, "bytes": os.path.getsize(name)}

    def undo(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return self._after(self.lab.undo(fields.get("force", False), check=False))

    def redo(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        return self._after(self.lab.redo(fields.get("force", False), check=False))

    def check(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        # Behind a step of training it runs when that ends, and is told by a push: the page is answered meanwhile.
        self.lab.steps.later("check", self._check)
        return {"state": describe.state(self.lab)}

    def _check(self) -> None:
        try:
            self.lab.check_gradients()
        except ProbeFailed:
            pass  # a failed check is a state of the gradient panel, not of the request: describe.state carries it

    def set(self, fields: Reply, buffers: Sequence[Any], made: Buffers) -> Reply:
        self.lab.auto_check = fields["auto_check"]
        return {"state": describe.state(self.lab)}

    def _after(self, entry: Entry | None) -> Reply:
        return {
            "entry": None if entry is None else describe.entry(entry, self.lab.foreign),
            "state": describe.state(self.lab),
        }

    def _edit(self, fields: Reply, buffers: Sequence[Any]) -> Edit:
        info = self.lab.tree[fields["name"]]
        with self.lab.lock:
            region = target_region(self.lab, info, fields, buffers)
        args = arguments_of(fields["args"], info.title)
        if "source" in args:
            values = values_from(self.lab.source(args["source"]), args, region, info)
            args = {"values": values} if fields["edit"] == "copy_" else {"end": values, "weight": args["weight"]}
        elif fields["edit"] == "copy_":
            args["values"] = typed_values(args["values"], region, info)
        return Edit(info.name, region, fields["edit"], args)

    def _shown(self, fields: Reply) -> torch.Tensor:
        """The tensor behind the view that is asked for, if it has values to look at."""
        self._readable(fields["name"])
        return self.lab.view(fields["name"], fields.get("view", "value"))

    def _readable(self, name: str) -> None:
        reason = storage.why_not_readable(self.lab.tree.tensor(name), alone=True)
        if reason:
            raise NoValues(f"{self.lab.tree[name].title}: {reason}")


def _sendable(identity: Any) -> Any:
    return identity.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(identity, str) else identity


@dataclass(frozen=True, slots=True)
class _Operation:
    run: Callable[[Session, Reply, Sequence[Any], Buffers], Reply]
    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    reads: bool = False


_VIEW = {"view": VIEW}
_LAID = {**_VIEW, "layout": LAYOUT}
_TILED = {**_LAID, "planes": PLANES}
_TARGET = {"region": TEXT, "cells": TRUE, "where": WHERE}

_OPERATIONS: dict[str, _Operation] = {
    "hello": _Operation(Session.hello, {}, reads=True),
    "script": _Operation(Session.script, {}),
    "refresh": _Operation(Session.refresh, {}),
    "open": _Operation(Session.open, {"name": NAME}, _LAID, reads=True),
    "summary": _Operation(Session.summary, {"name": NAME}, _VIEW, reads=True),
    "tiles": _Operation(Session.tiles, {"name": NAME, "tiles": TILES, "encoding": ENCODING}, _TILED, reads=True),
    "profile": _Operation(Session.profile, {"name": NAME, "axis": AXIS, "stat": STATISTIC}, _VIEW, reads=True),
    "read": _Operation(Session.read, {"name": NAME, "cells": CELLS}, _VIEW, reads=True),
    "region": _Operation(Session.region, {"name": NAME, "text": TEXT}, {"where": WHERE}, reads=True),
    "extent": _Operation(Session.extent, {}, reads=True),
    "colours": _Operation(Session.colours, {}),
    "edit": _Operation(
        Session.edit, {"name": NAME, "edit": EDIT, "args": ARGS}, {**_TARGET, "linked": FLAG, "moments": MOMENTS}
    ),
    "preview": _Operation(Session.preview, {"name": NAME, "edit": EDIT, "args": ARGS}, _TARGET, reads=True),
    "hold": _Operation(Session.hold, {"name": NAME, "kind": HOLD}, {**_TARGET, "min": BOUND, "max": BOUND}),
    "release": _Operation(Session.release, {"hold": NUMBER}),
    "held": _Operation(Session.held, {"hold": NUMBER}, reads=True),
    "undo": _Operation(Session.undo, {}, {"force": FLAG}),
    "redo": _Operation(Session.redo, {}, {"force": FLAG}),
    "jump": _Operation(Session.jump, {"entry": NUMBER}, {"force": FLAG}),
    "snapshot": _Operation(Session.snapshot, {"label": LABEL}),
    "drop": _Operation(Session.drop, {"label": LABEL}),
    "diff": _Operation(Session.diff, {"label": LABEL}, reads=True),
    "restore": _Operation(Session.restore, {"label": LABEL}, {"name": NAME}),
    "transfer": _Operation(Session.transfer, {"label": LABEL}, {"weight": WEIGHT, "plan": FLAG}),
    "export": _Operation(Session.export, {"what": EXPORT}, reads=True),
    "save": _Operation(Session.save, {"file": FILE}, reads=True),
    "check": _Operation(Session.check, {}),
    "cancel": _Operation(Session.cancel, {"request": REQUEST}),
    "set": _Operation(Session.set, {"auto_check": FLAG}),
    **{op: _Operation(*row) for op, row in overview.OPERATIONS.items()},
}
