"""The anywidget class: transport only. What messages mean is protocol.py's business."""

from __future__ import annotations

import threading
import time
from typing import Any

import anywidget
import traitlets

from weightlab.jupyter import describe
from weightlab.jupyter.built import STATIC, built
from weightlab.jupyter.fields import VERSION
from weightlab.jupyter.kernel import Worker, answer_from_any_thread, threads_may_send, when_cells_end
from weightlab.jupyter.protocol import Session
from weightlab.lab import Lab
from weightlab.model.region import Region

_PUSH_SECONDS = 0.1  # rule T5: at most ten pushes a second


def widget_of(lab: Lab) -> LabWidget:
    """The one widget of a Lab; showing it again makes another view of it."""
    if not isinstance(lab.page, LabWidget) or lab.page.comm is None:
        lab.page = LabWidget(lab)
    return lab.page


class LabWidget(anywidget.AnyWidget):
    """The page of one Lab.

    Attributes:
        selected: dotted name of the tensor in the picture; set it to open another.
        region: index text of the selection, such as "[3, :, 1:2]"; empty for none.
        revision: counts the changes of the model; link it with other widgets to follow.
    """

    _esm = STATIC / "widget.js"
    _css = STATIC / "widget.css"
    selected = traitlets.Unicode("").tag(sync=True)
    region = traitlets.Unicode("").tag(sync=True)
    revision = traitlets.Int(0).tag(sync=True)

    def __init__(self, lab: Lab) -> None:
        built("widget.js")
        if lab.auto_check_default:
            lab.auto_check = True
        super().__init__(revision=lab.revision)
        self._lab = lab
        self._session = Session(lab)
        self._answering = threading.local()
        self._pending: list[list[tuple[str, Region]]] = []
        self._timer: threading.Timer | None = None
        self._guard = threading.Lock()
        self._pushed = 0.0
        answer_from_any_thread(self.comm)
        self._worker = Worker() if threads_may_send(self.comm) else None
        self._changes = Worker()
        self._queued = 0
        self._told_queued = False
        self.on_msg(self._receive)
        self._unsubscribe = lab.on_change(self._follow)
        lab.steps.watch(lab.optimizer)
        lab.notice()
        self._forget_cells = when_cells_end(self._cell_ended)

    def close(self) -> None:
        """Close all views and stop following the Lab; showing the Lab again makes a new widget."""
        self._unsubscribe()
        self._forget_cells()
        self._lab.steps.unwatch()
        if self._worker is not None:
            self._worker.close()
        self._changes.close()
        super().close()

    def _cell_ended(self) -> None:
        self._lab.steps.end()
        self._lab.notice()

    def _receive(self, widget: Any, content: Any, buffers: Any) -> None:
        # One thread answers, in order; this one stays free to hear that somebody wants the answer no more.
        if self._worker is None or (isinstance(content, dict) and content.get("op") == "cancel"):
            self._answer(content, buffers)
        elif self._session.changes(content):
            self._queued += 1
            self._tell_queued(self._lab.steps.elsewhere)
            self._changes.submit(self._change, content, buffers)
        else:
            self._worker.submit(self._answer, content, buffers)

    def _change(self, content: Any, buffers: Any) -> None:
        try:
            self._answer(content, buffers)
        finally:
            self._queued -= 1
            self._tell_queued(False)

    def _tell_queued(self, waits: bool) -> None:
        """Say how many changes wait for the end of a step of training (rule T3); nothing where none does."""
        if waits or self._told_queued:
            self._told_queued = self._queued > 0
            self.send({"v": VERSION, "push": "status", "queued": self._queued})

    def _answer(self, content: Any, buffers: Any) -> None:
        self._answering.now = True
        try:
            reply, made = self._session.handle(content, buffers or [], self.send)
        finally:
            self._answering.now = False
        self.send(reply, made)
        self.revision = reply["revision"]
        # Other views of this widget learn of it by the push; the one that asked has the reply first, and knows it then.
        if self._pending and self._timer is None:
            self._push()

    def _follow(self, changed: list[tuple[str, Region]]) -> None:
        """Tell all views what changed; what one of them asked for, after its reply."""
        with self._guard:
            self._pending.append(changed)
            if self._timer is not None or getattr(self._answering, "now", False):
                return
            wait = self._pushed + _PUSH_SECONDS - time.monotonic()
            if wait > 0:
                self._timer = threading.Timer(wait, self._push)
                self._timer.daemon = True
                self._timer.start()
                return
        self._push()

    def _push(self) -> None:
        with self._guard:
            changed, self._pending = self._pending, []
            self._timer, self._pushed = None, time.monotonic()
        with self._lab.lock:
            state, revision = describe.state(self._lab), self._lab.revision
        pairs = [pair for part in changed for pair in part][:1000]
        told = [[name, [list(pair) for pair in region.bounds]] for name, region in pairs]
        self.send({"v": VERSION, "push": "changed", "revision": revision, "changed": told, "state": state})
        self.revision = revision

    def __repr__(self) -> str:
        return f"LabWidget({type(self._lab.model).__name__})"
