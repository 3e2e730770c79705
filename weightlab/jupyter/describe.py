"""What the page is told about a Lab, as the JSON of docs/protocol.md."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from weightlab.check.causes import Cause
from weightlab.check.gradients import GradientReport
from weightlab.check.mending import mends
from weightlab.check.outputs import OutputChange
from weightlab.edit.entry import Entry
from weightlab.edit.snapshots import Diff
from weightlab.edit.transfer import Transfer
from weightlab.lab import Lab
from weightlab.model import dtypes
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree, TensorInfo
from weightlab.see import reading
from weightlab.see.layout import Layout
from weightlab.see.numbers import texts
from weightlab.see.summary import summarize
from weightlab.train.hold import Constraint

Json = dict[str, Any]
_HISTORY = (200, 50)  # applied and undone entries that are told
_CODE = 4000
_LARGE = 1 << 20  # cells of a tensor whose picture has levels
PACKED_FROM = 256  # rows of a column
_described: weakref.WeakKeyDictionary[ParameterTree, tuple[tuple[TensorInfo, ...], Json]] = weakref.WeakKeyDictionary()
_SPELLED = 1000  # values that the code of a told entry may spell out


def model(lab: Lab) -> Json:
    """`model`, `tensors` and `modules` of a hello; the columns are kept until the tree was read again."""
    infos = tuple(lab.tree)
    known = _described.get(lab.tree)
    if known is None or len(known[0]) != len(infos) or any(a is not b for a, b in zip(known[0], infos, strict=True)):
        known = _described[lab.tree] = infos, _structure(infos, lab)
        large = (info for info in infos if info.numel >= _LARGE and info.device.type == "cpu")
        reading.prepare({info.dtype for info in large})  # long before somebody opens one
    told = known[1]
    live = {"training": lab.model.training, "batch": not lab.probe.synthetic}
    return {**told, "model": {**told["model"], **live}}


def _structure(infos: tuple[TensorInfo, ...], lab: Lab) -> Json:
    columns: dict[str, list[Any]] = {
        "name": [info.name for info in infos],
        "kind": [info.kind for info in infos],
        "shape": [info.shape for info in infos],
        "dtype": _each(_name, (info.dtype for info in infos)),
        "device": _each(str, (info.device for info in infos)),
        "requires_grad": [info.requires_grad for info in infos],
        "aliases": [info.aliases for info in infos],
        "editable": [info.editable for info in infos],
        "reason": [info.reason for info in infos],
    }
    modules: dict[str, list[Any]] = {
        "name": list(lab.tree.modules),
        "type": [type(module).__name__ for module in lab.tree.modules.values()],
    }
    return {
        "model": {
            "title": type(lab.model).__name__,
            "parameters": sum(info.numel for info in infos if info.kind == "parameter"),
            "tensors": len(infos),
            "devices": list(dict.fromkeys(columns["device"])),
            "dtypes": list(dict.fromkeys(columns["dtype"])),
        },
        "tensors": {key: _packed(column) for key, column in columns.items()},
        "modules": {key: _packed(column) for key, column in modules.items()},
    }


def _each(told: Callable[[Any], str], values: Iterable[Any]) -> list[str]:
    """Words for values of which there are few different ones."""
    known: dict[Any, str] = {}
    return [known[value] if value in known else known.setdefault(value, told(value)) for value in values]


def _packed(column: list[Any]) -> list[Any] | Json:
    """A long column that repeats itself as its different values and their numbers; none, where there is one value."""
    numbers: dict[Any, int] = {}
    if len(column) >= PACKED_FROM:
        at = [numbers.setdefault(value, len(numbers)) for value in column]
        if len(numbers) <= len(column) // 4:
            return {"of": _lists(list(numbers)), "at": at if len(numbers) > 1 else [], "count": len(column)}
    return _lists(column)


def _lists(column: list[Any]) -> list[Any]:
    return [list(value) for value in column] if column and isinstance(column[0], tuple) else column


def state(lab: Lab) -> Json:
    """What changes while one works."""
    return {
        "auto_check": lab.auto_check,
        "history": history(lab),
        "gradients": gradients(lab),
        "undo_bytes": lab.journal.nbytes,
        "undo_limit": lab.journal.undo_bytes,
        "holds": [hold(constraint) for constraint in lab.constraints],
        "snapshots": list(lab.snapshots.labels),
        "offers": list(lab.offers),
        "moments": _has_moments(lab),
        "readings": lab.tree.readings,
        "diagnosed": {"number": lab.diagnosed.number, "revision": lab.diagnosed.revision},
    }


def _has_moments(lab: Lab) -> bool:
    """Whether the optimizer keeps something beside a weight by now: before its first step it has nothing."""
    states = () if lab.optimizer is None else lab.optimizer.state.values()
    return any(isinstance(value, Tensor) and value.ndim > 0 for state in states for value in state.values())


def history(lab: Lab) -> Json:
    """The part of the history around the present: a reply must not grow with every stroke (rule S4)."""
    position = lab.journal.position
    first = max(0, position - _HISTORY[0])
    near = lab.journal.entries[first : position + _HISTORY[1]]
    return {"entries": [entry(e) for e in near], "position": position - first}


def entry(entry: Entry, foreign: list[tuple[str, Region]] | None = None) -> Json:
    """One undo step; `foreign` is what other code was found to have changed meanwhile."""
    code = entry.code if entry.size <= _SPELLED else ""
    if entry.size > _SPELLED or len(code) > _CODE:
        code = f"# {entry.size:,} values: next(e for e in lab.history if e.id == {entry.id}).code spells them out"
    return {
        "id": entry.id,
        "text": entry.text,
        "code": code,
        "cells": entry.cells,
        "held": entry.held,
        "names": list(entry.names),
        "rounded": entry.rounded,
        "requested": texts(entry.requested),
        "stored": texts(entry.stored),
        "changed": [
            [name, [list(pair) for pair in region.bounds]] for name, region in (*entry.changed, *(foreign or ()))
        ],
        "notes": list(entry.notes),
    }


def hold(constraint: Constraint) -> Json:
    """One hold in force."""
    region = constraint.region
    axes = region.axes if region.is_box else [(start, stop, 1) for start, stop in region.bounds]
    return {
        "id": constraint.id,
        "name": constraint.name,
        "kind": constraint.kind,
        "text": constraint.text,
        "cells": region.numel,
        "axes": [list(axis) for axis in axes],
    }


def diff(diff: Diff) -> Json:
    """Rows of the tensors that differ."""
    rows = []
    for row in diff:
        numbers = {key: number(getattr(row, key)) for key in ("max", "mean", "relative_l2", "cosine")}
        rows.append({"name": row.name, "cells": row.cells, **numbers, "note": row.note})
    return {"rows": rows, "equal": diff.equal}


def transfer(report: Transfer) -> list[Json]:
    """What became, or would become, of each tensor."""
    return [{"name": row.name, "source": row.source, "status": row.status, "note": row.note} for row in report]


def gradients(lab: Lab) -> Json | None:
    """The last report beside the one before, or why there is none."""
    error = lab.report_error
    report, before = lab.report, lab.report_before
    if report is None and error is None:
        return None
    told = None if error is None else {"kind": type(error).__name__, "message": str(error)}
    if report is None or error is not None:
        return {
            "loss": None, "loss_text": "", "loss_before": None, "synthetic": None, "rows": [], "causes": [],
            "revision": lab.checked_revision, "error": told, "output": None,
        }  # fmt: skip
    return {
        "loss": number(report.loss),
        "loss_text": f"{report.loss:.4g}",
        "loss_before": None if before is None else number(before.loss),
        "synthetic": report.note or "made-up input" if report.synthetic else None,
        "rows": _rows(report, before, lab.step_norms()),
        "causes": _causes(report, before),
        "revision": lab.checked_revision,
        "error": None,
        "output": None if before is None else _output(report.changes_since(before).output),
    }


def _output(change: OutputChange | None) -> Json | None:
    if change is None:
        return None
    kl = None if change.kl is None else number(change.kl)
    return {"cosine": number(change.cosine), "relative_l2": number(change.relative_l2), "kl": kl}


def _rows(report: GradientReport, before: GradientReport | None, steps: dict[str, float]) -> list[Json]:
    earlier = {} if before is None else {row.name: row for row in before.rows}
    rows = []
    for row in report.rows:
        old = earlier.get(row.name)
        ratio = None
        if old is not None and row.norm is not None and old.norm:
            ratio = number(row.norm / old.norm)
        rows.append(
            {
                "name": row.name,
                "status": row.status,
                "norm": None if row.norm is None else number(row.norm),
                "weight": None if row.weight is None else number(row.weight),
                "step": number(steps[row.name]) if row.name in steps else None,
                "ratio": ratio,
                "was": old.status if old is not None and old.status != row.status else None,
                "zero_units": row.zero_units,
                "units": row.units,
            }
        )
    return rows


def _causes(report: GradientReport, before: GradientReport | None) -> list[Json]:
    """Why gradients do not flow, and of each whether the check before had it already."""
    known = {(cause.kind, cause.at, cause.text) for cause in (report if before is None else before).causes}
    return [_cause(cause, (cause.kind, cause.at, cause.text) not in known) for cause in report.causes]


def _cause(cause: Cause, new: bool) -> Json:
    return {
        "kind": cause.kind,
        "at": cause.at,
        "affects": list(cause.affects),
        "severity": cause.severity,
        "title": cause.title,
        "text": cause.text,
        "evidence": list(cause.evidence),
        "name": cause.name,
        "region": cause.region,
        "advice": str(cause.repair or ""),
        "mends": mends(cause),
        "new": new,
    }


def layout(layout: Layout, norm: str = "") -> Json:
    """Axes of a picture."""
    return {
        "rows": list(layout.rows),
        "columns": list(layout.columns),
        "facets": list(layout.facets),
        "wrap": layout.wrap,
        "labels": list(layout.labels),
        "shape": list(layout.shape),
        "fixed": [list(pair) for pair in layout.fixed],
        "groups": [
            {"axis": g.axis, "name": g.name, "starts": list(g.starts), "labels": list(g.labels), "source": g.source}
            for g in layout.groups
        ],
        "norm": norm,
        "orders": [{"axis": order.axis, "by": order.by, "token": order.token} for order in layout.orders],
    }


def summary(tensor: Tensor, *, exact: bool, ends: tuple[float, float] | None = None) -> Json:
    """Statistics, with null where there is no finite number; arguments as those of `summarize`."""
    made = summarize(tensor, exact=exact, ends=ends)
    return {
        "count": made.count,
        "nan": made.nan,
        "inf": made.inf,
        "zero": made.zero,
        **{key: number(getattr(made, key)) for key in ("min", "max", "mean", "std", "l2")},
        "quantiles": [[q, number(value)] for q, value in made.quantiles],
        "histogram": {
            "low": number(made.histogram.low),
            "high": number(made.histogram.high),
            "counts": list(made.histogram.counts),
        },
        "exact": made.exact,
        "sampled": made.sampled,
    }


def views(lab: Lab, name: str, shown: str) -> Json:
    """What else of a tensor can be shown, and where the numbers that are shown come from."""
    return {"views": lab.views(name), "about": lab.about(name, shown), "signed": lab.is_signed(name, shown)}


def exact_text(dtype: torch.dtype) -> bool:
    """Whether float32 holds every cell of this dtype exactly."""
    return dtypes.exact_in_float32(dtype)


def number(value: float) -> float | None:
    """Strict JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
