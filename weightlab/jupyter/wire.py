"""Tiles as bytes: exact float32, or one byte per bin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weightlab.see.bins import NAN, NEGATIVE, POSITIVE
from weightlab.see.tiles import Tile

LIMIT = 2 * 1024 * 1024 - 64 * 1024  # of one reply's buffer; the JSON beside it must fit below 2 MB too
_LEVELS = 252


def encode_tile(tile: Tile, encoding: str, offset: int) -> tuple[dict[str, Any], bytes]:
    """Head and bytes of one tile, padded so that the next one begins at a multiple of 4."""
    exact = tile.at[:2] == (0, 0)
    mean = tile.mean
    if tile.flags is not None:
        # NaN is the worst news a bin can hold, so it wins over infinities.
        for bit, shown in ((NEGATIVE, -torch.inf), (POSITIVE, torch.inf), (NAN, torch.nan)):
            mean = mean.masked_fill((tile.flags & bit) > 0, shown)
    planes = [mean] if exact else [mean, tile.min, tile.max]
    head: dict[str, Any] = {
        "at": list(tile.at),
        "rows": mean.shape[0],
        "columns": mean.shape[1],
        "encoding": encoding,
        "planes": ["value"] if exact else ["mean", "min", "max"],
        "offset": offset,
        "nan": int(mean.isnan().sum()),
        "inf": int(mean.isinf().sum()),
    }
    if encoding == "f32":
        return head, b"".join(plane.contiguous().numpy().tobytes() for plane in planes)
    coded, scale = zip(*map(_quantized, planes), strict=True)
    head["scale"] = [list(pair) for pair in scale]
    data = b"".join(plane.contiguous().numpy().tobytes() for plane in coded)
    return head, data + bytes(-len(data) % 4)


def _quantized(plane: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """One byte per bin: 0 to 252 between the plane's extremes, 253 -inf, 254 +inf, 255 NaN."""
    finite = plane.isfinite()
    good = plane if bool(finite.all()) else plane[finite]
    low, high = (float(good.min()), float(good.max())) if good.numel() else (0.0, 0.0)
    # In float64: high - low of float32 extremes may overflow float32.
    step = (high - low) / _LEVELS
    codes = ((plane.double() - low) / step).round() if step > 0 else torch.zeros_like(plane, dtype=torch.float64)
    codes = codes.where(finite, 0).clamp_(0, _LEVELS).to(torch.uint8)
    if good is not plane:
        for value, code in ((plane == -torch.inf, 253), (plane == torch.inf, 254), (plane.isnan(), 255)):
            codes.masked_fill_(value, code)
    return codes, (low, high)
