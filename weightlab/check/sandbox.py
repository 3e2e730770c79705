"""A model that can be run forward and backward as if nothing had happened (rule G1).

Each parameter is replaced, for the length of the check, by an alias: another Parameter over the same memory, so that
values are not copied but gradients, hooks and accumulators of the real one are left alone. Buffers are replaced by
copies, and so is every other tensor that modules hold, directly or inside containers and objects of their own
(`attributes`). Counters, lists, arrays, generators, computed weights (old-style `weight_norm`, `prune`) and train/eval
flags are as before too.

Swapping lasts through the backward as well: reentrant checkpointing recomputes there, and must meet the aliases.
What a forward writes into a parameter in place (`nn.Embedding(max_norm=...)`) is undone from a copy that
`Sandbox.before_write` takes just before the first write.

Not covered: what only a closure, a class or a global holds, and whatever the user's own hooks do outside the model. A
forward hook of the user runs once per check and records the check's activations; hooks on real parameters do not run.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from weightlab.check.attributes import Attributes
from weightlab.errors import ProbeFailed
from weightlab.model.tree import ParameterTree

SEED = 0


class Sandbox:
    """The aliases of one check, and what must be put back after it.

    Args:
        dtype: floating stand-ins get this dtype, and memory of their own; None keeps each as it is.

    Attributes:
        aliases: name of a tree row -> the leaf that stands for it; only parameters with `requires_grad`.
        real: name of a tree row -> the user's own Parameter objects (several where tied ones are different objects).
    """

    def __init__(self, tree: ParameterTree, roots: list[nn.Module], dtype: torch.dtype | None = None) -> None:
        self._dtype = dtype
        self.aliases: dict[str, Tensor] = {}
        self.real: dict[str, list[Tensor]] = {}
        self.names: dict[int, str] = {}
        self._stand_in: dict[int, Tensor] = {}
        self._copies: set[int] = set()
        self._leaves: set[int] = set()  # ids of aliases
        self._aside: set[int] = set()  # ids of real parameters whose .grad was put aside
        self._kept: list[Tensor] = []  # keeps the ids above alive
        self._owners: dict[int, list[Tensor]] = {}
        self._written: dict[int, tuple[Tensor, Tensor, Any]] = {}
        self._undo = contextlib.ExitStack()
        self._tree = tree
        self._modules = list({id(m): m for root in roots for m in root.modules()}.values())

    def __enter__(self) -> Sandbox:
        self._refuse()
        try:
            for info in self._tree:
                if info.kind == "parameter":
                    self._alias(info.name, (info.name, *info.aliases))
            attributes = Attributes(self._stand_in_for, self._undo)
            for module in self._modules:
                attributes.note(module)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._undo.close()  # goes on to the end, whatever one of them raises
        finally:
            for parameter, before, version in self._written.values():
                with torch.inference_mode(False), torch.no_grad(), version:
                    parameter.copy_(before)
            self._written.clear()

    def before_write(self, tensor: Tensor) -> None:
        """Keep the bytes of every parameter in this tensor's storage, once, because it is about to be written to."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        for parameter in self._owners.get(_storage(tensor), ()):
            if id(parameter) not in self._written:
                version = torch.autograd._unsafe_preserve_version_counter(parameter)  # type: ignore[attr-defined]
                with torch._C._DisableFuncTorch():
                    self._written[id(parameter)] = (parameter, parameter.detach().clone(), version)

    def stands_for(self, tensor: Tensor) -> str | None:
        """The name of the parameter that this very tensor object is, or is the alias of."""
        return self.names.get(id(tensor))

    def stand_ins(self) -> list[tuple[int, Tensor]]:
        """Id of each original, and what stands for it."""
        return list(self._stand_in.items())

    def copies(self) -> list[Tensor]:
        """The copies that stand for buffers and other plain tensors."""
        return [value for value in self._stand_in.values() if id(value) in self._copies]

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
            self.names[id(parameter)] = name
            self._guard(parameter)
            self._undo.callback(_set_requires_grad, parameter, parameter.requires_grad)
            if parameter.requires_grad:
                if name not in self.aliases:
                    self.aliases[name] = _leaf_over(parameter, self._dtype)
                    self.names[id(self.aliases[name])] = name
                    self._leaves.add(id(self.aliases[name]))
                self._stand_in[id(parameter)] = self.aliases[name]

    def _stand_in_for(self, value: Tensor) -> Tensor:
        """The alias of a parameter, a copy of any other tensor without history, else the tensor itself."""
        if id(value) in self._stand_in:
            return self._stand_in[id(value)]
        if (
            id(value) in self._copies
            or id(value) in self._leaves
            or value.is_meta
            or value.layout is not torch.strided
            or value.is_nested
        ):
            return value
        # A computed weight has a history, or is recomputed by a hook: copying it would cut or waste. Frozen
        # parameters keep their place: nothing accumulates on them. before_write guards the bytes of both.
        if self._dtype is None and (isinstance(value, nn.Parameter) or value.requires_grad):
            if id(value) not in self.names:
                self._guard(value)
            return value
        copy = value.detach().clone() if self._dtype is None else cast(value.detach(), self._dtype, copy=True)
        self._stand_in[id(value)] = copy
        self._copies.add(id(copy))
        self._kept.append(value)
        return copy

    def _guard(self, tensor: Tensor) -> None:
        self._kept.append(tensor)
        storage = _storage(tensor)
        held = self._owners.setdefault(storage, [])
        if storage and all(tensor is not other for other in held):
            held.append(tensor)

    def put_aside(self, parameter: Tensor) -> None:
        """Take `.grad` and hooks off a real parameter that the backward may reach all the same, until the end.

        No other one is touched: an optimizer's step on another thread finds its gradients where they were.
        """
        if id(parameter) in self._aside or not parameter.is_leaf or not parameter.requires_grad:
            return
        self._aside.add(id(parameter))
        grad, after, hooks = parameter.grad, parameter._post_accumulate_grad_hooks, parameter._backward_hooks

        def put_back() -> None:
            if parameter.grad is not grad:
                parameter.grad = grad
            if parameter._post_accumulate_grad_hooks is not after:
                parameter._post_accumulate_grad_hooks = after
            if parameter._backward_hooks is not hooks:
                parameter._backward_hooks = hooks

        self._undo.callback(put_back)
        if grad is not None and grad.shape == parameter.shape:  # one of another shape could not be put back
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
        stack.enter_context(seeded())
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
def seeded() -> Iterator[None]:
    """Random generators begin at `SEED`, and are put back."""
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


def _set_requires_grad(parameter: Tensor, flag: bool) -> None:
    """What a forward unfreezes, or a closure freezes, is the real parameter itself."""
    if parameter.requires_grad != flag:
        parameter.requires_grad_(flag)


def _set_parametrize_cache(enabled: int, cache: dict[Any, Any]) -> None:
    parametrize._cache_enabled, parametrize._cache = enabled, cache


def cast(values: Tensor, dtype: torch.dtype, *, copy: bool = False) -> Tensor:
    """Floating values in a dtype, complex ones in its complex counterpart, others as they are."""
    if values.is_complex():
        return values.to(torch.promote_types(dtype, torch.complex64), copy=copy)
    return values.to(dtype, copy=copy) if values.is_floating_point() else values.clone() if copy else values


def _leaf_over(parameter: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A leaf with the parameter's memory and Python attributes, and nothing else of it; in memory of its own for a dtype."""
    values = parameter.detach() if dtype is None else cast(parameter.detach(), dtype, copy=True)
    if values.is_inference():  # its memory cannot enter a graph
        values = values.clone()
    if isinstance(parameter, nn.Parameter) and type(values) is Tensor:
        values = nn.Parameter(values)
    else:
        values.requires_grad_()
    vars(values).update(vars(parameter))
    return values


def _storage(tensor: Tensor) -> int:
    """Address of the storage; 0 for tensors without one (sparse, some subclasses), which are never guarded."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
