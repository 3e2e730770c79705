"""Holds: cells that are kept, clamped or ruled through optimizer steps (rule T4).

A masked gradient does not keep a weight: momentum, Adam's moments and weight decay move it all the same. A hold lets
the optimizer do what it wants and puts the cells right after each step, bit by bit, through `storage` as every write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree

Kind = Literal["keep", "clamp", "sign", "tie", "rule"]
Rule = Callable[[Tensor], "Tensor | None"]


@dataclass(slots=True, eq=False, repr=False)
class Constraint:
    """One hold; *state*: `active` until it is released.

    Attributes:
        name: dotted name of the tensor; `region`: which cells.
        kind: "keep" (present values), "clamp" (`min`, `max`), "sign" (the sign that each cell had), "tie" (the values of
            `source`), "rule" (`rule(cells)` after each step: returns new cells, or changes them in place).
    """

    name: str
    region: Region
    kind: Kind
    min: float | None = None
    max: float | None = None
    source: tuple[str, Region] | None = None
    rule: Rule | None = None
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
            low = "" if self.min is None else f" from {_short(self.min)}"
            high = "" if self.max is None else f" to {_short(self.max)}"
            return f"Hold {cells}{low}{high}"
        if self.kind == "tie":
            assert self.source is not None
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
        now = storage.read(tensor, self.region)
        if self.kind == "sign":
            now = now.sign().to(torch.int8)
        if among is not None and self.kept is not None and not among.is_whole:
            mark = torch.zeros(tensor.shape, dtype=torch.bool)
            storage.write(mark, among, _set)
            others = ~storage.read(mark, self.region).to(now.device)
            storage.as_integers(now)[others] = storage.as_integers(self.kept.to(now.device))[others]
        self.kept = now

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Constraint({self.text}{'' if self.active else ', released'})"


class Constraints:
    """The holds of one model, in the order in which they were made; *state*."""

    def __init__(self, tree: ParameterTree) -> None:
        self._tree = tree
        self._held: list[Constraint] = []
        self._count = 0

    @property
    def active(self) -> tuple[Constraint, ...]:
        return tuple(self._held)

    def check(self, new: Constraint) -> None:
        """Refuse a hold that cannot be kept together with those before it.

        Raises:
            EditRefused: a kept cell outside a bound, bounds that exclude each other, a bad bound or source.
        """
        info = self._tree[new.name]
        tensor = self._tree.tensor(new.name)
        if not info.editable or info.kind == "computed":
            raise EditRefused(f"{info.title}: {info.reason}")
        if new.region.numel == 0:
            raise EditRefused(f"{info.title}: there is no cell in {new.region} to hold. Name at least one.")
        if new.kind in ("clamp", "sign") and (tensor.is_complex() or tensor.dtype is torch.bool):
            raise EditRefused(
                f"{info.title}: {tensor.dtype} has no order, so that it cannot be held to bounds or a sign."
            )
        for bound in (new.min, new.max):
            if bound is not None and (
                isinstance(bound, bool) or not isinstance(bound, int | float) or math.isnan(bound)
            ):
                raise EditRefused(f"{info.title}: a bound must be a number, got {bound!r}.")
        if new.min is not None and new.max is not None and new.min > new.max:
            raise EditRefused(
                f"{info.title}: the minimum must not be above the maximum, got {new.min} and {new.max}. Swap them."
            )
        if new.source is not None and new.source[1].view_shape != new.region.view_shape:
            theirs = list(new.source[1].view_shape)
            raise EditRefused(
                f"{info.title}: a tie needs two regions of one shape, got {list(new.region.view_shape)} and {theirs}. "
                f"Index the larger one."
            )
        for other in self._held:
            if other.name != info.name or not _meet(other.region, new.region):
                continue
            if {other.kind, new.kind} == {"keep", "clamp"}:
                self._refuse_outside(info.title, tensor, *((new, other) if new.kind == "keep" else (other, new)))
            low = max((c.min for c in (other, new) if c.min is not None), default=-math.inf)
            high = min((c.max for c in (other, new) if c.max is not None), default=math.inf)
            if low > high:
                raise EditRefused(
                    f"{info.title}: these bounds and those of '{other.text}' exclude each other, from {low:g} to {high:g}. "
                    f"Release that hold first."
                )

    def _refuse_outside(self, title: str, tensor: Tensor, keep: Constraint, clamp: Constraint) -> None:
        marks = [torch.zeros(keep.region.shape, dtype=torch.bool) for _ in range(2)]
        for mark, region in zip(marks, (keep.region, clamp.region), strict=True):
            storage.write(mark, region, _set)
        both = marks[0] & marks[1]
        cells = tensor.detach().cpu()[both]
        out = torch.zeros_like(cells, dtype=torch.bool)
        if clamp.min is not None:
            out |= cells < clamp.min
        if clamp.max is not None:
            out |= cells > clamp.max
        if bool(out.any()):
            raise EditRefused(
                f"{title}: {int(out.sum())} kept cells lie outside the bounds of '{clamp.text}'. "
                f"Clamp them first, or hold other cells."
            )

    def add(self, constraint: Constraint) -> None:
        """Put it in force; its id is given once and stays through undo and redo."""
        if constraint.id == 0:
            self._count += 1
            constraint.id = self._count
        constraint.active = True
        self._held.append(constraint)

    def remove(self, constraint: Constraint) -> None:
        constraint.active = False
        self._held.remove(constraint)

    def captured(self, changed: Iterable[tuple[str, Region]]) -> None:
        """The user edited these cells: what is held follows (a hold is against the optimizer, not against the user).

        Held cells beside them keep what was held: after an optimizer's step the tensor may hold something else there.
        """
        for name, region in changed:
            first = self._tree[name].name
            for constraint in self._held:
                if constraint.name == first and _meet(constraint.region, region):
                    constraint.capture(self._tree.tensor(first), region)

    def enforce(self) -> set[str]:
        """Put all held cells right; returns the names of the tensors that hold some.

        Bounds, signs, ties and rules come before keeps, and a later keep after an earlier one, so that it wins.
        """
        for constraint in sorted(self._held, key=lambda c: c.kind == "keep"):
            tensor = self._tree.tensor(constraint.name)
            if constraint.kind == "keep":
                assert constraint.kept is not None
                if constraint.kept.device != tensor.device:
                    constraint.kept = constraint.kept.to(tensor.device)
                storage.put(tensor, constraint.region, constraint.kept)
            else:
                storage.write(tensor, constraint.region, self._change(constraint))
        return {constraint.name for constraint in self._held}

    def _change(self, constraint: Constraint) -> Callable[[Tensor], None]:
        def change(cells: Tensor) -> None:
            if constraint.kind == "clamp":
                cells.clamp_(constraint.min, constraint.max)
            elif constraint.kind == "sign":
                assert constraint.kept is not None
                cells.masked_fill_(cells.sign() * constraint.kept.to(cells.device) <= 0, 0)
            elif constraint.kind == "tie":
                assert constraint.source is not None
                name, region = constraint.source
                cells.copy_(storage.read(self._tree.tensor(name), region))
            elif constraint.rule is not None:
                seen = cells.clone()
                made = constraint.rule(seen)
                made = seen if made is None else made
                if not isinstance(made, Tensor) or made.shape != cells.shape:
                    got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
                    raise EditRefused(
                        f"{constraint.name}: the rule of a hold must return {list(cells.shape)} cells, got {got}."
                    )
                cells.copy_(made)

        return change

    def mask(self, name: str) -> Tensor:
        """Which cells of a tensor are held, as bool on the CPU: the view "held"."""
        info = self._tree[name]
        mask = torch.zeros(info.shape, dtype=torch.bool)
        for constraint in self._held:
            if constraint.name == info.name:
                storage.write(mask, constraint.region, _set)
        return mask


def _short(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, int | float) else str(bound)


def _set(cells: Tensor) -> None:
    cells.fill_(True)


def _meet(one: Region, other: Region) -> bool:
    """Whether the bounding boxes overlap; enough to look closer."""
    return all(a < d and c < b for (a, b), (c, d) in zip(one.bounds, other.bounds, strict=True))
