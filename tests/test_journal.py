"""Rules J1 to J9: in place, back to the byte, all or nothing, conflicts seen, ties kept."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import raw

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip


class Holder(nn.Module):
    """One tensor as a parameter, or as a buffer where it cannot have a gradient."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        if tensor.is_floating_point() or tensor.is_complex():
            self.weight = nn.Parameter(tensor, requires_grad=tensor.dtype.itemsize > 1)
        else:
            self.register_buffer("weight", tensor)


def random_bytes(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Any bit patterns: NaN payloads, infinities, subnormals and -0.0 among them."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(shape).numel() * dtype.itemsize
    drawn = torch.randint(0, 2 if dtype is torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    return drawn.view(dtype).view(shape)


def random_edit(rng: random.Random, ref: wl.WeightRef, dtype: torch.dtype) -> None:
    index = rng.choice(
        [Ellipsis, 0, -1, slice(1, 3), (slice(None), 1), (Ellipsis, slice(0, 2)), [0, 2], (slice(None, None, 2),)]
    )
    part = ref[index]
    if rng.random() < 0.3:
        part = part[torch.rand(part.shape) > 0.5]
    acts: list[Callable[[], object]] = [
        part.zero_,
        lambda: part.fill_(1),
        lambda: part.copy_(part.value[torch.arange(part.shape[0] - 1, -1, -1)] if part.shape else 0),
    ]
    if dtype is not torch.bool:
        acts += [
            lambda: part.mul_(2),
            lambda: part.add_(1),
            part.neg_,
            part.abs_,
            lambda: part.permute_(0, list(range(part.shape[0]))[::-1]),
        ]
    if dtype.is_floating_point:
        acts += [
            lambda: part.clamp_(-0.5, 0.5), lambda: part.normal_(), lambda: part.prune_(0.5), lambda: part.quantize_(4),
            lambda: part.init_("uniform_", a=-1.0, b=1.0), lambda: part.lerp_(torch.zeros(()), 0.5), part.round_, part.sign_,
        ]  # fmt: skip
    try:
        rng.choice(acts)()
    except wl.EditRefused:
        pass  # what cannot be done must leave no trace either: the caller compares bytes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_random_edits_undo_and_redo_to_the_same_bytes(dtype: torch.dtype, seed: int) -> None:
    """J2, J3: over arbitrary bit patterns, strides and operations; a refused edit changes no byte."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    tensor = random_bytes((4, 3, 5), dtype, seed)
    if seed % 3 == 1:
        tensor = tensor.transpose(0, 2).contiguous().transpose(0, 2)
    if seed % 3 == 2:
        tensor = random_bytes((8, 3, 10), dtype, seed)[::2, :, 1::2]
    model = Holder(tensor)
    lab = wl.Lab(model)
    states = [raw(model.weight)]
    for _ in range(25):
        count = len(lab.history)
        random_edit(rng, lab["weight"], dtype)
        if len(lab.history) == count:
            assert raw(model.weight) == states[-1]
        else:
            assert raw(model.weight) != states[-1]
            states.append(raw(model.weight))
        if rng.random() < 0.2 and lab.undo():
            states.pop()
            assert raw(model.weight) == states[-1]
            if rng.random() < 0.5:
                lab.redo()
                states.append(raw(model.weight))
    for state in reversed(states[:-1]):
        lab.undo()
        assert raw(model.weight) == state
    assert lab.undo() is None
    for state in states[1:]:
        lab.redo()
        assert raw(model.weight) == state


def test_an_edit_keeps_the_parameter_object_and_everything_about_it(small_cnn: nn.Sequential) -> None:
    """J1: id, data_ptr, strides, requires_grad, grad, hooks, optimizer."""
    weight = small_cnn.conv1.weight
    optimizer = torch.optim.Adam(small_cnn.parameters())
    seen: list[Tensor] = []
    weight.register_hook(seen.append)
    grad = weight.grad = torch.ones_like(weight)
    before = (
        id(weight),
        weight.data_ptr(),
        weight.stride(),
        weight.requires_grad,
        weight.is_leaf,
        weight._backward_hooks,
    )
    lab = wl.Lab(small_cnn, optimizer=optimizer)
    others = {name: raw(p) for name, p in small_cnn.named_parameters() if name != "conv1.weight"}
    lab["conv1.weight"][2].zero_()
    weight = small_cnn.conv1.weight
    assert (
        id(weight),
        weight.data_ptr(),
        weight.stride(),
        weight.requires_grad,
        weight.is_leaf,
        weight._backward_hooks,
    ) == before
    assert weight.grad is grad
    assert torch.equal(grad, torch.ones_like(weight))
    assert optimizer.param_groups[0]["params"][0] is weight
    assert others == {name: raw(p) for name, p in small_cnn.named_parameters() if name != "conv1.weight"}


def test_an_edit_changes_exactly_its_cells(small_cnn: nn.Sequential) -> None:
    """J1."""
    old = small_cnn.conv1.weight.detach().clone()
    wl.Lab(small_cnn)["conv1.weight"][1, :, 0:2].fill_(7)
    expected = old.clone()
    expected[1, :, 0:2] = 7
    assert raw(small_cnn.conv1.weight) == raw(expected)


def test_autograd_sees_an_edit_between_forward_and_backward(small_cnn: nn.Sequential) -> None:
    """J4: the version counter moves, so that the stale graph refuses instead of giving wrong gradients."""
    loss = small_cnn(torch.randn(2, 3, 7, 7)).square().sum()
    wl.Lab(small_cnn)["fc.weight"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_zeroing_ends_nan_and_clamp_says_what_it_left() -> None:
    """J5."""
    model = nn.Linear(3, 2)
    lab = wl.Lab(model)
    lab["weight"][0, 0].fill_(float("nan"))
    lab["weight"].clamp_(-0.1, 0.1)
    assert model.weight[0, 0].isnan()
    assert lab.history[-1].notes == ("1 NaN cell stays NaN: clamp passes NaN through",)
    lab["weight"].zero_()
    assert torch.equal(model.weight, torch.zeros(2, 3))


def test_minus_zero_to_zero_is_a_change_and_comes_back() -> None:
    """J2, small print of J7."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.0, 0.0]]))
    lab = wl.Lab(model)
    lab["weight"].zero_()
    assert lab.history[-1].cells == 1
    lab.undo()
    assert str(model.weight[0, 0].item()) == "-0.0"


def test_no_change_makes_no_entry() -> None:
    """J7."""
    lab = wl.Lab(nn.Linear(3, 2))
    lab["weight"].copy_(lab["weight"].value)
    lab["weight"][2:2].zero_()
    lab["weight"].mul_(1)
    assert lab.history == ()
    assert lab.revision == 0


def test_the_entry_reports_asked_and_stored_values() -> None:
    """J7: bfloat16 rounds 1.003 to 1.0."""
    model = nn.Linear(20, 3).bfloat16()
    lab = wl.Lab(model)
    lab["weight"][1].fill_(1.003)
    entry = lab.history[-1]
    assert (entry.cells, entry.rounded, entry.names) == (20, 20, ("weight",))
    assert entry.requested.tolist() == pytest.approx([1.003] * 8)
    assert entry.stored.tolist() == [1.0] * 8
    lab["weight"][1].fill_(0.5)
    assert lab.history[-1].rounded == 0


def test_float32_says_when_it_cannot_hold_a_whole_number() -> None:
    lab = wl.Lab(nn.Linear(2, 1))
    lab["weight"].fill_(16777217)
    assert (lab.history[-1].rounded, lab.history[-1].stored.tolist()) == (2, [16777216.0] * 2)


def test_tied_tensors_are_one(tied_model: nn.Module) -> None:
    """J9."""
    lab = wl.Lab(tied_model)
    assert [info.name for info in lab.tree] == ["embed.weight"]
    assert lab.tree["head.weight"].name == "embed.weight"
    assert lab.tree["embed.weight"].aliases == ("head.weight",)
    lab["head.weight"][2].fill_(4)
    assert lab.history[-1].names == ("embed.weight", "head.weight")
    assert tied_model.embed.weight[2].tolist() == [4, 4, 4]
    lab.undo()
    assert tied_model.head.weight is tied_model.embed.weight


def test_a_function_that_fails_changes_nothing(small_cnn: nn.Sequential) -> None:
    """J3: also when it worked on its cells before it failed."""
    lab = wl.Lab(small_cnn)
    before = raw(small_cnn.fc.weight)

    def fail(cells: Tensor) -> None:
        cells.zero_()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lab["fc.weight"].apply_(fail)
    assert raw(small_cnn.fc.weight) == before


def test_a_new_edit_drops_what_could_be_redone() -> None:
    lab = wl.Lab(nn.Linear(3, 2))
    lab["weight"].zero_()
    lab.undo()
    lab["weight"].fill_(1)
    assert lab.redo() is None
    assert [str(entry) for entry in lab.history] == ["2  Fill weight with 1  (6 cells)"]


def test_edits_work_under_inference_mode_and_enabled_gradients() -> None:
    """T2: the modes of the calling thread do not matter."""
    model = nn.Linear(3, 2)
    lab = wl.Lab(model)
    with torch.inference_mode():
        lab["weight"][0].zero_()
    with torch.enable_grad():
        lab["weight"][1].zero_()
    assert model.weight.count_nonzero() == 0
    model(torch.ones(1, 3)).sum().backward()
    assert model.weight.grad is not None


def test_freezing_is_an_undo_entry(small_cnn: nn.Sequential) -> None:
    lab = wl.Lab(small_cnn)
    lab["fc.weight"].requires_grad_(False)
    assert not small_cnn.fc.weight.requires_grad
    assert not lab.tree["fc.weight"].requires_grad
    lab.undo()
    assert small_cnn.fc.weight.requires_grad
    assert lab.tree["fc.weight"].requires_grad
    lab.redo()
    assert not small_cnn.fc.weight.requires_grad


@pytest.mark.parametrize("seed", range(4))
def test_the_code_of_an_entry_does_the_same_in_plain_torch(seed: int) -> None:
    """The line that the page shows runs with `torch` and `model` alone."""
    for dtype in (torch.float32, torch.bfloat16, torch.int64):
        rng = random.Random(seed)
        start = torch.randn(4, 3, 5).mul(10).to(dtype)
        model, twin = Holder(start.clone()), Holder(start.clone())
        lab = wl.Lab(model)
        for _ in range(20):
            random_edit(rng, lab["weight"], dtype)
        assert len(lab.history) > 5
        for entry in lab.history:
            exec(entry.code, {"torch": torch, "model": twin})
        assert raw(twin.weight) == raw(model.weight)


def test_a_listener_that_raises_does_not_stop_the_others(small_cnn: nn.Sequential) -> None:
    lab = wl.Lab(small_cnn)
    heard: list[object] = []

    def fail(changed: object) -> None:
        raise ZeroDivisionError

    lab.on_change(fail)
    lab.on_change(heard.append)
    with pytest.warns(UserWarning, match="a callback raised ZeroDivisionError"):
        lab["fc.bias"].fill_(3)
    assert len(heard) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.complex128, torch.bool])
def test_a_mask_of_a_scalar_is_an_edit_like_any_other(dtype: torch.dtype) -> None:  # J2, J7
    model, twin = Holder(torch.ones((), dtype=dtype)), Holder(torch.ones((), dtype=dtype))
    lab = wl.Lab(model)
    lab["weight"][torch.tensor(True)].zero_()
    assert lab.history[-1].cells == 1
    exec(lab.history[-1].code, {"torch": torch, "model": twin})
    assert raw(twin.weight) == raw(model.weight) == raw(torch.zeros((), dtype=dtype))
    lab.undo()
    assert raw(model.weight) == raw(torch.ones((), dtype=dtype))


def test_the_code_for_listed_cells_runs_where_torch_cannot_index() -> None:
    unsigned = (torch.uint16, torch.uint32, torch.uint64)
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, *unsigned):
        start = torch.tensor([1.0, 2.0, 4.0]).to(dtype)
        model, twin = Holder(start.clone()), Holder(start.clone())
        lab = wl.Lab(model)
        lab["weight"][[0, 2]].fill_(2)
        exec(lab.history[-1].code, {"torch": torch, "model": twin})
        assert raw(twin.weight) == raw(model.weight) != raw(start)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_listed_cells_of_a_lazy_conjugate_are_read(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("lazy", torch.randn(4, 3, dtype=dtype).conj())
    assert torch.equal(wl.Lab(model)["lazy"][[0, 2]].value, model.lazy[[0, 2]])  # type: ignore[index]


@pytest.mark.parametrize("rows", [3, 700])
def test_an_edit_leaves_the_storage_as_free_as_it_was(rows: int) -> None:
    """J1: `tensor.numpy()` on a parameter forbids torch to resize its storage, and FSDP resizes it in every step."""
    model = nn.Linear(600, rows)
    lab = wl.Lab(model)
    lab["weight"].clamp_(-0.01, 0.01)
    lab["weight"][1].mul_(0.5)
    lab["weight"][[0, 1], [2, 3]].zero_()
    lab["weight"].summary()
    while lab.undo() is not None:
        pass
    assert model.weight.untyped_storage().resizable()
