"""`Operation`: a row of the table of what a page may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from weightlab.jupyter.fields import Check

if TYPE_CHECKING:
    from weightlab.jupyter.protocol import Session

Json = dict[str, Any]
Buffers = list[bytes]


@dataclass(frozen=True, slots=True)
class Operation:
    """What answers one kind of request.

    Attributes:
        run: `run(session, fields, buffers, made)` returns the body of the reply, and appends binary parts to `made`.
        required: a check for each field that has to be there.
        optional: for those that may be.
        reads: it runs with the Lab's lock held. What does not takes the lock itself, so that listeners are told without it.
        changes: it changes the model, so that it waits for the end of a step of training.
    """

    run: Callable[[Session, Json, Sequence[Any], Buffers], Json]
    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    reads: bool = False
    changes: bool = False
