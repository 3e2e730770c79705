"""A tensor in pieces: nothing that reads all cells has a second tensor of them in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from weightlab.model import dtypes

_CHUNK = 1 << 21


def chunks(tensor: Tensor) -> Iterator[Tensor]:
    """The cells as 1-D float64 pieces, without a copy of the whole."""
    return map(real, pieces(tensor))


def pieces(tensor: Tensor, most: int = _CHUNK) -> Iterator[Tensor]:
    """Views of at most `most` cells each, by default a few million; in order of memory where it is contiguous."""
    if tensor.numel() <= most:
        if tensor.numel():
            yield tensor
        return
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(most)
        return
    axis = max(range(tensor.ndim), key=lambda a: tensor.shape[a])
    for part in tensor.split(max(1, tensor.shape[axis] * most // tensor.numel()), axis):
        yield from pieces(part, most)


def real(cells: Tensor) -> Tensor:
    """Cells in a row as float64; complex ones by magnitude."""
    return dtypes.real(cells).reshape(-1).to(torch.float64)
