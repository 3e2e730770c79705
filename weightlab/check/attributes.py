"""What modules hold beside their parameters, noted before a check and put back after it.

Attributes are walked through lists, dicts, tuples, sets and plain Python objects. Containers, arrays and generators keep
their identity and get their content back; a tensor is replaced by a copy of it for the length of the check.

Not covered: what only a closure, a class or a global holds, iterators, objects of the standard library and of torch
that are not modules, more than `OBJECTS` objects deep, and above `BYTES` single
arrays, and tensors inside objects.
"""

from __future__ import annotations

import enum
import random
import sys
import types
from argparse import Namespace
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ATOMS = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}
CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type, types.ModuleType)
# Deep enough for a cache of layers, each an object with its tensors; not a walk through a whole trainer.
OBJECTS = 2
NESTED = 12
# Past so many items in all, containers get their own content back, but what their items hold is not looked at.
ITEMS = 100_000
BYTES = 2**28


class Attributes:
    """The walk. `stand_in` gives what takes a tensor's place, `undo` collects what is done when the check ends."""

    def __init__(self, stand_in: Callable[[Tensor], Tensor], undo: ExitStack) -> None:
        self._stand_in, self._undo = stand_in, undo
        self._seen: dict[int, tuple[object, object]] = {}  # the object itself too: its id stays taken
        self._left = ITEMS

    def note(self, module: nn.Module) -> None:
        """Note a module's attributes, and those of modules that it holds; put stand-ins where tensors are."""
        if id(module) in self._seen or isinstance(module, torch.jit.ScriptModule):
            return
        self._seen[id(module)] = module, module
        attributes = vars(module)
        for held in (attributes, attributes["_parameters"], attributes["_buffers"]):
            self._seen[id(held)] = held, held
            self._left += len(held)  # these are walked however much there is
            self._dict(held, 0, 0)

    def _visit(self, value: Any, nested: int, objects: int) -> Any:
        """What takes the place of this value: itself, unless it is a tensor, or a tuple with one."""
        if isinstance(value, Tensor):
            return value if objects and value.nbytes > BYTES else self._stand_in(value)
        if type(value) in ATOMS or isinstance(value, CALLABLES):
            return value
        if id(value) in self._seen:
            return self._seen[id(value)][1]
        if nested > NESTED:
            return value
        if isinstance(value, nn.Module):
            self.note(value)
            return value
        self._seen[id(value)] = value, value
        if isinstance(value, dict):
            self._dict(value, nested + 1, objects)
        elif isinstance(value, (list, deque)):
            self._list(value, nested + 1, objects)
        elif isinstance(value, set):
            self._undo.callback(value.update, set(value))
            self._undo.callback(value.clear)
            for item in set(value) if self._affords(len(value)) else ():
                changed = self._visit(item, nested + 1, objects)
                if changed is not item:
                    value.remove(item)
                    value.add(changed)
        elif isinstance(value, tuple):
            return self._tuple(value, nested + 1, objects)
        elif not self._state(value) and objects < OBJECTS and _is_plain(value):
            self._object(value, nested + 1, objects + 1)
        return value

    def _dict(self, held: dict[Any, Any], nested: int, objects: int) -> None:
        content = dict(held)
        self._undo.callback(_put_back, held, content)
        if not content:  # most of a module's own
            return
        kind = _kind(held)
        for key, item in content.items() if self._affords(len(content)) else ():
            changed = item if type(item) in ATOMS else self._visit(item, nested, objects)
            if changed is not item:
                kind.__setitem__(held, key, changed)

    def _list(self, held: list[Any] | deque[Any], nested: int, objects: int) -> None:
        items = list(held)
        self._undo.callback(_put_back_items, held, items)
        for position, item in enumerate(items) if self._affords(len(items)) else ():
            changed = item if type(item) in ATOMS else self._visit(item, nested, objects)
            if changed is not item:
                held[position] = changed

    def _tuple(self, value: tuple[Any, ...], nested: int, objects: int) -> tuple[Any, ...]:
        if not self._affords(len(value)):
            return value
        items = [self._visit(item, nested, objects) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        if type(value) is tuple:
            changed: tuple[Any, ...] = tuple(items)
        elif hasattr(value, "_make"):
            changed = value._make(items)
        else:
            return value
        self._seen[id(value)] = value, changed
        return changed

    def _affords(self, count: int) -> bool:
        self._left -= count
        return self._left >= 0

    def _object(self, value: object, nested: int, objects: int) -> None:
        if hasattr(value, "__dict__"):
            self._dict(vars(value), nested, objects)
        for name in _slots(type(value)):
            if not hasattr(value, name):
                self._undo.callback(_drop, value, name)
                continue
            item = getattr(value, name)
            self._undo.callback(object.__setattr__, value, name, item)
            changed = self._visit(item, nested, objects)
            if changed is not item:
                object.__setattr__(value, name, changed)

    def _state(self, value: Any) -> bool:
        """Note an array's cells or a generator's state; whether it is one."""
        if isinstance(value, np.ndarray):
            if value.flags.writeable and value.nbytes <= BYTES:
                self._undo.callback(np.copyto, value, value.copy())
        elif isinstance(value, torch.Generator):
            self._undo.callback(value.set_state, value.get_state())
        elif isinstance(value, np.random.Generator):
            self._undo.callback(setattr, value.bit_generator, "state", value.bit_generator.state)
        elif isinstance(value, np.random.BitGenerator):
            self._undo.callback(setattr, value, "state", value.state)
        elif isinstance(value, np.random.RandomState):
            self._undo.callback(value.set_state, value.get_state())
        elif isinstance(value, random.Random):
            if not isinstance(value, random.SystemRandom):
                self._undo.callback(value.setstate, value.getstate())
        else:
            return False
        return True


def _drop(value: object, name: str) -> None:
    if hasattr(value, name):
        object.__delattr__(value, name)


def _is_plain(value: object) -> bool:
    """Whether this is an object of somebody's own class, a namespace, or a container that is one."""
    if isinstance(value, (types.SimpleNamespace, Namespace, UserDict, UserList)):
        return True
    package = type(value).__module__.partition(".")[0]
    ours = package in ("torch", "numpy", "weightlab") or (package in sys.stdlib_module_names and package != "__main__")
    return not ours and not isinstance(value, (enum.Enum, torch.optim.Optimizer))


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                yield (
                    f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
                )


def _kind(held: dict[Any, Any]) -> type[dict[Any, Any]]:
    # An OrderedDict keeps an order of its own, which dict's methods would not see. A user's subclass is passed by.
    return OrderedDict if isinstance(held, OrderedDict) else dict


def _put_back(target: dict[Any, Any], before: dict[Any, Any]) -> None:
    if not target and not before:
        return
    kind = _kind(target)
    if len(target) != len(before) or any(a is not b for a, b in zip(kind.__iter__(target), before, strict=True)):
        kind.clear(target)
    for key, value in before.items():
        if key not in target or kind.__getitem__(target, key) is not value:
            kind.__setitem__(target, key, value)


def _put_back_items(target: list[Any] | deque[Any], before: list[Any]) -> None:
    if len(target) != len(before) or any(a is not b for a, b in zip(target, before, strict=True)):
        target.clear()
        target.extend(before)
