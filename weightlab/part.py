"""What the parts of `Lab` know of each other: its parts are written against this."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from weightlab.check.gradients import Observation
from weightlab.check.report import GradientReport
from weightlab.edit.entry import Entry
from weightlab.edit.journal import Journal
from weightlab.edit.operations import Edit
from weightlab.edit.snapshots import Snapshots
from weightlab.model.region import Region
from weightlab.model.tree import ParameterTree
from weightlab.see.layout import Layout
from weightlab.train.after_step import AfterStep
from weightlab.train.constraints import Constraints
from weightlab.train.steps import Steps
from weightlab.train.updates import Updates


class Part(ABC):
    """The state that all parts of a Lab share, and the one road for changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    lock: threading.RLock
    tree: ParameterTree
    journal: Journal
    snapshots: Snapshots
    holds: Constraints
    after_step: AfterStep | None
    steps: Steps
    report: GradientReport | None
    revision: int
    _updates: Updates | None
    offers: dict[str, Any]  # other models by label, which the page may copy from

    @abstractmethod
    def source(self, label: str) -> Mapping[str, Tensor]:
        """Tensors of a snapshot or of an offered model."""

    @property
    @abstractmethod
    def history(self) -> tuple[Entry, ...]:
        """Applied entries, oldest first."""

    @abstractmethod
    def apply(
        self, edits: Edit | Sequence[Edit], text: str = "", *, moments: str | None = None, check: bool = True
    ) -> Entry | None:
        """Apply edits as one undo entry."""

    @abstractmethod
    def stroke(self, text: str, *, check: bool = True) -> AbstractContextManager[list[Entry]]:
        """Several edits as one entry."""

    @abstractmethod
    def check_gradients(self) -> GradientReport:
        """Forward and backward on the probe batch, without a trace."""

    @abstractmethod
    def _take(self, observation: Observation) -> None:
        """Keep the gradients that a check was asked for."""

    @abstractmethod
    def step_norms(self) -> dict[str, float]:
        """How far the optimizer moves each parameter."""

    @abstractmethod
    def _own_writes(self, names: Iterable[str] = ()) -> AbstractContextManager[None]:
        """Around what the Lab writes to tensors, so that it is not taken for the work of other code."""

    @abstractmethod
    def _tell(self, changed: list[tuple[str, Region]]) -> None:
        """Call the listeners."""

    @abstractmethod
    def view(self, name: str, view: str = "value", *, compute: bool = True) -> Tensor:
        """The tensor behind a view of a tensor; without `compute` only what is at hand."""

    @abstractmethod
    def layout(self, name: str) -> Layout:
        """How a tensor is laid out by itself."""

    @abstractmethod
    def _version(self, name: str) -> object:
        """Changes with every write to the tensor that can be noticed."""
