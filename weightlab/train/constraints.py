"""Holds: cells that are kept, clamped or ruled through optimizer steps (rule T4).

A masked gradient does not keep a weight: momentum, Adam's moments and weight decay move it all the same. A hold lets
the optimizer do what it wants and puts the cells right after each step, bit by bit, through `storage` as every write.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import dtypes, storage
from weightlab.model.overlap import flat_cells, meet, positions, same_memory
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.train.agreement import agree, refuse_moved, sound
from weightlab.train.hold import Constraint, sign


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
        """Refuse a hold that cannot be kept, alone or together with those before it.

        Raises:
            EditRefused: a kept cell outside a bound, bounds that exclude each other, a bad bound or source.
        """
        sound(self._tree, new)
        new.capture(self._tree.tensor(new.name))
        agree(self._tree, self._present(), new)

    def refuse_moved(self, name: str, region: Region) -> None:
        """Refuse an edit that has moved kept cells outside their bounds, before it stands."""
        if self._held:
            refuse_moved(self._tree, self._present(), self._tree[name].name, region)

    def add(self, constraint: Constraint) -> None:
        """Put it in force; its id is given once and stays through undo and redo."""
        if constraint.id == 0:
            self._count += 1
            constraint.id = self._count
        constraint.active = True
        self._held.append(constraint)

    def remove(self, constraint: Constraint) -> None:
        constraint.active = False
        if constraint in self._held:  # not where its tensor has gone
            self._held.remove(constraint)

    def captured(self, changed: Iterable[tuple[str, Region]]) -> None:
        """The user edited these cells: what is held follows (a hold is against the optimizer, not against the user).

        Held cells beside them keep what was held: after an optimizer's step the tensor may hold something else there.
        """
        for name, region in changed if self._held else ():
            if name not in self._tree or self._tree[name].shape != region.shape:
                continue  # the cells of what was there before, or an optimizer's moment
            first = self._tree[name].name
            for constraint in self._present():
                if constraint.name == first and meet(constraint.region, region):
                    constraint.capture(self._tree.tensor(first), region)
                elif constraint.name in self._tree.sharing(first):
                    there = self._tree.tensor(constraint.name)
                    same = same_memory(self._tree.tensor(first), region, there, constraint.region)
                    constraint.capture(there, same)
            if any(constraint.kind == "tie" for constraint in self._held):
                self._capture_equals(first, region, (first, flat_cells(region)), ())

    def _capture_equals(
        self, name: str, region: Region, edited: tuple[str, Tensor], path: tuple[Constraint, ...]
    ) -> None:
        """What is kept of cells that ties make equal to edited ones follows, too; `edited`: tensor and cell for each."""
        for tie in self._present():
            if tie.kind != "tie" or tie in path or tie.source is None:
                continue
            sides = ((tie.name, tie.region), tie.source)
            for (here, cells), (there, equals) in (sides, sides[::-1]):
                if here != name or not meet(cells, region):
                    continue
                at = positions(region, cells)
                same = Region.of_cells(equals.shape, flat_cells(equals).flatten()[at[at >= 0]])
                theirs = edited[0], edited[1][at >= 0]
                for hold in self._present():
                    if hold.name == there and hold.kept is not None and meet(hold.region, same):
                        place = positions(hold.region, same)
                        origin = self._tree.tensor(edited[0])
                        now = storage.read(origin, Region.of_cells(tuple(origin.shape), theirs[1][place[place >= 0]]))
                        hold.take(now, place >= 0)
                self._capture_equals(there, same, theirs, (*path, tie))

    def enforce(self) -> set[str]:
        """Put all held cells right; returns the names of the tensors that hold some.

        Rules come first, then ties, each after those that its source follows, then signs, bounds and keeps, a later keep
        after an earlier one, so that it wins. Where cells that are held equal differ after that, they are under other bounds:
        what follows hands its values back, until both are inside. A rule that raises does so when all others are kept.
        """
        gone = self._drop_lost()
        held = self._held
        failed: BaseException | None = None
        for constraint in held:
            if constraint.kind == "rule":
                try:
                    self._write(constraint)
                except BaseException as error:  # the user's own code
                    failed = failed or error
        ties = _sources_first([c for c in held if c.kind == "tie"])
        others = [c for kind in ("sign", "clamp", "keep") for c in held if c.kind == kind]
        self._write_all(others)
        for _ in range(len(ties) and len(ties) + 1):
            self._write_all(ties)
            given = [storage.read(self._tree.tensor(tie.name), tie.region) for tie in ties]
            self._write_all(others)
            if not [tie for tie, was in reversed(list(zip(ties, given, strict=True))) if self._hand_back(tie, was)]:
                break
            self._write_all(others)
        names = {constraint.name for constraint in held}
        if failed is not None:
            raise failed
        for text in gone:
            warnings.warn(text, stacklevel=3)
        return names

    def _present(self) -> list[Constraint]:
        """The holds whose cells the model still has."""
        return [constraint for constraint in self._held if not self._lost(constraint)]

    def _lost(self, constraint: Constraint) -> str:
        """Why its cells are not there any more; empty where they are."""
        for name, region in ((constraint.name, constraint.region), constraint.source or ("", None)):
            if region is None:
                continue
            if name not in self._tree:
                return f"the model has no {name} any more"
            shape = self._tree[name].shape
            if shape != region.shape:
                return f"{name} was replaced by one of shape {list(shape)}, and was {list(region.shape)}"
        return ""

    def _drop_lost(self) -> list[str]:
        told = []
        for constraint in tuple(self._held):
            why = self._lost(constraint)
            if why:
                self.remove(constraint)
                told.append(f"'{constraint.text}' was released: {why}. Hold the cells of what the model has now.")
        return told

    def _write_all(self, constraints: Iterable[Constraint]) -> None:
        for constraint in constraints:
            self._write(constraint)

    def _write(self, constraint: Constraint) -> None:
        tensor = self._tree.tensor(constraint.name)
        if constraint.kind == "keep":
            assert constraint.kept is not None
            if (constraint.kept.device, constraint.kept.dtype) != (tensor.device, tensor.dtype):
                constraint.kept = constraint.kept.to(tensor.device, tensor.dtype)
            storage.put(tensor, constraint.region, constraint.kept)
        else:
            storage.write(tensor, constraint.region, self._change(constraint))

    def _hand_back(self, tie: Constraint, given: Tensor) -> bool:
        """Give the source what other holds made of the cells that follow it; returns whether they made any differ."""
        assert tie.source is not None
        name, region = tie.source
        tensor = self._tree.tensor(name)
        after = storage.read(self._tree.tensor(tie.name), tie.region)
        with storage.writing(tensor):
            before = storage.read(tensor, region)
            differ = storage.differing(given, after)
            if not bool(differ.any()):
                return False
            # Only these cells: the others may hold more digits than what follows them.
            handed = after.to(before.device, before.dtype)
            chosen = differ.to(before.device)
            storage.as_integers(before)[chosen] = storage.as_integers(handed)[chosen]
        storage.put(tensor, region, before)
        return True

    def _change(self, constraint: Constraint) -> Callable[[Tensor], None]:
        def change(cells: Tensor) -> None:
            if constraint.kind == "clamp":
                if dtypes.wide(cells.dtype) is cells.dtype and cells.dtype is not torch.uint64:
                    cells.clamp_(constraint.min, constraint.max)
                else:
                    cells.copy_(dtypes.clamped(cells, constraint.min, constraint.max))
            elif constraint.kind == "sign":
                assert constraint.kept is not None
                dtypes.movable(cells).masked_fill_(sign(cells) * constraint.kept.to(cells.device) <= 0, 0)
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
                _refuse_lost(constraint.name, cells, made)
                cells.copy_(made)

        return change

    def mask(self, name: str) -> Tensor:
        """Which cells of a tensor are held, as bool on the CPU: the view "held"."""
        info = self._tree[name]
        with torch.inference_mode(False):
            mask = torch.zeros(info.shape, dtype=torch.bool, device="cpu")
        for constraint in self._present():
            if constraint.name == info.name:
                storage.write(mask, constraint.region, _set)
        return mask


def _refuse_lost(name: str, cells: Tensor, made: Tensor) -> None:
    """A rule may say anything but what the cells cannot hold, as an edit may (rule J11)."""
    if made.is_complex() and not cells.is_complex():
        raise EditRefused(
            f"{name}: the rule of a hold returned complex cells, the weight has {cells.dtype}. Return real ones."
        )
    if cells.is_floating_point() or cells.is_complex():
        stored = made.detach().to(cells.device, cells.dtype)
        lost = int((dtypes.finite(cells) & ~dtypes.finite(stored)).count_nonzero())
        if lost:
            raise EditRefused(
                f"{name}: the rule of a hold made {lost} finite cells nan or inf. They keep their values."
            )


def _sources_first(ties: list[Constraint]) -> list[Constraint]:
    """Each tie after those whose cells it follows; there is no circle."""
    ordered: list[Constraint] = []
    left = list(ties)
    while left:
        for tie in left:
            assert tie.source is not None
            name, region = tie.source
            if not any(other is not tie and other.name == name and meet(other.region, region) for other in left):
                break
        else:  # a circle that came by redo: in the order in which they were made
            tie = left[0]
        left.remove(tie)
        ordered.append(tie)
    return ordered


def _set(cells: Tensor) -> None:
    cells.fill_(True)
