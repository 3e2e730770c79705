"""Modules of a list that this forward did not call, because what chose among them was broken further up."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from weightlab.check.evidence import Evidence
from weightlab.check.finding import Finding
from weightlab.check.measures import Op

# What is no origin of a broken choice: it says nothing about the signal.
BESIDE = {"unreached", "optimizer_stale", "optimizer_missing", "unused_rows", "frozen", "invariant"}


def not_chosen(found: list[Finding], evidence: Evidence) -> None:
    """An expert that did not run is a victim where a sibling ran on what an origin further up has broken: "info"."""
    for place, finding in enumerate(found):
        if finding.kind != "unreached" or finding.severity == "info":
            continue
        before = _before_siblings(evidence, finding.at)
        for at, other in enumerate(found):
            if before and other.severity != "info" and other.kind not in BESIDE and _lies_in(other, before, evidence):
                text = f"{finding.text} What chooses stands behind {other.at or other.name or 'the model'}, told above."
                found[place] = replace(finding, severity="info", text=text)
                found[at] = replace(other, affects=tuple(dict.fromkeys((*other.affects, *finding.affects))))
                break


def _before_siblings(evidence: Evidence, path: str) -> dict[int, Op]:
    """All that the siblings of a module were fed, however far before; {} where it is not one of a list that was called."""
    parent = path.rpartition(".")[0]
    if path in evidence.ran or not isinstance(evidence.tree.modules.get(parent), (nn.ModuleList, nn.ModuleDict)):
        return {}
    inside = {op.index for op in evidence.ops if op.path.startswith(f"{parent}.")}
    found: dict[int, Op] = {}
    waiting = [index for op in inside for index in evidence.ops[op].inputs]
    while waiting:
        index = waiting.pop()
        if index not in found and index not in inside:
            found[index] = evidence.ops[index]
            waiting += evidence.ops[index].inputs
    return found


def _lies_in(finding: Finding, before: dict[int, Op], evidence: Evidence) -> bool:
    places = {name for name in (finding.name, finding.at) if name}
    if any(op.path in places or not places.isdisjoint(op.parameters) for op in before.values()):
        return True
    # The model's own forward has one name for all its functions: there zeros and NaN on the way are the sign.
    return finding.at == "" and any(
        op.path == "" and op.outs and (op.outs[0].zero or not op.outs[0].finite) for op in before.values()
    )
