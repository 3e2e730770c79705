"""Bytes that undo keeps: in memory, or in a temporary file once the budget is spent."""

from __future__ import annotations

import tempfile
from typing import IO

import torch
from torch import Tensor


class Spill:
    """One temporary file for all bytes that do not fit into memory; it vanishes with the process; *state*."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._told = False

    def write(self, data: bytes) -> int:
        """Append; returns the offset."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="weightlab-undo-")  # noqa: SIM115 (open for the journal's life)
        offset = self._file.seek(0, 2)
        self._file.write(data)
        return offset

    def read(self, offset: int, size: int) -> bytearray:
        assert self._file is not None
        self._file.seek(offset)
        return bytearray(self._file.read(size))

    def first_time(self) -> bool:
        """True once."""
        told, self._told = self._told, True
        return not told


class Saved:
    """Cells on the CPU, in memory or on disk; *state*."""

    def __init__(self, cells: Tensor, spill: Spill) -> None:
        self._spill = spill
        self._offset = -1
        self.replace(cells)

    def replace(self, cells: Tensor) -> None:
        """Hold these cells instead, in memory."""
        self._cells: Tensor | None = cells
        self._shape, self._dtype = tuple(cells.shape), cells.dtype
        self.nbytes = cells.numel() * cells.element_size()

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def on_disk(self) -> bool:
        return self._cells is None

    def to_disk(self) -> None:
        if self._cells is not None:
            self._offset = self._spill.write(self._cells.reshape(-1).view(torch.uint8).numpy().tobytes())
            self._cells = None

    def tensor(self) -> Tensor:
        """The cells, read back if they are on disk."""
        if self._cells is not None:
            return self._cells
        raw = self._spill.read(self._offset, self.nbytes)
        return torch.frombuffer(raw, dtype=self._dtype).view(self._shape)
