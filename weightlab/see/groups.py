"""What the axes of a tensor mean, and which stretches of them belong together: heads, gates, q, k and v, groups of a conv.

Everything is read from the module that holds the tensor, the module around it, and shapes; no model is known by its name.
A number of heads comes from an attribute (`num_heads`, `n_head`, ...) and has to fit the shapes of the projections exactly.
Which projection is which is told by the name of its module (`q_proj`, `c_attn`), so `source` says "by its name" there. What
does not fit gets no groups: a picture without them is plain, a picture with wrong ones would lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from weightlab.model.tree import TensorInfo

MOST_GROUPS = 1024

_HEADS = ("num_heads", "num_attention_heads", "n_head", "n_heads", "nhead", "heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads")
_HEAD_SIZE = ("head_dim", "attention_head_size", "dim_head", "d_head", "d_kv", "key_value_proj_dim")
_PARTS = {"q": {"q", "query", "queries", "wq"}, "k": {"k", "key", "keys", "wk"}, "v": {"v", "value", "values", "wv"}}
_FILLERS = {"proj", "projection", "lin", "linear", "to", "c", "w", "layer"}
_OUT = {"o", "out", "output", "wo", "dense"}
_GATES = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n")}


@dataclass(frozen=True, slots=True)
class Group:
    """One way to cut an axis into stretches that have a name each.

    Attributes:
        axis: of the tensor.
        name: what a stretch is, such as "head" or "gate"; empty where its labels say enough.
        starts: the first index of each stretch, ascending from 0.
        labels: one per stretch.
        source: where this was read.
    """

    axis: int
    name: str
    starts: tuple[int, ...]
    labels: tuple[str, ...]
    source: str

    def at(self, index: int) -> int:
        """Which stretch an index lies in."""
        return sum(start <= index for start in self.starts) - 1


def following_norm(info: TensorInfo, modules: Mapping[str, nn.Module]) -> str:
    """Dotted path of the norm layer that follows a weight's layer with one scale per output, "" where there is none.

    Children of one module count in the order in which they were registered, as in conv1, bn1, conv2, bn2.
    """
    path, _, local = info.name.rpartition(".")
    parent, _, child = path.rpartition(".")
    if local != "weight" or len(info.shape) < 2 or not child or parent not in modules:
        return ""
    names = list(modules[parent]._modules)
    if child not in names[:-1]:
        return ""
    follower = f"{parent}.{names[names.index(child) + 1]}".lstrip(".")
    norm = modules.get(follower)
    out, _ = _axes(modules[path], info.shape)
    if out or "Transpose" in info.module_type or "Norm" not in type(norm).__name__:
        return ""
    weight = None if norm is None else norm._parameters.get("weight")
    return follower if weight is not None and tuple(weight.shape) == info.shape[:1] else ""


def axis_names(info: TensorInfo, module: nn.Module | None = None) -> tuple[str, ...]:
    """What each axis is called, "" where nothing is known."""
    rank, kind, shape = len(info.shape), info.module_type, info.shape
    local = info.name.rpartition(".")[2]
    if "ConvTranspose" in kind and rank >= 3:
        return ("in", "out", *("kd", "kh", "kw")[5 - rank : 3])[:rank]
    if "Conv" in kind and 3 <= rank <= 5:
        return ("out", "in", *("kd", "kh", "kw")[5 - rank : 3])
    if "Embedding" in kind and rank == 2:
        return ("token", "dim")
    if rank == 2 and module is not None and _is_transposed(module, shape):
        return ("in", "out")
    if rank == 2 and ("Linear" in kind or local.startswith(("weight", "in_proj", "q_proj", "k_proj", "v_proj"))):
        return ("out", "in")
    if rank == 1:
        if "Norm" in kind:
            return ("channel",)
        return ("out" if local.startswith(("bias", "in_proj_bias")) else "",)
    return ("",) * rank


def _is_transposed(module: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a matrix is stored [in, out]: GPT-2's Conv1D, which says its outputs as `nf`, and the like."""
    held = vars(module)
    if _whole(held.get("nf")):
        return bool(held["nf"] == shape[1]) and (held["nf"] != shape[0] or type(module).__name__ == "Conv1D")
    sizes = held.get("in_features"), held.get("out_features")
    return sizes == tuple(shape) and shape[0] != shape[1]


def groups_of(info: TensorInfo, module: nn.Module | None = None, parent: nn.Module | None = None) -> tuple[Group, ...]:
    """Groups of a tensor's axes, for each axis the outermost first; empty where nothing is known.

    Args:
        module: the one that holds the tensor.
        parent: the one that holds the module.
    """
    if module is None or 0 in info.shape or not info.shape:
        return ()
    found = tuple(_found(info, module, parent))
    return tuple(group for group in found if 1 < len(group.starts) <= MOST_GROUPS)


def _found(info: TensorInfo, module: nn.Module, parent: nn.Module | None) -> Iterator[Group]:
    local = info.name.rpartition(".")[2]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield from _gates(info, module, local)
    elif isinstance(module, nn.MultiheadAttention):
        size, source = module.head_dim, _source(module, "num_heads", module.num_heads)
        if local in ("in_proj_weight", "in_proj_bias"):
            yield from _packed(0, (module.num_heads,) * 3, size, source)
        elif local in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            yield _heads(0, local[0], module.num_heads, size, source)
    elif isinstance(module, nn.modules.conv._ConvNd) and 1 < module.groups < info.shape[0]:
        each, source = info.shape[0] // module.groups, _source(module, "groups", module.groups)
        yield _even(0, "group", [str(i) for i in range(module.groups)], each, source)
    if isinstance(parent, nn.Module) and local in ("weight", "bias") and not isinstance(module, nn.MultiheadAttention):
        yield from _projection(info, module, parent, local)


def _gates(info: TensorInfo, module: nn.Module, local: str) -> Iterator[Group]:
    hidden = vars(module).get("hidden_size")
    if not isinstance(hidden, int) or not local.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh")):
        return
    many = 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 3 if isinstance(module, nn.GRU | nn.GRUCell) else 1
    if many > 1 and info.shape[0] == many * hidden:
        names = _GATES[many]
        source = f"the order of {'nn.LSTM' if many == 4 else 'nn.GRU'}, hidden_size = {hidden}"
        yield _even(0, "gate", names, hidden, source)


def _projection(info: TensorInfo, module: nn.Module, parent: nn.Module, local: str) -> Iterator[Group]:
    """Heads of a projection that is a module of its own, inside an attention module that says how many there are."""
    name = _name_in(parent, module)
    out, into = _axes(module, info.shape)
    if isinstance(parent, nn.MultiheadAttention):
        if name == "out_proj" and local == "weight":
            source = _source(parent, "num_heads", parent.num_heads)
            yield _heads(into, "", parent.num_heads, parent.head_dim, source)
        return
    attention = _Attention.of(parent)
    role = role_of(name)
    if attention is None or not role:
        return
    source = f"{attention.source}; '{name}' by its name"
    size = info.shape[out]
    if role == "qkv":
        if (attention.heads + 2 * attention.key_heads) * attention.size == size:
            yield from _packed(out, (attention.heads, attention.key_heads, attention.key_heads), attention.size, source)
    elif role == "out":
        if local == "weight" and info.shape[into] == attention.heads * attention.size:
            yield _heads(into, "", attention.heads, attention.size, source)
    elif size == (attention.heads if role == "q" else attention.key_heads) * attention.size:
        yield _heads(out, role, size // attention.size, attention.size, source)


@dataclass(frozen=True, slots=True)
class _Attention:
    """Query heads, key and value heads, cells of one head, and where that was read."""

    heads: int
    key_heads: int
    size: int
    source: str

    @classmethod
    def of(cls, parent: nn.Module) -> _Attention | None:
        """What a module around projections says, if it agrees with their shapes."""
        found = _attribute(parent, _HEADS)
        if found is None:
            return None
        roles = {role_of(name): child for name, child in parent.named_children()}
        outs = {role: out for role, child in roles.items() if role and (out := _outputs(child))}
        if not ("qkv" in outs or {"q", "k"} <= set(outs)):
            return None
        name, heads = found
        told = _attribute(parent, _KEY_HEADS)
        key_heads = told[1] if told else None
        sized = _attribute(parent, _HEAD_SIZE)
        if "q" in outs:
            size = outs["q"] // heads
            if size * heads != outs["q"] or (sized and sized[1] != size) or not size or outs["k"] % size:
                return None
            # The shapes decide: an attribute may speak of another number of heads than this layer has.
            key_heads = outs["k"] // size
        else:
            key_heads = key_heads or heads
            size = outs["qkv"] // (heads + 2 * key_heads)
            if size * (heads + 2 * key_heads) != outs["qkv"] or (sized and sized[1] != size):
                return None
        source = _source(parent, name, heads)
        if key_heads != heads:
            source += f", {told[0]} = {key_heads}" if told and told[1] == key_heads else f", {key_heads} for k and v"
        return cls(heads, key_heads, size, source)


def role_of(name: str) -> str:
    """What a projection is called: "q", "k", "v", "qkv", "out", or "" when its name does not say.

    >>> [role_of(name) for name in ("q_proj", "to_k", "c_attn", "out_proj", "fc1", "query_key_value")]
    ['q', 'k', 'qkv', 'out', '', '']
    """
    tokens = set(re.split(r"[^a-z]+", name.lower())) - {""}
    if name in ("c_attn", "in_proj") or (tokens & {"qkv", "wqkv"} and tokens <= {"qkv", "wqkv"} | _FILLERS):
        return "qkv"
    # Three names in one: some models store q, k, v after each other, some head by head. Nothing tells which.
    named = [part for part, names in _PARTS.items() if tokens & names]
    if len(named) == 1 and tokens <= _PARTS[named[0]] | _FILLERS:
        return named[0]
    return "out" if tokens and not named and tokens <= _OUT | _FILLERS and tokens & (_OUT | {"proj"}) else ""


def _name_in(parent: nn.Module, module: nn.Module) -> str:
    return next((name for name, child in parent.named_children() if child is module), "")


def _axes(module: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Axes of outputs and inputs."""
    return (1, 0) if len(shape) == 2 and _is_transposed(module, shape) else (0, min(1, len(shape) - 1))


def _outputs(module: nn.Module) -> int:
    weight = module._parameters.get("weight")
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return 0
    return int(weight.shape[_axes(module, weight.shape)[0]])


def _attribute(module: nn.Module, names: Sequence[str]) -> tuple[str, int] | None:
    """The first of these attributes that is a whole number, of the module or of its `config`. No code of the user's is run."""
    config = vars(module).get("config")
    places = [vars(module), config if isinstance(config, dict) else getattr(config, "__dict__", {})]
    for place in places:
        for name in names:
            if _whole(place.get(name)) and place[name] > 0:
                return name, place[name]
    return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _source(module: nn.Module, name: str, value: int) -> str:
    return f"{name} = {value} of {type(module).__name__}"


def _even(axis: int, name: str, labels: Sequence[str], each: int, source: str) -> Group:
    return Group(axis, name, tuple(i * each for i in range(len(labels))), tuple(labels), source)


def _heads(axis: int, part: str, many: int, size: int, source: str) -> Group:
    return _even(axis, f"{part} head".strip(), [str(i) for i in range(many)], size, source)


def _packed(axis: int, many: tuple[int, int, int], size: int, source: str) -> Iterator[Group]:
    """q, k and v after one another, each with its heads."""
    q, k, _ = many
    yield Group(axis, "", (0, q * size, (q + k) * size), ("q", "k", "v"), source)
    labels = [f"{part} {head}" for part, heads in zip("qkv", many, strict=True) for head in range(heads)]
    yield _even(axis, "head", labels, size, source)
