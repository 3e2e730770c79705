"""What it means to plant a fault: a function that breaks a specimen and says where a right answer may point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from .specimen import Layer, Specimen, Tapped


@dataclass(frozen=True)
class Planted:
    """The answer to a case.

    Attributes:
        places: names of parameters and modules that count as right. "" is the forward of the model itself; it counts
            only when what the finding calls affected is affected.
        state: whether the fault lies in the model's or the optimizer's state, where a repair can reach it, not in code or data.
        kinds: other kinds that name the same fault as well; the planted one is always right.
        lawful: kinds that may be reported beside it, more than those that follow from its kind.
        victims: names that lost their gradient; None: measured by a plain backward beside the healthy twin's.
    """

    places: tuple[str, ...]
    state: bool = True
    kinds: tuple[str, ...] = ()
    lawful: tuple[str, ...] = ()
    victims: tuple[str, ...] | None = None


Plant = Callable[[Specimen], Planted | None]


@dataclass(frozen=True)
class Fault:
    """A kind, a plan in words, and how to plant it; `late`: a Lab is open and has a snapshot before it happens."""

    kind: str
    plan: str
    plant: Plant
    late: bool = False


FAULTS: list[Fault] = []


def fault(kind: str, plan: str, late: bool = False) -> Callable[[Plant], Plant]:
    """Register the decorated function. It returns None where the architecture has no place for the fault."""

    def register(plant: Plant) -> Plant:
        FAULTS.append(Fault(kind, plan, plant, late))
        return plant

    return register


def module(specimen: Specimen, name: str) -> nn.Module:
    return specimen.model.get_submodule(name)


def parameter(specimen: Specimen, name: str) -> nn.Parameter:
    return specimen.model.get_parameter(name)


def own(*modules: str | None) -> tuple[str, ...]:
    """Each module and its weight and bias, as places."""
    return tuple(
        place for name in modules if name is not None for place in (name, f"{name}.weight", f"{name}.bias") if place
    )


def around(layer: Layer) -> tuple[str, ...]:
    """What stands for a layer's units: the layer, its norm, its activation."""
    return (*own(layer.name, layer.norm), *layer.near)


def tapped(specimen: Specimen, change: Callable[[Tensor], Tensor], **answer: object) -> Planted | None:
    """Put a line of code at the tap of this architecture."""
    tap = specimen.sites.tap
    if tap is None:
        return None
    owner = module(specimen, tap.owner)
    assert isinstance(owner, Tapped)
    owner.taps[tap.place] = change
    near = tuple(place for name in tap.near for place in own(name))
    return Planted((tap.owner, *near), **{"state": False, **answer})  # type: ignore[arg-type]


def fed(specimen: Specimen) -> list[str]:
    """The modules that the batch is fed to."""
    if specimen.name == "mixture":
        return ["gate", *(f"experts.{index}.0" for index in range(4))]
    weights = ("weight", "weight_ih_l0")
    return [next(name for name, held in specimen.model.named_modules() if any(hasattr(held, key) for key in weights))]
