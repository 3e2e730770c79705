"""What a caller gives: flags, whole numbers and real ones, as Python or NumPy has them.

True is an int in Python, and any text is true: both would be taken in silence for what nobody asked. Each of these returns
a plain Python value or refuses, before anything is done.
"""

from __future__ import annotations

import math

import numpy as np

from weightlab.errors import EditRefused


def flag(value: object, what: str) -> bool:
    """True or False, and nothing that merely counts as one.

    Args:
        what: subject and name, for the error: "undo: force".
    """
    if not isinstance(value, bool | np.bool_):
        raise EditRefused(f"{what} must be True or False, got {type(value).__name__}.")
    return bool(value)


def whole_number(value: object, what: str, low: int, high: int | None = None) -> int:
    """An int from `low` to `high`."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        found = int(value)
        if low <= found and (high is None or found <= high):
            return found
    until = f"from {low} to {high}" if high is not None else f"of {low} or more"
    raise EditRefused(f"{what} must be a whole number {until}, got {_shown(value)}.")


def real_number(value: object, what: str) -> float:
    """A finite number."""
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:  # an int past the largest float
            found = math.inf
        if math.isfinite(found):
            return found
    raise EditRefused(f"{what} must be a finite number, got {_shown(value)}. For example 0.5.")


def _shown(value: object) -> str:
    plain = isinstance(value, bool | int | float | str | np.generic | None)
    return f"{value!r:.60}" if plain else type(value).__name__
