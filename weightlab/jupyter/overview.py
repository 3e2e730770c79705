"""What the page asks about many tensors at once, or about one tensor as a whole: glances, thumbnails, search, spectrum, text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from weightlab.errors import EditRefused, WeightLabError
from weightlab.jupyter.describe import number
from weightlab.jupyter.fields import FIND, FLAG, FORM, INDEX, MANY, NAME, NAMES, NUMBER_TEXT, TARGET, VIEW
from weightlab.jupyter.looking import flat_index, shown
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.targets import target_region
from weightlab.lab import Lab
from weightlab.model import storage
from weightlab.see import table
from weightlab.see.find import find
from weightlab.see.glance import BARS, Glance, glance
from weightlab.see.numbers import parse_number, texts
from weightlab.see.spectrum import Spectrum, spectrum

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

_SECONDS = 0.15  # of one reply: the picture's tiles wait behind it
_PATIENCE = 0.25  # a spectrum that takes longer is asked for again
_NUMBERS = ("min", "max", "mean", "std", "l2", "low", "high")
_COUNTS = ("count", "nan", "inf", "zero", "sampled")


def glances(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Statistics of tensors, as columns, and their bars; those that did not fit into the time are left."""
    lab, view = session.lab, fields.get("view", "value")
    columns: Json = {key: [] for key in ("name", *_COUNTS, *_NUMBERS, "reason")}
    bars: list[bytes] = []

    def take(name: str) -> None:
        seen: Glance | None = None
        reason = ""
        try:
            seen = lab.glance(name) if view == "value" else glance(lab.view(name, view, compute=False))
        except EditRefused as error:
            reason = str(error)
        columns["name"].append(name)
        columns["reason"].append(reason)
        for key in _COUNTS:
            columns[key].append(0 if seen is None else getattr(seen, key))
        for key in _NUMBERS:
            columns[key].append(None if seen is None else number(getattr(seen, key)))
        bars.append(bytes(BARS) if seen is None else seen.bars)

    left = _in_time(fields["names"], take)
    made.append(b"".join(bars))
    return {"glances": columns, "left": left}


def thumbnails(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """Small pictures: at most 1 KB each, one after another in the buffer."""
    columns: Json = {key: [] for key in ("name", "rows", "columns", "limit", "sampled")}
    parts: list[bytes] = []

    def take(name: str) -> None:
        try:
            seen = session.lab.thumbnail(name)
            row: tuple[Any, ...] = (name, seen.rows, seen.columns, number(seen.limit), seen.sampled)
            parts.append(seen.codes)
        except EditRefused:
            row = (name, 0, 0, None, False)
        for key, value in zip(columns, row, strict=True):
            columns[key].append(value)

    left = _in_time(fields["names"], take)
    made.append(b"".join(parts))
    return {"thumbnails": columns, "left": left}


def _in_time(names: Sequence[str], take: Callable[[str], None]) -> list[str]:
    """Take each name until the time is over, one at least; what is left."""
    end = time.monotonic() + _SECONDS
    for at, name in enumerate(names):
        if at and time.monotonic() > end:
            return list(names[at:])
        take(name)
    return []


def find_cell(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """The cell that is asked for, and its exact text."""
    info = session.lab.tree[fields["name"]]
    tensor = shown(session.lab, fields)
    value = parse_number(fields.get("value") or 0, info.title)
    after = None
    if "after" in fields:
        after = flat_index(fields["after"], info.shape, info.title)
    at = find(tensor, fields["what"], after, float(value), fields.get("back", False))
    if at is None:
        return {"name": info.name, "cell": None, "text": ""}
    cell = [int(i) for i in torch.unravel_index(torch.tensor(at), info.shape)] if info.shape else []
    text = texts(tensor[tuple(cell)].reshape(1))[0]
    return {"name": info.name, "cell": cell, "text": text}


def values(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """The cells of a target as text; what a condition picks and listed cells in one row, by index."""
    info = session.lab.tree[fields["name"]]
    tensor = shown(session.lab, fields)
    region = target_region(session.lab, info, fields, buffers)
    if region.numel > table.LIMIT:
        raise EditRefused(
            f"{info.title}: {region.numel:,} cells are too many to copy, at most {table.LIMIT:,} are. Select fewer."
        )
    cells = storage.read(tensor, region).cpu()
    text = table.as_tsv(cells) if fields["form"] == "tsv" else table.as_torch(cells)
    return {"name": info.name, "text": text, "cells": region.numel}


class Spectra:
    """Spectra being computed and computed ones, each on a thread of its own: the page goes on meanwhile. *State*."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._jobs: dict[tuple[str, str], _Job] = {}

    def ask(self, name: str, view: str, stop: bool) -> _Job | None:
        """The job of a tensor's view, begun if it was not; None after `stop`."""
        key = (name, view)
        job = self._jobs.get(key)
        version = (self._lab.revision, self._lab._version(name))
        if job is not None and (stop or job.version != version or job.stopped):
            job.stopped = True
            del self._jobs[key]
            job = None
        if stop:
            return None
        if job is None:
            for old in list(self._jobs)[:-8]:
                self._jobs.pop(old).stopped = True
            job = self._jobs[key] = _Job(self._lab.view(name, view), self._lab.tree[name].title, name, version)
        return job


class _Stopped(Exception):
    pass


class _Job:
    """One spectrum."""

    def __init__(self, tensor: torch.Tensor, title: str, name: str, version: object) -> None:
        self.version = version
        self.stopped = False
        self.share = 0.0
        self.made: Spectrum | None = None
        self.error: WeightLabError | None = None
        self._threads = torch.get_num_threads()
        self.thread = threading.Thread(target=self._run, args=(tensor, title, name), daemon=True)
        self.thread.start()

    def _run(self, tensor: torch.Tensor, title: str, name: str) -> None:
        torch.set_num_threads(self._threads)
        try:
            self.made = spectrum(tensor, title, name, self._tick)
        except _Stopped:
            pass  # nobody waits for it: who asks again begins a new one
        except WeightLabError as error:
            self.error = error
        except Exception as error:  # LAPACK did not converge, there is no memory: a page must not ask for ever
            self.error = WeightLabError(f"{title}: no spectrum could be computed: {error}.")

    def _tick(self, share: float) -> None:
        self.share = share
        if self.stopped:
            raise _Stopped


def spectrum_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    """The spectrum, or how far it is: then the page asks again."""
    name = session.lab.tree[fields["name"]].name
    with session.lab.lock:
        shown(session.lab, fields)
        job = session.spectra.ask(name, fields.get("view", "value"), fields.get("stop", False))
    told: Json = {"name": name, "share": 0.0, "spectrum": None}
    if job is None:
        return told
    job.thread.join(_PATIENCE)
    if job.error is not None:
        raise job.error
    told["share"] = round(job.share, 3)
    if job.made is not None:
        seen = job.made
        told["share"] = 1.0
        told["spectrum"] = {
            "matrix": list(seen.matrix),
            "values": [float(f"{value:.6g}") for value in seen.values],
            "effective_rank": seen.effective_rank,
            "stable_rank": seen.stable_rank,
            "edge": seen.edge,
            "above_edge": seen.above_edge,
            "exact": seen.exact,
        }
    return told


OPERATIONS: Mapping[str, Operation] = {
    "glances": Operation(glances, {"names": MANY}, {"view": VIEW}, reads=True),
    "thumbnails": Operation(thumbnails, {"names": NAMES}, reads=True),
    "spectrum": Operation(spectrum_of, {"name": NAME}, {"view": VIEW, "stop": FLAG}),
    "find": Operation(
        find_cell,
        {"name": NAME, "what": FIND},
        {"view": VIEW, "after": INDEX, "value": NUMBER_TEXT, "back": FLAG},
        reads=True,
    ),
    "values": Operation(values, {"name": NAME, "form": FORM}, {"view": VIEW, **TARGET}, reads=True),
}
