"""What the page asks to change cells, to hold them, and to go back and forth in the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weightlab.edit.entry import Entry
from weightlab.edit.linked import linked_edits, norm_behind, zeroes
from weightlab.edit.operations import Edit
from weightlab.errors import BadMessage
from weightlab.jupyter import describe
from weightlab.jupyter.fields import (
    ARGS,
    BOUND,
    EDIT,
    FLAG,
    HOLD,
    MOMENTS,
    NAME,
    NUMBER,
    TARGET,
    arguments_of,
)  # fmt: skip
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.targets import SHOWN_CELLS, preview, target_region, typed_values, values_from
from weightlab.lab import Lab
from weightlab.train.hold import Constraint

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session


def edit(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    edit = _edit_asked(session.lab, fields, buffers)
    edits = [edit, *(linked_edits(session.lab.tree, edit) if fields.get("linked") else ())]
    # The page asks for the check itself, once it has drawn what the edit did.
    if len(edits) == 1:
        offers = zeroes(edit) and fields.get("where", {}).get("kind", "zero") in _STILL_MEANT
        behind = norm_behind(session.lab.tree, edit) if offers else None
        entry = session.lab.apply(edit, moments=fields.get("moments"), check=False)
        return {**after(session.lab, entry), "behind": behind[0] if behind else None}
    text = f"Zero {edit.name}{edit.region} and the norm behind it"
    entry = session.lab.apply(edits, text, moments=fields.get("moments"), check=False)
    return {**after(session.lab, entry), "behind": None}


def preview_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    edit = _edit_asked(session.lab, fields, buffers)
    told, cells = preview(session.lab.tree, edit)
    made.append(cells)
    return {"name": edit.name, "preview": told}


def hold(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    info = session.lab.tree[fields["name"]]
    region = target_region(session.lab, info, fields, buffers)
    bounds = arguments_of({key: fields.get(key) for key in ("min", "max")}, info.title)
    if (fields["kind"] == "clamp") != any(bound is not None for bound in bounds.values()):
        raise BadMessage("hold: 'min' or 'max' belong to kind 'clamp', and to no other.")
    session.lab.hold(Constraint(info.name, region, fields["kind"], bounds["min"], bounds["max"]))
    return after(session.lab, session.lab.history[-1])


def release(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    found = [c for c in session.lab.constraints if c.id == fields["hold"]]
    if not found:
        raise BadMessage(f"release: there is no hold {fields['hold']}. It was released already.")
    found[0].release()
    return after(session.lab, session.lab.history[-1])


def held(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    found = next((c for c in session.lab.constraints if c.id == fields["hold"]), None)
    flat = None if found is None else found.region.cells
    if flat is None:
        raise BadMessage(f"held: hold {fields['hold']} does not list cells. Its axes in the state tell which.")
    shown = flat.flatten()[:SHOWN_CELLS]
    made.append(shown.double().cpu().numpy().tobytes())
    return {"hold": fields["hold"], "truncated": shown.numel() < flat.numel()}


def undo(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    return after(session.lab, session.lab.undo(fields.get("force", False), check=False))


def redo(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    return after(session.lab, session.lab.redo(fields.get("force", False), check=False))


def jump(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    ids = [0, *(entry.id for entry in session.lab.journal.entries)]
    if fields["entry"] not in ids:
        raise BadMessage(f"jump: there is no entry {fields['entry']} in the history.")
    session.lab.jump(ids.index(fields["entry"]), fields.get("force", False))
    return {"state": describe.state(session.lab)}


def _edit_asked(lab: Lab, fields: Json, buffers: Sequence[Any]) -> Edit:
    info = lab.tree[fields["name"]]
    with lab.lock:
        region = target_region(lab, info, fields, buffers)
    args = arguments_of(fields["args"], info.title)
    if "source" in args:
        values = values_from(lab.source(args["source"]), args, region, info)
        args = {"values": values} if fields["edit"] == "copy_" else {"end": values, "weight": args["weight"]}
    elif fields["edit"] == "copy_":
        args["values"] = typed_values(args["values"], region, info)
    return Edit(info.name, region, fields["edit"], args)


def after(lab: Lab, entry: Entry | None) -> Json:
    """What a reply tells of a change: its entry and the state of the Lab."""
    return {"entry": None if entry is None else describe.entry(entry, lab.foreign), "state": describe.state(lab)}


# Conditions that mean the same cells once these are 0: only then can the page send the edit again, linked.
# "The largest 27" are others by then.
_STILL_MEANT = ("below", "smallest", "zero")
_EDIT = {"name": NAME, "edit": EDIT, "args": ARGS}
_FORCE = {"force": FLAG}

OPERATIONS: Mapping[str, Operation] = {
    "edit": Operation(edit, _EDIT, {**TARGET, "linked": FLAG, "moments": MOMENTS}, changes=True),
    "preview": Operation(preview_of, _EDIT, TARGET, reads=True),
    "hold": Operation(hold, {"name": NAME, "kind": HOLD}, {**TARGET, "min": BOUND, "max": BOUND}, changes=True),
    "release": Operation(release, {"hold": NUMBER}, changes=True),
    "held": Operation(held, {"hold": NUMBER}, reads=True),
    "undo": Operation(undo, {}, _FORCE, changes=True),
    "redo": Operation(redo, {}, _FORCE, changes=True),
    "jump": Operation(jump, {"entry": NUMBER}, _FORCE, changes=True),
}
