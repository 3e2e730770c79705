"""Models of other habits: two heads and a dict, sets, highways, kernels of several widths, a generator, tables alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architectures import adam, adamw, architecture, digit_rows, flat_digits, pictures, smooth, token_rows
from .specimen import Batch, Layer, Sites, Tap, Tapped, batches, digits, standard


class TextCNN(Tapped):
    """Kernels of three widths over tokens, the largest of each over time."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 12)
        self.widths = nn.ModuleList(nn.Conv1d(12, 10, size) for size in (2, 3, 4))
        self.fc1, self.fc2 = nn.Linear(30, 32), nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens).transpose(1, 2)
        h = torch.cat([F.relu(conv(x)).amax(2) for conv in self.widths], 1)
        return self.fc2(F.relu(self.fc1(self.tap("largest", h))))


class Dense(Tapped):
    """Each layer is fed all that came before; norm, ReLU, convolution (Huang et al. 2017)."""

    def __init__(self, growth: int = 8) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, growth, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(growth), nn.Conv2d(growth, growth, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)
        self.norm3, self.linear = nn.BatchNorm2d(3 * growth), nn.Linear(3 * growth, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], 1)
        return self.linear(self.tap("all", F.relu(self.norm3(x))).mean((2, 3)))


class Tagger(Tapped):
    """Two LSTM layers, both ways, a LayerNorm, a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 12)
        self.lstm = nn.LSTM(12, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.ln, self.between, self.tags = nn.LayerNorm(24), nn.Linear(24, 28), nn.Linear(28, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        h, _ = self.lstm(self.embedding(tokens))
        h = self.ln(self.tap("read", h).mean(1))
        return self.tags(torch.relu(self.between(h)))


class Sets(Tapped):
    """A digit as a set of its rows: a network on each, their sum, a network on that (Zaheer et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(16, 40), nn.SiLU(), nn.Linear(40, 24))
        self.rho = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, rows: Tensor) -> Tensor:
        place = torch.eye(8).expand(len(rows), 8, 8)
        return self.rho(self.tap("summed", self.phi(torch.cat([rows, place], -1)).sum(1)))


class TwoHeads(Tapped):
    """A tanh trunk; the class by one head, the sum of the ink by another; a dict comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk1, self.trunk2 = nn.Linear(64, 40), nn.Linear(40, 32)
        self.policy, self.value = nn.Linear(32, 10), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.tap("trunk", torch.tanh(self.trunk1(x)))
        h = torch.tanh(self.trunk2(h))
        return {"logits": self.policy(h), "value": self.value(h).squeeze(1)}


def both(output: dict[str, Tensor], target: Tensor) -> Tensor:
    return smooth(output["logits"], target[:, 0].long()) + 0.5 * F.mse_loss(output["value"], target[:, 1])


class Highway(Tapped):
    """Layers that carry their input past themselves by a gate (Srivastava et al. 2015); gates start shut."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(64, width)
        self.plain = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.carry = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.leave = nn.Linear(width, 10)
        for gate in self.carry:
            nn.init.constant_(gate.bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tap("entered", torch.tanh(self.enter(x)))
        for plain, carry in zip(self.plain, self.carry, strict=True):
            gate = torch.sigmoid(carry(h))
            h = gate * F.relu(plain(h)) + (1 - gate) * h
        return self.leave(h)


class Excite(Tapped):
    """Hardswish and InstanceNorm; channels weighed by a squeeze and a sigmoid (Hu et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(1, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True)
        self.down, self.up = nn.Linear(12, 6), nn.Linear(6, 12)
        self.c2, self.fc = nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.hardswish(self.n1(self.c1(x)))
        share = torch.sigmoid(self.up(F.relu(self.down(h.mean((2, 3))))))
        h = self.tap("weighed", h * share[..., None, None])
        return self.fc(F.relu(self.c2(h)).flatten(1))


class Generator(nn.Module):
    """Transposed convolutions with BatchNorm from a code to a picture, tanh at the end (DCGAN's initialisation)."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(10, 96, bias=False), nn.BatchNorm1d(96), nn.ReLU(True), nn.Unflatten(1, (24, 2, 2)),
            nn.ConvTranspose2d(24, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
            nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip
        for module in self.main:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, code: Tensor) -> Tensor:
        return self.main(code)


class Latents(Tapped):
    """Learned queries look at the tokens, then at each other (Jaegle et al. 2021)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.words = nn.Embedding(40, width)
        self.queries = nn.Parameter(torch.randn(4, width) * 0.02)
        self.ln_in, self.ln_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, 2, batch_first=True)
        self.wide, self.narrow, self.answer = nn.Linear(width, 64), nn.Linear(64, width), nn.Linear(width, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.ln_in(self.words(tokens))
        queries = self.queries.expand(len(tokens), -1, -1)
        h = self.tap("looked", queries + self.cross(queries, seen, seen, need_weights=False)[0])
        h = h + self.narrow(F.relu(self.wide(self.ln_out(h))))
        return self.answer(h.mean(1))


def ink() -> list[Batch]:
    x, y = digits()
    return batches(standard(x), torch.stack([y.float(), x.sum(1) / 10 - 2], 1), 96, 6)


def codes() -> list[Batch]:
    """The label and noise in, the mean picture of that label out."""
    x, y = digits()
    means = torch.stack([x[y == label].mean(0) for label in range(10)]).view(10, 1, 8, 8) * 2 - 1
    code = F.one_hot(y, 10).float() + 0.1 * torch.randn(len(y), 10, generator=torch.Generator().manual_seed(3))
    real = x.view(-1, 1, 8, 8) * 2 - 1
    return batches(code, (means[y] + real) / 2, 64, 6)


@architecture(
    "textcnn", token_rows, smooth, adam(1e-2),
    Sites(Layer("fc1", "relu", ("",), "fc2"), Tap("", "largest", ("widths", "fc1"), False), "fc2", table="table", blocks="widths"),
)  # fmt: skip
def textcnn() -> nn.Module:
    return TextCNN()


@architecture(
    "dense", pictures, smooth, adam(1e-2),
    Sites(
        Layer("conv1", "none", ("",), None, "norm2"), Tap("", "all", ("norm3", "linear"), False), "linear",
        norms=("norm3", "norm1"),
    ),
)  # fmt: skip
def dense() -> nn.Module:
    return Dense()


@architecture(
    "tagger", token_rows, smooth, adam(1e-2),
    Sites(
        Layer("between", "relu", ("",), "tags"), Tap("", "read", ("lstm", "ln", "between")), "tags", norms=("ln",),
        table="embedding",
    ),
)  # fmt: skip
def tagger() -> nn.Module:
    return Tagger()


@architecture(
    "sets", digit_rows, smooth, adam(1e-2),
    Sites(Layer("rho.0", "relu", ("rho.1",), "rho.2"), Tap("", "summed", ("phi", "phi.2", "rho", "rho.0")), "rho.2"),
)  # fmt: skip
def sets() -> nn.Module:
    return Sets()


@architecture(
    "two_heads", ink, both, adam(5e-3),
    Sites(Layer("trunk2", "tanh", ("",)), Tap("", "trunk", ("trunk1", "trunk2")), "policy"),
)  # fmt: skip
def two_heads() -> nn.Module:
    return TwoHeads()


@architecture(
    "highway", flat_digits, smooth, adam(5e-3),
    Sites(Layer("enter", "tanh", ("",)), Tap("", "entered", ("enter", "plain.0", "carry.0")), "leave", blocks="plain"),
)  # fmt: skip
def highway() -> nn.Module:
    return Highway()


@architecture(
    "excite", pictures, smooth, adam(1e-2),
    Sites(Layer("c2", "relu", ("",)), Tap("", "weighed", ("c1", "n1", "down", "up", "c2")), "fc"),
)  # fmt: skip
def excite() -> nn.Module:
    return Excite()


@architecture(
    "generator", codes, F.mse_loss, adam(5e-3),
    Sites(Layer("main.0", "relu", ("main.2",), None, "main.1"), None, "main.7", norms=("main.5",)),
)  # fmt: skip
def generator() -> nn.Module:
    return Generator()


@architecture(
    "latents", token_rows, smooth, adamw(1e-2),
    Sites(
        Layer("wide", "relu", ("",), "narrow"), Tap("", "looked", ("cross", "queries", "ln_out", "wide")), "answer",
        table="words", own="queries", factors=("wide.weight", "narrow.weight"), large="cross.in_proj_weight",
    ),
)  # fmt: skip
def latents() -> nn.Module:
    return Latents()
