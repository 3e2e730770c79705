"""Which part of a tensor another one of a different shape would fill: what an error or a report tells beside both shapes."""

from __future__ import annotations

from collections.abc import Sequence


def part_that_fits(here: Sequence[int], there: Sequence[int]) -> tuple[str, str] | None:
    """Index texts of one box of both: of this tensor, and of the one with the values; None where they share no cell.

    Axes meet in order. Of the tensor with more axes those are taken that are as long as the other's, from the last back
    as torch broadcasts, else those that are longer; the rest stands at index 0.

    Example:
        >>> part_that_fits([6, 24], [5, 30])
        ('[0:5, :]', '[:, 0:24]')
        >>> part_that_fits([8, 3, 3], [3])
        ('[0, 0, :]', '[:]')
    """
    if len(here) < len(there):
        swapped = part_that_fits(there, here)
        return swapped and swapped[::-1]
    if 0 in here or 0 in there or not there:
        return None
    axes = _met(here, there)
    cut = dict(zip(axes, there, strict=True))
    mine = [_span(size, min(size, cut[axis])) if axis in cut else "0" for axis, size in enumerate(here)]
    theirs = [_span(size, min(size, here[axis])) for axis, size in cut.items()]
    return f"[{', '.join(mine)}]", f"[{', '.join(theirs)}]"


def in_words(here: Sequence[int], there: Sequence[int]) -> str:
    """The same as the end of a sentence: "[0:5, :] would take its [:, 0:24]"."""
    found = part_that_fits(here, there)
    if found is None:
        return "no part of it would fit"
    mine, theirs = found
    whole = {f"[{', '.join(':' * len(shape))}]" for shape in (here, there)}
    if mine in whole:
        return f"its {theirs} would fit"
    return f"{mine} would take it" if theirs in whole else f"{mine} would take its {theirs}"


def _met(here: Sequence[int], there: Sequence[int]) -> list[int]:
    """An axis of `here` for each of `there`, ascending: those of equal length where all of them have one."""
    for equal in (True, False):
        axes: list[int] = []
        at = len(here) - 1
        for left, size in reversed(list(enumerate(there))):
            while equal and at >= left and here[at] != size:
                at -= 1
            if at < left:
                break
            axes.insert(0, at)
            at -= 1
        else:
            return axes
    raise AssertionError("the last axes always serve")


def _span(size: int, used: int) -> str:
    return ":" if size == used else f"0:{used}"
