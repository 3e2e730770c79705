"""Out of memory, on whatever device: told from other errors, and what to do."""

from __future__ import annotations

import traceback

import torch

_CPU_SAYS = ("not enough memory", "can't allocate memory", "Unable to allocate")


def out_of_memory(error: BaseException) -> bool:
    """Whether this is torch's or Python's way to say that memory has run out; the CPU's is a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_SAYS)


def let_go(error: BaseException | None) -> None:
    """Free what the frames of an error hold: its traceback would keep every activation alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
