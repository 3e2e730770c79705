"""The guide's reference of editing runs as it stands, from top to bottom, on a small model."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import weightlab as wl

GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.fc(self.bn1(self.conv1(x)).mean((2, 3)))
        return found


def test_every_line_on_editing_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, other = Net(), Net()
    other.head = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    lab = wl.Lab(model, optimizer=optimizer)
    part = GUIDE.read_text().split("### The same in Python")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    holds = re.findall(r"^\| `(w.*?\))` \|", part, re.MULTILINE)
    assert len(blocks) == 3
    assert len(holds) == 5
    names = {"lab": lab, "other": other, "torch": torch, "wl": wl, "model": model, "function": torch.tanh}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(block, names)
    assert not torch.equal(model.fc.bias, before["fc.bias"])
    for form in holds:
        constraint = eval(form, names)
        assert lab.constraints == (constraint,)
        constraint.release()
    names["model"] = fresh = Net()
    fresh.load_state_dict(before)
    exec("wl.replay('recipe.json', model); saved = wl.open('edited.safetensors')", names)
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name
