"""A small net, its batch, and the cause that a check names."""

import torch
import torch.nn.functional as F
from torch import nn

from weightlab.check import Probe, check_gradients
from weightlab.model.tree import ParameterTree


def check(model, *args, **kwargs):
    report = check_gradients(ParameterTree(model), Probe(model, *args, **kwargs))
    for row in report.rows:
        if row.status not in ("flowing", "frozen"):
            assert report.causes_of(row.name), f"G3: {row.name} is {row.status} without a cause\n{report}"
    return report


def cause(report, kind):
    found = [cause for cause in report.causes if cause.kind == kind]
    assert len(found) == 1, f"{kind}\n{report}"
    return found[0]


class Net(nn.Module):
    """Three layers with functional activations; tests plant their fault in `between`."""

    def __init__(self, between=None):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.between = between or (lambda h: h)

    def forward(self, x):
        return self.c(F.relu(self.b(self.between(F.relu(self.a(x))))))


BATCH = (torch.randn(64, 6, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 3)


def images(model, channels=1, size=12, samples=16):
    x = torch.randn(samples, channels, size, size)
    return check(model, (x, torch.arange(samples) % 2), F.cross_entropy)


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 2)
    )
