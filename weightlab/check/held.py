"""Whether the optimizer holds what the model has: tensors replaced behind its back, and ones that it never got."""

from __future__ import annotations

import torch
from torch import Tensor

from weightlab.check.evidence import Severity, names_text
from weightlab.check.finding import Finding
from weightlab.check.probe import Probe
from weightlab.check.repair import Action, Repair
from weightlab.model.tree import ParameterTree


def optimizer(tree: ParameterTree, probe: Probe, held: torch.optim.Optimizer) -> list[Finding]:
    """`optimizer_stale` for tensors that the model no longer has, `optimizer_missing` for trainable ones it lacks."""
    trains = [p for group in held.param_groups for p in group["params"]]
    holds = {id(p) for p in trains}
    infos = [info for info in tree if info.kind == "parameter"]
    objects = {info.name: objects_of(tree, info.name) for info in infos}
    ours = {id(p) for group in objects.values() for p in group}
    for part in (probe.loss, probe.probe):
        if isinstance(part, torch.nn.Module):
            ours |= {id(p) for p in part.parameters()}
    strangers = [p for p in trains if id(p) not in ours]
    missing = [
        info.name
        for info in infos
        if info.requires_grad and objects[info.name] and not any(id(p) in holds for p in objects[info.name])
    ]
    pairs = pair(tree, strangers, missing)
    found: list[Finding] = []
    for name in pairs:
        shape = list(tree[name].shape)
        text = (
            f"{name} {shape}: the optimizer trains a tensor that the model no longer has, and not the one it has now."
        )
        seen: tuple[str, ...] = (
            "a Parameter was replaced after the optimizer was made",
            f"{len(strangers)} tensors of the optimizer are not the model's",
        )
        repair = Repair(f"Put {name} into the optimizer in place of the old one.", actions=(Action("relink", (name,)),))
        found.append(
            Finding("optimizer_stale", name, (name,), "error", text, seen, repair, f"{name} is not trained", name)
        )
    rest = len(strangers) - len(pairs)
    if rest:
        shapes = ", ".join(str(list(p.shape)) for p in strangers[:4])
        text = f"the optimizer trains {rest} tensors that are not of this model."
        seen = (f"shapes of what is not the model's: {shapes}",)
        # Without a gap in the model these may well belong to another one: a discriminator, a learned loss.
        severity: Severity = "info" if not pairs and len(strangers) < len(trains) else "warning"
        found.append(
            Finding("optimizer_stale", "", (), severity, text, seen, None, f"{rest} tensors are not the model's",
                    "", None, "Make the optimizer anew from model.parameters()."),
        )  # fmt: skip
    left = [name for name in missing if name not in pairs]
    if left:
        text = (
            f"{names_text(left)}: trainable, and in no param_group of the optimizer, so no step moves "
            f"{'it' if len(left) == 1 else 'them'}."
        )
        seen = (f"{len(left)} of {len(infos)} parameters are missing, requires_grad is True",)
        repair = Repair(f"Add {names_text(left)} to the optimizer.", actions=(Action("relink", tuple(left)),))
        found.append(
            Finding("optimizer_missing", left[0], tuple(left), "warning", text, seen, repair,
                    f"{len(left)} parameters are not in the optimizer", left[0])
        )  # fmt: skip
    return found


def objects_of(tree: ParameterTree, name: str) -> list[Tensor]:
    """The Parameter objects under a name and its tied names."""
    info = tree[name]
    found: list[Tensor] = []
    for each in (info.name, *info.aliases):
        path, _, local = each.rpartition(".")
        value = tree.module(path)._parameters.get(local)
        if value is not None and all(value is not other for other in found):
            found.append(value)
    return found


def pair(tree: ParameterTree, strangers: list[Tensor], missing: list[str]) -> dict[str, Tensor]:
    """Which stranger each missing parameter stands for: the first of its shape, in order."""
    left = list(strangers)
    pairs: dict[str, Tensor] = {}
    for name in missing:
        for place, stranger in enumerate(left):
            if tuple(stranger.shape) == tree[name].shape:
                pairs[name] = left.pop(place)
                break
    return pairs
