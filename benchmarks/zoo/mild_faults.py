"""Milder and less usual plans of the same kinds."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from .judge import gradients
from .planting import Planted, around, fault, module, own, parameter, tapped
from .specimen import Specimen
from .state_faults import NORMLESS_BRANCHES

RESIDUAL = (*NORMLESS_BRANCHES, "mixer", "gated", "latents")


@fault("unreached", "a result that is dropped")
def dropped(s: Specimen) -> Planted | None:
    """A constant goes on in its place; behind it a LayerNorm puts out 0."""
    planted = tapped(s, torch.ones_like)
    if planted is None:
        return None
    lost = tuple(name for name, grad in gradients(s).items() if grad is None)
    owners = tuple({part for name in lost for part in (name.rpartition(".")[0], name.split(".")[0])})
    return Planted((*planted.places, *lost, *owners), state=False, kinds=("detached",), lawful=("zero_path",))


@fault("detached", "h.data")
def data(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h.data * 1.0)


@fault("dead_relu", "four of five units, by their bias")
@torch.no_grad()
def most_dead(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.activation != "relu":
        return None
    bias = parameter(s, f"{layer.norm or layer.name}.bias")
    bias[: 4 * len(bias) // 5] = -30.0
    return Planted(around(layer))


@fault("zero_weight", "one unit before a ReLU")
@torch.no_grad()
def zero_unit(s: Specimen) -> Planted | None:
    if s.sites.layer.activation != "relu":
        return None
    held = module(s, s.sites.layer.name)
    held.weight[2] = 0
    if held.bias is not None:
        held.bias[2] = 0
    return Planted(own(s.sites.layer.name))


@fault("zero_path", "everything dropped by a function")
def drop_function(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: F.dropout(h, 1.0))


@fault("zero_path", "a mask of zeros, kept as a buffer")
def zero_buffer(s: Specimen) -> Planted | None:
    s.model.register_buffer("mask_of_zeros", torch.zeros(1))
    planted = tapped(s, lambda h: h * s.model.mask_of_zeros)
    return None if planted is None else Planted((*planted.places, "mask_of_zeros"), state=False)


@fault("nonfinite_weight", "minus infinity in a bias")
@torch.no_grad()
def inf_bias(s: Specimen) -> Planted | None:
    held = module(s, s.sites.layer.name)
    if held.bias is None:
        return None
    held.bias[0] = float("-inf")
    return Planted((f"{s.sites.layer.name}.bias", s.sites.layer.name))


@fault("nonfinite_weight", "a NaN in a row of a table")
@torch.no_grad()
def nan_row(s: Specimen) -> Planted | None:
    if s.sites.table is None:
        return None
    parameter(s, f"{s.sites.table}.weight")[5, 1] = float("nan")
    return Planted((f"{s.sites.table}.weight", s.sites.table))


@fault("nonfinite_activation", "a division by 0")
def divided(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h / (h - h).sum(-1, keepdim=True))


@fault("nonfinite_gradient", "an arc cosine at the end of its range")
def arc(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h + torch.acos(1 - 0 * h))


@fault("duplicate_units", "three alike")
@torch.no_grad()
def three(s: Specimen) -> Planted:
    held = module(s, s.sites.layer.name)
    held.weight[[4, 6]] = held.weight[[0, 0]].clone()
    if held.bias is not None:
        held.bias[[4, 6]] = held.bias[[0, 0]].clone()
    return Planted(around(s.sites.layer))


@fault("scale_low", "a fiftieth of what it was")
@torch.no_grad()
def lower(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.norm is not None or s.name in RESIDUAL:
        return None
    module(s, layer.name).weight.mul_(0.02)
    return Planted(own(layer.name))


@fault("scale_high", "ten times what it was")
@torch.no_grad()
def higher(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.norm is not None:
        return None
    module(s, layer.name).weight.mul_(10)
    return Planted(own(layer.name))


@fault("rank_collapse", "rank 3 of 24 or more")
@torch.no_grad()
def rank_three(s: Specimen) -> Planted | None:
    weight = module(s, s.sites.layer.name).weight
    flat = weight.flatten(1)
    if min(flat.shape) < 24:
        return None
    left, sizes, right = torch.linalg.svd(flat, full_matrices=False)
    low = left[:, :3] * sizes[:3] @ right[:3]
    weight.copy_((low * (flat.norm() / low.norm())).view_as(weight))
    return Planted(around(s.sites.layer))


@fault("not_a_parameter", "gains in a dict of tensors")
def plain_dict(s: Specimen) -> Planted | None:
    s.model.gains = {"all": torch.ones(1, requires_grad=True)}
    planted = tapped(s, lambda h: h * s.model.gains["all"])
    return None if planted is None else Planted(("gains", "gains.all", "gains['all']", 'gains["all"]', "gains[all]"))


@fault("not_a_parameter", "the head's weight as a plain tensor")
def plain_head(s: Specimen) -> Planted | None:
    if s.name == "gpt":
        return None
    held = module(s, s.sites.head)
    value = held.weight.detach().clone()
    del held._parameters["weight"]
    held.weight = value
    s.optimizer = s.rebuild(s.model)
    return Planted((f"{s.sites.head}.weight", s.sites.head))


@fault("shape_broken", "a bias with three numbers more", late=True)
def longer(s: Specimen) -> Planted | None:
    held = module(s, s.sites.layer.name)
    if held.bias is None:
        return None
    held.bias.data = torch.zeros(len(held.bias) + 3)
    return Planted((f"{s.sites.layer.name}.bias", s.sites.layer.name))


@fault("optimizer_stale", "weight_norm after the optimizer was made")
def late_norm(s: Specimen) -> Planted | None:
    held = module(s, s.sites.layer.name)
    if not isinstance(held, nn.Linear):
        return None
    parametrizations.weight_norm(held)
    name = s.sites.layer.name
    inside = tuple(f"{name}.parametrizations.weight.original{index}" for index in range(2))
    places = (*own(name), *inside, f"{name}.parametrizations", f"{name}.parametrizations.weight")
    return Planted(places, kinds=("optimizer_missing",), victims=inside)


@fault("optimizer_missing", "every bias")
def no_biases(s: Specimen) -> Planted:
    forgotten = [name for name, _ in s.model.named_parameters() if "bias" in name]
    rest = [held for name, held in s.model.named_parameters() if "bias" not in name]
    s.optimizer = s.rebuild(SimpleNamespace(parameters=lambda: rest))
    owners = {name.rpartition(".")[0] for name in forgotten}
    return Planted(("", *forgotten, *owners), victims=tuple(forgotten))
