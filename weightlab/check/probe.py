"""How a check runs the model: the forward call, and one number to differentiate.

The user's batch and loss where they gave them. Without a batch, an input is made from the first layer that says its
size, and the number is the mean squared distance between the outputs and fixed random numbers. Not the mean of
squares: that is constant behind a final LayerNorm and flat at a zero-initialised head, so that healthy models would
show no gradient at all.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightlab.check.sandbox import cast
from weightlab.errors import ProbeFailed
from weightlab.model.nested import tensors_in

GIVE = "Give Lab(model, batch=(inputs, targets), loss=...) or probe=lambda model: loss."
# Sizes of spatial axes, tried in this order: small images, ImageNet's, then MNIST's for nets that flatten.
SPATIAL = {1: (32, 256, 1024), 2: (32, 64, 224, 28, 8, 16, 96, 128), 3: (16, 32)}
SAMPLES, TOKENS = 4, 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to run the model; `note` says what was made up, and is empty where the user gave all of it."""

    note: str
    run: Callable[[], Any]


class Probe:
    """How to run a model to a scalar loss.

    Args:
        model: the model that is called.
        batch: `(inputs, targets)`, where a tuple or list of inputs is unpacked and a mapping is passed as keywords; or
            a mapping passed as keywords, whose output has `.loss` (attribute or key). Tensors are moved to the
            model's device, and copied: a model that works in place does not change them.
        loss: `loss(output, target)` returns a scalar. Without it: the output's own `.loss`, else cross_entropy for
            integer targets and outputs [N, classes, ...], else mse_loss for floating targets of the output's shape.
        probe: `probe(model)` returns the loss; replaces batch and loss.

    Raises:
        ProbeFailed: batch, loss and probe do not go together.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any = None,
        loss: Callable[[Any, Any], Tensor] | None = None,
        probe: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        if probe is not None and not callable(probe):
            raise ProbeFailed(f"probe: expected a function of the model, got {type(probe).__name__}. {GIVE}")
        if probe is not None and (batch is not None or loss is not None):
            raise ProbeFailed("probe: it replaces batch and loss. Give either probe, or batch and loss.")
        if loss is not None and not callable(loss):
            raise ProbeFailed(f"loss: expected a function of (output, target), got {type(loss).__name__}.")
        if (
            batch is not None
            and not isinstance(batch, Mapping)
            and not (isinstance(batch, (tuple, list)) and len(batch) == 2)
        ):
            got = (
                f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
            )
            raise ProbeFailed(f"batch: expected (inputs, targets) or a mapping of keywords, got {got}. {GIVE}")
        self.model = model
        self.batch: Any = batch
        self.loss = loss
        self.probe = probe
        self.thorough = (
            False  # whether the last check met gradients that do not flow: then the next one measures at once
        )

    @property
    def synthetic(self) -> bool:
        """Whether the input is made up."""
        return self.batch is None and self.probe is None

    @property
    def callee(self) -> nn.Module:
        """The module that is called: under torch.compile and data-parallel wrappers, the user's own."""
        model = self.model
        while True:
            inner = getattr(model, "_orig_mod", None)
            if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
                inner = model.module
            if not isinstance(inner, nn.Module):
                return model
            model = inner

    def pieces(self, samples: int | None) -> list[tuple[Probe, float]]:
        """The batch in pieces of so many samples, each as a probe with its share of all samples.

        Tensors whose first axis is as long as that of the batch's first tensor are cut, all others are given to each.

        Raises:
            ProbeFailed: there is no batch to cut, or the number is none.
        """
        if samples is None:
            return [(self, 1.0)]
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ProbeFailed(f"microbatch: expected a number of samples, at least 1, got {samples!r}.")
        count = next((t.shape[0] for t in tensors_in(self.batch) if t.ndim), 0)
        if not count:
            raise ProbeFailed("microbatch: it cuts the batch, and this Lab has none. Give Lab(model, batch=...).")

        def piece(start: int) -> Any:
            return _mapped(self.batch, lambda t: t[start : start + samples] if t.ndim and t.shape[0] == count else t)

        return [
            (Probe(self.model, piece(start), self.loss), min(samples, count - start) / count)
            for start in range(0, count, samples)
        ]

    def attempts(self, dtype: torch.dtype | None = None) -> Iterator[Attempt]:
        """Ways to get the loss, to be tried in order until one does not raise; only synthetic input has several.

        Args:
            dtype: floating inputs and targets are cast to it; None leaves them.

        Raises:
            ProbeFailed: no input can be made for this model.
        """
        model = self.callee
        if self.probe is not None:
            yield Attempt("", lambda: self.probe(self.model))  # type: ignore[misc]
        elif self.batch is not None:
            self._refuse()
            batch = _copied(self.batch, _device(model), dtype)
            yield Attempt(self._note(), lambda: self._loss_of_batch(model, batch))
        else:
            for text, made in synthetic_inputs(model):
                arguments = _copied(made, None, dtype)
                note = f"{text}; loss: mean squared distance of the outputs to fixed random numbers"
                yield Attempt(note, lambda arguments=arguments: distance_to_noise(model(*arguments)))  # type: ignore[misc]

    @property
    def given(self) -> str:
        """What the batch holds, for the message of a forward that raised; "" without one."""
        if self.batch is None:
            return ""
        parts = [self.batch] if isinstance(self.batch, Mapping) else list(self.batch)
        words = ["the batch"] if len(parts) == 1 else ["inputs", "targets"]
        listed = "; ".join(f"{word}: {_listed(part)}" for word, part in zip(words, parts, strict=True))
        return f"It was given {listed}. Check their shapes, dtypes and values against what the model and the loss take."

    def _refuse(self) -> None:
        """Batches that would run, or nearly, and say nothing."""
        held = list(tensors_in(self.batch))
        for tensor in held:
            if tensor.is_meta:
                raise ProbeFailed(
                    f"batch {list(tensor.shape)}: it lies on the meta device and has no values. Give real ones."
                )
        if held and all(tensor.numel() == 0 for tensor in held):
            shapes = " and ".join(str(list(tensor.shape)) for tensor in held[:2])
            raise ProbeFailed(f"batch {shapes}: it holds no samples, so that there is no loss. Give at least one.")

    def _note(self) -> str:
        return "" if self.loss is not None else "no loss given: chosen from the output and the targets"

    def _loss_of_batch(self, model: nn.Module, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            output = model(**batch)
            own = _own_loss(output)
            if self.loss is None and own is None:
                raise ProbeFailed(
                    f"batch: a mapping was given and the output ({type(output).__name__}) has no .loss. Put the labels "
                    "into the batch, or give loss=lambda output, target: ... (target is None)."
                )
            return own if self.loss is None else self.loss(output, None)
        inputs, target = batch
        if isinstance(inputs, Mapping):
            output = model(**inputs)
        elif isinstance(inputs, (tuple, list)):
            output = model(*inputs)
        else:
            output = model(inputs)
        if self.loss is not None:
            return self.loss(output, target)
        return _guessed_loss(output, target)


def distance_to_noise(output: Any) -> Tensor:
    """Mean over all floating cells of (output - r)^2, with r ~ N(0, 1) from a generator of its own.

    Args:
        output: a tensor, or tensors inside tuples, lists, mappings and dataclasses.

    Raises:
        ProbeFailed: there is no floating tensor in it.
    """
    total, count = None, 0
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors_in(output):
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
            continue
        values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        noise = torch.randn(values.shape, generator=generator, device="cpu").to(device=values.device)
        # In float32: the sum over a large bf16 output would lose most of its terms.
        part = (values.to(torch.promote_types(values.dtype, torch.float32)) - noise).square().sum()
        total = part if total is None else total + part.to(total)
        count += values.numel()
    if total is None:
        raise ProbeFailed(f"model: its output ({type(output).__name__}) holds no floating-point tensor. {GIVE}")
    return total / count


def synthetic_inputs(model: nn.Module) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Inputs that the first layer that says its size could take, as (what it is, positional arguments).

    Values come from a fixed generator of its own; device and dtype are those of that layer's parameters.

    Raises:
        ProbeFailed: no layer says its size.
    """
    for path, layer in model.named_modules():
        shapes = list(_shapes(layer))
        if not shapes:
            continue
        held = next(layer.parameters(), None)
        if held is None:
            held = next(model.parameters(), torch.zeros(()))
        for shape in shapes:
            generator = torch.Generator().manual_seed(0)
            if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
                made = torch.randint(layer.num_embeddings, shape, generator=generator, device="cpu")
                kind = f"tokens below {layer.num_embeddings}"
            else:
                made = torch.randn(shape, generator=generator, device="cpu").to(held.dtype)
                kind = "normal numbers"
            made = made.to(held.device)
            needed, most = _positional_arguments(model)
            text = (
                f"synthetic input {list(shape)} of {kind}, as {path or 'the model'} ({type(layer).__name__}) takes it"
            )
            for count in dict.fromkeys((max(needed, 1), 1, 3)):
                if not needed <= count <= most:  # its TypeError would hide what the others raised
                    continue
                yield text, tuple(made.clone() for _ in range(count))
        return
    raise ProbeFailed(f"{type(model).__name__}: no layer says what size of input it takes. {GIVE}")


def _shapes(layer: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes to try for an input of this layer; nothing for layers that take any."""
    n, t = SAMPLES, TOKENS
    if isinstance(layer, nn.modules.conv._ConvNd):
        axes = len(layer.kernel_size)
        yield from ((n, layer.in_channels, *[size] * axes) for size in SPATIAL[axes])
    elif isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        yield from ((n, t), (n,), (t,))
    elif isinstance(layer, nn.RNNBase):
        yield from ((n, t, layer.input_size), (t, layer.input_size))
    elif isinstance(layer, nn.RNNCellBase):
        yield (n, layer.input_size)
    elif isinstance(layer, nn.MultiheadAttention):
        yield from ((n, t, layer.embed_dim), (t, n, layer.embed_dim))
    elif isinstance(layer, nn.Transformer):
        yield (n, t, layer.d_model)
    elif isinstance(layer, (nn.Linear, nn.Bilinear)):
        size = layer.in_features if isinstance(layer, nn.Linear) else layer.in1_features
        yield from ((n, size), (n, t, size), (size,))
    elif isinstance(layer, nn.LayerNorm):
        yield from ((n, *layer.normalized_shape), (n, t, *layer.normalized_shape))
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        axes = {"1d": 1, "2d": 2, "3d": 3}.get(type(layer).__name__[-2:], 0)
        yield from ((n, layer.num_features, *[8] * axes), (n, layer.num_features))


def _positional_arguments(model: nn.Module) -> tuple[int, float]:
    """How many arguments the forward needs, and how many it takes."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return 1, math.inf
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [p for p in parameters if p.kind in positional]
    any_number = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return sum(p.default is p.empty for p in named), math.inf if any_number else max(len(named), 1)


def _guessed_loss(output: Any, target: Any) -> Any:
    own = _own_loss(output)
    if own is not None:
        return own
    if isinstance(output, Tensor) and isinstance(target, Tensor):
        integer = not target.is_floating_point() and not target.is_complex()
        if integer and output.ndim >= 2 and target.shape == output.shape[:1] + output.shape[2:]:
            return F.cross_entropy(output, target.long())
        if target.is_floating_point() and target.shape == output.shape:
            return F.mse_loss(output, target)
    of = f"{type(output).__name__} {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    to = f"{type(target).__name__} {list(target.shape)}" if isinstance(target, Tensor) else type(target).__name__
    raise ProbeFailed(f"loss: none was given, and none is obvious for output {of} and target {to}. {GIVE}")


def _own_loss(output: Any) -> Tensor | None:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return loss if isinstance(loss, Tensor) else None


def _device(model: nn.Module) -> torch.device | None:
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    return devices.pop() if len(devices) == 1 else None  # several: the model moves its inputs itself


def _listed(part: Any) -> str:
    held = [f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors_in(part)]
    shown = ", ".join(held[:4]) + (", ..." if len(held) > 4 else "")
    return shown or type(part).__name__


def _copied(value: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """The same structure with copies of its tensors, on the device (where they are, if None)."""

    def copied(tensor: Tensor) -> Tensor:
        copy = tensor.detach().to(device or tensor.device, copy=True)
        copy = copy if dtype is None else cast(copy, dtype)
        return copy.requires_grad_() if tensor.requires_grad else copy

    return _mapped(value, copied)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with other tensors."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(item, change) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, change) for item in value))
    return value
