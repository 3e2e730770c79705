"""What an Edit cannot say as plain PyTorch: registering, relinking, giving back a shape.

The statements run with `torch` and `model` in scope. The optimizer is not: what it needs stands beside them as a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from weightlab.model.tree import one_line

_PARAMETER = "value if isinstance(value, torch.nn.Parameter) else torch.nn.Parameter(value.detach().clone())"


def registering(path: str, attribute: str, value: Any) -> str:
    """A plain tensor becomes a Parameter; a list or dict of modules or tensors the container for them."""
    module = f"model.get_submodule({path!r})" if path else "model"
    lines = [f"module = {module}", f"value = vars(module).pop({attribute!r})"]
    if isinstance(value, Tensor):
        lines.append(f"module.register_parameter({attribute!r}, torch.nn.Parameter(value.detach().clone()))")
        if attribute == "weight":  # torch's modules have it before the bias
            lines.append("if 'bias' in module._parameters: module._parameters['bias'] = module._parameters.pop('bias')")
    else:
        lines.append(f"setattr(module, {attribute!r}, {_container(value)})")
    return "\n".join(lines)


def _container(value: Any) -> str:
    keyed = isinstance(value, dict)
    items = value.values() if keyed else value
    if all(isinstance(item, nn.Module) for item in items):
        return f"torch.nn.Module{'Dict' if keyed else 'List'}(value)"
    if keyed:
        return f"torch.nn.ParameterDict({{key: {_PARAMETER} for key, value in value.items()}})"
    return f"torch.nn.ParameterList([{_PARAMETER} for value in value])"


def adding(names: Sequence[str]) -> str:
    """A comment: what is new has to be trained, too."""
    listed = ", ".join(f"model.get_parameter({name!r})" for name in names)
    return f'# Where it is trained: optimizer.add_param_group({{"params": [{listed}]}})'


def relinking(names: Sequence[str]) -> str:
    """A comment: the optimizer is to hold these."""
    listed = ", ".join(map(one_line, names))
    return f"# Make the optimizer anew from model.parameters(): it does not hold {listed}."


def reshaping(spelled: str, expression: str) -> str:
    """The same Parameter object over other values; `tensor` is it in the expression."""
    return "\n".join(
        (
            f"tensor = {spelled}",
            "tensor.grad = None",
            f"with torch.no_grad(): tensor.set_({expression})",
        )
    )
