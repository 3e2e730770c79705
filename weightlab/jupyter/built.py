"""The built page: files that `js/build.mjs` made and the wheel ships."""

from __future__ import annotations

import pathlib

from weightlab.errors import WeightLabError

STATIC = pathlib.Path(__file__).parent / "static"


def built(name: str) -> pathlib.Path:
    """The path of one of them.

    Raises:
        WeightLabError: a checkout whose page was not built.
    """
    path = STATIC / name
    if not path.exists():
        raise WeightLabError("the page is not built. Run `make build`, or install the wheel.")
    return path
