"""Cells as text that other programs take: tab-separated values, or a line of torch."""

from __future__ import annotations

import math

from torch import Tensor

from weightlab.see.numbers import texts

LIMIT = 1 << 16


def as_tsv(cells: Tensor) -> str:
    r"""The last axis across, all others down, one line per row; exact texts.

    >>> import torch
    >>> as_tsv(torch.tensor([[0.1, -2.0], [0.0, 1e-9]]))
    '0.1\t-2.0\n0.0\t1e-09'
    """
    width = cells.shape[-1] if cells.ndim else 1
    told = texts(cells.reshape(-1))
    return "\n".join("\t".join(told[at : at + width]) for at in range(0, len(told), max(width, 1)))


def as_torch(cells: Tensor) -> str:
    """An expression that gives the cells back, shape and dtype too.

    >>> import torch
    >>> as_torch(torch.tensor([[0.5, float("nan")]]))
    'torch.tensor([[0.5, torch.nan]], dtype=torch.float32)'
    """
    told = [_literal(text) for text in texts(cells.reshape(-1))]
    shape = list(cells.shape)
    if math.prod(shape) == 0:
        return f"torch.empty({shape}, dtype={cells.dtype})"
    for size in reversed(shape):
        told = [f"[{', '.join(told[at : at + size])}]" for at in range(0, len(told), size)]
    return f"torch.tensor({told[0]}, dtype={cells.dtype})"


def _literal(text: str) -> str:
    signless = text.lstrip("-")
    if signless in ("nan", "inf"):
        return text.replace(signless, f"torch.{signless}")
    # Parts of a complex number that are no literals: complex() reads them.
    return f"complex('{text}')" if "nan" in text or "inf" in text else text
