"""Copy weights from another model by name and shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from weightlab.edit.operations import Edit
from weightlab.edit.trial import tried
from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.model.fit import in_words
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, spellings

Match = Callable[[str], "str | None"] | Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class TransferRow:
    """What became of one tensor: `status` is "copied", "equal", or "left" for the reason in `note`."""

    name: str
    source: str
    status: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The report of a transfer; prints as a table."""

    rows: tuple[TransferRow, ...]

    @property
    def copied(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.status == "copied")

    @property
    def left(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.status == "left")

    def __iter__(self) -> Iterator[TransferRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=4)
        lines = [f"{len(self.copied)} tensors copied, {len(self.left)} left"]
        for row in self.rows:
            source = f" from {row.source}" if row.source not in ("", row.name) else ""
            lines.append(f"{row.name:{width}}  {row.status}{source}{': ' + row.note if row.note else ''}")
        return "\n".join(lines)

    __repr__ = __str__


def plan(
    tree: ParameterTree, other: Mapping[str, Tensor], match: Match = None, weight: float = 1.0
) -> tuple[list[Edit], Transfer]:
    """Edits that copy all that fits by name and shape, and the report of all tensors.

    Args:
        match: this model's name to the other's, as a function or as a mapping for those that differ; None leaves the tensor alone.
        weight: how far to go towards the other values: 1 copies them, 0.5 gives the average of both.
    """
    if match is not None and not callable(match) and not isinstance(match, Mapping):
        raise EditRefused(f"transfer: match must be a function or a dict of names, got {type(match).__name__}.")
    unknown = [name for name in match if name not in tree] if isinstance(match, Mapping) else []
    if unknown:
        raise EditRefused(
            f"transfer: match names {unknown[0]!r}, which this model does not have. Give its names as keys."
        )
    edits, rows = [], []
    for info in tree:
        if info.kind == "computed":
            continue
        names = (info.name, *info.aliases)
        wanted = [
            name if match is None else match(name) if callable(match) else match.get(name, name) for name in names
        ]
        odd = next((name for name in wanted if name is not None and not isinstance(name, str)), None)
        if odd is not None:
            raise EditRefused(
                f"{info.title}: match must give a name or None, got {type(odd).__name__}. Give the other model's name."
            )
        source = next((each for name in wanted if name is not None for each in spellings(name) if each in other), None)
        if source is None:
            rows.append(TransferRow(info.name, "", "left", "the other model has no such name"))
            continue
        values = other[source].detach()
        if tuple(values.shape) != info.shape:
            fits = in_words(info.shape, values.shape)
            note = f"shape {list(info.shape)}, there {list(values.shape)}: {fits}"
            rows.append(TransferRow(info.name, source, "left", note))
        elif not info.editable or storage.why_not_readable(values):
            rows.append(TransferRow(info.name, source, "left", info.reason or storage.why_not_readable(values)))
        elif values.dtype == info.dtype and not bool(
            storage.differing(storage.whole(tree.tensor(info.name)), storage.whole(values).to(info.device)).any()
        ):
            rows.append(TransferRow(info.name, source, "equal"))
        elif weight != 1 and not (info.dtype.is_floating_point or info.dtype.is_complex):
            rows.append(TransferRow(info.name, source, "left", "whole numbers have no average"))
        else:
            copies = weight == 1
            args = {"values": values} if copies else {"end": values, "weight": weight}
            edit = Edit(info.name, Region.whole(info.shape), "copy_" if copies else "lerp_", args)
            note = "" if copies and values.dtype == info.dtype else _why_refused(tree, edit)
            rows.append(TransferRow(info.name, source, "left" if note else "copied", note))
            if not note:
                edits.append(edit)
    return edits, Transfer(tuple(rows))


def _why_refused(tree: ParameterTree, edit: Edit) -> str:
    """One tensor that does not take the values is a row of the report, and no reason to leave all others."""
    try:
        tried(tree, edit)
    except EditRefused as error:
        return str(error).removeprefix(f"{tree[edit.name].title}: ")
    return ""
