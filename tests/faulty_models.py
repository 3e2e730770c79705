"""Models with one planted fault."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl

X = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
IMAGES = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = (IMAGES[:, 0].mean((1, 2)) > 0).long()


def mlp():
    return nn.Sequential(nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)
    )


def state_of(model, optimizer):
    """Everything that a repair could change: order, identity, bytes, flags, what the optimizer holds and keeps."""
    modules = []
    for path, module in model.named_modules():
        held = [
            (key, id(value))
            for key, value in vars(module).items()
            if key not in ("_parameters", "_buffers", "_modules")
        ]
        held += [
            (key, id(value))
            for kind in ("_parameters", "_buffers", "_modules")
            for key, value in vars(module)[kind].items()
        ]
        modules.append((path, held))
    tensors = {
        name: (id(p), p.data_ptr(), p.shape, p.requires_grad, id(p.grad), p.detach().numpy().tobytes())
        for name, p in model.named_parameters()
    }
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    kept = [
        (id(p), [(key, value.numpy().tobytes()) for key, value in held.items()]) for p, held in optimizer.state.items()
    ]
    return modules, tensors, list(model.state_dict()), groups, kept


def step(model, optimizer, data, count=1):
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data[0]), data[1])
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def weight(index, change):
    def plant(model, optimizer):
        with torch.no_grad():
            change(model[index].weight)

    return plant


def rank_one(w):
    w.copy_(torch.outer(w.flatten(1)[:, 0], w.flatten(1)[0]).view_as(w) / w.abs().max())


def dead_bias(model, optimizer):
    nn.init.constant_(model[2 if isinstance(model[2], nn.Linear) else 3].bias, -50)


def all_negative(model, optimizer):
    with torch.no_grad():
        model[2].weight.abs_().neg_()
        model[2].bias.fill_(-0.01)


def plain_tensor(model, optimizer):
    held = model[2] if isinstance(model[2], nn.Linear) else model[3]
    value = held.weight.detach().clone()
    del held.weight
    held.weight = value


def replaced(model, optimizer):
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def forgotten(model, optimizer):
    del optimizer.state[optimizer.param_groups[0]["params"].pop(0)]


def wrong_shape(model, optimizer):
    model[0].weight.grad = None
    model[0].weight.data = torch.randn(5, 3, *model[0].weight.shape[2:])


FAULTS = {
    "symmetric_units": (mlp, weight(2, lambda w: w.fill_(0.05))),
    "duplicate_units": (mlp, weight(2, lambda w: w[1:9].copy_(w[:1].expand(8, -1)))),
    "rank_collapse": (mlp, weight(2, rank_one)),
    "scale_low": (mlp, weight(2, lambda w: w.mul_(1e-4))),
    "scale_high": (mlp, weight(2, lambda w: w.mul_(200))),
    "zero_weight": (mlp, lambda m, o: (weight(2, lambda w: w.zero_())(m, o), nn.init.zeros_(m[2].bias))),
    "dead_relu": (mlp, dead_bias),
    "dead_relu by its weights": (mlp, all_negative),
    "dead_relu in a cnn": (cnn, dead_bias),
    "zero_norm_scale": (cnn, weight(1, lambda w: w.zero_())),
    "nonfinite_weight": (cnn, weight(3, lambda w: w[1, 2].fill_(float("nan")))),
    "not_a_parameter": (mlp, plain_tensor),
    "not_a_parameter in a cnn": (cnn, plain_tensor),
    "optimizer_stale": (mlp, replaced),
    "optimizer_missing": (cnn, forgotten),
    "shape_broken": (mlp, wrong_shape),
    "shape_broken in a cnn": (cnn, wrong_shape),
}


def planted(fault):
    """The kind, a model with two steps behind it and a fault, its Lab, and a healthy twin in the same state."""
    torch.manual_seed(3)
    make, plant = FAULTS[fault]
    model = make()
    data = (X, Y) if make is mlp else (IMAGES, KINDS)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step(model, optimizer, data, 2)
    twin = copy.deepcopy((model, optimizer))
    twin[1].param_groups[0]["params"] = list(twin[0].parameters())
    twin[1].state.clear()
    plant(model, optimizer)
    replaces = fault.startswith(("optimizer_stale", "not_a_parameter"))
    with pytest.warns(UserWarning, match="no longer has") if replaces else contextlib.nullcontext():
        lab = wl.Lab(model, batch=data, loss=F.cross_entropy, optimizer=optimizer)
    return fault.split()[0], lab, data, twin
