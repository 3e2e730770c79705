"""Named copies of a model's tensors; diff and restore.

A model is copied at once where a quarter of the free memory, or 256 MB, holds it. In a larger one the buffers are, which
any forward may change, and a parameter is copied before its first write: by an edit, or by any torch optimizer's step,
both of which announce themselves. That is said when the snapshot is taken. Code that writes past both is found by
fingerprint, and a snapshot that has lost a tensor that way says so rather than show wrong numbers. What is the same as in
the snapshot before, to the byte, is kept once.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from weightlab.errors import EditRefused, UnknownName
from weightlab.model import storage
from weightlab.model.sharded import is_sharded
from weightlab.model.tree import ParameterTree, spellings

AT_ONCE = 256 * 2**20  # bytes, however little memory is free


@dataclass(frozen=True, slots=True)
class DiffRow:
    """How one tensor differs: `max` and `mean` of |a - b|, `relative_l2` = |a - b| / |b|, cells that differ in bytes.

    `cosine` is of the flattened tensors. `mean`, `relative_l2` and `cosine` are over the cells that are finite on both sides;
    `max` is nan where a cell is NaN on one side alone, and else inf where one is infinite and the other is not the same.
    `note` says why there are no numbers: a shape that differs, a tensor on one side only.
    """

    name: str
    cells: int
    max: float
    mean: float
    relative_l2: float
    cosine: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diff:
    """Rows of the tensors that differ, in the model's order; prints as a table."""

    against: str
    rows: tuple[DiffRow, ...]
    equal: int

    def __getitem__(self, name: str) -> DiffRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise UnknownName(f"{name}: it does not differ from '{self.against}', or has no such name.")

    def __iter__(self) -> Iterator[DiffRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=4)
        equal = f"{self.equal} {'is' if self.equal == 1 else 'are'} equal"
        differ = f"{_count(len(self.rows))} differ{'s' if len(self.rows) == 1 else ''}"
        lines = [f"against {self.against}: {differ}, {equal}"]
        if self.rows:
            lines.append(f"{'name':{width}}  {'cells':>10}  {'max':>9}  {'mean':>9}  {'rel. l2':>9}  {'cosine':>8}")
        for row in self.rows:
            numbers = f"{row.cells:>10,}  {row.max:9.3g}  {row.mean:9.3g}  {row.relative_l2:9.3g}  {row.cosine:8.5f}"
            lines.append(f"{row.name:{width}}  {row.note or numbers}")
        return "\n".join(lines)

    __repr__ = __str__


def _count(tensors: int) -> str:
    return f"{tensors} tensor{'s' if tensors != 1 else ''}"


def at_once() -> int:
    """Bytes that a snapshot may copy at once."""
    return max(AT_ONCE, free_memory() // 4)


def free_memory() -> int:
    """Bytes that the system can still give; 0 where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


class Snapshots:
    """The snapshots of one Lab; *state*."""

    def __init__(self, tree: ParameterTree) -> None:
        self._tree = tree
        self._taken: dict[str, _Snapshot] = {}
        self._hook: object = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._taken)

    def take(self, label: str) -> None:
        """Remember the model as it is now; a label that exists is taken anew."""
        if not isinstance(label, str) or not label:
            raise EditRefused(f"snapshot: the label must be a text, got {label!r}. For example snapshot('before').")
        infos = [info for info in self._tree if info.editable and info.kind != "computed"]
        tensors = {info.name: self._tree.tensor(info.name) for info in infos}
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        # Processes that share a tensor must decide alike, however much memory each of them finds.
        later = size > (AT_ONCE if any(map(is_sharded, tensors.values())) else at_once())
        latest = next(reversed(self._taken.values()), None)
        snapshot = _Snapshot(
            tensors,
            {info.name for info in infos if later and info.kind == "parameter"},
            latest.copies if latest else {},
        )
        self._taken[label] = snapshot
        if snapshot.lacking and self._hook is None:
            self._hook = _before_optimizer_steps(self)
        if snapshot.lacking:
            warnings.warn(
                f"snapshot '{label}': {size / 2**30:.1f} GB are more than a quarter of the free memory, so that a parameter is "
                f"copied when an edit or a torch optimizer is about to change it. Other code that writes to it loses its "
                f"old values; restore then says so.",
                stacklevel=3,
            )

    def drop(self, label: str) -> None:
        """Forget a snapshot."""
        self.tensors(label)
        del self._taken[label]

    def compare(self, label: str) -> Diff:
        """The model against a snapshot."""
        return compare(self._tree, self.tensors(label), label)

    def before_write(self, name: str) -> None:
        """A tensor is about to change: snapshots that share it with the model copy it now."""
        known = None
        for snapshot in self._taken.values():
            if name in snapshot.lacking:
                known = snapshot.copy(name, known)

    def before_step(self, parameters: Sequence[Tensor]) -> None:
        """An optimizer is about to change these."""
        changing = {id(parameter) for parameter in parameters}
        lacking = [each for snapshot in self._taken.values() for each in snapshot.lacking.items()]
        for name in dict.fromkeys(name for name, tensor in lacking if id(tensor) in changing):
            self.before_write(name)

    def tensors(self, label: str) -> Mapping[str, Tensor]:
        """The tensors of a snapshot, on the CPU where they were copied.

        Raises:
            UnknownName: there is no snapshot of this label.
            EditRefused: other code changed a tensor before it was copied.
        """
        if not isinstance(label, str) or label not in self._taken:
            known = ", ".join(map(repr, self._taken)) or "none yet"
            raise UnknownName(f"{label!s:.100}: there is no snapshot of this label. Taken: {known}.")
        return self._taken[label].tensors()


class _Snapshot:
    """Copies, and what is still shared with the model with the fingerprint that it had."""

    def __init__(self, tensors: Mapping[str, Tensor], later: set[str], before: Mapping[str, Tensor]) -> None:
        self.copies: dict[str, Tensor] = {}
        self.lacking = dict(tensors)
        # In one order: processes that share a tensor copy it together.
        for name in [name for name in tensors if name not in later]:
            self.copy(name, before.get(name))
        self._marks = {name: storage.fingerprint(storage.whole(t)) for name, t in self.lacking.items()}

    def copy(self, name: str, known: Tensor | None) -> Tensor:
        """Copy a tensor, or keep the copy that another snapshot has, if it is the same."""
        tensor = self.lacking.pop(name)
        with storage.writing(tensor):
            copy = storage.whole(tensor).to("cpu", copy=True)
            self.copies[name] = known if known is not None and _same(known, copy) else copy
        return self.copies[name]

    def tensors(self) -> Mapping[str, Tensor]:
        for name, tensor in self.lacking.items():
            if storage.fingerprint(storage.whole(tensor)) != self._marks[name]:
                raise EditRefused(
                    f"{name} {list(tensor.shape)}: other code changed it before the snapshot could copy it, so that its old "
                    f"values are lost. Take the snapshot again, and change weights through the Lab or an optimizer."
                )
        return {**self.copies, **{name: storage.whole(tensor) for name, tensor in self.lacking.items()}}


def _same(one: Tensor, other: Tensor) -> bool:
    kind = (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
    return kind and not any(bool(storage.differing(a, b).any()) for a, b in zip(_flat(one), _flat(other), strict=True))


def _before_optimizer_steps(snapshots: Snapshots) -> object:
    """Follow every torch optimizer of the process for as long as the snapshots live."""
    found = weakref.ref(snapshots)

    def hook(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        alive = found()
        if alive is not None:
            alive.before_step([p for group in optimizer.param_groups for p in group["params"]])

    handle = register_optimizer_step_pre_hook(hook)
    weakref.finalize(snapshots, handle.remove)
    return handle


def compare(tree: ParameterTree, other: Mapping[str, Tensor], against: str, names: Sequence[str] | None = None) -> Diff:
    """Row per tensor that differs between the model and other values by name. Moments in float64, chunk by chunk."""
    rows: list[DiffRow] = []
    equal = 0
    for info in tree:
        if names is not None and info.name not in names:
            continue
        names_there = (each for name in (info.name, *info.aliases) for each in spellings(name))
        theirs = next((other[name] for name in names_there if name in other), None)
        if info.kind == "computed" or (theirs is None and not info.editable):
            continue
        mine = tree.tensor(info.name)
        note = ""
        if theirs is None:
            note = f"only in the model: '{against}' has no such name"
        elif theirs.shape != mine.shape:
            note = f"shape {list(mine.shape)}, in '{against}' {list(theirs.shape)}"
        elif storage.why_not_readable(mine) or storage.why_not_readable(theirs):
            note = "its values cannot be read"
        if note or theirs is None:
            rows.append(DiffRow(info.name, 0, math.nan, math.nan, math.nan, math.nan, note))
            continue
        row = _row(info.name, storage.whole(mine), storage.whole(theirs))
        if row.cells:
            rows.append(row)
        else:
            equal += 1
    missing = f"only in '{against}'"
    rows += [
        DiffRow(n, 0, math.nan, math.nan, math.nan, math.nan, missing) for n in other if names is None and n not in tree
    ]
    return Diff(against, tuple(rows), equal)


def _row(name: str, mine: Tensor, theirs: Tensor) -> DiffRow:
    largest = total = squares = own = dot = base = 0.0
    cells = number = 0
    has_nan = False
    pieces = zip(_flat(mine), _flat(theirs.to(mine.device)), strict=True)
    for a, b in pieces:
        if a.dtype == b.dtype:
            cells += int(storage.differing(a, b).count_nonzero())
        else:
            cells += int((a.double() != b.double()).count_nonzero())
        wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
        x, y = a.to(wide), b.to(wide)
        both = x.isfinite() & y.isfinite()
        gap = (x - y).abs() if a.is_floating_point() or b.is_floating_point() or a.is_complex() else _whole_gap(a, b)
        if not bool(both.all()):
            has_nan = has_nan or bool((x.isnan() != y.isnan()).any())
            largest = math.inf if bool((~both & ~x.isnan() & ~y.isnan() & (x != y)).any()) else largest
            x, y, gap = x[both], y[both], gap[both]
        number += gap.numel()
        largest = max(largest, float(gap.max())) if gap.numel() else largest
        total += float(gap.sum())
        squares += float((gap * gap).sum())
        own += float((x.abs() ** 2).sum())
        base += float((y.abs() ** 2).sum())
        dot += float((x * y.conj()).real.sum() if wide is torch.complex128 else (x * y).sum())
    relative = math.sqrt(squares / base) if base else (0.0 if squares == 0 else math.inf)
    cosine = dot / math.sqrt(own * base) if own and base else (1.0 if own == base else 0.0)
    return DiffRow(name, cells, math.nan if has_nan else largest, total / max(number, 1), relative, cosine)


def _whole_gap(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| of whole numbers as float64: neighbours near 2**63 differ by 1, though float64 has both as one number.

    int64 gives the difference modulo 2**64, which is the difference itself where that is less than 2**63.
    """
    rough = (a.double() - b.double()).abs()
    return torch.where(rough < 2.0**62, (a.long() - b.long()).double().abs(), rough)


def _flat(tensor: Tensor) -> Iterator[Tensor]:
    """1-D pieces of a few million cells: differences never exist for the whole tensor at once."""
    if tensor.numel() <= 1 << 22 or tensor.ndim == 0:
        yield tensor.reshape(-1)
        return
    rows = max(1, (1 << 22) * tensor.shape[0] // tensor.numel())
    for start in range(0, tensor.shape[0], rows):
        yield tensor[start : start + rows].reshape(-1)
