"""Gradients that are exactly zero: rows that nobody asks for, and the walk to who blocks them or feeds zeros."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from weightlab.check.blocked import blocked
from weightlab.check.evidence import Cause, Evidence, Found, region_text
from weightlab.check.measures import LOOKUPS, Op
from weightlab.check.roles import Roles
from weightlab.check.unfed import unfed

SLICES = {"__getitem__", "narrow", "select", "index_select", "gather", "split"}


def unused(evidence: Evidence, found: Found) -> None:
    """Rows of an embedding, or of a sliced parameter, that this batch does not ask for."""
    for name, zero in evidence.zero.items():
        if not bool(zero.any()) or evidence.tree[name].shape[:1] != (zero.numel(),):
            continue
        taken = [op for op in evidence.ops if name in op.parameters and not _asks_nothing(evidence, op)]
        lookups = [op for op in taken if op.used_rows is not None]
        slices = [op for op in taken if op.name in SLICES]
        if not taken or len(lookups) + len(slices) < len(taken) or bool(zero.all()):
            continue
        used = torch.zeros_like(zero)
        for op in lookups:
            assert op.used_rows is not None
            used |= op.used_rows
        rows = zero & ~used
        if bool(rows.any()):
            count = int(rows.sum())
            text = f"{name}: {count} of {zero.numel()} rows are not used by this batch, so they get no gradient."
            found.add(
                Cause(
                    "unused_rows",
                    name,
                    (name,),
                    "info",
                    text,
                    (f"{zero.numel() - count} rows are used",),
                    None,
                    f"{count} of {zero.numel()} rows unused",
                    name,
                    region_text(rows),
                )
            )


def _asks_nothing(evidence: Evidence, op: Op) -> bool:
    """Whether no gradient comes back through this use, such as the distances by which a code is chosen."""
    if op.used_rows is not None or op.name in SLICES:
        return False
    return not op.grads and (
        not op.is_view or all(_asks_nothing(evidence, evidence.ops[u]) for u in evidence.users[op.index])
    )


def silent(evidence: Evidence, found: Found) -> None:
    """Every row whose gradient is zero, wholly or in some units."""
    for status in ("zero", "partial"):
        for name in evidence.names(status):
            if name in evidence.cancelled:
                continue
            zero = evidence.zero[name]
            for op in evidence.consumers(name):
                _explain(evidence, found, name, op, zero)
    for key, cause in found.causes.items():
        if cause.kind == "zero_weight" and cause.region == "[...]" and _leaves_zero(evidence, cause.at):
            # Heads, last norms and LoRA factors start like this on purpose.
            text = f"{cause.text} It gets a gradient itself, so training leaves zero at the first step."
            found.causes[key] = replace(cause, severity="info", text=text)


def _leaves_zero(evidence: Evidence, name: str) -> bool:
    """Whether a weight that is zero gets a gradient; in some units is enough where a path beside it carries the signal."""
    status = evidence.status.get(name)
    roles = Roles(evidence)
    return status == "flowing" or (
        status == "partial" and all(roles.ends_branch(op) for op in evidence.consumers(name))
    )


def _explain(evidence: Evidence, found: Found, name: str, op: Op, zero: Tensor) -> None:
    if op.name in LOOKUPS and op.used_rows is not None and op.used_rows.numel() == zero.numel():
        zero = zero & op.used_rows
        if not bool(zero.any()):
            return
        # What arrives is per cell of the output, not per row of the table: only a wholly silent output is walked.
        if op.grads and all(grad.zero for grad in op.grads):
            blocked(evidence, found, name, op, None)
        return
    arriving = op.grads[0] if op.grads else None
    if arriving is None:
        return
    if op.name == "multi_head_attention_forward" and name.endswith("in_proj_bias"):
        third = zero.numel() // 3
        keys = torch.zeros_like(zero)
        keys[third : 2 * third] = True
        if not bool((zero & ~keys).any()):
            text = (
                f"{name}: the key part does not change attention (softmax ignores what all keys share): it gets none."
            )
            seen = (f"{int(zero.sum())} of the {third} key units get exactly zero, the rest rounding noise",)
            region = f"[{third}:{2 * third}]"
            found.add(
                Cause("invariant", name, (name,), "info", text, seen, None, "Key bias has no effect", name, region)
            )
            return
    if arriving.zero:
        blocked(evidence, found, name, op, None if bool(zero.all()) else zero)
        return
    units = arriving.per_unit(zero.numel())
    quiet = (units.cpu() == 0) & zero if units is not None else torch.zeros_like(zero)
    if bool(quiet.any()):
        blocked(evidence, found, name, op, None if bool(quiet.all()) else quiet)
    rest = zero & ~quiet
    if bool(rest.any()):
        unfed(evidence, found, name, op, rest)
