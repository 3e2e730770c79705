"""Tiles as bytes: exact float32, or one byte per bin.

By NumPy: a plane of 128 x 128 stays in the first cache from one operation to the next, and torch takes longer to begin one
than NumPy to do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weightlab.see.bins import NAN, NEGATIVE, POSITIVE
from weightlab.see.tiles import Tile

LIMIT = 2 * 1024 * 1024 - 64 * 1024  # of one reply's buffer; the JSON beside it must fit below 2 MB too
USUAL = ("mean", "min", "max")  # planes that are sent where none are named
_LEVELS = 252

Array = Any


def encode_tile(tile: Tile, encoding: str, wanted: Sequence[str] = USUAL) -> tuple[dict[str, Any], bytes]:
    """Head, without its offset, and bytes of one tile, padded so that the next one begins at a multiple of 4.

    Args:
        wanted: "mean", "min", "max", "rms", or "extreme": of a bin's min and max the one farther from 0. The cells
            themselves have one plane, whatever is wanted.
    """
    mean = _shown(tile.mean.numpy(), tile)
    names = ["value"] if tile.at[:2] == (0, 0) else list(wanted)
    planes = [mean if name in ("value", "mean") else _plane(tile, name) for name in names]
    head: dict[str, Any] = {
        "at": list(tile.at),
        "rows": mean.shape[0],
        "columns": mean.shape[1],
        "encoding": encoding,
        "planes": names,
        "nan": 0 if tile.flags is None else int(np.count_nonzero(np.isnan(mean))),
        "inf": 0 if tile.flags is None else int(np.count_nonzero(np.isinf(mean))),
    }
    if encoding == "f32":
        return head, b"".join(plane.tobytes() for plane in planes)
    coded = [_quantized(plane) for plane in planes]
    head["scale"] = [ends for _, ends in coded]
    data = b"".join(codes.tobytes() for codes, _ in coded)
    return head, data + bytes(-len(data) % 4)


def _plane(tile: Tile, name: str) -> Array:
    if name == "rms":
        return _shown(tile.rms.numpy(), tile)
    low, high = tile.min.numpy(), tile.max.numpy()
    if name != "extreme":
        return low if name == "min" else high
    # By arithmetic: a choice cell by cell takes three times as long. Only numbers of one sign overflow, to their own sign.
    with np.errstate(over="ignore"):
        side = low + high
    return _shown(np.copysign(np.maximum(high, -low), side, out=side), tile)


def _shown(plane: Array, tile: Tile) -> Array:
    """With NaN and infinities in the bins that hold any; NaN is the worst news, so it wins over infinities."""
    if tile.flags is None:
        return plane
    flags, plane = tile.flags.numpy(), plane.copy()
    for bit, shown in ((NEGATIVE, -np.inf), (POSITIVE, np.inf), (NAN, np.nan)):
        plane[(flags & bit) > 0] = shown
    return plane


def _quantized(plane: Array) -> tuple[Array, list[float]]:
    """One byte per bin: 0 to 252 between the plane's extremes, 253 -inf, 254 +inf, 255 NaN; and the extremes."""
    low, high = plane.min(), plane.max()  # NaN passes through both
    finite = None
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(plane)
        good = plane[finite]
        low, high = (good.min(), good.max()) if good.size else (np.float32(0), np.float32(0))
    step = (float(high) - float(low)) / _LEVELS  # in float64: high - low of float32 may overflow
    if step == 0:
        codes = np.zeros(plane.shape, np.uint8)
    else:
        values = plane if finite is None else np.where(finite, plane, low)
        # Where float32 has no room for a step's inverse, or for high - low, float64 has.
        real = np.float32 if 1e-37 < step < 1e36 else np.float64
        shares = values.astype(real, copy=False) - real(low)
        shares *= real(1 / step)
        codes = np.rint(shares, out=shares).astype(np.uint8)  # 0 to 252: no share is past its end by half a step
    if finite is not None:
        for wrong, code in ((plane == -np.inf, 253), (plane == np.inf, 254), (np.isnan(plane), 255)):
            codes[wrong] = code
    return codes, [float(low), float(high)]
