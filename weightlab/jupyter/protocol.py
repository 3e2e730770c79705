"""message -> Lab call -> reply: the kernel's side of docs/protocol.md, without a word about transport.

`Session.handle` answers every message with exactly one reply, whatever happens (rule P1). Every field is checked
before anything is done; nothing from the wire is evaluated or used as an attribute name (rule P2).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from weightlab.errors import EditRefused, ProbeFailed, UndoConflict, WeightLabError
from weightlab.jupyter import checkup, describe, editing, keeping, looking, overview, pictures
from weightlab.jupyter.built import built
from weightlab.jupyter.fields import FLAG, REQUEST, VERSION, check_fields, check_message
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.lab import Lab
from weightlab.model.sharded import among_processes
from weightlab.progress import Progress

# What a page may ask of a model that is sharded over processes: nothing of it reads cells.
_ALONE = frozenset({"hello", "script", "refresh", "region", "drop", "cancel", "set"})


class Session:
    """Answers the messages of one page about one Lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._running: dict[str | int, Progress] = {}  # by the id of the request
        self.spectra = overview.Spectra(lab)
        self.checkup = checkup.Checkup(lab)

    def changes(self, message: Any) -> bool:
        """Whether it asks for a change of the model, which waits for the end of a step of training."""
        op = message.get("op") if isinstance(message, Mapping) else None
        return isinstance(op, str) and op in _OPERATIONS and _OPERATIONS[op].changes

    def handle(
        self, message: Any, buffers: Sequence[Any] = (), push: Callable[[Json], None] | None = None
    ) -> tuple[Json, Buffers]:
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
        head: Json = {"v": VERSION, "id": _sendable(identity) if known else None}
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
            text = str(error.args[0] if isinstance(error, UndoConflict) else error)  # the page has buttons for the rest
            reply = {**head, "ok": False, "error": {"kind": type(error).__name__, "message": text}}
        except Exception as error:
            made.clear()
            traceback.print_exc()
            text = f"{type(error).__name__}: {error}. This is a bug in WeightLab: please report it."
            reply = {**head, "ok": False, "error": {"kind": "InternalError", "message": text}}
        reply["revision"] = self.lab.revision
        if "error" in reply:  # a lone surrogate in what was quoted would make the reply unsendable
            reply["error"]["message"] = _sendable(reply["error"]["message"])
        return reply, made

    def _refuse_alone(self, op: str, fields: Json) -> None:
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
    def _followed(self, request: str | int, push: Callable[[Json], None] | None) -> Iterator[None]:
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

    def cancel(self, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
        # No lock: what is to be cancelled may hold it.
        progress = self._running.get(fields["request"])
        if progress is not None:
            progress.cancel()
        return {"cancelled": progress is not None}

    def script(self, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
        made.append(built("extra.js").read_bytes())
        return {"bytes": len(made[0])}

    def refresh(self, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
        self.lab.refresh()
        return looking.hello(self, fields, buffers, made)

    def check(self, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
        # Behind a step of training it runs when that ends, and is told by a push: the page is answered meanwhile.
        self.lab.steps.later("check", self._check)
        return {"state": describe.state(self.lab)}

    def _check(self) -> None:
        try:
            self.lab.check_gradients()
        except ProbeFailed:
            pass  # a failed check is a state of the gradient panel, not of the request: describe.state carries it

    def set(self, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
        self.lab.auto_check = fields["auto_check"]
        return {"state": describe.state(self.lab)}


def _sendable(identity: Any) -> Any:
    return identity.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(identity, str) else identity


_OPERATIONS: dict[str, Operation] = {
    "script": Operation(Session.script, {}),
    "refresh": Operation(Session.refresh, {}),
    "check": Operation(Session.check, {}),
    "cancel": Operation(Session.cancel, {"request": REQUEST}),
    "set": Operation(Session.set, {"auto_check": FLAG}),
    **looking.OPERATIONS,
    **pictures.OPERATIONS,
    **overview.OPERATIONS,
    **editing.OPERATIONS,
    **keeping.OPERATIONS,
    **checkup.OPERATIONS,
}
