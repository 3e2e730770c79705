"""How far a long computation is, and the wish to end it.

What may take more than half a second calls `report` between two pieces of work. Who wants to hear of it puts a
`Progress` in force around the call; without one a report costs a look-up. The wish to end comes from another thread and
takes no lock: it is a flag that the next report sees.

    with Progress(lambda done, total, words: print(f"{words}: {done} of {total}")).listening():
        lab.save("edited.safetensors")

A computation reports only where it can still be left with nothing changed: `Cancelled` leaves it as any error would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from weightlab.errors import Cancelled

FIRST_SECONDS = 0.3  # what takes less is not worth a word
PAUSE_SECONDS = 0.1  # rule T5: at most ten a second

Tell = Callable[[int, int, str], None]


class Progress:
    """One computation as others see it; *state*.

    Args:
        tell: `tell(done, total, words)`, on the computing thread, from `FIRST_SECONDS` on and not too often.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self._tell = tell
        self._ended = threading.Event()
        self._next = 0.0
        self._part = 0.0, 1.0  # of the whole: what is done now

    def cancel(self) -> None:
        """End the computation at its next report; from any thread."""
        self._ended.set()

    def report(self, done: int, total: int, words: str) -> None:
        """Say how far the computation is.

        Args:
            done, total: of whatever is counted; `done` grows to `total`.
            words: what is being done, as in "saving fc.weight".

        Raises:
            Cancelled: somebody wants it to end.
        """
        if self._ended.is_set():
            raise Cancelled(f"Cancelled while {words}. Nothing was changed.")
        if self._tell is None:
            return
        low, high = self._part
        if (low, high) != (0.0, 1.0):
            done, total = round(1000 * (low + (high - low) * done / max(total, 1))), 1000
        now = time.monotonic()
        if now >= self._next and done < total:
            self._next = now + PAUSE_SECONDS
            self._tell(done, total, words)

    @contextmanager
    def listening(self) -> Iterator[Progress]:
        """In force for what this thread computes inside the block."""
        self._next = time.monotonic() + FIRST_SECONDS
        token = _listening.set(self)
        try:
            yield self
        finally:
            _listening.reset(token)


@contextmanager
def share(begin: float, end: float) -> Iterator[None]:
    """What is reported inside the block fills this share, 0 to 1, of the whole: for work of several stages."""
    progress = _listening.get()
    if progress is None:
        yield
        return
    low, high = before = progress._part
    progress._part = low + (high - low) * begin, low + (high - low) * end
    try:
        yield
    finally:
        progress._part = before


_listening: ContextVar[Progress | None] = ContextVar("weightlab_progress", default=None)


def report(done: int, total: int, words: str) -> None:
    """Say how far this computation is to whoever listens; see `Progress.report`.

    Raises:
        Cancelled: somebody wants it to end.
    """
    progress = _listening.get()
    if progress is not None:
        progress.report(done, total, words)
