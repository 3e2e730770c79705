"""Parameters that are sharded over two processes (gloo, on the CPU): the same edits, the same bytes on both."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes
from torch import Tensor, nn

import weightlab as wl

distributed = pytest.importorskip("torch.distributed")
pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch was built without distributed")


KINDS = ("fully_shard", "rows", "columns", "replicate")


def net() -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].weight[4, 1] = float("nan")
    return model


def edit(lab: wl.Lab) -> None:
    """Boxes with steps, rows of one shard, rows of the other, listed cells, the whole, what needs all cells at once."""
    w = lab["0.weight"]
    w[1].zero_()
    w[1:5:2, ::3].fill_(0.5)
    w[4].copy_(torch.arange(4.0))
    w[w.value > 0.3].mul_(2)
    w[:, 2].clamp_(-0.1, 0.1)
    w.permute_(0, [4, 2, 0, 3, 1])
    lab["0.bias"].init_("normal_", seed=3)
    lab["2.weight"].prune_(0.4)
    lab["2.weight"][[2, 0, 1], [0, 3, 4]].add_(torch.tensor([1.0, 2.0, 3.0]))
    lab["2.bias"].lerp_(torch.ones(3), 0.25)
    with lab.stroke("two"):
        lab["2.bias"][2].neg_()
        w[3, 3].fill_(7.0)


def bits(tensor: Tensor) -> Tensor:
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().view(torch.int32)


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        for kind in KINDS:
            same_as_plain(kind, Path(folder) / f"{kind} {rank}.safetensors")
    finally:
        distributed.destroy_process_group()


def same_as_plain(kind: str, path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    model, plain = net(), net()
    if kind == "fully_shard":
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        placed = {"rows": [Shard(0)], "columns": [Shard(1)], "replicate": [Replicate()]}[kind]

        def place(name: str, module: nn.Module, mesh: object) -> None:
            for local, value in list(module.named_parameters(recurse=False)):
                where = [Replicate()] if value.ndim == 1 else placed
                module.register_parameter(local, nn.Parameter(distribute_tensor(value.detach(), mesh, where)))

        distribute_module(model, mesh, place)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    lab, twin = wl.Lab(model, optimizer=optimizer), wl.Lab(plain)
    states, counts = [], []
    before = model[0].weight, model[0].weight._version
    for one in (lab, twin):
        edit(one)
    assert model[0].weight is before[0]
    assert model[0].weight._version > before[1]  # J4
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(bits(mine), bits(theirs)), "the same edits give the same bytes"
    assert [e.cells for e in lab.history] == [e.cells for e in twin.history]
    assert torch.equal(lab["0.weight"].value.view(torch.int32), bits(plain[0].weight))
    # The script says what it takes to do the same to a DTensor.
    copied = net()
    if kind == "rows":
        distribute_module(copied, mesh, place)
        scope: dict[str, object] = {}
        exec(lab.to_python(), scope)
        scope["apply"](copied)  # type: ignore[operator]
        for mine, theirs in zip(copied.parameters(), plain.parameters(), strict=True):
            assert torch.equal(bits(mine), bits(theirs))
    while lab.undo() is not None:
        twin.undo()
        states.append(
            [torch.equal(bits(a), bits(b)) for a, b in zip(model.parameters(), plain.parameters(), strict=True)]
        )
    assert all(map(all, states)), states
    while lab.redo() is not None:
        twin.redo()
        counts.append(
            [torch.equal(bits(a), bits(b)) for a, b in zip(model.parameters(), plain.parameters(), strict=True)]
        )
    assert all(map(all, counts)), counts
    lab.jump(0)
    with torch.no_grad():
        model[0].weight.nan_to_num_(0.0)
    # Forward sees the edit; a hold keeps its cells on every process; snapshots restore; conflicts are found (J8, T4).
    lab.snapshot("before")
    lab["0.weight"][2].zero_()
    lab["0.weight"][2:4].hold()
    kept = bits(model[0].weight)[2:4].clone()
    for _ in range(3):
        inputs = torch.ones(2, 4)
        loss = model(inputs if kind == "fully_shard" else distribute_tensor(inputs, mesh, [Replicate()])).sum()
        loss = loss.full_tensor() if hasattr(loss, "full_tensor") else loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(bits(model[0].weight)[2:4], kept)
    assert not torch.equal(bits(model[0].weight)[:2], lab.snapshots.tensors("before")["0.weight"].view(torch.int32)[:2])
    lab["0.weight"][2].fill_(0.25)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    for force in (False, True):
        try:
            lab.undo(force)
            assert force
        except wl.UndoConflict:
            assert not force
    lab.restore("before")
    assert torch.equal(bits(model[0].weight), lab.snapshots.tensors("before")["0.weight"].view(torch.int32))
    with pytest.raises(wl.EditRefused, match="same seed"):
        lab["0.bias"].normal_()
    lab.save(path)
    assert len(lab.diff(path)) == 0
    from weightlab.jupyter.protocol import Session

    if (
        kind == "fully_shard"
    ):  # after a forward alone the root's parameters are gathered ones, dropped by the next reshard
        with torch.no_grad():
            model(inputs)
        with pytest.raises(wl.EditRefused, match="gathered from its shards"):
            lab["2.weight"].zero_()
        model(inputs).sum().backward()
        lab["2.weight"].zero_()
    message = {"v": 1, "id": 1, "op": "summary", "name": "0.weight"}
    if kind != "replicate":
        reply, _ = Session(lab).handle(message)
        assert not reply["ok"]
        assert "sharded over processes" in reply["error"]["message"], reply


def test_sharded_parameters_are_edited_as_plain_ones(tmp_path: Path) -> None:  # J1, J2, J4, J8, T4
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.spawn(work, (port, str(tmp_path)), nprocs=2)  # raises what either process raised
    assert {path.stem for path in tmp_path.iterdir()} == {f"{kind} {rank}" for kind in KINDS for rank in range(2)}
