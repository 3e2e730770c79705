"""What happened during a check's forward and backward: one `Op` for each torch function that made a tensor.

A torch-function mode sees functions and modules alike (`nn.ReLU` calls `F.relu`), with the parameters among their
arguments; module hooks say on whose behalf. Of each result only the largest absolute value per channel is kept, and the
same of its gradient: a handful of vectors, never an activation. Composite functions (`F.multi_head_attention_forward`,
an LSTM) are one Op. A custom `autograd.Function` is not seen; the module around it stands in.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from weightlab.check.axes import kernel_axes, unit_axis
from weightlab.check.measures import (
    LOOKUPS,
    RELU,
    Op,
    Scale,
    extremes,
    highest,
    measurable,
    reaching,
    used_rows,
    wide,
)
from weightlab.check.outputs import Output
from weightlab.check.sandbox import Sandbox
from weightlab.model.nested import tensors_in
from weightlab.progress import report

ATTRIBUTES_THAT_MAKE = {"data", "T", "mT", "H", "mH", "real", "imag"}


class Recording(TorchFunctionMode):
    """Records the Ops of one forward pass while it is active, and their gradients afterwards.

    It also warns the sandbox before a parameter is written to in place; this goes on in the backward, where
    checkpointing runs parts of the forward again.
    """

    measures = True  # whether Scales are kept

    def __init__(self, sandbox: Sandbox, modules: dict[str, nn.Module]) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.ran: set[str] = set()
        self.live = True
        self.scales: set[str] = set()  # parameters used as a factor
        self.unmeasured: set[str] = set()  # functions whose arguments or results are of a kind that is not measured
        self._piece, self._whole = (0, 1), list[Op]()
        self.output: Output | None = None  # of the last call of the model itself
        self._sandbox = sandbox
        self._makers: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._stack: list[tuple[str, str]] = []
        self._places: dict[tuple[object, ...], int] = {}
        self.end_at: int | None = None  # the Op that made the loss
        self._modules = modules
        self._handles: list[Any] = []

    def hook(self) -> None:
        """Follow which module runs. The hooks are removed by `unhook`."""
        seen: set[int] = set()
        for path, module in self._modules.items():
            if id(module) not in seen:
                seen.add(id(module))
                self._handles.append(module.register_forward_pre_hook(self._entering(path, module), prepend=True))
                self._handles.append(module.register_forward_hook(self._leaving(path, module), with_kwargs=True))

    def unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def restart(self) -> None:
        """Forget a forward that failed."""
        self.ops.clear()
        self.ran.clear()
        self.scales.clear()
        self.unmeasured.clear()
        self.output = None
        self._makers.clear()
        self._stack.clear()
        self._places.clear()
        self.end_at = None

    def begin(self, piece: int, pieces: int) -> None:
        """A piece of the batch is about to run; one of one where it was not cut."""
        self._piece = piece, pieces
        self._whole, self.ops = self.ops, []
        self._places.clear()
        self.live = True

    def end(self) -> None:
        """The piece has run: join what it did with the pieces before."""
        if self._piece[0] == 0:
            return
        before, now = self._whole, self.ops
        if [op.call for op in before] == [op.call for op in now]:
            for old, new in zip(before, now, strict=True):
                old.join(new)
        else:
            self.unmeasured.add("pieces of the batch that the model treats unlike the first one")
        self.ops = before

    def ends(self, loss: Any) -> None:
        """The forward is over, and this is what it led to."""
        maker = self._makers.get(id(loss))
        if maker is not None and maker[0]() is loss:
            self.end_at = maker[1]

    def tell(self, share: float, words: str) -> None:
        """How far the check is."""
        piece, pieces = self._piece
        report(round(1000 * (piece + share) / pieces), 1000, f"checking gradients: {words}")

    @property
    def inside(self) -> str:
        """The innermost module that is running, or was when the forward raised; "" where none is."""
        path, kind = self._stack[-1] if self._stack else ("", "")
        return f"{path} ({kind})" if path else kind

    @property
    def reads_logits(self) -> bool:
        """Whether the loss takes the output as logits."""
        return any(
            op.name == "cross_entropy" or (op.name in ("log_softmax", "softmax") and not op.module_type)
            for op in self.ops
        )

    def reaching(self, name: str, units: int) -> tuple[int, tuple[int, ...]]:
        """Number of samples, and per unit of a parameter how many of them a gradient reaches it from; () if not measured.

        Of the one function that takes it; the largest numbers where several do.
        """
        samples, most = 0, torch.zeros(units, dtype=torch.int64)
        for op in self.ops:
            if name in op.parameters:
                for counts in op.reaching:
                    if counts.numel() == units:
                        samples, most = max(samples, op.samples), torch.maximum(most, counts.cpu())
        return samples, tuple(most.tolist()) if samples else ()

    def users(self) -> list[list[int]]:
        """For each Op, the Ops that took what it made."""
        users: list[list[int]] = [[] for _ in self.ops]
        for op in self.ops:
            for index in set(op.inputs):
                users[index].append(op.index)
        return users

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in ATTRIBUTES_THAT_MAKE:
                return func(*args, **kwargs)
        elif name == "__set__":
            return func(*args, **kwargs)
        written = _written(name, args, kwargs)
        for tensor in written:
            self._sandbox.before_write(tensor)
        if not self.live:
            return func(*args, **kwargs)
        plain = name.rstrip("_") if not name.startswith("__") else name
        taken: list[Tensor] = []
        op = None
        try:
            taken = list(tensors_in((args, kwargs)))
            op = self._called(plain, taken, args, kwargs)
        except Exception:  # of a kind of tensor that we do not know: the user's forward goes on
            self.unmeasured.add(plain)
        result = func(*args, **kwargs)
        if op is not None:
            made = list(tensors_in((result,)))
            if name == "__setitem__":
                made = [args[0]]
            if made and not (len(made) == 1 and self._sandbox.stands_for(made[0]) and not written):
                if self.measures and made:
                    op.axis = self._axis(op, args, kwargs, tuple(made[0].shape))
                self._finish(op, made)
        return result

    def _axis_of(self, tensor: Tensor) -> int | None:
        maker = self._makers.get(id(tensor))
        return self.ops[maker[1]].axis if maker is not None and maker[0]() is tensor else None

    def _axis(self, op: Op, args: Any, kwargs: dict[str, Any], shape: tuple[int, ...]) -> int | None:
        try:
            return unit_axis(op.name, args, kwargs, op.fed, shape)
        except Exception:  # a call of a form that we do not know
            return None

    def _called(self, name: str, taken: list[Tensor], args: Any, kwargs: dict[str, Any]) -> Op:
        """An Op with what its arguments say. Before the call: an in-place function returns the tensor that it took."""
        path, kind = self._stack[-1] if self._stack else ("", "")
        inputs, parameters, outside = self._arguments(taken)
        op = Op(len(self.ops), name, path, kind, inputs, parameters, outside is not None, outside or [])
        op.grad_enabled, op.saw_gradient = torch.is_grad_enabled(), any(tensor.requires_grad for tensor in taken)
        op.samples = taken[0].shape[0] if taken and taken[0].ndim else 1
        if not all(map(measurable, taken)):
            return op
        if self.measures:
            known = ((self._axis_of(tensor), tuple(tensor.shape)) for tensor in taken)
            op.fed = next(((axis, shape) for axis, shape in known if axis is not None), None)
        if self.measures and name in RELU and taken and taken[0].is_floating_point() and taken[0].numel():
            op.highest = highest(taken[0], self._axis_of(taken[0]))
        if name in LOOKUPS and len(taken) >= 2:
            op.used_rows = used_rows(taken[0], taken[1].shape[0], _argument(args, kwargs, 2, "padding_idx", name))
        if "dropout" in name:
            op.probability = float(kwargs.get("p", args[1] if len(args) > 1 and isinstance(args[1], float) else 0.5))
        if name in ("mul", "__mul__", "__rmul__", "multiply", "div", "__imul__"):
            self.scales.update(parameters)
        shift = added(name, args, kwargs)
        if shift is not None:
            op.shift_ops, op.shifts, _ = self._arguments((shift,))
        if (name == "linear" or name.startswith("conv")) and shift is not None and shift.ndim == 1:
            op.bias = next(iter(op.shifts), "")
        return op

    def _finish(self, op: Op, made: list[Tensor]) -> None:
        op.index = op.place = len(self.ops)
        if self.measures:
            op.place = self._places.setdefault((op.path, op.name, *_calling()), op.index)
        self.ops.append(op)
        try:
            for tensor in made:
                self._makers[id(tensor)] = (weakref.ref(tensor), op.index)
                op.tracked = op.tracked or tensor.requires_grad
                if op.is_view or not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_meta:
                    continue
                if not measurable(tensor):
                    self._give_up(op)
                    return
                if self.measures:
                    op.outs.append(Scale.of(tensor, op.axis if tensor is made[0] else None))
                if tensor.requires_grad and not tensor.is_leaf and (self.measures or op.bias):
                    tensor.register_hook(self._keep_gradient(op, tuple(made[0].shape)))
        except Exception:
            self._give_up(op)

    def _give_up(self, op: Op) -> None:
        self.unmeasured.add(op.name)
        op.outs.clear()
        op.tracked = True  # what is not known is not called a cut

    def _keep_gradient(self, op: Op, shape: tuple[int, ...]) -> Callable[[Tensor | None], None]:
        def hook(gradient: Tensor | None) -> None:
            # The forward differentiates on its own, as a gradient penalty does; nothing arrives at one of several results.
            if self.live or gradient is None:
                return
            try:
                if self.measures:
                    op.grads.append(Scale.of(gradient, op.axis if tuple(gradient.shape) == shape else None))
                    if op.parameters:
                        op.reaching.append(reaching(gradient, op.axis if tuple(gradient.shape) == shape else None))
                if op.bias:
                    op.spread.append(torch.linalg.vector_norm(gradient.detach(), dtype=wide(gradient)))
                    axis = (
                        gradient.ndim - 1 if op.name == "linear" else max(gradient.ndim - kernel_axes(op.name) - 1, 0)
                    )
                    op.terms += gradient.numel() // max(1, gradient.shape[axis])
                    op.epsilon = max(op.epsilon, torch.finfo(gradient.dtype).eps)
            except Exception:
                self.unmeasured.add(op.name)

        return hook

    def _arguments(self, taken: Sequence[Tensor]) -> tuple[tuple[int, ...], tuple[str, ...], list[Tensor] | None]:
        """Ops and parameters that these come from; for those from elsewhere, if any, their extreme values."""
        inputs: list[int] = []
        parameters: list[str] = []
        outside: list[Tensor] | None = None
        for tensor in taken:
            name = self._sandbox.stands_for(tensor)
            if name is not None:
                parameters.append(name)
                continue
            maker = self._makers.get(id(tensor))
            if maker is not None and maker[0]() is tensor:
                inputs.append(maker[1])
            elif not self._sandbox.is_buffer(tensor):
                outside = [*(outside or ()), *(extremes(tensor) if self.measures else ())]
        return tuple(inputs), tuple(dict.fromkeys(parameters)), outside

    def _knows(self, tensor: Tensor) -> bool:
        """Whether an Op made this tensor as it is: one made inside an autograd.Function gets its graph afterwards."""
        maker = self._makers.get(id(tensor))
        return maker is not None and maker[0]() is tensor and (self.ops[maker[1]].tracked or not tensor.requires_grad)

    def _entering(self, path: str, module: nn.Module) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self.live:
                self._stack.append((path, type(module).__name__))
                self.ran.add(path)
                self.tell(min(0.5, len(self.ran) / (2 * len(self._modules))), "forward")

        return hook

    def _leaving(self, path: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not self.live:
                return
            while self._stack and self._stack.pop()[0] != path:
                pass
            if not path and torch._C._functorch.peek_interpreter_stack() is None:
                self.output = Output.of(output)
            try:
                unknown = [tensor for tensor in tensors_in((output,)) if not self._knows(tensor)]
                if not any(tensor.requires_grad for tensor in unknown):
                    return
                taken = list(tensors_in((args, kwargs)))
                inputs, _taken, outside = self._arguments(taken)
                own = [p for p in module._parameters.values() if p is not None]
                held = self._arguments(own)[1]
                kind = type(module).__name__
                op = Op(0, kind.lower(), path, kind, inputs, held, outside is not None, outside or [])
                op.saw_gradient = any(tensor.requires_grad for tensor in taken)
            except Exception:
                self.unmeasured.add(type(module).__name__)
            else:
                self._finish(op, unknown)

        return hook


class Lineage(Recording):
    """Which function made what from what, and no Scale: enough where every gradient flows, at a tenth of the cost."""

    measures = False


TORCH = str(Path(torch.__file__).parent)
FRAMES = 12  # between a line of a model and here stand at most so many of torch's own


def _calling() -> tuple[object, ...]:
    """The instruction outside of torch, or the nearest inside of it, that called the function which is recorded."""
    frame = sys._getframe(2)
    for _ in range(FRAMES):
        name = frame.f_code.co_filename
        if not name.startswith(TORCH) and name != __file__ and "weightlab" not in frame.f_globals.get("__name__", ""):
            break
        if frame.f_back is None:
            break
        frame = frame.f_back
    return id(frame.f_code), frame.f_lasti


# Where functions take what they add to the product.
ADDED = {
    **dict.fromkeys(("linear", *(f"conv{t}{axes}d" for t in ("", "_transpose") for axes in (1, 2, 3))), 2),
    **dict.fromkeys(("bilinear", "layer_norm", "group_norm"), 3),
    **dict.fromkeys(("batch_norm", "instance_norm"), 4),
    **dict.fromkeys(("addmm", "addmv", "addbmm", "baddbmm"), 0),
}


def added(name: str, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
    """The tensor that a function adds to what it multiplies."""
    place = ADDED.get(name)
    if place is None:
        return None
    found = kwargs.get("bias" if place else "input", args[place] if len(args) > place else None)
    return found if isinstance(found, Tensor) else None


def _argument(args: Any, kwargs: dict[str, Any], position: int, key: str, name: str) -> Any:
    return kwargs.get(key, args[position] if name == "embedding" and len(args) > position else None)


def _written(name: str, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """Tensors that this call is going to write to."""
    found: list[Tensor] = []
    in_place = name.endswith("_") and not name.endswith("__")
    if args and (in_place or name in ("__setitem__", "set_") or (name.startswith("__i") and name != "__invert__")):
        found += tensors_in((args[0],))
    if "out" in kwargs:
        found += tensors_in((kwargs["out"],))
    if name == "embedding" and (kwargs.get("max_norm") is not None or (len(args) > 3 and args[3] is not None)):
        found += tensors_in((args[1] if len(args) > 1 else kwargs["weight"],))
    if name == "embedding_bag" and (kwargs.get("max_norm") is not None or (len(args) > 3 and args[3] is not None)):
        found += tensors_in((args[1] if len(args) > 1 else kwargs["weight"],))
    return found
