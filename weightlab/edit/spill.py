"""`Spill`: the temporary file of undo, whose places are given out again when nobody refers to them any more."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections import deque
from typing import IO


class Spill:
    """One temporary file for what does not fit into memory; *state*.

    It has no name: it vanishes with the journal, and with the process however that ends. What is dropped, or is in memory
    again, gives its place to what comes next (the first place that is wide enough), and the free end is cut off.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()  # a page may spell an entry out while another thread edits
        self._end = 0
        self._free: list[tuple[int, int]] = []  # (start, stop), ascending, none beside another or at the end
        # A place may be let go in the midst of anything, by the garbage collector too: it only leaves word here.
        self.given_back: deque[tuple[int, int]] = deque()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        self.tidy()
        return self._end

    def tidy(self) -> None:
        """Join what was given back, and cut off the free end."""
        if self.given_back:
            with self._lock:
                self._collect()

    def write(self, data: memoryview) -> Place:
        """Put bytes where there is room.

        Raises:
            OSError: the disk has no room; all is as before.
        """
        size = len(data)
        with self._lock:
            self._collect()
            file = self._opened()
            found = next((at for at, (start, stop) in enumerate(self._free) if stop - start >= size), None)
            start = self._end if found is None else self._free[found][0]
            file.seek(start)
            try:
                while data:  # one call may write a part
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(self._end)
                raise
            if found is None:
                self._end = start + size
            elif self._free[found][1] == start + size:
                del self._free[found]
            else:
                self._free[found] = (start + size, self._free[found][1])
        return Place(self, start, start + size)

    def read(self, start: int, stop: int) -> bytearray:
        """The bytes of a place."""
        made = bytearray(stop - start)
        rest = memoryview(made)
        with self._lock:
            file = self._opened()
            file.seek(start)
            while rest:
                count = file.readinto(rest)  # type: ignore[attr-defined]
                if not count:
                    raise OSError("the temporary file of undo is shorter than what was written to it.")
                rest = rest[count:]
        return made

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="weightlab-undo-", buffering=0)  # noqa: SIM115 (for the journal's life)
            weakref.finalize(self, self._file.close)
        return self._file

    def _collect(self) -> None:
        if not self.given_back:
            return
        free = self._free
        while self.given_back:
            free.append(self.given_back.popleft())
        free.sort()
        joined = free[:1]
        for start, stop in free[1:]:
            if start == joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        if joined[-1][1] == self._end:
            self._end = joined.pop()[0]
            self._opened().truncate(self._end)
        self._free = joined


class Place:
    """A range of the file, for as long as somebody refers to it."""

    __slots__ = ("_spill", "_start", "_stop")

    def __init__(self, spill: Spill, start: int, stop: int) -> None:
        self._spill, self._start, self._stop = spill, start, stop

    def read(self) -> bytearray:
        return self._spill.read(self._start, self._stop)

    def __del__(self) -> None:
        self._spill.given_back.append((self._start, self._stop))
