"""A specimen: a small model with its data, loss and optimizer, the places where faults can be planted, and its training."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

STEPS = 60
Batch = tuple[Any, Tensor]


class Tapped(nn.Module):
    """A model whose forward passes named places where a fault of the code can be put, as a typing error would."""

    def __init__(self) -> None:
        super().__init__()
        self.taps: dict[str, Callable[[Tensor], Tensor]] = {}

    def tap(self, place: str, signal: Tensor) -> Tensor:
        change = self.taps.get(place)
        return signal if change is None else change(signal)


@dataclass(frozen=True)
class Layer:
    """A Linear or Conv of the trunk, what follows it, and the layer that takes its units."""

    name: str
    activation: str  # "relu", "tanh", "sigmoid", "gelu"
    near: tuple[str, ...]  # module of the activation, or the one whose forward calls it
    after: str | None = None  # the layer whose columns are this one's units, one for one
    norm: str | None = None  # a normalisation between layer and activation


@dataclass(frozen=True)
class Tap:
    """A place in a forward, and the modules that stand for it: the one whose forward it is in, the ones beside it."""

    owner: str
    place: str
    near: tuple[str, ...]
    signed: bool = True  # whether the signal there has both signs


@dataclass(frozen=True)
class Sites:
    """Where in an architecture each kind of fault can be planted. Names are dotted; "" is the model."""

    layer: Layer
    tap: Tap | None
    head: str
    trunk: tuple[str, ...] = ()  # a plain chain, without norms and residuals, deep enough for a gradient to die
    norms: tuple[
        str, ...
    ] = ()  # whose scale must not be 0: before a ReLU or the head, not the last of a residual branch
    table: str | None = None  # an embedding
    blocks: str | None = None  # a ModuleList
    own: str | None = None  # a bare parameter, such as a position table
    factors: tuple[str, str] | None = None  # two weights whose product is used: both 0 is a dead end
    gates: tuple[str, tuple[int, int], float] | None = None  # bias of gates, rows, value that closes them
    before_norm: tuple[str, ...] = ()  # convolutions without bias before a BatchNorm
    dropout: str | None = None
    large: str | None = None  # a weight that must not be large beside `layer`: queries and keys, a tied table


@dataclass
class Specimen:
    """One model, ready to train and to be looked at."""

    name: str
    model: nn.Module
    data: list[Batch]
    loss: Callable[[Any, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    sites: Sites
    seed: int
    rebuild: Callable[[nn.Module], torch.optim.Optimizer] = field(repr=False)

    @property
    def batch(self) -> Batch:
        return self.data[0]

    def run(self, batch: Batch) -> Tensor:
        inputs, target = batch
        return self.loss(self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs), target)


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what users' models draw from
    random.seed(seed)


def train(specimen: Specimen, steps: int = STEPS) -> None:
    """Steps over the same batches in the same order with the same random numbers, for every twin."""
    seed_all(specimen.seed + 1)
    specimen.model.train()
    for step in range(steps):
        specimen.optimizer.zero_grad()
        specimen.run(specimen.data[step % len(specimen.data)]).backward()
        specimen.optimizer.step()


def loss_now(specimen: Specimen) -> float:
    """Mean of the training loss over all batches, in train mode; inf where it is not finite.

    In eval mode BatchNorm's running averages, which lag behind by tens of steps, would be most of what is compared.
    """
    seed_all(specimen.seed + 2)
    was = specimen.model.training
    specimen.model.train()
    with torch.no_grad():
        value = sum(float(specimen.run(batch)) for batch in specimen.data) / len(specimen.data)
    specimen.model.train(was)
    return value if math.isfinite(value) else math.inf


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """1797 real 8 x 8 digits in 0..1, shuffled once, and their labels."""
    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    return torch.tensor(held.data[order] / 16, dtype=torch.float32), torch.tensor(held.target[order])


def standard(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all pixels."""
    return (x - x.mean()) / x.std()


def batches(inputs: Tensor | tuple[Tensor, ...], target: Tensor, size: int, count: int) -> list[Batch]:
    def part(tensor: Tensor, index: int) -> Tensor:
        return tensor[index * size : (index + 1) * size].clone()

    return [
        (
            tuple(part(one, index) for one in inputs) if isinstance(inputs, tuple) else part(inputs, index),
            part(target, index),
        )
        for index in range(count)
    ]


def sequences(vocabulary: int, length: int, count: int, groups: int) -> tuple[Tensor, Tensor]:
    """Token rows whose label is the group of tokens that they hold more of than of the others."""
    draw = torch.Generator().manual_seed(7)
    label = torch.randint(groups, (count,), generator=draw)
    size = vocabulary // groups
    ours = label[:, None] * size + torch.randint(size, (count, length), generator=draw)
    any_token = torch.randint(vocabulary, (count, length), generator=draw)
    mine = torch.rand(count, length, generator=draw) < 0.45
    return torch.where(mine, ours, any_token), label


def markov(vocabulary: int, length: int, count: int) -> Tensor:
    """Rows of a Markov chain: each token is followed by one of four, the first of them half of the time."""
    draw = torch.Generator().manual_seed(8)
    following = torch.randint(vocabulary, (vocabulary, 4), generator=draw)
    rows = torch.randint(vocabulary, (count, 1), generator=draw)
    weights = torch.tensor([0.5, 0.2, 0.2, 0.1])
    for _ in range(length):
        choice = torch.multinomial(weights, count, replacement=True, generator=draw)
        rows = torch.cat([rows, following[rows[:, -1], choice][:, None]], 1)
    return rows
