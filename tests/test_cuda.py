"""On a GPU: what crosses to the host is the edited cells, once, and never the tensor (rules J6 and S6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import weightlab as wl

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class BytesToHost(TorchDispatchMode):
    """Counts what operations on the device leave on the host: results there, numbers that `item()` reads among them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_cuda for tensor in given):
            for leaf in tree_leaves(made):
                if isinstance(leaf, Tensor) and leaf.device.type == "cpu":
                    self.count += leaf.numel() * leaf.element_size()
                elif isinstance(leaf, int | float | complex):
                    self.count += 8
        return made


SHAPE = (4096, 1024)
ACTS: dict[str, tuple[Callable[[wl.WeightRef], object], int]] = {
    "a row": (lambda w: w[3].zero_(), 1024),
    "a rectangle": (lambda w: w[100:140, 10:60].fill_(0.5), 2000),
    "steps": (lambda w: w[::512, ::2].mul_(2), 8 * 512),
    "a clamp of a block": (lambda w: w[:512].clamp_(-0.5, 0.5), 512 * 1024),
    "sums": (lambda w: w[:300].add_(1.0), 300 * 1024),
    "a draw": (lambda w: w[7].normal_(seed=1), 1024),
}


@pytest.mark.parametrize("what", ACTS)
def test_an_edit_copies_its_cells_to_the_host_once_and_never_the_tensor(what: str) -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(SHAPE, device="cuda"))
    optimizer = torch.optim.Adam(model.parameters())
    lab = wl.Lab(model, optimizer=optimizer)
    handle, (act, cells) = lab["weight"], ACTS[what]
    start = model.weight.detach().clone()
    with BytesToHost() as host:
        act(handle)
    assert lab.history[-1].nbytes >= 4 * cells
    # The old cells, and at most 1 MB that is hashed on the host because that is cheaper there.
    assert host.count <= 4 * cells + min(4 * cells, 2**20) + 4096
    assert host.count < 4 * start.numel()
    lab.undo()
    assert torch.equal(model.weight.view(torch.int32), start.view(torch.int32))
    lab.redo()
    assert lab.undo() is not None


def test_a_whole_tensor_is_saved_once_and_compared_where_it_is() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(SHAPE, device="cuda"))
    lab = wl.Lab(model)
    start = model.weight.detach().clone()
    with BytesToHost() as host:
        lab["weight"].clamp_(-1, 1)
    assert host.count <= start.numel() * 4 + 4096
    model.weight.data[-1, -1] = 5.0
    with pytest.raises(wl.UndoConflict):
        lab.undo()
    lab.undo(force=True)
    assert torch.equal(model.weight.view(torch.int32), start.view(torch.int32))
