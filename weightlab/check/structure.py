"""What is wrong with how a model is put together: tensors that are not registered, shapes that do not fit their module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from weightlab.check.evidence import Severity
from weightlab.check.finding import Finding
from weightlab.check.repair import Action, Repair
from weightlab.model.storage import is_uninitialized
from weightlab.model.tree import ParameterTree

TORCHS_OWN = set(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs", "_forward_hooks"}
# What a tensor that should be learned is called, whether its class declares a Parameter of that name or not.
LEARNED = {"weight", "bias", "gamma", "beta", "scale", "shift", "alpha", "gain", "w", "b"}


def unregistered(tree: ParameterTree, used: set[int]) -> list[Finding]:
    """`not_a_parameter`: plain tensors, and lists or dicts of Parameters and modules, that parameters() does not find.

    Args:
        used: ids of plain tensors that the forward mixes units with.
    """
    found = []
    registered = {id(p) for p in tree.model.parameters()} | {id(b) for b in tree.model.buffers()}
    known = {id(module) for module in tree.model.modules()}
    for path, module in tree.modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for attribute, value in vars(module).items():
            if attribute in TORCHS_OWN or value is None:
                continue
            name = f"{path}.{attribute}" if path else attribute
            if isinstance(value, Tensor):
                finding = _plain_tensor(tree, module, path, attribute, name, value, registered, used)
            elif isinstance(value, (list, tuple, dict)):
                finding = _container(path, attribute, name, value, registered, known)
            elif isinstance(value, nn.Module) and id(value) not in known:
                # Put past __setattr__, as with object.__setattr__ or __dict__: often a teacher, hidden on purpose.
                finding = None
            else:
                finding = None
            if finding is not None:
                found.append(finding)
    return found


def _plain_tensor(
    tree: ParameterTree,
    module: nn.Module,
    path: str,
    attribute: str,
    name: str,
    value: Tensor,
    registered: set[int],
    used: set[int],
) -> Finding | None:
    if id(value) in registered or not (value.is_floating_point() or value.is_complex()) or value.grad_fn is not None:
        return None
    if any(other == name for info in tree for other in (info.name, *info.aliases)):
        return None  # a computed weight
    declared = attribute in ("weight", "bias") and any(
        "weight" in vars_of or "bias" in vars_of for vars_of in (module._parameters,)
    )
    declared = declared or (attribute in ("weight", "bias") and type(module).__module__.startswith("torch.nn"))
    wants = value.requires_grad or declared or attribute in LEARNED or id(value) in used
    shape = list(value.shape)
    if not wants:
        text = f"{name} {shape}: a plain tensor. state_dict does not hold it and .to() does not move it."
        advice = f"register_buffer('{attribute}', ...) if it is a constant of the model, or persistent=False if it is a cache."
        return Finding(
            "not_a_parameter", name, (), "info", text, (), None, f"{name} is not registered", name, None, advice
        )
    text = (
        f"{name} {shape}: a plain tensor where a Parameter belongs. No optimizer finds it, state_dict does not hold it."
    )
    seen = (f"{attribute} is a torch.Tensor in vars({path or 'model'}), not in its _parameters",)
    repair = Repair(
        f"Register {name} as a Parameter with the same values, and add it to the optimizer.",
        actions=(Action("register", (name,), path, attribute),),
    )
    return Finding("not_a_parameter", name, (name,), "error", text, seen, repair, f"{name} is not a Parameter", name)


def _container(
    path: str, attribute: str, name: str, value: Any, registered: set[int], known: set[int]
) -> Finding | None:
    items = list(value.values()) if isinstance(value, dict) else list(value)
    modules = [m for m in items if isinstance(m, nn.Module) and id(m) not in known]
    lost = [p for m in modules for p in m.parameters() if p.requires_grad and id(p) not in registered]
    tensors = [t for t in items if isinstance(t, Tensor) and t.requires_grad and t.is_leaf and id(t) not in registered]
    if not lost and not tensors:
        return None
    kind = type(value).__name__
    right = ("nn.ModuleDict" if isinstance(value, dict) else "nn.ModuleList") if modules else None
    right = right or ("nn.ParameterDict" if isinstance(value, dict) else "nn.ParameterList")
    count = len(lost) + len(tensors)
    what = "modules" if modules else "tensors"
    text = (
        f"{name}: a {kind} of {len(items)} {what} with {count} trainable tensors that parameters() does not find. "
        f"It should be {right}."
    )
    seen = (f"{len(modules) or len(tensors)} of {len(items)} items are registered nowhere in the model",)
    simple = all(isinstance(item, nn.Module if modules else Tensor) for item in items)
    keys = not isinstance(value, dict) or all(isinstance(key, str) and "." not in key for key in value)
    repair = (
        Repair(
            f"Turn {name} into {right}, and add its parameters to the optimizer.",
            actions=(Action("register", (name,), path, attribute),),
        )
        if simple and keys
        else None
    )
    return Finding(
        "not_a_parameter", name, (name,), "error", text, seen, repair, f"{name} is a plain {kind}", name, None,
        f"Use {right}.",
    )  # fmt: skip


def unsafe(tree: ParameterTree) -> str:
    """Why running the model could end the process, or "".

    The kernels of recurrent layers take the sizes that their module declares and read and write past a weight of another
    shape: an LSTM with a `weight_hh` [64, 12] in the place of [64, 16] runs forward and corrupts memory in its backward.
    All other layers of torch raise.
    """
    for path, module in tree.modules.items():
        if not isinstance(module, nn.RNNBase):
            continue
        for local, expected in _declared(module):
            name = f"{path}.{local}" if path else local
            # A computed weight (weight_norm) has its shape in the tree, and no Parameter of this name.
            value = module._parameters.get(local)
            shape = tuple(value.shape) if value is not None and not is_uninitialized(value) else None
            if shape is None and local not in module._parameters and name in tree:
                shape = tuple(tree[name].shape)
            if shape is not None and shape != expected:
                return (
                    f"{name} {list(shape)}: {type(module).__name__} declares {list(expected)}, and its kernels do not look: they "
                    "would read and write past this tensor, so that nothing was run. Give it its shape back, for example "
                    "with lab.repair."
                )
    return ""


def shapes(tree: ParameterTree, runs: bool | None) -> list[Finding]:
    """`shape_broken`: a parameter whose shape is not what its module declares.

    Args:
        runs: whether the forward ran with it; None where it was not tried.
    """
    found = []
    for path, module in tree.modules.items():
        for local, expected in _declared(module):
            value = module._parameters.get(local)
            if value is None or is_uninitialized(value) or tuple(value.shape) == expected:
                continue
            name = f"{path}.{local}" if path else local
            if name not in tree:
                continue
            text = f"{name} {list(value.shape)}: {type(module).__name__} declares {list(expected)}."
            ran = "the forward raises" if runs is False else "the forward runs with it"
            if isinstance(module, nn.RNNBase):
                ran = "its kernels would read and write past it, so that nothing was run"
            seen = (f"{module!r}".split("\n")[0], ran)
            how = "transposed back" if tuple(value.shape) == expected[::-1] else "from a snapshot, or drawn anew"
            repair = Repair(
                f"Give {name} its shape {list(expected)} again, {how}.",
                actions=(Action("reshape", (name,), path, local, expected),),
            )
            severity: Severity = "warning" if runs else "error"
            found.append(
                Finding(
                    "shape_broken", name, (name,), severity, text, seen if runs is not None else seen[:1], repair,
                    f"{name} has a wrong shape", name,
                )
            )  # fmt: skip
    return found


def _declared(module: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Shapes that torch's own modules say in their attributes."""
    if isinstance(module, nn.Bilinear):
        yield "weight", (module.out_features, module.in1_features, module.in2_features)
        yield "bias", (module.out_features,)
    elif isinstance(module, nn.Linear):
        yield "weight", (module.out_features, module.in_features)
        yield "bias", (module.out_features,)
    elif isinstance(module, nn.modules.conv._ConvTransposeNd):
        yield "weight", (module.in_channels, module.out_channels // module.groups, *module.kernel_size)
        yield "bias", (module.out_channels,)
    elif isinstance(module, nn.modules.conv._ConvNd):
        yield "weight", (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
        yield "bias", (module.out_channels,)
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        yield "weight", (module.num_embeddings, module.embedding_dim)
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        yield from ((local, (module.num_features,)) for local in ("weight", "bias"))
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        yield from ((local, tuple(module.normalized_shape)) for local in ("weight", "bias"))
    elif isinstance(module, nn.GroupNorm):
        yield from ((local, (module.num_channels,)) for local in ("weight", "bias"))
    elif isinstance(module, nn.MultiheadAttention):
        if module._qkv_same_embed_dim:
            yield "in_proj_weight", (3 * module.embed_dim, module.embed_dim)
        yield "in_proj_bias", (3 * module.embed_dim,)
    elif isinstance(module, nn.RNNBase):
        gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1) * module.hidden_size
        for index in range(module.num_layers):
            into = module.input_size if index == 0 else (module.proj_size or module.hidden_size) * (
                2 if module.bidirectional else 1
            )  # fmt: skip
            for end in ("", "_reverse") if module.bidirectional else ("",):
                yield f"weight_ih_l{index}{end}", (gates, into)
                yield f"weight_hh_l{index}{end}", (gates, module.proj_size or module.hidden_size)
                yield f"bias_ih_l{index}{end}", (gates,)
                yield f"bias_hh_l{index}{end}", (gates,)
