"""The tensors in what a model returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def tensors_of(output: Any) -> Iterator[Tensor]:
    """Of a tensor, and of tuples, lists, dicts and dataclasses of such."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from tensors_of(item)
    elif is_dataclass(output) and not isinstance(output, type):
        yield from tensors_of([getattr(output, part.name, None) for part in fields(output)])
    elif isinstance(output, dict):
        for item in output.values():
            yield from tensors_of(item)
