"""Colour maps as tables: the page draws with matplotlib's own colours and does not carry them."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from matplotlib import colormaps

Kind = Literal["diverging", "sequential"]

# Those of matplotlib that stay readable with the common kinds of colour blindness; neither red beside green nor a rainbow.
MAPS: dict[str, Kind] = {
    "RdBu_r": "diverging",
    "PuOr_r": "diverging",
    "PiYG": "diverging",
    "BrBG_r": "diverging",
    "viridis": "sequential",
    "cividis": "sequential",
    "magma": "sequential",
    "gray": "sequential",
}
ENTRIES = 256


@cache
def table(name: str) -> bytes:
    """Red, green and blue of 256 entries, as bytes.

    Entries 1 to 255 go from end to end: their number is odd, so that 0 has entry 128 of a diverging map for itself.
    Entry 0 repeats the first: the page puts there what lies below the range.

    >>> list(table("gray")[3:6]), list(table("gray")[-3:])
    ([0, 0, 0], [255, 255, 255])
    """
    positions = (np.arange(ENTRIES) - 1).clip(0) / (ENTRIES - 2)
    colours = np.asarray(colormaps[name](positions, bytes=True), dtype=np.uint8)
    return colours[:, :3].tobytes()
