"""Reading and writing cells of each kind of tensor; what is refused, and why."""

from __future__ import annotations

from torch import Tensor


def why_not_editable(tensor: Tensor) -> str:
    return ""
