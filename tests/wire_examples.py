"""The examples of tests/messages.json, and a session to ask."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor, nn

from weightlab.jupyter.protocol import Session


class Example(nn.Module):
    """The names that tests/messages.json speaks of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(images).mean((2, 3)))


def ask(session: Session, op: str, buffers: tuple[bytes, ...] = (), **fields: Any) -> dict[str, Any]:
    reply, _ = session.handle({"v": 1, "id": "t", "op": op, **fields}, buffers)
    json.dumps(reply, allow_nan=False)
    assert reply["ok"], reply
    return reply
