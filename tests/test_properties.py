"""J1 to J5, J11: random operations on random regions of random tensors, there and back in bytes, and once more elsewhere.

A case is one edit that is drawn, applied or refused. What is refused leaves every byte; what is applied can be undone,
redone, replayed from the recipe to the same bytes and from plain PyTorch to the same values.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import weightlab as wl
from tests.cells import state
from weightlab.edit.operations import OPERATIONS

EDITS = 12  # in each sequence; EXAMPLES sequences make at least 2,000 cases
EXAMPLES = int(os.environ.get("WEIGHTLAB_EXAMPLES", "180"))  # by hand: as many as you have time for, each run others

SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 5), (4, 3, 2, 2), (0, 3), (1, 1)]
DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
NUMBERS = [0, -0.0, 1, -1, 2, 3, 0.5, -1.75, 1e-3, 7.3, 300, 1e30, float("nan"), float("inf"), True, 1 + 2j]

counted: Counter[str] = Counter()


class Holder(nn.Module):
    """One tensor, with any bit patterns and strides."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        if tensor.is_floating_point() or tensor.is_complex():
            self.weight = nn.Parameter(tensor, requires_grad=tensor.dtype.itemsize > 1)
        else:
            self.register_buffer("weight", tensor)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight


def pruned() -> nn.Module:
    layer = nn.Linear(4, 3)
    prune.random_unstructured(layer, "weight", 0.5)
    layer.weight = layer.weight.detach()  # a copy of the model can only be made without its graph
    return layer


MODULES: list[tuple[str, Callable[[], nn.Module]]] = [
    ("tied", Tied),
    ("lstm", lambda: nn.LSTM(3, 2, num_layers=2)),
    ("attention", lambda: nn.MultiheadAttention(4, 2)),
    ("batchnorm", lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)),
    ("weight_norm", lambda: parametrizations.weight_norm(nn.Linear(4, 3))),
    ("pruned", pruned),
    ("half", lambda: nn.Linear(4, 3).to(torch.bfloat16)),
]


def random_bytes(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Any bit patterns: NaN payloads, infinities, subnormals and -0.0 among them."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(shape).numel() * dtype.itemsize
    drawn = torch.randint(0, 2 if dtype is torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    return drawn.view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    seed = draw(st.integers(0, 2**16))
    if draw(st.integers(0, 3)) == 0:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return draw(st.sampled_from(MODULES))[1]()
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    kind = draw(st.sampled_from(["plain", "transposed", "strided", "tame", "tame"]))
    if kind == "tame":  # small numbers, so that more operations are possible
        made = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).to(torch.float32) / 2
        return Holder(made.abs().to(dtype) if dtype in (torch.uint8, torch.bool) else made.to(dtype))
    if kind == "strided" and shape:
        return Holder(random_bytes((shape[0] * 2, *shape[1:]), dtype, seed)[::2])
    made = random_bytes(shape, dtype, seed)
    if kind == "transposed" and len(shape) > 1:
        made = made.transpose(0, -1).contiguous().transpose(0, -1)
    return Holder(made)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Basic indices with steps, index tensors, masks, empty ones."""
    kind = draw(st.sampled_from(["whole", "basic", "basic", "list", "mask", "empty"]))
    if not shape:
        return torch.tensor(draw(st.booleans())) if kind == "mask" else ...
    if kind == "whole":
        return ...
    if kind == "mask":
        seed = draw(st.integers(0, 99))
        return (
            torch.rand(shape[: draw(st.integers(1, len(shape)))], generator=torch.Generator().manual_seed(seed)) > 0.5
        )
    if kind == "empty":
        return slice(1, 1)
    if kind == "list" and shape[0]:
        return draw(st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4))
    items: list[Any] = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        if size and draw(st.booleans()):
            items.append(draw(st.integers(-size, size - 1)))
        else:
            start, step = draw(st.integers(0, max(size, 1))), draw(st.sampled_from([1, 1, 2, 3]))
            items.append(slice(start, draw(st.sampled_from([None, size, -1])), step))
    return tuple(items)


@st.composite
def arguments(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """An operation of section 4 and arguments that often fit."""
    number = st.sampled_from(NUMBERS)
    axis = st.integers(0, max(len(shape) - 1, 0))
    seed = draw(st.integers(0, 2**31))

    def values() -> Any:
        if draw(st.booleans()):
            return draw(number)
        parts = shape[draw(st.integers(0, len(shape))) :]
        made = torch.randint(-3, 4, parts, generator=torch.Generator().manual_seed(seed)).float()
        return made * draw(st.sampled_from([1, 0.5, 1.003]))

    op = draw(st.sampled_from([op for op in OPERATIONS if op != "requires_grad_"]))
    args: dict[str, Any] = {}
    if op == "fill_":
        args = {"value": draw(number)}
    elif op in ("add_", "sub_", "mul_", "div_"):
        args = {"value": values()}
    elif op == "clamp_":
        low = draw(st.sampled_from([None, -1, -0.5, 0, 1]))
        args = {"min": low, "max": draw(st.sampled_from([None, 1, 0.25, 2]))}
    elif op == "copy_":
        args = {"values": values()}
    elif op == "lerp_":
        args = {"end": torch.randn(shape, generator=torch.Generator().manual_seed(seed)), "weight": draw(number)}
    elif op in ("normal_", "uniform_"):
        args = {"seed": seed}
    elif op == "init_":
        method, extra = draw(
            st.sampled_from(
                [
                    ("kaiming_normal_", {"nonlinearity": "relu"}), ("xavier_uniform_", {"gain": 2.0}), ("orthogonal_", {}),
                    ("trunc_normal_", {"std": 0.02}), ("uniform_", {"a": -1.0, "b": 1.0}), ("eye_", {}), ("ones_", {}),
                    ("sparse_", {"sparsity": 0.5}), ("dirac_", {}),
                ]
            )
        )  # fmt: skip
        args = {"method": method, "seed": seed, **extra}
    elif op == "permute_":
        at = draw(axis)
        args = {"axis": at, "order": draw(st.permutations(range(shape[at] if shape else 1)))}
    elif op == "prune_":
        args = {
            "amount": draw(st.sampled_from([0.3, 0.5, 1.0, 1, 2])),
            "by": draw(st.sampled_from(["magnitude", "random"])),
        }
        args["axis"] = draw(st.sampled_from([None, *range(len(shape))]))
        if args["by"] == "random":
            args["seed"] = seed
    elif op == "quantize_":
        args = {"bits": draw(st.integers(2, 8)), "axis": draw(st.sampled_from([None, *range(len(shape))]))}
    return op, args


def same_values(one: nn.Module, other: nn.Module) -> bool:
    """Equal numbers; NaN equals NaN whatever its payload."""
    theirs = other.state_dict()
    for name, tensor in one.state_dict().items():
        a, b = (t.double() if t.dtype.is_floating_point else t for t in (tensor, theirs[name]))
        if not torch.equal(torch.nan_to_num(a, 12345.0, 1e300, -1e300), torch.nan_to_num(b, 12345.0, 1e300, -1e300)):
            return False
    return True


@settings(
    phases=[Phase.generate],  # a failing sequence of edits is short to read, and takes minutes to make shorter
    max_examples=EXAMPLES, deadline=None, derandomize="WEIGHTLAB_EXAMPLES" not in os.environ, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
def check_a_sequence_of_edits(data: st.DataObject) -> None:
    model = data.draw(models())
    fresh = [copy.deepcopy(model) for _ in range(2)]
    lab = wl.Lab(model)
    names = [info.name for info in lab.tree]
    states = [state(model)]
    for _ in range(EDITS):
        counted["drawn"] += 1
        count = len(lab.history)
        try:
            ref = lab[data.draw(st.sampled_from(names))]
            ref = ref[data.draw(indices(tuple(ref.shape)))]
            op, args = data.draw(arguments(tuple(ref.shape)))
            getattr(ref, op)(**args)
        except wl.EditRefused:
            counted["refused"] += 1
            assert (state(model), len(lab.history)) == (states[-1], count), "what is refused changes nothing"
        now = state(model)
        assert (len(lab.history) > count) == (now != states[-1]), (
            "no entry without a change, no change without an entry"
        )
        if now != states[-1]:
            states.append(now)
            counted[op] += 1
        if len(lab.history) > 1 and data.draw(st.integers(0, 5)) == 0:
            lab.undo()
            assert state(model) == states[-2]
            lab.redo()
            assert state(model) == states[-1]
    for before in reversed(states[:-1]):
        lab.undo()
        assert state(model) == before, "undo"
    for after in states[1:]:
        lab.redo()
        assert state(model) == after, "redo"
    recipe = json.loads(json.dumps(lab.recipe(), allow_nan=False))
    wl.replay(recipe, fresh[0])
    assert state(fresh[0]) == states[-1], "replay"
    scope: dict[str, Any] = {}
    exec(compile(lab.to_python(), "<recipe>", "exec"), scope)
    scope["apply"](fresh[1])
    assert same_values(fresh[1], model), "to_python"
    counted["applied"] += len(states) - 1


def test_random_edits_go_back_forth_and_elsewhere_to_the_same_bytes() -> None:
    """J1 to J5, J11: at least 2,000 random edits, of which enough of every operation change something."""
    counted.clear()
    check_a_sequence_of_edits()
    assert counted["drawn"] >= 2000
    assert counted["applied"] >= 600
    assert counted["refused"] >= 200
    for op in OPERATIONS:
        if op != "requires_grad_":
            assert counted[op] >= 3, f"{op} was hardly tried: {counted}"
