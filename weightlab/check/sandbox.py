"""A model that can be run forward and backward as if nothing had happened (rule G1).

Each parameter is replaced, for the length of the check, by an alias: another Parameter over the same memory, so that
values are not copied but gradients, hooks and accumulators of the real one are left alone. Buffers are replaced by
copies. Every module's attributes are noted before and put back after, so counters, lists, computed weights (old-style
`weight_norm`, `prune`) and train/eval flags are as before too.

Swapping lasts through the backward as well: reentrant checkpointing recomputes there, and must meet the aliases.
What a forward writes into a parameter in place (`nn.Embedding(max_norm=...)`) is undone from a copy that
`Sandbox.before_write` takes just before the first write.

Not covered: tensors that only a closure or a global holds, Python objects deeper than one level inside a module's
attribute, and whatever the user's own hooks do outside the model. A forward
hook of the user runs once per check and records the check's activations; hooks on real parameters do not run.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from weightlab.errors import ProbeFailed
from weightlab.model.tree import ParameterTree

SEED = 0


class Sandbox:
    """The aliases of one check, and what must be put back after it.

    Attributes:
        aliases: name of a tree row -> the leaf that stands for it; only parameters with `requires_grad`.
        real: name of a tree row -> the user's own Parameter objects (several where tied ones are different objects).
    """

    def __init__(self, tree: ParameterTree, roots: list[nn.Module]) -> None:
        self.aliases: dict[str, Tensor] = {}
        self.real: dict[str, list[Tensor]] = {}
        self.names: dict[int, str] = {}
        self._stand_in: dict[int, Tensor] = {}
        self._copies: set[int] = set()
        self._kept: list[Tensor] = []  # keeps the ids above alive
        self._owners: dict[int, list[Tensor]] = {}
        self._written: dict[int, tuple[Tensor, Tensor, Any]] = {}
        self._undo: list[Callable[[], None]] = []
        self._tree = tree
        self._modules = list({id(m): m for root in roots for m in root.modules()}.values())

    def __enter__(self) -> Sandbox:
        self._refuse()
        try:
            for info in self._tree:
                if info.kind == "parameter":
                    self._alias(info.name, (info.name, *info.aliases))
            for module in self._modules:
                self._swap(module)
            for held in self.real.values():
                for parameter in held:
                    self._put_aside(parameter)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()
        for parameter, before, version in self._written.values():
            with torch.inference_mode(False), torch.no_grad(), version:
                parameter.copy_(before)
        self._written.clear()

    def before_write(self, tensor: Tensor) -> None:
        """Keep the bytes of every parameter in this tensor's storage, once, because it is about to be written to."""
        for parameter in self._owners.get(_storage(tensor), ()):
            if id(parameter) not in self._written:
                version = torch.autograd._unsafe_preserve_version_counter(parameter)  # type: ignore[attr-defined]
                self._written[id(parameter)] = (parameter, parameter.detach().clone(), version)

    def stands_for(self, tensor: Tensor) -> str | None:
        """The name of the parameter that this very tensor object is, or is the alias of."""
        return self.names.get(id(tensor))

    def is_buffer(self, tensor: Tensor) -> bool:
        """Whether this is the copy that stands for a buffer (or another plain tensor that a module holds)."""
        return id(tensor) in self._copies

    def _refuse(self) -> None:
        scripted = next((module for module in self._modules if isinstance(module, torch.jit.ScriptModule)), None)
        if scripted is not None:
            raise ProbeFailed(
                f"{scripted.original_name}: a scripted module (torch.jit) does not let its parameters be stood in for, so "
                "a check would leave gradients behind. Check the module that it was made from."
            )
        for path, module in self._tree.modules.items():
            for local, parameter in module._parameters.items():
                name = f"{path}.{local}" if path else local
                if parameter is not None and is_lazy(parameter):
                    raise ProbeFailed(
                        f"{name}: this lazy parameter has no shape yet. Run the model once on real input, then check."
                    )
                if parameter is not None and parameter.is_meta:
                    raise ProbeFailed(
                        f"{name} {list(parameter.shape)}: it lies on the meta device and has no values. "
                        "Load the weights first, for example with model.to_empty(device='cpu') and load_state_dict."
                    )

    def _alias(self, name: str, names: tuple[str, ...]) -> None:
        for each in names:
            path, _, local = each.rpartition(".")
            parameter = self._tree.module(path)._parameters.get(local)
            if parameter is None or any(parameter is other for other in self.real.get(name, ())):
                continue
            self.real.setdefault(name, []).append(parameter)
            self._kept.append(parameter)
            self.names[id(parameter)] = name
            self._owners.setdefault(_storage(parameter), []).append(parameter)
            if parameter.requires_grad:
                if name not in self.aliases:
                    self.aliases[name] = _leaf_over(parameter)
                    self.names[id(self.aliases[name])] = name
                self._stand_in[id(parameter)] = self.aliases[name]

    def _swap(self, module: nn.Module) -> None:
        """Note a module's attributes and containers; put stand-ins where tensors are."""
        attributes = vars(module)
        before = dict(attributes)
        self._undo.append(partial(_put_back, attributes, before))
        for key, value in before.items():
            if key == "_modules":
                continue
            if isinstance(value, torch.Generator):
                self._undo.append(partial(_set_state, value, value.get_state()))
            elif isinstance(value, dict):
                content = dict(value)
                self._undo.append(partial(_put_back, value, content))
                for inner, item in content.items():
                    stand_in = self._stand_in_for(item)
                    if stand_in is not item:
                        dict.__setitem__(value, inner, stand_in)
            elif isinstance(value, (list, deque)):
                items = list(value)
                self._undo.append(partial(_put_back_items, value, items))
                for position, item in enumerate(items):
                    stand_in = self._stand_in_for(item)
                    if stand_in is not item:
                        value[position] = stand_in
            elif isinstance(value, set):
                self._undo += [partial(value.update, set(value)), value.clear]
            elif type(value) is tuple:
                changed = tuple(self._stand_in_for(item) for item in value)
                if any(a is not b for a, b in zip(changed, value, strict=True)):
                    attributes[key] = changed
            else:
                stand_in = self._stand_in_for(value)
                if stand_in is not value:
                    attributes[key] = stand_in

    def _stand_in_for(self, value: object) -> object:
        """The alias of a parameter, a copy of any other tensor without history, else the value itself."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._stand_in:
            return self._stand_in[id(value)]
        # A computed weight has a history, or is recomputed by a hook: copying it would cut or waste. Frozen
        # parameters keep their place: nothing accumulates on them, and before_write guards their bytes.
        if isinstance(value, nn.Parameter) or value.requires_grad or value.is_meta or value.layout is not torch.strided:
            return value
        copy = value.detach().clone()
        self._stand_in[id(value)] = copy
        self._copies.add(id(copy))
        self._kept.append(value)
        return copy

    def _put_aside(self, parameter: Tensor) -> None:
        """Take `.grad` and hooks off a real parameter: a closure may still bring it into the graph."""
        if not parameter.is_leaf or not parameter.requires_grad:
            return
        grad, after, hooks = parameter.grad, parameter._post_accumulate_grad_hooks, parameter._backward_hooks

        def put_back() -> None:
            if parameter.grad is not grad:
                parameter.grad = grad
            if parameter._post_accumulate_grad_hooks is not after:
                parameter._post_accumulate_grad_hooks = after
            if parameter._backward_hooks is not hooks:
                parameter._backward_hooks = hooks

        self._undo.append(put_back)
        if grad is not None:
            parameter.grad = None
        if after is not None:
            parameter._post_accumulate_grad_hooks = None  # type: ignore[assignment]


@contextlib.contextmanager
def same_surroundings() -> Iterator[None]:
    """Gradients on, whatever mode the caller is in, with random generators seeded alike for each check and put back.

    Autocast stays as the caller has it, but its cache of cast weights is off: it would outlive the check. Compiled
    models run eagerly, as a compiled graph would be compiled anew for the aliases.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_seeded())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        cache = torch.is_autocast_cache_enabled()
        stack.callback(torch.set_autocast_cache_enabled, cache)
        torch.set_autocast_cache_enabled(False)
        # Inside parametrize.cached() the weights computed from the real parameters would be handed out.
        stack.callback(_set_parametrize_cache, parametrize._cache_enabled, parametrize._cache)
        _set_parametrize_cache(0, {})
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    # A device that was never used has no generator to save, and seeding it would queue a call for its first use.
    generators = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        generators += list(torch.cuda.default_generators)
    if torch.backends.mps.is_available():
        generators.append(torch.mps._get_default_mps_generator())
    if hasattr(torch, "xpu") and torch.xpu.is_available() and torch.xpu.is_initialized():
        generators += list(torch.xpu.default_generators)
    states = [generator.get_state() for generator in generators]
    try:
        random.seed(SEED)
        if numpy is not None:
            numpy.random.seed(SEED)
        for generator in generators:
            generator.manual_seed(SEED)
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _set_state(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _set_parametrize_cache(enabled: int, cache: dict[Any, Any]) -> None:
    parametrize._cache_enabled, parametrize._cache = enabled, cache


def _leaf_over(parameter: Tensor) -> Tensor:
    """A leaf with the parameter's memory and Python attributes, and nothing else of it."""
    values = parameter.detach()
    if values.is_inference():  # its memory cannot enter a graph
        values = values.clone()
    if isinstance(parameter, nn.Parameter) and type(values) is Tensor:
        values = nn.Parameter(values)
    else:
        values.requires_grad_()
    vars(values).update(vars(parameter))
    return values


def _put_back(target: dict[Any, Any], before: dict[Any, Any]) -> None:
    if list(target) != list(before):
        dict.clear(target)
    for key, value in before.items():
        if key not in target or dict.__getitem__(target, key) is not value:
            dict.__setitem__(target, key, value)


def _put_back_items(target: list[Any] | deque[Any], before: list[Any]) -> None:
    if len(target) != len(before) or any(a is not b for a, b in zip(target, before, strict=True)):
        target.clear()
        target.extend(before)


def _storage(tensor: Tensor) -> int:
    """Address of the storage; 0 for tensors without one (sparse, some subclasses), which are never guarded."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
