"""Tiles as bytes: exact float32, or one byte per bin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from weightlab.see.bins import NAN, NEGATIVE, POSITIVE
from weightlab.see.tiles import Tile

LIMIT = 2 * 1024 * 1024 - 64 * 1024  # of one reply's buffer; the JSON beside it must fit below 2 MB too
USUAL = ("mean", "min", "max")  # planes that are sent where none are named
_LEVELS = 252


def encode_tile(tile: Tile, encoding: str, offset: int, wanted: Sequence[str] = USUAL) -> tuple[dict[str, Any], bytes]:
    """Head and bytes of one tile, padded so that the next one begins at a multiple of 4."""
    exact = tile.at[:2] == (0, 0)
    mean, bad = tile.mean, {NAN: 0, POSITIVE: 0, NEGATIVE: 0}
    if tile.flags is not None:
        # NaN is the worst news a bin can hold, so it wins over infinities.
        for bit, shown in ((NEGATIVE, -torch.inf), (POSITIVE, torch.inf), (NAN, torch.nan)):
            mean = mean.masked_fill((tile.flags & bit) > 0, shown)
        bad = {NAN: int(mean.isnan().sum()), POSITIVE: int(mean.isinf().sum()), NEGATIVE: 0}
    elif bool(mean.isnan().any()):  # blanks behind the last facet
        bad[NAN] = int(mean.isnan().sum())
    named = {"mean": mean, "min": tile.min, "max": tile.max, "rms": tile.rms}
    names = ["value"] if exact else list(wanted)
    planes = mean[None] if exact else torch.stack([named[name] for name in names])
    head: dict[str, Any] = {
        "at": list(tile.at),
        "rows": mean.shape[0],
        "columns": mean.shape[1],
        "encoding": encoding,
        "planes": names,
        "offset": offset,
        "nan": bad[NAN],
        "inf": bad[POSITIVE],
    }
    if encoding == "f32":
        return head, planes.contiguous().numpy().tobytes()
    codes, head["scale"] = _quantized(planes)
    data = codes.contiguous().numpy().tobytes()
    return head, data + bytes(-len(data) % 4)


def _quantized(planes: Tensor) -> tuple[Tensor, list[list[float]]]:
    """One byte per bin: 0 to 252 between each plane's extremes, 253 -inf, 254 +inf, 255 NaN."""
    flat = planes.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    finite = None
    if not bool((low.isfinite() & high.isfinite()).all()):
        finite = flat.isfinite()
        low, high = flat.where(finite, torch.inf).amin(1), flat.where(finite, -torch.inf).amax(1)
        none = low > high
        low, high = low.masked_fill(none, 0), high.masked_fill(none, 0)
    # In float64: high - low of float32 extremes may overflow float32.
    ends = [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
    steps = torch.tensor([(b - a) / _LEVELS for a, b in ends], dtype=torch.float64)
    wide = bool((steps > 1e36).any())
    values = flat.double() if wide else flat
    per = torch.where(steps > 0, 1 / steps, 0.0).to(values.dtype)
    if not bool(per.isfinite().all()):
        values, per = flat.double(), torch.where(steps > 0, 1 / steps, 0.0)
    codes = ((values - low[:, None].to(values.dtype)) * per[:, None]).round_().clamp_(0, _LEVELS)
    if finite is None:
        return codes.to(torch.uint8), ends
    codes = codes.where(finite, 0).to(torch.uint8)
    for value, code in ((flat == -torch.inf, 253), (flat == torch.inf, 254), (flat.isnan(), 255)):
        codes.masked_fill_(value, code)
    return codes, ends
