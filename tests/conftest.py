"""Small seeded models of the kinds that matter, shared by all tests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a CUDA device is left out where there is none."""
    if torch.cuda.is_available():
        return
    left = [item for item in items if item.get_closest_marker("cuda")]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Each test starts from the same random state and leaves none behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def small_cnn() -> nn.Sequential:
    """conv1 [4, 3, 3, 3] -> relu -> mean -> fc [5, 4]; odd sizes, so that a swapped axis shows."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 3),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(4, 5),
        )
    )


@pytest.fixture
def image_batch() -> tuple[Tensor, Tensor]:
    """Six images of 3 x 7 x 9 and their classes, for `small_cnn`."""
    return torch.randn(6, 3, 7, 9), torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture
def tied_model() -> nn.Module:
    """An embedding [7, 3] whose weight is also the output layer's."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 3)
            self.head = nn.Linear(3, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.embed(tokens))

    return Tied()


@pytest.fixture
def bytes_of() -> Callable[[nn.Module], dict[str, bytes]]:
    """Every parameter and buffer as raw bytes: equality sees NaN payloads and the sign of zero."""

    def read(model: nn.Module) -> dict[str, bytes]:
        tensors = model.state_dict().items()
        return {
            name: tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            for name, tensor in tensors
        }

    return read
