"""Section 4: every operation against plain torch on a copy, on every kind of region."""

from __future__ import annotations

import copy
import inspect
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import weightlab as wl

REGIONS: dict[str, Any] = {
    "whole": ...,
    "basic": (slice(1, 4), slice(0, 2)),
    "int": 2,
    "strided": (slice(None, None, 2), slice(1, None, 3)),
    "negative": (-1, slice(-3, -1)),
    "index": [4, 0, 3],
    "mask": torch.arange(35).reshape(5, 7) % 3 == 1,
    "leading mask": torch.tensor([True, False, True, True, False]),
    "empty": (slice(2, 2),),
    "empty mask": torch.zeros(5, 7, dtype=torch.bool),
}

# An operation on a handle, and what it means for a copy of the cells, written without WeightLab.
SIMPLE: dict[str, tuple[Callable[[Any], Any], Callable[[Tensor], Tensor]]] = {
    "zero_": (lambda w: w.zero_(), torch.zeros_like),
    "fill_": (lambda w: w.fill_(0.3), lambda c: torch.full_like(c, 0.3)),
    "add_": (lambda w: w.add_(0.25), lambda c: c + 0.25),
    "sub_": (lambda w: w.sub_(1.5), lambda c: c - 1.5),
    "mul_": (lambda w: w.mul_(-3), lambda c: c * -3),
    "div_": (lambda w: w.div_(7), lambda c: c / 7),
    "clamp_": (lambda w: w.clamp_(-0.5, 0.25), lambda c: c.clamp(-0.5, 0.25)),
    "clamp_ below": (lambda w: w.clamp_(min=0), lambda c: c.clamp(min=0)),
    "clamp_ above": (lambda w: w.clamp_(max=0.1), lambda c: c.clamp(max=0.1)),
    "copy_ number": (lambda w: w.copy_(2), lambda c: torch.full_like(c, 2)),
    "copy_ cells": (lambda w: w.copy_(w.value.flip(0)), lambda c: c.flip(0)),
    "lerp_": (lambda w: w.lerp_(torch.ones(()), 0.25), lambda c: torch.lerp(c, torch.ones_like(c), 0.25)),
    "neg_": (lambda w: w.neg_(), lambda c: -c),
    "abs_": (lambda w: w.abs_(), lambda c: c.abs()),
    "round_": (lambda w: w.round_(), lambda c: c.round()),
    "sign_": (lambda w: w.sign_(), lambda c: c.sign()),
    "apply_ returned": (lambda w: w.apply_(lambda c: c * c), lambda c: c * c),
}  # fmt: skip


@pytest.fixture
def lab() -> wl.Lab:
    model = nn.Linear(7, 5)
    with torch.no_grad():
        model.weight.mul_(4)
    return wl.Lab(model)


def expected(before: Tensor, index: Any, meaning: Callable[[Tensor], Tensor]) -> Tensor:
    after = before.clone()
    after[index] = meaning(before[index].clone())
    return after


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("op", SIMPLE)
def test_an_operation_does_what_torch_does_and_nothing_beside(op: str, region: str, lab: wl.Lab) -> None:
    """J1: the cells of the region get torch's values, all others keep their bytes."""
    index, (act, meaning) = REGIONS[region], SIMPLE[op]
    weight = lab.model.get_parameter("weight")
    before = weight.detach().clone()
    act(lab["weight"][index])
    assert torch.equal(weight.detach(), expected(before, index, meaning))
    if "empty" in region:
        assert lab.history == ()


@pytest.mark.parametrize("region", REGIONS)
def test_a_function_may_change_its_copy_in_place(region: str, lab: wl.Lab) -> None:
    weight = lab.model.get_parameter("weight")
    before = weight.detach().clone()

    def add(cells: Tensor) -> None:
        cells.add_(1)

    lab["weight"][REGIONS[region]].apply_(add)
    assert torch.equal(weight.detach(), expected(before, REGIONS[region], lambda c: c + 1))


@pytest.mark.parametrize("name", ["add_", "sub_", "mul_", "div_", "copy_"])
@pytest.mark.parametrize("shape", [(3, 2), (2,), (3, 1), (1, 1), ()])
def test_tensors_broadcast_as_in_torch(name: str, shape: tuple[int, ...], lab: wl.Lab) -> None:
    values = torch.rand(shape) + 0.5
    weight = lab.model.get_parameter("weight")
    before = weight.detach().clone()
    getattr(lab["weight"][1:4, 2:4], name)(values)
    getattr(before[1:4, 2:4], name)(values)
    assert torch.equal(weight.detach(), before)


def test_setting_an_item_copies_lists_arrays_handles_and_other_dtypes(lab: wl.Lab) -> None:
    w = lab["weight"]
    w[0] = [1, 2, 3, 4, 5, 6, 7]
    assert w.value[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    w[1] = np.arange(7)[::-1].copy()
    assert w.value[1].tolist() == [6, 5, 4, 3, 2, 1, 0]
    w[2] = w[0]
    assert torch.equal(w.value[2], w.value[0])
    w[3] = torch.arange(7, dtype=torch.float64) / 3
    assert torch.equal(w.value[3], (torch.arange(7, dtype=torch.float64) / 3).float())
    lab["bias"] = 0.5
    assert lab["bias"].value.tolist() == [0.5] * 5


def test_values_given_are_copied_so_that_redo_gives_the_first_result(lab: wl.Lab) -> None:
    """J2: the caller goes on with his tensor."""
    mine = torch.ones(5)
    lab["bias"].copy_(mine)
    mine.zero_()
    lab.undo()
    lab.redo()
    assert lab["bias"].value.tolist() == [1.0] * 5


RANDOM: dict[str, Callable[[Any, int], Any]] = {
    "normal_": lambda w, seed: w.normal_(0.5, 2, seed=seed),
    "uniform_": lambda w, seed: w.uniform_(-1, 3, seed=seed),
    "init_": lambda w, seed: w.init_("kaiming_uniform_", seed=seed),
    "orthogonal": lambda w, seed: w.init_("orthogonal_", seed=seed),
    "sparse": lambda w, seed: w.init_("sparse_", sparsity=0.5, seed=seed),
    "prune_": lambda w, seed: w.prune_(0.5, by="random", seed=seed),
    "prune_ axis": lambda w, seed: w.prune_(2, by="random", axis=0, seed=seed),
}


@pytest.mark.parametrize("op", RANDOM)
def test_random_operations_repeat_with_the_seed_and_leave_global_generators_alone(op: str, lab: wl.Lab) -> None:
    start = copy.deepcopy(lab.model.state_dict())
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 (the global state is what is tested)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index] # noqa: NPY002
    results = []
    for seed in (11, 11, 12):
        RANDOM[op](lab["weight"], seed)
        results.append(lab["weight"].value)
        lab.undo()
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    if op in ("normal_", "uniform_"):  # without a seed one is drawn and stored
        getattr(lab["weight"], op)()
        assert lab.history[-1].edits[0].args["seed"] >= 0
        other = copy.deepcopy(lab.model)
        other.load_state_dict(start)
        wl.replay(lab.recipe(), other)
        assert torch.equal(other.weight.detach(), lab["weight"].value)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tobytes() == states[2]  # type: ignore[index] # noqa: NPY002


def test_normal_and_uniform_draw_from_what_was_asked() -> None:
    lab = wl.Lab(nn.Linear(100, 300))
    lab["weight"].normal_(2, 0.5, seed=0)
    value = lab["weight"].value.double()
    assert abs(value.mean() - 2) < 0.02
    assert abs(value.std() - 0.5) < 0.02
    lab["weight"].uniform_(-1, 3, seed=0)
    value = lab["weight"].value.double()
    assert value.min() >= -1
    assert value.max() < 3
    assert abs(value.mean() - 1) < 0.05


INITS: dict[str, dict[str, Any]] = {
    "uniform_": {"a": -2.0, "b": 2.0}, "normal_": {"mean": 1.0, "std": 2.0},
    "trunc_normal_": {"std": 0.02}, "constant_": {"val": 0.3},
    "ones_": {}, "zeros_": {}, "eye_": {}, "xavier_uniform_": {"gain": 2.0}, "xavier_normal_": {},
    "kaiming_uniform_": {"a": 1.0}, "kaiming_normal_": {"mode": "fan_out", "nonlinearity": "relu"},
    "orthogonal_": {"gain": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("method", INITS)
@pytest.mark.parametrize("region", ["whole", "basic", "strided", "mask", "index"])
def test_init_of_a_part_is_that_part_of_the_whole_tensors_init(method: str, region: str, lab: wl.Lab) -> None:
    """Fan, rank and columns are those of the layer also when only some cells are written."""
    index = REGIONS[region]
    with torch.no_grad():
        lab.model.get_parameter("weight").fill_(9.0)
    arguments = dict(INITS[method])
    lab["weight"][index].init_(method, seed=5, **arguments)
    made = torch.empty(5, 7)
    if "generator" in inspect.signature(getattr(nn.init, method)).parameters:
        arguments["generator"] = torch.Generator().manual_seed(5)
    getattr(nn.init, method)(made, **arguments)
    assert torch.equal(lab["weight"].value, expected(torch.full((5, 7), 9.0), index, lambda cells: made[index]))


def test_sparse_init_zeros_the_asked_share_of_every_column(lab: wl.Lab) -> None:
    """torch's own sparse_ takes its permutations from the global generator; ours repeats with the seed (tested above)."""
    lab["weight"].init_("sparse_", sparsity=0.5, std=2.0, seed=3)
    assert (lab["weight"].value == 0).sum(0).tolist() == [3] * 7
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    assert torch.equal(scope["apply"](nn.Linear(7, 5)).weight.detach(), lab["weight"].value)


def test_dirac_sets_a_convolution_to_the_identity() -> None:
    lab = wl.Lab(nn.Conv2d(3, 3, 3, padding=1, bias=False))
    lab["weight"].init_("dirac_")
    images = torch.randn(2, 3, 5, 4)
    assert torch.equal(lab.model(images), images)


def test_permute_follows_the_order_on_any_axis(lab: wl.Lab) -> None:
    before = lab["weight"].value
    lab["weight"].permute_(0, [4, 2, 0, 1, 3])
    assert torch.equal(lab["weight"].value, before[[4, 2, 0, 1, 3]])
    lab["weight"][1:3, ::2].permute_(-1, [3, 0, 2, 1])
    again = before[[4, 2, 0, 1, 3]]
    again[1:3, ::2] = again[1:3, ::2][:, [3, 0, 2, 1]]
    assert torch.equal(lab["weight"].value, again)
    lab.undo()
    lab.undo()
    assert torch.equal(lab["weight"].value, before)


def pruned_by_hand(rows: list[list[float]], count: int) -> list[list[float]]:
    """The smallest magnitudes of each row become 0, the first ones among equals."""
    made = []
    for row in rows:
        order = sorted(range(len(row)), key=lambda i: (abs(row[i]), i))
        made.append([0.0 if i in order[:count] else v for i, v in enumerate(row)])
    return made


@pytest.mark.parametrize("amount", [0, 1, 3, 7, 0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_prune_zeros_the_smallest_magnitudes_with_ties_by_index(amount: float, axis: int | None, lab: wl.Lab) -> None:
    values = torch.tensor([[(3 * i + 5 * j) % 4 - 1.5 for j in range(7)] for i in range(5)])  # many ties
    if axis in (1, -1) and amount == 7:
        amount = 5
    lab["weight"].copy_(values)
    lab["weight"].prune_(amount, axis=axis)
    if axis is None:
        count = amount if isinstance(amount, int) else round(amount * 35)
        want = torch.tensor(pruned_by_hand([values.flatten().tolist()], count)).view(5, 7)
    elif axis == 0:
        count = amount if isinstance(amount, int) else round(amount * 7)
        want = torch.tensor(pruned_by_hand(values.tolist(), count))
    else:
        count = amount if isinstance(amount, int) else round(amount * 5)
        want = torch.tensor(pruned_by_hand(values.T.tolist(), count)).T
    assert torch.equal(lab["weight"].value, want)


@pytest.mark.parametrize("by", ["magnitude", "random"])
@pytest.mark.parametrize(("amount", "gone"), [(0, 0), (1, 1), (0.4, 0), (1.0, 1)])
def test_prune_along_the_only_axis_has_one_cell_a_slice(amount: float, gone: int, by: str, lab: wl.Lab) -> None:
    lab["weight"].fill_(2.0)
    lab["weight"][:, 3].prune_(amount, by=by, axis=0, seed=4 if by == "random" else None)
    assert (lab["weight"].value[:, 3] == 0).all(0).item() is bool(gone)
    assert int((lab["weight"].value == 0).sum()) == 5 * gone
    twin = nn.Linear(7, 5)
    with torch.no_grad():
        twin.weight.fill_(2.0)
    exec(lab.history[-1].code, {"torch": torch, "model": twin})
    assert torch.equal(twin.weight, lab["weight"].value)


def test_random_pruning_takes_the_asked_count_per_slice(lab: wl.Lab) -> None:
    lab["weight"].fill_(1.0)
    lab["weight"].prune_(3, by="random", axis=0, seed=1)
    assert (lab["weight"].value == 0).sum(1).tolist() == [3] * 5
    lab["weight"].fill_(1.0)
    lab["weight"].prune_(0.2, by="random", seed=1)
    assert int((lab["weight"].value == 0).sum()) == 7


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_quantize_rounds_to_a_symmetric_grid(bits: int, axis: int | None, dtype: torch.dtype) -> None:
    """The grid is step * k for whole k up to 2**(bits - 1) - 1, and the largest magnitude is on it."""
    model = nn.Linear(7, 5, dtype=dtype)
    with torch.no_grad():
        model.weight[2] = 0
    before = model.weight.detach().clone()
    wl.Lab(model)["weight"].quantize_(bits, axis=axis)
    slices = (
        [(before, model.weight)]
        if axis is None
        else list(zip(before.unbind(axis), model.weight.unbind(axis), strict=True))
    )
    for old, new in slices:
        largest = float(old.double().abs().max())
        step = largest / (2 ** (bits - 1) - 1) if largest else 1.0
        tolerance = max(torch.finfo(dtype).eps, 2e-7) * max(largest, 1e-9)
        steps = new.detach().double() / step
        assert float((steps - steps.round()).abs().max()) * step <= tolerance
        assert float(steps.abs().max()) <= 2 ** (bits - 1) - 1 + 1e-2
        assert float((new.detach().double() - old.double()).abs().max()) <= step / 2 + tolerance


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_integers_are_exact_or_refused(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("n", torch.tensor([6, 12, 30], dtype=dtype))
    lab = wl.Lab(model)
    lab["n"].mul_(2).add_(4).sub_(6).div_(2)
    assert lab["n"].value.tolist() == [5, 11, 29]
    lab["n"].mul_(torch.tensor([2, 1, 3])).clamp_(11, 50)
    assert lab["n"].value.tolist() == [11, 11, 50]
    for bad in (lambda: lab["n"].mul_(10**18 * 9), lambda: lab["n"].div_(7), lambda: lab["n"].quantize_(4)):
        with pytest.raises(wl.EditRefused):
            bad()
    assert lab["n"].value.tolist() == [11, 11, 50]
    if dtype is torch.uint8:
        with pytest.raises(wl.EditRefused):
            lab["n"].neg_()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16], ids=str)
def test_narrow_floats_round_once_to_the_nearest(dtype: torch.dtype) -> None:
    """J7: the asked value in float32, rounded by torch's own cast; asked and stored are reported."""
    values = torch.tensor([0.3, -1.7, 5.1, 0.011])
    model = nn.Module()
    model.weight = nn.Parameter(values.to(dtype), requires_grad=False)
    lab = wl.Lab(model)
    start = model.weight.detach().float()
    lab["weight"].mul_(1.1)
    assert torch.equal(model.weight.detach().float(), (start * 1.1).to(dtype).float())
    entry = lab.history[-1]
    assert torch.allclose(entry.requested, start * 1.1)
    assert torch.equal(entry.stored.float(), model.weight.detach().float())
    assert entry.rounded == int((model.weight.detach().float() != start * 1.1).sum()) > 0


def test_complex_cells_take_complex_numbers() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
    lab = wl.Lab(model)
    before = model.weight.detach().clone()
    lab["weight"][0].mul_(1j)
    assert torch.equal(model.weight.detach()[0], before[0] * 1j)
    lab["weight"][1].fill_(1 - 2j)
    assert model.weight[1].tolist() == [1 - 2j, 1 - 2j]
    with pytest.raises(wl.EditRefused, match="order"):
        lab["weight"].clamp_(0, 1)


def test_a_linked_zero_silences_the_channel_behind_a_batchnorm() -> None:
    """zero_(linked=True): what follows in the same module puts out nothing for that filter either."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).eval()
    with torch.no_grad():
        model[1].bias.fill_(0.7)
        model[1].running_mean.fill_(0.2)
    before = copy.deepcopy(model.state_dict())
    lab = wl.Lab(model)
    lab["0.weight"][1].zero_()
    assert any("1 behind it" in note for note in lab.history[-1].notes)
    lab.undo()
    lab["0.weight"][1].zero_(linked=True)
    lab["0.bias"][1].zero_()
    assert bool((model(torch.randn(2, 2, 5, 5))[:, 1] == 0).all())
    assert bool((model(torch.randn(2, 2, 5, 5))[:, 0] != 0).any())
    lab.undo()
    lab.undo()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def filters_and_a_norm() -> wl.Lab:
    return wl.Lab(nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 4, 3), norm=nn.BatchNorm2d(4))))


def test_listed_filters_take_the_norm_behind_with_them() -> None:
    for index in ([0, 2], torch.tensor([True, False, True, False])):
        lab = filters_and_a_norm()
        lab["conv.weight"][index].zero_(linked=True)
        assert lab["norm.weight"].value.tolist() == [0.0, 1.0, 0.0, 1.0]
        assert not lab["conv.weight"].value[[0, 2]].any()


def test_linked_says_where_it_links_nothing() -> None:
    lab = filters_and_a_norm()
    with pytest.warns(UserWarning, match="linked=True links nothing"):
        lab["conv.weight"][:, 0].zero_(linked=True)
    assert lab["norm.weight"].value.tolist() == [1.0] * 4


def test_a_filter_filled_with_zero_tells_of_the_norm_behind() -> None:
    lab = filters_and_a_norm()
    lab["conv.weight"][0].fill_(0)
    assert "norm behind it still puts out its shift" in lab.history[-1].notes[0]
    lab["conv.weight"][1].mul_(0)
    assert "norm behind it" in lab.history[-1].notes[0]
    lab["conv.weight"][2].fill_(1)
    assert lab.history[-1].notes == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_cells_that_are_not_finite_are_permuted_as_all_others(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("w", torch.tensor([math.nan, 1.0, math.inf, 2.0]).to(dtype))
    before = model.w.clone()
    wl.Lab(model)["w"].permute_(0, [1, 0, 3, 2])
    assert torch.equal(model.w.view(torch.uint8).view(4, -1), before.view(torch.uint8).view(4, -1)[[1, 0, 3, 2]])


def test_the_least_int64_has_the_largest_magnitude() -> None:
    model = nn.Module()
    model.register_buffer("n", torch.tensor([-(2**63), 3, -1, 2**63 - 1]))
    lab = wl.Lab(model)
    lab["n"].prune_(2)
    assert model.n.tolist() == [-(2**63), 0, 0, 2**63 - 1]
    again, scope = nn.Module(), {}
    again.register_buffer("n", torch.tensor([-(2**63), 3, -1, 2**63 - 1]))
    exec(lab.to_python(), scope)
    assert scope["apply"](again).n.tolist() == model.n.tolist()
