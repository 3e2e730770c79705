"""More architectures: mixers, dilated convolutions, gated units, attention between two recurrences, graphs, bare Sequentials."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architectures import (
    adam,
    adamw,
    architecture,
    chains,
    digit_rows,
    flat_digits,
    pictures,
    smooth,
    token_rows,
)
from .specimen import Batch, Layer, Sites, Tap, Tapped, batches


class Mixer(Tapped):
    """MLPs across patches and across channels by turns (Tolstikhin et al. 2021)."""

    def __init__(self, patches: int = 16, width: int = 24) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.across, self.back = nn.Linear(patches, 32), nn.Linear(32, patches)
        self.channels, self.mixed = nn.Linear(width, 48), nn.Linear(48, width)
        self.act, self.head = nn.GELU(), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = h + self.back(self.act(self.across(self.norms[0](h).transpose(1, 2)))).transpose(1, 2)
        h = self.tap("between", h)
        h = h + self.mixed(F.gelu(self.channels(self.norms[1](h))))
        return self.head(self.norms[2](h).mean(1))


class Temporal(Tapped):
    """Dilated convolutions over time with residuals."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.enter = nn.Conv1d(8, width, 1)
        self.steps = nn.ModuleList(nn.Conv1d(width, width, 3, padding=2**k, dilation=2**k) for k in range(3))
        self.squeeze, self.out = nn.Linear(width * 8, 32), nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        h = F.relu(self.enter(rows.transpose(1, 2)))
        for step in self.steps:
            h = h + F.relu(step(h))
        return self.out(F.relu(self.squeeze(self.tap("features", h).flatten(1))))


class Critic(nn.Module):
    """Strided convolutions, GroupNorm, LeakyReLU: says whether a picture is in its right order."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(12, 24, 3, 2, 1, bias=False), nn.GroupNorm(4, 24), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(96, 24), nn.ReLU(), nn.Linear(24, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[:, 0]


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale


class Gated(Tapped):
    """Token rows through a gated linear unit with an RMSNorm of its own, residual (Shazeer 2020)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(40, width), RMSNorm(width)
        self.gate, self.up = nn.Linear(width, 48, bias=False), nn.Linear(width, 48, bias=False)
        self.down, self.final = nn.Linear(48, width, bias=False), RMSNorm(width)
        self.hidden, self.head = nn.Linear(width, 24), nn.Linear(24, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tap("embedded", self.embed(tokens))
        h = self.norm(x)
        x = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return self.head(torch.tanh(self.hidden(self.final(x.mean(1)))))


class Translate(Tapped):
    """A GRU reads, another writes, and attention looks back: the row in reverse."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.read, self.write = nn.GRU(16, width, batch_first=True), nn.GRU(16, width, batch_first=True)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.join, self.out = nn.Linear(2 * width, 32), nn.Linear(32, 32)

    def forward(self, tokens: Tensor) -> Tensor:
        seen, last = self.read(self.embed(tokens))
        wrote, _ = self.write(self.embed(tokens), last)
        looked, _ = self.attend(wrote, seen, seen, need_weights=False)
        h = self.tap("joined", torch.cat([wrote, looked], -1))
        return self.out(F.relu(self.join(h))).transpose(1, 2)


class Graph(Tapped):
    """Two graph convolutions on a ring with chords; the sum of all nodes."""

    def __init__(self, nodes: int = 8) -> None:
        super().__init__()
        ring = torch.eye(nodes) + torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(3, 0)
        self.register_buffer("links", ring / ring.sum(1, keepdim=True))
        self.one, self.two = nn.Linear(8, 24), nn.Linear(24, 24)
        self.norm, self.head = nn.BatchNorm1d(24), nn.Linear(24, 10)

    def forward(self, rows: Tensor) -> Tensor:
        h = F.relu(self.links @ self.one(rows))
        h = self.tap("nodes", h)
        h = (self.links @ self.two(h)).sum(1)
        return self.head(F.relu(self.norm(h)))


class Elman(Tapped):
    """A plain tanh RNN over the rows of a digit, through two ELU layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 32, batch_first=True)
        self.first, self.second, self.out = nn.Linear(32, 32), nn.Linear(32, 24), nn.Linear(24, 10)
        self.squash = nn.Sigmoid()

    def forward(self, rows: Tensor) -> Tensor:
        h = self.tap("last", self.rnn(rows)[0][:, -1])
        return self.out(F.elu(self.second(self.squash(self.first(h)))))


def orders() -> list[Batch]:
    held = [x for x, _ in pictures()]
    x = torch.cat(held)
    right = torch.arange(len(x)) % 2 == 0
    x = torch.where(right[:, None, None, None], x, x.flip(2).roll(3, 3))
    said = right ^ (torch.rand(len(x), generator=torch.Generator().manual_seed(4)) < 0.15)  # some labels are wrong
    return batches(x, said.float(), 64, 6)


@architecture(
    "mixer", pictures, smooth, adam(1e-2),
    Sites(
        Layer("across", "gelu", ("act",), "back"), Tap("", "between", ("back", "norms.1", "channels")), "head",
        norms=("norms.2",), factors=("channels.weight", "mixed.weight"),
    ),
)  # fmt: skip
def mixer() -> nn.Module:
    return Mixer()


@architecture(
    "temporal", digit_rows, smooth, adam(5e-3),
    Sites(
        Layer("squeeze", "relu", ("",), "out"), Tap("", "features", ("steps.2", "squeeze"), False), "out",
        blocks="steps",
    ),
)  # fmt: skip
def temporal() -> nn.Module:
    return Temporal()


@architecture(
    "critic", orders, F.binary_cross_entropy_with_logits, adam(3e-3),
    Sites(Layer("body.6", "relu", ("body.7",), "body.8"), None, "body.8"),
)  # fmt: skip
def critic() -> nn.Module:
    return Critic()


@architecture(
    "gated", token_rows, smooth, adamw(1e-2),
    Sites(
        Layer("hidden", "tanh", ("",), "head"), Tap("", "embedded", ("embed", "norm", "gate", "up")), "head",
        table="embed", factors=("up.weight", "down.weight"),
    ),
)  # fmt: skip
def gated() -> nn.Module:
    return Gated()


def reversed_chains() -> list[Batch]:
    return [(inputs, inputs.flip(1)) for inputs, _ in chains()]


@architecture(
    "translate", reversed_chains, F.cross_entropy, adam(2e-2),
    Sites(
        Layer("join", "relu", ("",), "out"), Tap("", "joined", ("write", "attend", "join")), "out",
        large="attend.in_proj_weight",
    ),
)  # fmt: skip
def translate() -> nn.Module:
    return Translate()


@architecture(
    "graph", digit_rows, smooth, adam(1e-2),
    Sites(
        Layer("one", "relu", ("",), "two"), Tap("", "nodes", ("one", "two"), False), "head", norms=("norm",),
    ),
)  # fmt: skip
def graph() -> nn.Module:
    return Graph()


@architecture(
    "elman", digit_rows, smooth, adam(2e-2),
    Sites(Layer("first", "sigmoid", ("squash",), "second"), Tap("", "last", ("rnn", "first")), "out"),
)  # fmt: skip
def elman() -> nn.Module:
    return Elman()


@architecture(
    "prelu", flat_digits, smooth, adam(1e-2),
    Sites(Layer("2", "relu", ("3",), "4"), None, "6"),
)  # fmt: skip
def prelu() -> nn.Module:
    """A bare Sequential: names are numbers."""
    return nn.Sequential(
        nn.Linear(64, 40), nn.PReLU(), nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 10)
    )
