"""`Budget`: how much memory undo may hold, and what moves to disk past it (rule J6)."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Iterable

from weightlab.edit.entry import Patch
from weightlab.edit.spill import Spill

_TRIM = 2**26  # bytes moved to disk, after which a few milliseconds go to handing freed memory back


class Budget:
    """The bytes that patches hold in memory, and the file for those past the limit; *state*.

    Attributes:
        held: kept up to date by differences, so that an edit costs the same after a thousand others.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.spill = Spill()
        self._to_tell: dict[str, str] = {}
        self._told: set[str] = set()
        self._moved = 0

    def add(self, patches: Iterable[Patch]) -> None:
        self.held += sum(patch.held for patch in patches)

    def drop(self, patches: Iterable[Patch]) -> None:
        """These are not kept any more."""
        self.held -= sum(patch.held for patch in patches)

    def keep(self, patches: Iterable[Patch]) -> None:
        """Move the first of these to disk until the rest is inside the limit; none is dropped."""
        self.spill.tidy()
        if self.held > self.limit:
            self._move(patches)
        if self._moved > _TRIM:
            self._moved = 0
            _hand_back()

    def _move(self, patches: Iterable[Patch]) -> None:
        for patch in patches:
            if self.held <= self.limit:
                return
            held = patch.held
            if not held:
                continue
            try:
                patch.to_disk(self.spill)
            except OSError as error:  # the edit is made: what finds no room stays in memory
                self._to_tell["full"] = (
                    f"and the temporary file cannot be written ({error}): the old values stay in memory. Make room, or set "
                    f"TMPDIR to another disk before Python starts."
                )
                return
            finally:
                freed = held - patch.held
                self.held -= freed
                self._moved += freed
            self._to_tell["moved"] = (
                "so the oldest entries move to a temporary file. Undo still restores them; Lab(undo_bytes=...) sets the memory."
            )

    def warn(self) -> None:
        """Tell once what became of the old values; called when the entry is recorded and told, since a warning may raise."""
        new, self._to_tell = {k: text for k, text in self._to_tell.items() if k not in self._told}, {}
        for kind, text in new.items():
            self._told.add(kind)
            warnings.warn(f"undo needs more than undo_bytes={self.limit}, {text}", stacklevel=3)


def _hand_back() -> None:
    """Memory that was freed stays with the process where small objects lie between; glibc can be told to hand it back.

    Without it a process keeps 1.6 MB of each 4 MB tensor that went to disk.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
        if trim is not None:
            trim(0)
