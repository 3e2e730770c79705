"""What a finite difference must hold still to be compared with autograd: constants of the graph, precision, and state.

Autograd takes what was cut from the graph for a constant: `detach`, `item`, all that ran under `no_grad` (a target network,
the power iteration of `spectral_norm`, a moving average of activations). Such a value moves with the weight all the same, so
that L(w + h) - L(w - h) would hold a term that no gradient has. The first run notes these values, the others get them again.

Casts to less precision (`.float()`, `dtype=`, autocast inside the forward) round the difference of two losses away; they are
passed over.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from weightlab.check.attributes import Attributes
from weightlab.model.nested import tensors_in

LEAVES_THE_GRAPH = {"detach", "data", "item", "tolist", "__float__", "__int__", "__index__", "__bool__", "numpy"}
CASTS = {"float", "half", "bfloat16"}
_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]


class HeldStill(TorchFunctionMode):
    """Active while the loss is computed; `begin` before each run.

    Attributes:
        coarse: the least precise dtype, below the one that is compared in, that a gradient passes; None without one.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.coarse: torch.dtype | None = None
        self._dtype = dtype
        self._noted: list[tuple[str, Any]] = []
        self._place: int | None = None  # while values are given again: which comes next

    def begin(self, again: bool) -> None:
        """A run that notes, or one that gets the values of that run `again`."""
        self._place = 0 if again else None
        if not again:
            self.coarse = None
            self._noted.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if torch._C._functorch.peek_interpreter_stack() is not None or name == "__set__":
            return func(*args, **kwargs)
        if name in CASTS and args[0].is_floating_point() and not self._finer(args[0].dtype):
            return args[0]
        args, kwargs = self._precise(name, args, kwargs)
        with torch._C._DisableAutocast():
            result = func(*args, **kwargs)
        for made in tensors_in((result,)):
            if made.requires_grad and self._is_coarse(made.dtype):
                self.coarse = made.dtype
        if torch.is_grad_enabled() and name not in LEAVES_THE_GRAPH:
            return result
        return result if _in_custom_function() else self._again(name, result, args, kwargs)

    def _again(self, name: str, result: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The result as the first run had it; as it is, where that run did something else here."""
        if self._place is None:
            self._noted.append((name, _kept(result)))
            return result
        place, self._place = self._place, self._place + 1
        if place >= len(self._noted) or self._noted[place][0] != name:
            return result
        before = self._noted[place][1]
        if not isinstance(result, Tensor):
            return before
        if result.shape != before.shape or result.dtype != before.dtype:
            return result
        if not any(result is taken for taken in tensors_in((args, kwargs))):
            return before.clone()
        if not result.requires_grad:  # written in place: into a buffer, never into a weight
            with torch.no_grad():
                result.copy_(before)
        return result

    def _finer(self, dtype: torch.dtype) -> bool:
        return dtype.is_floating_point and torch.finfo(dtype).eps < torch.finfo(self._dtype).eps

    def _is_coarse(self, dtype: torch.dtype) -> bool:
        return dtype.is_floating_point and torch.finfo(dtype).eps > torch.finfo(self._dtype).eps

    def _precise(self, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The same arguments with every dtype raised to the one that is compared in."""
        if name == "view":  # the same bits as another type
            return args, kwargs
        args = tuple(self._raised(arg) for arg in args)
        kwargs = {key: self._raised(value) for key, value in kwargs.items()}
        if (
            name in ("to", "type_as")
            and len(args) > 1
            and isinstance(args[1], Tensor)
            and self._is_coarse(args[1].dtype)
        ):
            args = (args[0], args[1].to(self._dtype), *args[2:])
        return args, kwargs

    def _raised(self, value: Any) -> Any:
        return self._dtype if isinstance(value, torch.dtype) and self._is_coarse(value) else value


def _kept(result: Any) -> Any:
    return result.detach().clone() if isinstance(result, Tensor) else result


def _in_custom_function() -> bool:
    """Whether this runs in the forward of an `autograd.Function`: without gradients, and differentiated all the same."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _APPLY:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class SameState:
    """What modules hold is put back after each run: a buffer that a forward binds anew, counters, caches, generators."""

    def __init__(self, modules: list[nn.Module], copies: list[Tensor]) -> None:
        self._modules = modules
        self._kept = [(copy, copy.clone()) for copy in copies]
        self._undo = ExitStack()

    def __enter__(self) -> SameState:
        attributes = Attributes(lambda tensor: tensor, self._undo)
        for module in self._modules:
            attributes.note(module)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._undo.close()
        finally:
            with torch.no_grad():
                for copy, before in self._kept:
                    copy.copy_(before)
