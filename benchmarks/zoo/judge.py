"""What counts as right: the planted kind, at an accepted place; what follows from it by law; everything else is false."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from .planting import Planted
from .specimen import Specimen, seed_all

# Kinds whose severity is info by rule G4; of every other kind an answer counts only above info.
INFO = ("unused_rows", "invariant")
# What a fault of a kind does to its surroundings, so that a finding of these kinds beside it is no false alarm:
# the same tensors seen from another side, or the signal further on. Nothing else is excused.
CONSEQUENCES: dict[str, tuple[str, ...]] = {
    "dead_relu": ("dead_relu",),  # a layer that is fed constants can die as well
    "saturated": ("vanishing",),
    # Rows of zeros are alike and have no rank; what they feed gets zeros.
    "zero_weight": ("dead_relu", "zero_path", "rank_collapse", "symmetric_units", "duplicate_units"),
    "zero_path": ("dead_relu",),
    "nonfinite_weight": ("nonfinite_activation", "nonfinite_gradient", "saturated"),  # inf is far in the flat
    "nonfinite_activation": ("nonfinite_gradient",),
    "vanishing": ("scale_low",),
    "exploding": ("scale_high", "nonfinite_activation", "nonfinite_gradient"),
    "symmetric_units": ("rank_collapse", "duplicate_units"),  # units all alike are pairs, and have rank 1
    "scale_low": ("vanishing",),
    "scale_high": ("saturated", "exploding", "dead_relu"),
    "zero_norm_scale": ("zero_weight", "dead_relu"),  # a scale is a weight; behind it a ReLU gets nothing
    "not_a_parameter": ("optimizer_missing",),  # what is no Parameter was never handed to the optimizer
    "optimizer_stale": ("optimizer_missing",),  # the same two tensors, named from the other side
}
# "Nothing passes here" is true of these too, in a more general word; it is excused at an accepted place only.
GENERAL = {"zero_path": ("dead_relu", "saturated", "zero_weight", "zero_norm_scale")}


@dataclass(frozen=True)
class Answer:
    """One Finding or Cause, reduced to what is judged."""

    kind: str
    places: tuple[str, ...]
    affects: tuple[str, ...]
    severity: str
    text: str

    @property
    def loud(self) -> bool:
        return self.severity != "info"

    def __str__(self) -> str:
        return f"{self.severity} {self.kind} at {' | '.join(map(repr, self.places))}: {self.text}"


@dataclass
class Verdict:
    """How the answers to one case stand against what was planted."""

    kind: bool = False
    place: bool = False
    right: int = 0  # loud answers that are the planted one or follow from it
    false: list[Answer] = field(default_factory=list)


def answers(found: Iterable[Any]) -> list[Answer]:
    """Findings (`name`) and causes (`at`, and `name` for the tensor to show) alike."""
    result = []
    for one in found:
        places = tuple(dict.fromkeys(place for key in ("at", "name") if (place := getattr(one, key, None)) is not None))
        result.append(Answer(one.kind, places or ("",), tuple(one.affects), one.severity, one.text))
    return result


def judge(kind: str, planted: Planted, found: list[Answer], victims: set[str]) -> Verdict:
    verdict = Verdict()
    meant = (kind, *planted.kinds)
    excused = (*CONSEQUENCES.get(kind, ()), *planted.lawful)
    for one in found:
        of_kind = one.kind in meant and (one.loud or kind in INFO)
        placed = of_kind and _placed(planted, one, victims)
        verdict.kind |= of_kind
        verdict.place |= placed
        if one.loud:
            general = kind in GENERAL.get(one.kind, ()) and _placed(planted, one, victims)
            if placed or general or one.kind in excused:
                verdict.right += 1
            else:
                verdict.false.append(one)
    return verdict


def _placed(planted: Planted, one: Answer, victims: set[str]) -> bool:
    named = [place for place in one.places if place]
    if any(place in planted.places for place in named):
        return True
    # A finding at the model itself says where only through what it says is affected.
    return not named and "" in planted.places and bool(one.affects) and set(one.affects) <= victims


def gradients(specimen: Specimen) -> dict[str, torch.Tensor | None]:
    """A plain backward: what the check is compared with."""
    seed_all(specimen.seed)
    specimen.model.zero_grad()
    try:
        specimen.run(specimen.batch).backward()
    except (RuntimeError, ValueError):
        return {}
    found = {name: held.grad for name, held in specimen.model.named_parameters()}
    specimen.model.zero_grad()
    return found


def victims(faulty: Specimen, healthy: Specimen) -> set[str]:
    """Parameters with more cells that get nothing or NaN than in the healthy twin, or a gradient 1000 times off."""
    before, after = gradients(healthy), gradients(faulty)
    return {name for name, grad in after.items() if _worse(grad, before.get(name))}


def _worse(grad: torch.Tensor | None, healthy: torch.Tensor | None) -> bool:
    if grad is None or healthy is None:
        return grad is None
    if not bool(grad.isfinite().all()):
        return True
    if int((grad == 0).sum()) > int((healthy == 0).sum()):
        return True
    sizes = float(grad.norm()) / math.sqrt(grad.numel()), float(healthy.norm()) / math.sqrt(healthy.numel())
    return not 1e-3 < sizes[0] / max(sizes[1], 1e-300) < 1e3
