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
    if strangers and missing and len(strangers) == len(trains) and len(missing) > 1:
        return [_of_another(missing, len(strangers))]
    found = [_replaced(tree, names, len(strangers)) for names in _by_module(list(pairs))]
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
    apart = _with_their_own(left, objects, holds)
    for names in ([name for name in left if name not in apart], apart):
        if names:
            found.append(_left_out(names, len(infos), names is apart))
    return found


def _with_their_own(missing: list[str], objects: dict[str, list[Tensor]], holds: set[int]) -> list[str]:
    """Those of the missing ones that make up a whole network inside the model, such as the discriminator beside a generator.

    It may well have an optimizer of its own. A network is a submodule of the model with two layers or more: one layer that is
    missing is a head that was forgotten.
    """
    held = {name.partition(".")[0] for name, group in objects.items() if any(id(p) in holds for p in group)}
    layers: dict[str, set[str]] = {}
    for name in missing:
        part = name.partition(".")[0]
        if part not in held and held:
            layers.setdefault(part, set()).add(name.rpartition(".")[0])
    return [name for name in missing if len(layers.get(name.partition(".")[0], ())) > 1]


def _left_out(names: list[str], count: int, apart: bool) -> Finding:
    """`optimizer_missing`; "info" and nothing to press where another optimizer may train them."""
    them = "it" if len(names) == 1 else "them"
    text = f"{names_text(names)}: trainable, and in no param_group of the optimizer, so no step moves {them}."
    seen = (f"{len(names)} of {count} parameters are missing, requires_grad is True",)
    title = f"{len(names)} parameters are not in the optimizer"
    if not apart:
        repair = Repair(f"Add {names_text(names)} to the optimizer.", actions=(Action("relink", tuple(names)),))
        return Finding(
            "optimizer_missing", names[0], tuple(names), "warning", text, seen, repair, title, names[0]
        )  # fmt: skip
    parts = names_text(dict.fromkeys(name.partition(".")[0] for name in names))
    text += f" All of {parts} is missing: it may have an optimizer of its own."
    advice = "Nothing to do where another optimizer trains it; else add_param_group."
    return Finding("optimizer_missing", names[0], tuple(names), "info", text, seen, None, title, names[0], None, advice)


def _by_module(names: list[str]) -> list[list[str]]:
    """Names of one module together: it was replaced as a whole."""
    owners: dict[str, list[str]] = {}
    for name in names:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    return list(owners.values())


def _of_another(names: list[str], strangers: int) -> Finding:
    """An optimizer that holds nothing of this model."""
    text = (
        f"{names_text(names)}: none of the {strangers} tensors of the optimizer is this model's, so no step moves any of "
        "its parameters."
    )
    seen = (
        f"{len(names)} trainable parameters of the model, none of them in a param_group",
        f"{strangers} tensors of the optimizer are not the model's",
    )
    repair = Repair(
        f"Put the model's {len(names)} parameters into the optimizer, in place of tensors of their shape.",
        actions=(Action("relink", tuple(names)),),
    )
    title = "The optimizer trains another model"
    return Finding("optimizer_stale", names[0], tuple(names), "error", text, seen, repair, title, names[0])


def _replaced(tree: ParameterTree, names: list[str], strangers: int) -> Finding:
    """Parameters of one module that stand where the optimizer knew others."""
    one = len(names) == 1
    said = f"{names[0]} {list(tree[names[0]].shape)}" if one else names_text(names)
    text = (
        f"{said}: the optimizer trains {'a tensor' if one else f'{len(names)} tensors'} that the model no longer has, "
        f"and not {'the one' if one else 'those'} it has now."
    )
    seen = (
        "a Parameter was replaced after the optimizer was made",
        f"{strangers} tensors of the optimizer are not the model's",
    )
    repair = Repair(
        f"Put {names_text(names)} into the optimizer in place of the old {'one' if one else 'ones'}.",
        actions=(Action("relink", tuple(names)),),
    )
    title = f"{names[0]} is not trained" if one else f"{len(names)} parameters are not trained"
    return Finding("optimizer_stale", names[0], tuple(names), "error", text, seen, repair, title, names[0])


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
