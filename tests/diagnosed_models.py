"""Small models of the common architectures, for the diagnosis."""

import math

import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl


class Residual(nn.Module):
    """Two convolutions with BatchNorm beside a skip."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class Block(nn.Module):
    """A pre-norm transformer block with a packed projection."""

    def __init__(self, width):
        super().__init__()
        self.ln1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ln2, self.fc, self.out = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = self.qkv(self.ln1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.proj(mixed)
        return x + self.out(F.gelu(self.fc(self.ln2(x))))


class Gpt(nn.Module):
    """Three blocks and a head, N(0, 0.02) with residual projections scaled by 1 / sqrt(6)."""

    def __init__(self, width=24):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(17, width), nn.Sequential(*(Block(width) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
        for name, p in self.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02 / math.sqrt(6) if "proj" in name or "out" in name else 0.02)

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.embed(tokens)))[:, -1])


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(17, 8), nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0][:, -1])


def mlp():
    return nn.Sequential(
        nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5)
    )


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(12 * 9, 5),
    )  # fmt: skip


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


LABELS = torch.arange(20) % 5
INPUTS = {
    "rows": torch.randn(20, 7, generator=torch.Generator().manual_seed(0)),
    "images": torch.randn(20, 3, 9, 9, generator=torch.Generator().manual_seed(0)),
    "tokens": torch.randint(17, (20, 6), generator=torch.Generator().manual_seed(0)),
}
MODELS = {
    "mlp": (mlp, "rows"),
    "cnn": (cnn, "images"),
    "resnet": (resnet, "images"),
    "gpt": (Gpt, "tokens"),
    "lstm": (Recurrent, "tokens"),
}


def lab_of(name, model=None, optimizer=None):
    make, kind = MODELS[name]
    return wl.Lab(model or make(), batch=(INPUTS[kind], LABELS), loss=F.cross_entropy, optimizer=optimizer)


def he(weight):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
