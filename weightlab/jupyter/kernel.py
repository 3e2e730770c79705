"""Which thread answers while a cell runs.

JupyterLab 4.4 and later send comm messages over a subshell: the handler runs in another thread, also during a cell.
ipykernel, however, answers on the subshell of the last sender on that comm, and opening a comm in a cell counts as
sending from the main thread: the first request after "Run All" would wait for the running loop to end.

All messages of a widget come in on one thread, whichever it is. A request that takes long is therefore answered on a
thread beside it: otherwise the wish to cancel it would be heard after its end. A change may have to wait for the end of a
step of training, and has a thread of its own, so that the page can go on looking.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from IPython import get_ipython


def answer_from_any_thread(comm: Any) -> None:
    """Forget which shell opened the comm, so that the first request need not wait for the running cell.

    `_reply_subshell_for` is private to ipykernel 7.4 and later; where it is missing nothing is needed, or nothing
    helps: the page then says "kernel busy".
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = None


def threads_may_send(comm: Any) -> bool:
    """Whether this host takes messages from any thread: ipykernel does; marimo's kernel knows its page only on its own."""
    return any(kind.__module__.partition(".")[0] == "ipykernel" for kind in type(comm).__mro__)


class Worker:
    """A thread that does what it is given, in order. It ends with the process, or when it is closed."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, run: Callable[..., object], *arguments: Any) -> None:
        """Run it later, in the present context: ipykernel keeps there which message is being answered."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="weightlab-answers", daemon=True)
            self._thread.start()
        context = contextvars.copy_context()
        self._tasks.put(lambda: context.run(run, *arguments))

    def close(self) -> None:
        """End after what was given so far."""
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except (
                Exception
            ):  # a page that went away while it was being answered: the next one is answered all the same
                traceback.print_exc()


def when_cells_end(method: Callable[[], None]) -> Callable[[], None]:
    """Call a method, on the main thread, after each cell, while its object lives; returns the unsubscription.

    Outside IPython nothing happens.
    """
    shell = get_ipython()
    found = weakref.WeakMethod(method)

    def ended(*_: Any) -> None:
        callback = found()
        if callback is not None and threading.current_thread() is threading.main_thread():  # not a subshell's cell
            callback()

    if shell is None:
        return lambda: None
    shell.events.register("post_run_cell", ended)
    return lambda: shell.events.unregister("post_run_cell", ended)
