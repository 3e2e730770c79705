"""Faults of initialisation, registration and optimizer: the kinds of rule G7 beyond those of G4."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from .planting import Planted, around, fault, module, own, parameter, tapped
from .specimen import Specimen

NORMLESS_BRANCHES = ("encoder", "gpt", "vit")  # a small weight inside a residual branch is a deliberate choice


def first_axis(weight: Tensor) -> Tensor:
    return weight.flatten(1)


@fault("symmetric_units", "constants in a layer and in the next")
@torch.no_grad()
def constant(s: Specimen) -> Planted:
    layer = s.sites.layer
    held = module(s, layer.name)
    held.weight.fill_(0.05)
    if held.bias is not None:
        held.bias.zero_()
    if layer.after is not None:
        after = module(s, layer.after).weight
        after.copy_(after.mean(1, keepdim=True).expand_as(after))
    return Planted(
        (*around(layer), *own(layer.after)), lawful=("rank_collapse", "scale_low", "scale_high", "dead_relu")
    )


@fault("symmetric_units", "every unit a copy of the first")
@torch.no_grad()
def copies(s: Specimen) -> Planted:
    layer = s.sites.layer
    held = module(s, layer.name)
    held.weight.copy_(held.weight[:1].expand_as(held.weight).clone())
    if held.bias is not None:
        held.bias.copy_(held.bias[:1].expand_as(held.bias).clone())
    return Planted(around(layer), lawful=("dead_relu",))  # where the first is off, all are


@fault("symmetric_units", "the whole model constant")
@torch.no_grad()
def all_constant(s: Specimen) -> Planted | None:
    if s.name not in ("mlp_relu", "mlp_tanh", "cnn", "vae", "autoencoder", "siamese", "recommender"):
        return None
    for held in s.model.modules():
        if isinstance(held, nn.Linear | nn.Conv2d):
            held.weight.fill_(0.02)
            held.bias.zero_()
    names = [name for name, held in s.model.named_modules() if isinstance(held, nn.Linear | nn.Conv2d)]
    return Planted(
        (*own(*names), *s.sites.layer.near),
        lawful=("rank_collapse", "scale_low", "scale_high", "vanishing", "zero_path"),
    )


@fault("duplicate_units", "half of the units twice, with what follows")
@torch.no_grad()
def twins(s: Specimen) -> Planted:
    layer = s.sites.layer
    held = module(s, layer.name)
    half = held.weight.shape[0] // 2
    held.weight[half : 2 * half] = held.weight[:half].clone()
    if held.bias is not None:
        held.bias[half : 2 * half] = held.bias[:half].clone()
    if layer.after is not None:
        after = module(s, layer.after).weight
        after[:, half : 2 * half] = after[:, :half].clone()
    return Planted(around(layer))


@fault("duplicate_units", "one pair")
@torch.no_grad()
def pair(s: Specimen) -> Planted:
    layer = s.sites.layer
    held = module(s, layer.name)
    held.weight[3] = held.weight[1].clone()
    if held.bias is not None:
        held.bias[3] = held.bias[1].clone()
    return Planted(around(layer))


@fault("scale_low", "a thousandth of what it was")
@torch.no_grad()
def low(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.norm is not None or s.name in NORMLESS_BRANCHES:
        return None
    module(s, layer.name).weight.mul_(1e-3)
    return Planted(own(layer.name))


@fault("scale_low", "every weight at N(0, 1e-4)")
@torch.no_grad()
def all_low(s: Specimen) -> Planted | None:
    if s.name not in ("mlp_relu", "mlp_tanh", "mlp_gelu_dropout", "cnn", "autoencoder", "mixture"):
        return None
    names = [name for name, held in s.model.named_modules() if isinstance(held, nn.Linear | nn.Conv2d)]
    for name in names:
        nn.init.normal_(module(s, name).weight, std=1e-4)
    return Planted(own(*names), kinds=("vanishing",))


@fault("scale_high", "fifty times what it was")
@torch.no_grad()
def high(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.norm is not None:
        return None
    module(s, layer.name).weight.mul_(50)
    return Planted(own(layer.name))


@fault("scale_high", "every weight at N(0, 1)")
@torch.no_grad()
def all_high(s: Specimen) -> Planted | None:
    if s.name not in ("mlp_relu", "mlp_tanh", "deep_relu", "deep_tanh", "cnn", "autoencoder", "mixture", "vae"):
        return None
    names = [name for name, held in s.model.named_modules() if isinstance(held, nn.Linear | nn.Conv2d)]
    for name in names:
        nn.init.normal_(module(s, name).weight)
    return Planted(own(*names), lawful=("vanishing", "nonfinite_activation", "nonfinite_gradient"))


@fault("scale_high", "queries and keys, or a tied table")
@torch.no_grad()
def sharp(s: Specimen) -> Planted | None:
    """Fifty times N(0, 0.02) is N(0, 1), torch's own default for a table and a known trap where the head is tied to it."""
    if s.sites.large is None:
        return None
    held = parameter(s, s.sites.large)
    held.mul_(50)
    tied = [name for name, other in s.model.named_parameters(remove_duplicate=False) if other is held]
    return Planted((*tied, *(name.rpartition(".")[0] for name in tied)))


def _low_rank(s: Specimen, rank: int) -> Planted:
    weight = module(s, s.sites.layer.name).weight
    rows, columns = first_axis(weight).shape
    draw = torch.Generator().manual_seed(s.seed)
    product = torch.randn(rows, rank, generator=draw) @ torch.randn(rank, columns, generator=draw)
    weight.copy_((product * (weight.norm() / product.norm())).view_as(weight))
    return Planted(around(s.sites.layer))


@fault("rank_collapse", "rank 1")
@torch.no_grad()
def rank_one(s: Specimen) -> Planted:
    return _low_rank(s, 1)


@fault("rank_collapse", "rank 2 of 24 or more")
@torch.no_grad()
def rank_two(s: Specimen) -> Planted | None:
    weight = module(s, s.sites.layer.name).weight
    return _low_rank(s, 2) if min(first_axis(weight).shape) >= 24 else None


@fault("zero_norm_scale", "every channel")
@torch.no_grad()
def zero_scale(s: Specimen) -> Planted | None:
    if not s.sites.norms:
        return None
    name = s.sites.norms[0]
    module(s, name).weight.zero_()
    return Planted(own(name))


@fault("zero_norm_scale", "half of the channels")
@torch.no_grad()
def half_scale(s: Specimen) -> Planted | None:
    if not s.sites.norms or isinstance(module(s, s.sites.norms[-1]), nn.LayerNorm):
        return None
    name = s.sites.norms[-1]
    weight = module(s, name).weight
    weight[: len(weight) // 2] = 0
    return Planted(own(name))


@fault("not_a_parameter", "a bias that became a plain tensor")
def plain_bias(s: Specimen) -> Planted | None:
    held = module(s, s.sites.layer.name)
    if held.bias is None:
        return None
    value = held.bias.detach().clone()
    del held._parameters["bias"]
    held.bias = value
    s.optimizer = s.rebuild(s.model)
    return Planted((f"{s.sites.layer.name}.bias", s.sites.layer.name))


@fault("not_a_parameter", "a weight of one's own as a tensor")
def plain_own(s: Specimen) -> Planted | None:
    if s.sites.own is None:
        return None
    value = parameter(s, s.sites.own).detach().clone().requires_grad_()
    delattr(s.model, s.sites.own)
    setattr(s.model, s.sites.own, value)
    s.optimizer = s.rebuild(s.model)
    return Planted((s.sites.own,))


@fault("not_a_parameter", "layers in a plain list")
def plain_list(s: Specimen) -> Planted | None:
    if s.sites.blocks is None:
        return None
    name = s.sites.blocks
    held = list(s.model.get_submodule(name))
    inside = [f"{name}.{index}" for index in range(len(held))]
    inside += [f"{name}.{key}" for key, _ in s.model.get_submodule(name).named_parameters()]
    delattr(s.model, name)
    setattr(s.model, name, held)
    s.optimizer = s.rebuild(s.model)
    return Planted((name, *inside, *(f"{name}[{index}]" for index in range(len(held)))))


@fault("not_a_parameter", "gains in a list of tensors")
def plain_gains(s: Specimen) -> Planted | None:
    s.model.gains = [torch.ones(1, requires_grad=True)]
    planted = tapped(s, lambda h: h * s.model.gains[0])
    return None if planted is None else Planted(("gains", "gains.0", "gains[0]"))


@fault("shape_broken", "a head with other columns, through .data", late=True)
def wrong_head(s: Specimen) -> Planted:
    name = f"{s.sites.head}.weight"
    held = parameter(s, name)
    held.data = torch.randn(held.shape[0], held.shape[1] + 3, *held.shape[2:])
    tied = [other for other, one in s.model.named_parameters(remove_duplicate=False) if one is held]
    return Planted((*tied, *(other.rpartition(".")[0] for other in tied)))


@fault("shape_broken", "a layer transposed, through .data", late=True)
def transposed(s: Specimen) -> Planted | None:
    name = f"{s.sites.layer.name}.weight"
    held = parameter(s, name)
    if held.shape[0] == held.shape[1]:
        return None
    held.data = held.data.transpose(0, 1).contiguous()
    return Planted((name, s.sites.layer.name))


@fault("shape_broken", "a bias of one number, which broadcasts")
def one_number(s: Specimen) -> Planted | None:
    held = module(s, s.sites.layer.name)
    if not isinstance(held, nn.Linear) or held.bias is None:
        return None
    held.bias.data = torch.zeros(1)
    return Planted((f"{s.sites.layer.name}.bias", s.sites.layer.name))


@fault("optimizer_stale", "a weight replaced by a new Parameter")
def stale(s: Specimen) -> Planted:
    held = module(s, s.sites.layer.name)
    held.weight = nn.Parameter(held.weight.detach().clone())
    name = f"{s.sites.layer.name}.weight"
    return Planted((name, s.sites.layer.name), victims=(name,))


@fault("optimizer_stale", "a new head")
def new_head(s: Specimen) -> Planted | None:
    if s.name == "gpt":
        return None
    name = s.sites.head
    fresh = copy.deepcopy(module(s, name))
    s.model.set_submodule(name, fresh)
    names = tuple(f"{name}.{key}" for key, _ in fresh.named_parameters())
    return Planted((name, *names), victims=names)


@fault("optimizer_stale", "an optimizer of a copy of the model")
def other_model(s: Specimen) -> Planted:
    s.optimizer = s.rebuild(copy.deepcopy(s.model))
    names = tuple(name for name, _ in s.model.named_parameters())
    owners = tuple({name.rpartition(".")[0] for name in names})
    return Planted(("", *names, *owners), victims=names)


def _without(s: Specimen, forgotten: list[str]) -> Planted:
    rest = [held for name, held in s.model.named_parameters() if name not in forgotten]
    s.optimizer = s.rebuild(SimpleNamespace(parameters=lambda: rest))
    return Planted((*forgotten, *{name.rpartition(".")[0] for name in forgotten}), victims=tuple(forgotten))


@fault("optimizer_missing", "a layer's parameters")
def forgotten_layer(s: Specimen) -> Planted:
    inside = [name for name, _ in s.model.named_parameters() if name.startswith(f"{s.sites.layer.name}.")]
    return _without(s, inside)


@fault("optimizer_missing", "the head")
def forgotten_head(s: Specimen) -> Planted | None:
    inside = [name for name, _ in s.model.named_parameters() if name.startswith(f"{s.sites.head}.")]
    return _without(s, inside) if inside else None
