"""Cells as tests compare them: by their bytes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def raw(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def state(model: nn.Module) -> dict[str, bytes]:
    return {name: raw(tensor) for name, tensor in model.state_dict().items()}
