"""Faults that show in the gradients: the kinds of rule G4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .planting import Planted, around, fault, fed, module, own, parameter, tapped
from .specimen import Specimen, seed_all

FAR = -50.0  # a bias that no input of these models outweighs


@fault("unreached", "a module that no forward calls")
def uncalled(s: Specimen) -> Planted | None:
    if isinstance(s.model, nn.Sequential):
        return None  # calls whatever it holds
    s.model.add_module("projection", nn.Linear(7, 5))
    s.optimizer = s.rebuild(s.model)
    names = ("projection.weight", "projection.bias")
    return Planted(("projection", *names), state=False, victims=names)


@fault("unreached", "a parameter that no forward uses")
def unused(s: Specimen) -> Planted:
    s.model.register_parameter("temperature", nn.Parameter(torch.ones(3)))
    s.optimizer = s.rebuild(s.model)
    return Planted(("temperature",), state=False, victims=("temperature",))


@fault("detached", "h.detach()")
def detach(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h.detach())


@fault("detached", "a copy under no_grad")
def no_grad(s: Specimen) -> Planted | None:
    def change(h: Tensor) -> Tensor:
        with torch.no_grad():
            return h * 1.0

    return tapped(s, change)


@fault("detached", "through NumPy")
def numpy(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: torch.from_numpy(h.detach().numpy().copy()))


def shift(s: Specimen) -> nn.Parameter:
    """The bias that is added last before the activation."""
    return parameter(s, f"{s.sites.layer.norm or s.sites.layer.name}.bias")


@fault("dead_relu", "every unit, by its bias")
@torch.no_grad()
def dead(s: Specimen) -> Planted | None:
    if s.sites.layer.activation != "relu":
        return None
    shift(s).fill_(FAR)
    return Planted(around(s.sites.layer))


@fault("dead_relu", "half of the units, by their bias")
@torch.no_grad()
def half_dead(s: Specimen) -> Planted | None:
    if s.sites.layer.activation != "relu":
        return None
    bias = shift(s)
    bias[: len(bias) // 2] = FAR
    return Planted(around(s.sites.layer))


@fault("dead_relu", "negative weights behind a signal that is never negative")
@torch.no_grad()
def negative(s: Specimen) -> Planted | None:
    if s.name not in ("mlp_relu", "deep_relu", "vae"):
        return None
    layer = module(s, s.sites.layer.name)
    layer.weight.abs_().neg_()
    layer.bias.fill_(-0.01)
    return Planted(around(s.sites.layer))


@fault("saturated", "every unit, by its bias")
@torch.no_grad()
def saturated(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.activation == "gelu":  # far below 0 it is as flat as a dead ReLU
        shift(s).fill_(FAR)
        return Planted(around(layer), kinds=("dead_relu",))
    if layer.activation not in ("tanh", "sigmoid"):
        return None
    bias = shift(s)
    bias[::2], bias[1::2] = FAR, -FAR
    return Planted(around(layer))


@fault("saturated", "a gate that is closed for every input")
@torch.no_grad()
def closed(s: Specimen) -> Planted | None:
    if s.sites.gates is None:
        return None
    name, (start, stop), value = s.sites.gates
    parameter(s, name)[start:stop] = value
    owner = name.rpartition(".")[0]
    return Planted((owner, name, name.replace("bias", "weight"), ""), lawful=("vanishing",))


@fault("saturated", "a sigmoid at the output")
@torch.no_grad()
def output(s: Specimen) -> Planted | None:
    if s.name != "autoencoder":
        return None
    bias = parameter(s, "decoder.2.bias")
    bias[::2], bias[1::2] = 150.0, -150.0
    return Planted((*own("decoder.2"), "decoder.3"))


@fault("zero_weight", "a quarter of the units before a ReLU")
@torch.no_grad()
def zero_rows(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.activation != "relu":
        return None
    held = module(s, layer.name)
    count = max(2, held.weight.shape[0] // 4)
    held.weight[1 : 1 + count] = 0
    if held.bias is not None:
        held.bias[1 : 1 + count] = 0
    return Planted(own(layer.name))


@fault("zero_weight", "a whole layer before a ReLU")
@torch.no_grad()
def zero_layer(s: Specimen) -> Planted | None:
    layer = s.sites.layer
    if layer.activation != "relu":
        return None
    held = module(s, layer.name)
    held.weight.zero_()
    if held.bias is not None:
        held.bias.zero_()
    return Planted(own(layer.name))


@fault("zero_weight", "two weights one behind the other")
@torch.no_grad()
def zero_factors(s: Specimen) -> Planted | None:
    """With both at 0 neither gets a gradient (Saxe et al. 2014, section 1: the saddle at the origin)."""
    if s.sites.factors is None:
        return None
    for name in s.sites.factors:
        parameter(s, name).zero_()
        bias = name.replace("weight", "bias")
        if bias in dict(s.model.named_parameters()):
            parameter(s, bias).zero_()
    return Planted(tuple(place for name in s.sites.factors for place in (name, name.rpartition(".")[0])))


@fault("zero_path", "times 0 in the forward")
def times_zero(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h * 0.0)


@fault("zero_path", "a mask that is empty")
def empty_mask(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h * (h > 1e9).float())


@fault("zero_path", "dropout with p = 1")
def drop_all(s: Specimen) -> Planted | None:
    if s.sites.dropout is None:
        return None
    module(s, s.sites.dropout).p = 1.0
    return Planted((s.sites.dropout,), state=False)


@fault("zero_path", "a batch of zeros")
def zero_batch(s: Specimen) -> Planted | None:
    if s.name in ("siamese", "recommender") or not s.batch[0].is_floating_point():
        return None
    s.data = [(torch.zeros_like(inputs), target) for inputs, target in s.data]
    return Planted(("", *own(*fed(s))), state=False)


@fault("nonfinite_weight", "a NaN in a weight")
@torch.no_grad()
def nan_weight(s: Specimen) -> Planted:
    name = f"{s.sites.layer.name}.weight"
    parameter(s, name).view(-1)[5] = float("nan")
    return Planted((name, s.sites.layer.name))


@fault("nonfinite_weight", "an infinite weight of the head")
@torch.no_grad()
def inf_head(s: Specimen) -> Planted:
    name = f"{s.sites.head}.weight"
    parameter(s, name).view(-1)[3] = float("inf")
    tied = [other for other, held in s.model.named_parameters(remove_duplicate=False) if held is parameter(s, name)]
    return Planted((*tied, *(other.rpartition(".")[0] for other in tied)))


@fault("nonfinite_weight", "a NaN in the running variance, in eval mode")
@torch.no_grad()
def nan_variance(s: Specimen) -> Planted | None:
    norm = s.sites.layer.norm
    if norm is None:
        return None
    module(s, norm).running_var[1] = float("nan")
    s.model.eval()
    return Planted((f"{norm}.running_var", norm))


@fault("nonfinite_activation", "the logarithm of what may be 0")
def log_of_zero(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: F.relu(h - 0.01).log())


@fault("nonfinite_activation", "an exponential that overflows")
def overflow(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: (h.abs() * 1e4 + 1e3).exp())


@fault("nonfinite_activation", "a NaN in the batch")
def nan_batch(s: Specimen) -> Planted | None:
    if s.name in ("siamese", "recommender") or not s.batch[0].is_floating_point():
        return None
    inputs = s.batch[0].clone()
    inputs.view(-1)[11] = float("nan")
    s.data = [(inputs, s.batch[1]), *s.data[1:]]
    return Planted(("", *own(*fed(s))), state=False)


@fault("nonfinite_gradient", "sqrt behind where")
def sqrt_where(s: Specimen) -> Planted | None:
    """Finite forward: the root is taken of 0 where the mask is off, and 0 times its infinite derivative is NaN."""
    return tapped(s, lambda h: torch.where(h > 0.1, (h * (h > 0.1)).sqrt(), torch.zeros_like(h)))


@fault("nonfinite_gradient", "a root of negative numbers behind where")
def root_where(s: Specimen) -> Planted | None:
    """The NaN is there in the forward already, and masked: both kinds name it."""
    change = lambda h: torch.where(h > 0.1, (h - 0.1).sqrt(), torch.zeros_like(h))  # noqa: E731
    return tapped(s, change, kinds=("nonfinite_activation",)) if s.sites.tap and s.sites.tap.signed else None


@fault("nonfinite_gradient", "the distance of a point to itself")
def distance(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h + (h - h).square().sum(-1, keepdim=True).sqrt())


@fault("vanishing", "every weight of a deep chain too small")
@torch.no_grad()
def small_chain(s: Specimen) -> Planted | None:
    if not s.sites.trunk:
        return None
    for name in s.sites.trunk:
        module(s, name).weight.mul_(0.1)
    acts = tuple(name.replace("layers", "acts") for name in s.sites.trunk)
    return Planted((*own(*s.sites.trunk), *acts, "head", "head.weight"), kinds=("scale_low",))


@fault("vanishing", "sigmoids all the way")
def sigmoids(s: Specimen) -> Planted | None:
    if not s.sites.trunk:
        return None
    seed_all(s.seed)
    for index, name in enumerate(s.sites.trunk):
        module(s, name).reset_parameters()
        s.model.acts[index] = nn.Sigmoid()
    acts = tuple(name.replace("layers", "acts") for name in s.sites.trunk)
    return Planted((*own(*s.sites.trunk), *acts), state=False, lawful=("saturated", "rank_collapse"))


# No norm and no residual path: what one place does to the signal, all before and behind it feel.
PLAIN = (
    *("mlp_relu", "mlp_tanh", "mlp_gelu_dropout", "deep_relu", "deep_tanh", "cnn"),
    *("lstm", "gru", "row_gru", "vae", "mixture", "recommender"),
)


@fault("vanishing", "a signal divided by 1e10 in the forward")
def divided(s: Specimen) -> Planted | None:
    return tapped(s, lambda h: h / 1e10) if s.name in PLAIN else None


@fault("exploding", "every weight of a deep chain too large")
@torch.no_grad()
def large_chain(s: Specimen) -> Planted | None:
    if s.name != "deep_relu":
        return None
    for name in s.sites.trunk:
        module(s, name).weight.mul_(10)
    acts = tuple(name.replace("layers", "acts") for name in s.sites.trunk)
    # Signals grow forward and gradients backward, by as much: those of the weights are large alike, at every depth.
    return Planted((*own(*s.sites.trunk), *acts), kinds=("scale_high",))


@fault("exploding", "a factor of 1e10 that only the backward sees")
def steep(s: Specimen) -> Planted | None:
    """The straight-through trick with a wrong factor: the value is h, the derivative is not 1."""
    if s.name not in PLAIN:
        return None
    planted = tapped(s, lambda h: h.detach() + (h - h.detach()) * 1e10)
    assert planted is not None
    before = [name for name, _ in s.model.named_parameters()]
    first = next(index for index, name in enumerate(before) if name.startswith(s.sites.tap.near[-1]))
    return Planted((*planted.places, *before[:first]), state=False)


@fault("unused_rows", "tokens that never come")
def rare(s: Specimen) -> Planted | None:
    if s.name == "gpt":
        s.data = [(inputs[:, :10], target[:, :10]) for inputs, target in s.data]
        return Planted(("wpe.weight", "wpe"), state=False)
    if s.sites.table is None:
        return None
    rows = module(s, s.sites.table).num_embeddings
    if s.name == "recommender":
        s.data = [((seen, item % (rows - 9)), target) for (seen, item), target in s.data]
    else:
        s.data = [(inputs % (rows - 9), target) for inputs, target in s.data]
    return Planted(own(s.sites.table), state=False)


def _with_bias(s: Specimen, name: str) -> Planted:
    conv = module(s, name)
    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    s.optimizer = s.rebuild(s.model)
    return Planted((f"{name}.bias", name), state=False)


@fault("invariant", "a bias before a BatchNorm")
def bias_before_norm(s: Specimen) -> Planted | None:
    return _with_bias(s, s.sites.before_norm[0]) if s.sites.before_norm else None


@fault("invariant", "a bias before another BatchNorm")
def other_bias(s: Specimen) -> Planted | None:
    return _with_bias(s, s.sites.before_norm[1]) if s.sites.before_norm else None


@fault("invariant", "the key bias of attention")
def key_bias(s: Specimen) -> Planted | None:
    if s.name != "encoder":
        return None
    names = tuple(f"encoder.layers.{index}.self_attn" for index in range(2))
    return Planted((*names, *(f"{name}.in_proj_bias" for name in names)), state=False)
