"""Carrying out what an Edit cannot say: registering, relinking, reshaping; each gives the way back and forth again.

Nothing here writes values into a tensor that the model holds: a Parameter that gets its shape back gets other memory,
and the old memory returns with undo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weightlab.check import spelling
from weightlab.check.held import objects_of, pair
from weightlab.check.repair import Action
from weightlab.check.repairs import seed_of
from weightlab.errors import EditRefused
from weightlab.model.tree import ParameterTree


class Done(NamedTuple):
    """What was done, as a pair of functions.

    Attributes:
        names: the tensors that it is about.
        code: plain PyTorch that does the same, with `torch` and `model` in scope; what belongs to the optimizer as a comment.
        spelled: how many values that code spells out.
    """

    undo: Callable[[], None]
    redo: Callable[[], None]
    names: tuple[str, ...]
    code: Callable[[], str]
    spelled: int = 0


def register(tree: ParameterTree, action: Action, optimizer: torch.optim.Optimizer | None) -> Done:
    """Turn a plain tensor into a Parameter, a list or dict into a ModuleList or the like, and train what is new.

    Raises:
        EditRefused: the attribute is not there any more.
    """
    module = tree.module(action.path)
    value = vars(module).get(action.attribute)
    if value is None:
        raise EditRefused(f"{action.names[0]}: there is no plain attribute of this name any more. Diagnose again.")
    kept = _Contents(module)
    made = _registered(value)
    code = spelling.registering(action.path, action.attribute, value)
    before = {id(p) for p in module.parameters()}
    vars(module).pop(action.attribute)
    if isinstance(made, nn.Parameter):
        module.register_parameter(action.attribute, made)
        _weight_first(module, action.attribute)
    else:
        setattr(module, action.attribute, made)
    changed = _Contents(module)
    fresh = [p for p in module.parameters() if id(p) not in before]
    tree.refresh()
    names = tuple(info.name for info in tree if any(p is tree.tensor(info.name) for p in fresh))
    link = _link(tree, names, optimizer) if optimizer is not None else None
    if link is not None:
        link.there()
        code += "\n" + spelling.adding(names)

    def undo() -> None:
        if link is not None:
            link.back()
        kept.restore()
        tree.refresh()

    def redo() -> None:
        changed.restore()
        if link is not None:
            link.there()
        tree.refresh()

    return Done(undo, redo, names, lambda: code)


def _registered(value: Any) -> Any:
    if isinstance(value, Tensor):
        return nn.Parameter(value.detach().clone())
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if all(isinstance(item, nn.Module) for item in items):
        return nn.ModuleDict(value) if isinstance(value, dict) else nn.ModuleList(items)

    def parameter(item: Tensor) -> nn.Parameter:
        return item if isinstance(item, nn.Parameter) else nn.Parameter(item.detach().clone())

    if isinstance(value, dict):
        return nn.ParameterDict({key: parameter(item) for key, item in value.items()})
    return nn.ParameterList([parameter(item) for item in items])


def _weight_first(module: nn.Module, attribute: str) -> None:
    """Torch's modules have the weight before the bias, in state_dict and in parameters()."""
    held = module._parameters
    if attribute == "weight" and "bias" in held:
        held["bias"] = held.pop("bias")


class _Contents:
    """What a module's dicts hold, in their order."""

    def __init__(self, module: nn.Module) -> None:
        self._held = [vars(module), module._parameters, module._buffers, module._modules]
        self._kept = [dict(held) for held in self._held]

    def restore(self) -> None:
        for held, kept in zip(self._held, self._kept, strict=True):
            if list(held.items()) != list(kept.items()):  # same objects: `==` of tensors is never reached
                held.clear()
                held.update(kept)


class _Link:
    """An optimizer with some of its tensors exchanged and others added."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, exchanged: list[tuple[Tensor, Tensor]], added: Sequence[Tensor]
    ) -> None:
        self._optimizer, self._exchanged = optimizer, exchanged
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._added = [p for p in added if id(p) not in held]
        self._states: dict[Tensor, Any] = {}
        self._order: list[Tensor] = []

    def there(self) -> None:
        self._order = list(self._optimizer.state)
        for old, new in self._exchanged:
            self._exchange(old, new)
        largest = max(self._optimizer.param_groups, key=lambda group: len(group["params"]))
        for parameter in self._added:
            largest["params"].append(parameter)
            self._take_state(parameter)

    def back(self) -> None:
        for parameter in self._added:
            self._leave_state(parameter)
            for group in self._optimizer.param_groups:
                group["params"][:] = [p for p in group["params"] if p is not parameter]
        for old, new in self._exchanged:
            self._exchange(new, old)
        state = self._optimizer.state
        ordered = {p: state[p] for p in (*(p for p in self._order if p in state), *state)}
        state.clear()
        state.update(ordered)

    def _exchange(self, gone: Tensor, comes: Tensor) -> None:
        for group in self._optimizer.param_groups:
            group["params"][:] = [comes if p is gone else p for p in group["params"]]
        self._leave_state(gone)
        self._take_state(comes)

    def _leave_state(self, parameter: Tensor) -> None:
        if parameter in self._optimizer.state:
            self._states[parameter] = self._optimizer.state.pop(parameter)

    def _take_state(self, parameter: Tensor) -> None:
        if parameter in self._states:
            self._optimizer.state[parameter] = self._states.pop(parameter)


def relink(tree: ParameterTree, action: Action, optimizer: torch.optim.Optimizer | None) -> Done:
    """Let the optimizer train the model's own parameters: in the place of lost ones of their shape, or added.

    Moments of all others stay; those of a lost tensor come back with undo.

    Raises:
        EditRefused: the Lab has no optimizer.
    """
    if optimizer is None:
        raise EditRefused("repair: this Lab was given no optimizer. Give Lab(model, optimizer=...).")
    link = _link(tree, action.names, optimizer)
    link.there()
    return Done(link.back, link.there, action.names, lambda: spelling.relinking(action.names))


def _link(tree: ParameterTree, names: Sequence[str], optimizer: torch.optim.Optimizer) -> _Link:
    """These parameters in the place of tensors that the model has no more, where shapes agree; the others added."""
    ours = {id(p) for info in tree if info.kind == "parameter" for p in objects_of(tree, info.name)}
    strangers = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in ours]
    pairs = pair(tree, strangers, [name for name in names if name in tree])
    exchanged = [(old, objects_of(tree, name)[0]) for name, old in pairs.items()]
    added = [objects_of(tree, name)[0] for name in names if name in tree and name not in pairs]
    return _Link(optimizer, exchanged, added)


def reshape(
    tree: ParameterTree,
    action: Action,
    optimizer: torch.optim.Optimizer | None,
    copies: Sequence[Mapping[str, Tensor]],
    size: float | None,
    literal: Callable[[Tensor], str],
) -> Done:
    """Give a parameter its shape back, in the same Parameter object.

    Args:
        literal: writes a tensor as PyTorch, where its values cannot be computed again.
        copies: snapshots, newest first; the first one with the right shape gives the values.
        size: standard deviation to draw from otherwise; None for torch's neutral values of a vector.
    """
    name = action.names[0]
    parameter = objects_of(tree, name)[0]
    old, grad = parameter.detach(), parameter.grad
    new, expression, spelled = _values(name, parameter, action.shape, copies, size, literal)
    state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
    # Moments of the wrong shape would make the next step raise; those of the right one are from before the accident.
    unfit = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and value.ndim and tuple(value.shape) != action.shape
    }
    kept = optimizer.state.get(parameter) if optimizer is not None and unfit else None

    def redo() -> None:
        if grad is not None and grad.shape != new.shape:
            parameter.grad = None
        _become(parameter, new)
        if kept is not None and optimizer is not None:
            optimizer.state.pop(parameter)
        tree.refresh()

    def undo() -> None:
        # torch takes a .grad of the parameter's present shape only, whichever that of the accident was.
        if grad is not None and grad.shape == parameter.shape:
            parameter.grad = grad
            _become(parameter, old)
        else:
            parameter.grad = None
            _become(parameter, old)
            parameter.grad = grad
        if kept is not None and optimizer is not None:
            optimizer.state[parameter] = kept
        tree.refresh()

    redo()
    return Done(undo, redo, (name,), lambda: spelling.reshaping(tree.spelled(tree[name]), expression()), spelled)


def _become(parameter: Tensor, other: Tensor) -> None:
    """The same Parameter object over another tensor's memory and shape; autograd's version counter sees it."""
    with torch.inference_mode(False), torch.no_grad():
        parameter.set_(other)  # type: ignore[call-overload]


def _values(
    name: str,
    parameter: Tensor,
    shape: tuple[int, ...],
    copies: Sequence[Mapping[str, Tensor]],
    size: float | None,
    literal: Callable[[Tensor], str],
) -> tuple[Tensor, Callable[[], str], int]:
    """Values of the right shape, how they are written in PyTorch, and how many of them that spells out."""
    copy = next((copy[name] for copy in copies if name in copy and tuple(copy[name].shape) == shape), None)
    if copy is not None:
        found = copy.detach().to(parameter.device, parameter.dtype, copy=True)
        kept = found.cpu().clone()  # later edits write into the other one
        return found, lambda: f"{literal(kept)}.to(tensor.device)", kept.numel()
    if tuple(parameter.shape) == shape[::-1] and len(shape) == 2 and shape[0] != shape[1]:
        return parameter.detach().t().contiguous(), lambda: "tensor.detach().t().contiguous()", 0
    if len(shape) >= 2:
        seed, spread = seed_of(name), size if size is not None else 1 / math.sqrt(max(1, math.prod(shape[1:])))
        made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
        text = f"torch.randn({list(shape)}, generator=torch.Generator().manual_seed({seed})) * {spread!r}"
    else:
        value = 1.0 if name.endswith("weight") else 0.0
        made, text = torch.full(shape, value), f"torch.full({list(shape)}, {value})"
    return made.to(parameter.device, parameter.dtype), lambda: f"({text}).to(tensor.device, tensor.dtype)", 0
