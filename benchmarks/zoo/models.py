"""The small models of the zoo. Activations are modules in some and function calls in others, as in the wild."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .specimen import Tapped


class MLP(Tapped):
    """Linear layers with an activation module behind each; no norms."""

    def __init__(self, sizes: list[int], activation: type[nn.Module], dropout: float = 0.0, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.acts = nn.ModuleList(activation() for _ in self.layers)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for index, (layer, act) in enumerate(zip(self.layers, self.acts, strict=True)):
            x = act(layer(x))
            if index == 0:
                x = self.tap("first", x)
        return self.head(self.drop(x))


class CNN(Tapped):
    """Two convolutions with F.relu, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.tap("pooled", x)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class BasicBlock(Tapped):
    """conv, BN, ReLU, conv, BN, plus the input, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.tap("branch", self.bn2(self.conv2(h)))
        return self.relu(x + h)


class ResNet(Tapped):
    def __init__(self, width: int = 12, blocks: int = 2) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(BasicBlock(width) for _ in range(blocks))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tap("stem", F.relu(self.bn(self.stem(x))))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class Mobile(nn.Module):
    """Depthwise separable convolutions with BatchNorm and ReLU6, as one Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6(),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(24 * 64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class Recurrent(Tapped):
    """Embedding, LSTM or GRU, the mean over time, a hidden layer."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], vocabulary: int = 40, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.rnn = cell(16, width, batch_first=True)
        self.hidden = nn.Linear(width, 24)
        self.out = nn.Linear(24, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        h, _ = self.rnn(self.embed(tokens))
        h = self.tap("states", h)
        return self.out(F.relu(self.hidden(h.mean(1))))


class RowGRU(Tapped):
    """A GRU that reads a digit row by row; the last state through a tanh layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 32, batch_first=True)
        self.mid, self.act = nn.Linear(32, 32), nn.Tanh()
        self.out = nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        _, last = self.gru(rows)
        return self.out(self.act(self.mid(self.tap("last", last[0]))))


class Encoder(Tapped):
    """torch's own TransformerEncoder over tokens, mean-pooled."""

    def __init__(self, vocabulary: int = 40, width: int = 32, length: int = 12) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.tap("embedded", self.embed(tokens) + self.position)
        return self.out(self.encoder(h).mean(1))


class Block(Tapped):
    """A pre-norm transformer block with attention of its own."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.fc_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        samples, length, width = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(samples, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(mixed.transpose(1, 2).reshape(samples, length, width))
        h = self.tap("hidden", F.gelu(self.fc(self.ln_2(x))))
        return x + self.fc_out(h)


class GPT(Tapped):
    """A decoder whose head is the token table; N(0, 0.02), residual projections scaled down by depth (GPT-2)."""

    def __init__(self, vocabulary: int = 32, width: int = 32, length: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, 4, True) for _ in range(depth))
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            nn.init.normal_(block.proj.weight, std=0.02 / math.sqrt(2 * depth))
            nn.init.normal_(block.fc_out.weight, std=0.02 / math.sqrt(2 * depth))
        self.head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        x = self.tap("embedded", x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x)).transpose(1, 2)


class ViT(Tapped):
    """Patches of 4 x 4, a class token, a learned position table, pre-norm blocks, the mean of all tokens."""

    def __init__(self, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 5, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, 4, False) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.cls.expand(len(h), -1, -1), h], 1) + self.position
        h = self.tap("tokens", h)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h).mean(1))


class VAE(Tapped):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mu, self.logvar = nn.Linear(64, 48), nn.Linear(48, 8), nn.Linear(48, 8)
        self.dec, self.out = nn.Linear(8, 48), nn.Linear(48, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.tap("encoded", F.relu(self.enc(x)))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.out(F.relu(self.dec(z))), mu, logvar


def vae_loss(output: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
    logits, mu, logvar = output
    reconstruction = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
    # A tenth of the prior's pull (Higgins et al. 2017, with beta 0.1): with all of it the code is empty after 60 steps.
    return reconstruction + 0.1 * 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()


def conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(Tapped):
    """Down, bottom, up, with one skip; a mask per pixel."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down, self.bottom = conv_bn(1, width), conv_bn(width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.merge, self.mask = conv_bn(2 * width, width), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        h = self.tap("bottom", self.bottom(F.max_pool2d(skip, 2)))
        return self.mask(self.merge(torch.cat([skip, self.up(h)], 1)))


class Mixture(Tapped):
    """A soft mixture of four experts."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(64, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(experts)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        share = torch.softmax(self.gate(x), -1)
        outs = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head(self.tap("mixed", (share[..., None] * outs).sum(1)))


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 12), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Siamese(Tapped):
    """One encoder for two pictures; the logit that they show the same digit falls with their squared distance."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.shift = nn.Parameter(torch.tensor([1.0]))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.tap("encoded", self.encoder(a)), self.tap("encoded", self.encoder(b))
        distance = (a - b).square().sum(1)
        return self.shift - distance


class Recommender(Tapped):
    """A bag of what was seen before against an item table, beside a small network on both."""

    def __init__(self, items: int = 60, width: int = 16) -> None:
        super().__init__()
        self.history, self.items = nn.EmbeddingBag(items, width, mode="mean"), nn.Embedding(items, width)
        self.mix, self.out = nn.Linear(2 * width, 32), nn.Linear(32, 1)

    def forward(self, seen: Tensor, item: Tensor) -> Tensor:
        bag, one = self.tap("bag", self.history(seen)), self.items(item)
        return self.out(F.relu(self.mix(torch.cat([bag, one], 1)))).squeeze(1)
