"""Rules G4, G8 and G9: which findings are one, and which are not: by the function that they are about."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab as wl
from weightlab.check.finding import Diagnosis

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


def found(model: nn.Module, loss=F.cross_entropy) -> Diagnosis:
    return wl.Lab(model, batch=(X, Y), loss=loss).diagnose()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Rounded(nn.Module):
    """All functions of one forward have one name: that of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)).round())))


def test_a_quiet_finding_in_a_forward_does_not_swallow_a_loud_one_of_another_function():
    """G4: the gradient that ends at the rounding has passed the ReLU behind it."""
    model = Rounded()
    with torch.no_grad():
        model.b.bias[:2] = -9
    diagnosis = found(model)
    ends = [one for one in diagnosis.serious if one.kind == "zero_path"]
    assert [set(one.affects) for one in ends] == [{"a.weight", "a.bias"}]
    assert "round" in ends[0].text
    assert [one.name for one in diagnosis.of("dead_relu")] == ["b.bias"]


def test_two_dead_branches_of_one_line_are_two_findings_with_a_repair_each():
    """G4 and G9."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.abs()
            return self.c(torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1))

    model = Two()
    with torch.no_grad():
        for layer in (model.a, model.b):
            layer.weight.copy_(-layer.weight.abs())
            layer.bias.zero_()
    lab = wl.Lab(model, batch=(X, Y), loss=F.cross_entropy)
    dead = lab.diagnose().of("dead_relu")
    assert [one.severity for one in dead] == ["error", "error"]
    assert {edit.name for one in dead for edit in one.repair.edits} >= {"a.weight", "b.weight"}
    lab.repair_all()
    assert lab.diagnose().serious == []


def test_a_margin_that_is_kept_inside_the_model_is_no_alarm():
    """G8: the loss is made in the forward, and is at its least value."""

    class Triplet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.triplet_margin_loss(self.f(x), self.f(x + 0.01), self.f(-x), margin=0.01)

    class Hinge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(6, 3)
            nn.init.eye_(self.f.weight)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            out = self.f(x)
            return {"logits": out, "loss": F.multi_margin_loss(out, y)}

    assert found(Triplet(), loss=lambda out, _: out).serious == []
    x = 50 * torch.eye(6)[:3]
    assert wl.Lab(Hinge(), batch={"x": x, "y": torch.arange(3)}).diagnose().serious == []


def test_codes_that_no_sample_chooses_are_unused_rows_and_nobody_s_victims():
    """G4: a codebook (van den Oord et al. 2017, section 3.2) whose distances only choose."""

    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.code, self.d = nn.Linear(6, 8), nn.Embedding(40, 4), nn.Linear(8, 3)
            self.cut = nn.Linear(6, 8)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = (self.e(x) + self.cut(x).detach()).view(-1, 4)
            q = self.code(torch.cdist(z, self.code.weight).argmin(1))
            return self.d((z + (q - z).detach()).view(-1, 8)), (q - z.detach()).square().mean()

    diagnosis = found(Codes(), loss=lambda out, y: F.cross_entropy(out[0], y) + out[1])
    assert [set(one.affects) for one in diagnosis.serious] == [{"cut.weight", "cut.bias"}]
    assert [one.name for one in diagnosis.of("unused_rows")] == ["code.weight"]
