"""Models of many kinds for the gradient check, and all that it must leave as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from weightlab.check import Probe, check_gradients
from weightlab.model.tree import ParameterTree


def check(model, *args, thorough=True, **kwargs):
    """A check that measures at once; with `thorough` False as a Lab's first one, which does so only where needed."""
    probe = Probe(model, *args, **kwargs)
    probe.thorough = thorough
    return check_gradients(ParameterTree(model), probe)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.drop(F.relu(self.bn(self.conv(x)), inplace=True).mean((2, 3))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        h = self.first(x)
        h = checkpoint(lambda v: torch.tanh(self.second(v)), h, use_reentrant=self.reentrant)
        return self.last(h)


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.b(torch.relu(self.a(x))))


class Stateful(nn.Module):
    """Keeps references and counters of its own, and writes to a parameter and a buffer in its forward."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4, max_norm=0.5)
        self.inner = nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)
        self.mine = [self.inner.weight]
        deep = {"weights": [self.inner.bias]}
        self.deep = lambda: deep["weights"][0]
        self.register_buffer("ema", torch.zeros(4))
        self.calls = 0
        self.seen = []
        self.plain = torch.zeros(3)
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, tokens):
        self.calls += 1
        self.seen.append(tokens.shape)
        self.plain += 1
        with torch.no_grad():
            self.inner.weight.clamp_(-0.2, 0.2)
        h = self.embed(tokens).mean(1)
        self.ema.mul_(0.9).add_(h.detach().mean(0))
        h = h + 0.01 * torch.randn(h.shape, generator=self.generator)
        return self.last(torch.relu(h @ self.mine[0].t() + self.deep()))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.2)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def pruned():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    prune.random_unstructured(model[0], "weight", 0.3)
    return model


def old_weight_norm():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3))


def frozen():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    return model


X, TOKENS, LABELS = torch.Size((7, 4)), torch.Size((7, 5)), 3
KINDS = {
    "cnn": (Cnn, lambda: torch.randn(7, 2, 6, 6)),
    "tied": (Tied, lambda: torch.randint(11, TOKENS)),
    "lstm": (Lstm, lambda: torch.randn(7, 5, 4)),
    "two names": (TwoNames, lambda: torch.randn(X)),
    "checkpoint": (lambda: Checkpointed(False), lambda: torch.randn(X)),
    "reentrant": (lambda: Checkpointed(True), lambda: torch.randn(X)),
    "stateful": (Stateful, lambda: torch.randint(11, TOKENS)),
    "weight_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)),
        lambda: torch.randn(X),
    ),
    "old weight_norm": (old_weight_norm, lambda: torch.randn(X)),
    "spectral_norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)),
        lambda: torch.randn(X),
    ),
    "pruned": (pruned, lambda: torch.randn(X)),
    "frozen": (frozen, lambda: torch.randn(X)),
    "in place on the input": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)),
        lambda: torch.randn(X),
    ),
    "bf16": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).bfloat16(),
        lambda: torch.randn(X).bfloat16(),
    ),
    "sparse": (
        lambda: nn.Sequential(nn.Embedding(11, 4, sparse=True), nn.Flatten(), nn.Linear(20, 3)),
        lambda: torch.randint(11, TOKENS),
    ),
}  # fmt: skip


def make(kind, seed=0):
    torch.manual_seed(seed)
    build, make_input = KINDS[kind]
    model, x = build(), make_input()
    targets = torch.randint(LABELS if kind != "tied" else 11, (7,))
    return model, (x, targets)


def loss(output, target):
    return F.cross_entropy(output.float(), target)
