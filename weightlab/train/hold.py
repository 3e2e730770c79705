"""`Constraint`: one hold as a value, and what it takes from the cells when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from weightlab.model import dtypes, storage
from weightlab.model.overlap import positions
from weightlab.model.region import Region

Kind = Literal["keep", "clamp", "sign", "tie", "rule"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Rule = Callable[[Tensor], "Tensor | None"]


@dataclass(slots=True, eq=False, repr=False)
class Constraint:
    """One hold; *state*: `active` until it is released.

    Attributes:
        name: dotted name of the tensor; `region`: which cells.
        kind: "keep" (present values), "clamp" (`min`, `max`), "sign" (the sign that each cell had), "tie" (the values of
            `source`), "rule" (`rule(cells)` after each step: returns new cells, or changes them in place).
        min, max: bounds, rounded inwards to the tensor's dtype when the hold is put in force; `note` says so.
    """

    name: str
    region: Region
    kind: Kind
    min: float | None = None
    max: float | None = None
    source: tuple[str, Region] | None = None
    rule: Rule | None = None
    note: str = ""
    kept: Tensor | None = field(default=None, repr=False)
    active: bool = False
    id: int = 0
    _release: Callable[[Constraint], object] | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """In words, for histories and lists."""
        cells = self.name if self.region.is_whole else f"{self.name}{self.region}"
        if self.kind == "keep":
            return f"Hold {cells}"
        if self.kind == "clamp":
            if self.min is None or self.max is None:
                bound = f"most {_short(self.max)}" if self.min is None else f"least {_short(self.min)}"
                return f"Hold {cells} at {bound}"
            return f"Hold {cells} from {_short(self.min)} to {_short(self.max)}"
        if self.kind == "tie" and self.source is not None:
            name, region = self.source
            return f"Hold {cells} equal to {name}{'' if region.is_whole else region}"
        return f"Hold the sign of {cells}" if self.kind == "sign" else f"Hold {cells} to a rule"

    def release(self) -> None:
        """End the hold, as an undo entry."""
        if self.active and self._release is not None:
            self._release(self)

    def capture(self, tensor: Tensor, among: Region | None = None) -> None:
        """Take what is to be kept from the cells as they are now; only those that are `among` others too, if given."""
        if self.kind not in ("keep", "sign"):
            return
        with storage.writing(tensor):
            now = storage.read(tensor, self.region)
            if self.kind == "sign":
                now = sign(now).to(torch.int8)
            if among is not None and self.kept is not None and not among.is_whole:
                others = (positions(self.region, among) < 0).to(now.device)
                before = self.kept.to(now.device, now.dtype)
                storage.as_integers(now)[others] = storage.as_integers(before)[others]
        self.kept = now

    def take(self, cells: Tensor, where: Tensor) -> None:
        """Keep these from now on, at the places of the region that `where` marks."""
        kept = self.kept
        assert kept is not None
        with storage.writing(kept):
            new = sign(cells) if self.kind == "sign" else cells
            integers = storage.as_integers(new.to(kept.device, kept.dtype))
            storage.as_integers(kept)[where.to(kept.device)] = integers

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Constraint({self.text}{'' if self.active else ', released'})"


def sign(cells: Tensor) -> Tensor:
    """-1, 0 or 1 of each cell, NaN of NaN."""
    return (cells.double() if cells.dtype is torch.uint64 else dtypes.widened(cells)).sign()


def _short(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, int | float) else str(bound)
