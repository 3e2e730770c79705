"""What the page asks of snapshots, of other models, of recipes and of files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weightlab.edit.recipe import text_of
from weightlab.edit.snapshots import compare
from weightlab.edit.transfer import plan
from weightlab.errors import EditRefused, FileExists
from weightlab.jupyter import describe
from weightlab.jupyter.editing import after
from weightlab.jupyter.fields import EXPORT, FILE, FLAG, LABEL, NAME, WEIGHT, arguments_of
from weightlab.jupyter.operation import Buffers, Json, Operation
from weightlab.jupyter.wire import LIMIT

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session


def snapshot(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    session.lab.snapshot(fields["label"])
    return {"state": describe.state(session.lab)}


def drop(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    if fields["label"] in session.lab.offers:
        session.lab.offer(fields["label"], None)
    else:
        session.lab.snapshots.drop(fields["label"])
    return {"state": describe.state(session.lab)}


def diff_of(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    return {
        "label": fields["label"],
        **describe.diff(compare(session.lab.tree, session.lab.source(fields["label"]), fields["label"])),
    }


def restore(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    names = [fields["name"]] if "name" in fields else None
    return after(session.lab, session.lab.restore(fields["label"], names, check=False))


def transfer(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    label = fields["label"]
    values = session.lab.source(label)
    weight = arguments_of({"weight": fields.get("weight", 1)}, label)["weight"]
    if fields.get("plan"):
        report, done = plan(session.lab.tree, values, weight=weight)[1], after(session.lab, None)
    else:
        report, entry = session.lab.carry_over(label, weight=weight, check=False)
        done = after(session.lab, entry)
    return {"label": label, "rows": describe.transfer(report), **done}


def export(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    if fields["what"] == "python":
        text = session.lab.to_python()
    else:
        text = text_of(session.lab.recipe())
    if len(text) > LIMIT:
        raise EditRefused(
            f"export: {len(text):,} characters are too many for the page. Call lab.to_python() or lab.save_recipe(path)."
        )
    return {"text": text}


def save(session: Session, fields: Json, buffers: Sequence[Any], made: Buffers) -> Json:
    name = fields["file"] if fields["file"].endswith(".safetensors") else f"{fields['file']}.safetensors"
    if os.path.exists(name) and not fields.get("replace"):
        raise FileExists(f"{name}: a file of this name is there already. Replace it, or choose another name.")
    session.lab.save(name)
    return {"file": name, "bytes": os.path.getsize(name)}


OPERATIONS: Mapping[str, Operation] = {
    "snapshot": Operation(snapshot, {"label": LABEL}),
    "drop": Operation(drop, {"label": LABEL}),
    "diff": Operation(diff_of, {"label": LABEL}, reads=True),
    "restore": Operation(restore, {"label": LABEL}, {"name": NAME}, changes=True),
    "transfer": Operation(transfer, {"label": LABEL}, {"weight": WEIGHT, "plan": FLAG}, changes=True),
    "export": Operation(export, {"what": EXPORT}, reads=True),
    "save": Operation(save, {"file": FILE}, {"replace": FLAG}, reads=True),
}
