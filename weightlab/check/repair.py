"""`Repair`: what would mend a finding, as a value; the Lab applies it as one undo entry (rule G9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from weightlab.edit.operations import Edit


@dataclass(frozen=True, slots=True)
class Action:
    """What an Edit cannot say.

    `register`: a plain tensor, list or dict at `path`.`attribute` becomes a Parameter, ModuleList or the like.
    `relink`: the optimizer trains the model's own parameter `names` again.
    `reshape`: the parameter `names[0]` gets `shape` back, from the newest snapshot that has it, or drawn anew.
    `lsuv`: the weights `names` are scaled until each layer puts out unit variance on the probe batch.
    """

    kind: Literal["register", "relink", "reshape", "lsuv"]
    names: tuple[str, ...] = ()
    path: str = ""
    attribute: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair as a value; `lab.repair(finding)` applies it and checks again.

    Attributes:
        text: what it does, one sentence.
        edits: the Edits, applied in order.
        actions: what Edits cannot say, done before them.
    """

    text: str
    edits: tuple[Edit, ...] = ()
    actions: tuple[Action, ...] = ()

    def __str__(self) -> str:
        return self.text
