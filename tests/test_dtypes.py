"""J11: every dtype of torch is edited where torch can compute with it, else refused with a true reason; S1: and read right."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import weightlab as wl
from weightlab.files.writing import format_name
from weightlab.jupyter.protocol import Session
from weightlab.model import dtypes

TOP = 2**64
Act = Callable[[wl.WeightRef], Any]
E8M0 = pytest.mark.skipif(not hasattr(torch, "float8_e8m0fnu"), reason="a newer torch has this dtype")


def held(values: Tensor, name: str = "w") -> nn.Module:
    model = nn.Module()
    model.register_buffer(name, values)
    return model


def big(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint64)


def scripted(lab: wl.Lab, values: Tensor) -> Tensor:
    """What the script of plain PyTorch makes of the first values."""
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    return scope["apply"](held(values)).w  # type: ignore[no-any-return]


EXACT: dict[str, tuple[Act, list[int]]] = {
    "abs": (lambda w: w.abs_(), [5, TOP - 5, 0, 2**63]),
    "round": (lambda w: w.round_(), [5, TOP - 5, 0, 2**63]),
    "sign": (lambda w: w.sign_(), [1, 1, 0, 1]),
    "add": (lambda w: w.add_(4), [9, TOP - 1, 4, 2**63 + 4]),
    "add a large number": (lambda w: w[[0, 2]].add_(2**63 + 1), [2**63 + 6, TOP - 5, 2**63 + 1, 2**63]),
    "add a tensor": (lambda w: w.add_(torch.tensor([-5, 4, 7, -1])), [0, TOP - 1, 7, 2**63 - 1]),
    "add a wide tensor": (lambda w: w.add_(big(TOP - 6, 1, 2**63, 3)), [TOP - 1, TOP - 4, 2**63, 2**63 + 3]),
    "add the same to rows": (lambda w: w.add_([2]), [7, TOP - 3, 2, 2**63 + 2]),
    "subtract nothing": (lambda w: w.sub_(0), [5, TOP - 5, 0, 2**63]),
    "subtract": (lambda w: w[[1, 3]].sub_(2**63), [5, 2**63 - 5, 0, 0]),
    "multiply": (lambda w: w[::2].mul_(2**61), [5 * 2**61, TOP - 5, 0, 2**63]),
    "divide by 1": (lambda w: w.div_(1), [5, TOP - 5, 0, 2**63]),
    "divide": (lambda w: w[2:].div_(2**62), [5, TOP - 5, 0, 2]),
    "clamp above": (lambda w: w.clamp_(max=10), [5, 10, 0, 10]),
    "clamp high": (lambda w: w.clamp_(6, TOP - 7), [6, TOP - 7, 6, 2**63]),
    "permute": (lambda w: w.permute_(0, [3, 2, 1, 0]), [2**63, 0, TOP - 5, 5]),
    "prune": (lambda w: w.prune_(2), [0, TOP - 5, 0, 2**63]),
    "copy": (lambda w: w.copy_(big(2**63 + 1, 1, TOP - 1, 0)), [2**63 + 1, 1, TOP - 1, 0]),
    "copy a list": (lambda w: w.copy_([TOP - 1, 1, 2, 3]), [TOP - 1, 1, 2, 3]),
    "copy a number": (lambda w: w.copy_(TOP - 1), [TOP - 1] * 4),
    "copy into cells": (lambda w: w[torch.tensor([True, False, True, False])].copy_([TOP - 1, 7]), [TOP - 1, TOP - 5, 7, 2**63]),
    "copy floats": (lambda w: w.copy_(torch.tensor([2.0**63, 3.0, 0.0, 2.0**62])), [2**63, 3, 0, 2**62]),
    "fill": (lambda w: w.fill_(TOP - 1), [TOP - 1] * 4),
    "zero": (lambda w: w.zero_(), [0] * 4),
    "a function": (lambda w: w.apply_(lambda cells: torch.stack([cells[i] for i in (3, 2, 1, 0)])), [2**63, 0, TOP - 5, 5]),
}  # fmt: skip


@pytest.mark.parametrize("what", EXACT)
def test_uint64_is_exact_to_its_last_cell_there_and_back_and_as_a_script(what: str) -> None:
    act, wanted = EXACT[what]
    first = [5, TOP - 5, 0, 2**63]
    model = held(big(*first))
    lab = wl.Lab(model)
    act(lab["w"])
    assert model.w.tolist() == wanted
    assert scripted(lab, big(*first)).tolist() == wanted
    assert wl.replay(lab.recipe(), held(big(*first)))["w"].value.tolist() == wanted
    lab.undo()
    assert model.w.tolist() == first
    lab.redo()
    assert model.w.tolist() == wanted


NO: dict[str, tuple[Act, str]] = {
    "above the top": (lambda w: w.add_(5), f"uint64 holds 0 to {TOP - 1}, a result would be 5 to {TOP}"),
    "below 0": (lambda w: w.sub_(1), f"a result would be -1 to {TOP - 6}"),
    "a negative": (lambda w: w.neg_(), f"a result would be -{TOP - 5} to 0"),
    "a product": (lambda w: w.mul_(2), "a result would be 0 to"),
    "no whole quotient": (lambda w: w.div_(2), "not all quotients are whole"),
    "too large a number": (lambda w: w.fill_(TOP), f"uint64 holds 0 to {TOP - 1}, got {TOP}"),
    "too large an addend": (lambda w: w.add_(TOP), "does not fit into 64 bits"),
    "too large values": (lambda w: w.copy_(torch.tensor([2.0**64, 0.0, 0.0])), f"uint64 holds 0 to {TOP - 1}"),
    "negative values": (lambda w: w.copy_([-1, 0, 0]), "got -1 to 0"),
    "fractions": (lambda w: w.mul_(0.5), "whole numbers only"),
}


@pytest.mark.parametrize("what", NO)
def test_what_uint64_does_not_hold_is_refused_with_the_true_numbers(what: str) -> None:
    act, said = NO[what]
    model = held(big(0, TOP - 5, 5))
    lab = wl.Lab(model)
    with pytest.raises(wl.EditRefused, match=said):
        act(lab["w"])
    assert model.w.tolist() == [0, TOP - 5, 5]
    assert not lab.history


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.int64, "does not fit|holds"), (torch.float16, "holds at most"), (torch.int8, "int8 holds|does not fit")],
)
@pytest.mark.parametrize("act", [lambda w, v: w.copy_(v), lambda w, v: w.add_(v)], ids=["copy_", "add_"])
def test_values_of_uint64_do_not_wrap_in_other_types(dtype: torch.dtype, said: str, act: Any) -> None:
    model = held(torch.ones(2, dtype=dtype))
    lab = wl.Lab(model)
    with pytest.raises(wl.EditRefused, match=f"{said}|nan or inf"):
        act(lab["w"], big(TOP - 5, 1))
    assert model.w.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [*dtypes.SIGNED, torch.int64, torch.uint8, torch.bool], ids=str)
def test_a_buffer_is_edited_beside_an_optimizer(dtype: torch.dtype) -> None:
    """J12: a buffer has no moments, and whether it became 0 is not asked."""
    model = nn.Linear(2, 2)
    model.register_buffer("count", torch.ones(3, dtype=dtype))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    lab = wl.Lab(model, optimizer=optimizer)
    lab["count"][0].fill_(0)
    lab["count"][1:].copy_([0, 1])
    assert model.count.tolist() == [0, 0, 1]
    assert all(entry.moments == () and not entry.notes for entry in lab.history)
    lab["weight"][0].fill_(0)
    assert lab.history[-1].moments == ("exp_avg", "exp_avg_sq")


@pytest.mark.parametrize("dtype", [torch.uint8, *dtypes.SIGNED], ids=str)
def test_unsigned_cells_are_held_to_bounds_and_signs(dtype: torch.dtype) -> None:
    top = torch.iinfo(dtype).max
    model = held(torch.tensor([0, 1, 100, top], dtype=dtype))
    lab = wl.Lab(model)
    hold = lab["w"].hold(min=1, max=top - 2)
    assert (hold.min, hold.max) == (1, top - 2)
    assert model.w.tolist() == [1, 1, 100, top - 2]
    model.w.copy_(torch.tensor([top, 0, 100, 7], dtype=dtype))
    lab.step()
    assert model.w.tolist() == [top - 2, 1, 100, 7]
    hold.release()
    lab["w"].hold(sign=True)
    model.w.copy_(torch.tensor([0, 5, top, 7], dtype=dtype))
    lab.step()
    assert model.w.tolist() == [0, 5, top, 7]


@E8M0
def test_a_type_without_a_zero_tells_what_it_stores() -> None:
    least = 2.0**-127
    values = torch.tensor([1.0, 2.0, 4.0]).to(torch.float8_e8m0fnu)
    model = held(values.clone())
    lab = wl.Lab(model)
    for act in (lambda: lab["w"][:2].zero_(), lambda: lab["w"][:2].fill_(0), lambda: lab["w"].prune_(2),
                lambda: lab["w"][:2].mul_(0), lambda: lab["w"][:2].copy_([0.0, 0.0])):  # fmt: skip
        act()
        entry = lab.history[-1]
        assert model.w.float().tolist() == [least, least, 4.0]
        assert entry.rounded == 2
        assert entry.requested.tolist() == [0.0, 0.0]
        assert entry.stored.float().tolist() == [least, least]
        assert "float8_e8m0fnu has no zero: 2 cells became 5.88e-39" in entry.notes[0]
        assert torch.equal(scripted(lab, values.clone()).float(), model.w.float())
        assert torch.equal(wl.replay(lab.recipe(), held(values.clone()))["w"].value.float(), model.w.float())
        lab.undo()
        assert model.w.float().tolist() == [1.0, 2.0, 4.0]


@E8M0
@pytest.mark.parametrize(
    "act", [lambda w: w.fill_(-1), lambda w: w.copy_([1.0, -1.0, 1.0]), lambda w: w.neg_(), lambda w: w.sub_(2)]
)
def test_a_type_without_a_sign_refuses_negative_numbers(act: Act) -> None:
    model = held(torch.tensor([1.0, 2.0, 4.0]).to(torch.float8_e8m0fnu))
    lab = wl.Lab(model)
    with pytest.raises(wl.EditRefused, match="float8_e8m0fnu holds positive numbers only"):
        act(lab["w"])
    assert model.w.float().tolist() == [1.0, 2.0, 4.0]


@E8M0
def test_a_type_without_a_zero_is_held_to_bounds() -> None:
    model = held(torch.tensor([0.25, 1.0, 8.0]).to(torch.float8_e8m0fnu))
    lab = wl.Lab(model)
    hold = lab["w"].hold(min=0.3, max=5)
    assert (hold.min, hold.max) == (0.5, 4.0)
    assert model.w.float().tolist() == [0.5, 1.0, 4.0]
    model.w.copy_(torch.tensor([16.0, 2.0, 2.0**-9]))
    lab.step()
    assert model.w.float().tolist() == [4.0, 2.0, 0.5]
    hold.release()
    assert lab["w"].hold(min=0, max=1).min == 2.0**-127
    with pytest.raises(wl.EditRefused, match="no number of float8_e8m0fnu lies from -3 to -1"):
        lab["w"].hold(min=-3, max=-1)


@pytest.mark.parametrize("dtype", dtypes.FLOAT8, ids=str)
def test_an_infinity_is_stored_or_refused_and_never_made_a_number(dtype: torch.dtype) -> None:
    for act in (lambda w: w.fill_(math.inf), lambda w: w.copy_(torch.tensor([math.inf, 1.0]))):
        model = held(torch.ones(2).to(dtype))
        if dtypes.has_infinity(dtype):
            act(wl.Lab(model)["w"])
            assert float(model.w[0].float()) == math.inf
        else:
            with pytest.raises(wl.EditRefused, match="holds at most"):
                act(wl.Lab(model)["w"])
            assert model.w.float().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", dtypes.FLOAT8, ids=str)
def test_cells_that_are_only_moved_keep_every_bit(dtype: torch.dtype) -> None:
    """J1, J2: NaN has several bit patterns in float8, and a trip through float32 makes one of them."""
    codes = torch.arange(256, dtype=torch.uint8)
    model = held(codes.view(dtype).clone())
    lab = wl.Lab(model)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(3)).tolist()
    lab["w"].permute_(0, order)
    assert torch.equal(model.w.view(torch.uint8), codes[order])
    assert torch.equal(scripted(lab, codes.view(dtype).clone()).view(torch.uint8), codes[order])
    lab.undo()
    lab["w"].prune_(20)
    changed = (model.w.view(torch.uint8) != codes).nonzero().flatten()
    assert len(changed) <= 20
    assert bool((model.w.view(torch.uint8)[changed] == 0).all())
    assert torch.equal(scripted(lab, codes.view(dtype).clone()).view(torch.uint8), model.w.view(torch.uint8))


MADE: dict[str, Act] = {
    "zero_": lambda w: w.zero_(),
    "fill_": lambda w: w.fill_(2 - 3j),
    "add_": lambda w: w.add_(0.5j),
    "sub_": lambda w: w.sub_(1),
    "mul_": lambda w: w.mul_(1j),
    "div_": lambda w: w.div_(3),
    "copy_": lambda w: w.copy_(torch.full((2, 3), 0.1 + 1j)),
    "lerp_": lambda w: w.lerp_(torch.zeros(2, 3, dtype=torch.complex64), 0.5),
    "neg_": lambda w: w.neg_(),
    "normal_": lambda w: w.normal_(seed=1),
    "init_": lambda w: w.init_("ones_"),
    "permute_": lambda w: w.permute_(1, [2, 0, 1]),
    "prune_": lambda w: w.prune_(2),
    "prune_ rows": lambda w: w.prune_(1, axis=0),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("op", MADE)
def test_complex32_takes_every_operation_that_complex64_takes(op: str) -> None:
    first = torch.complex(torch.tensor([[1.0, -2, 3], [0.5, 4, -1]]), torch.tensor([[0.0, 1, 2], [-1, 0, 3]]))
    half = first.to(torch.complex32)
    model, wide = held(half.clone()), held(first.clone())
    lab, other = wl.Lab(model), wl.Lab(wide)
    MADE[op](lab["w"])
    MADE[op](other["w"])
    assert torch.equal(model.w.to(torch.complex64), wide.w.to(torch.complex32).to(torch.complex64))
    assert torch.equal(scripted(lab, half.clone()).view(torch.int32), model.w.view(torch.int32))
    assert torch.equal(
        wl.replay(lab.recipe(), held(half.clone()))["w"].value.view(torch.int32), model.w.view(torch.int32)
    )
    assert lab.history[-1].rounded == int((model.w.to(torch.complex64) != wide.w).sum())
    lab.undo()
    assert torch.equal(model.w.view(torch.int32), half.view(torch.int32))


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_the_magnitude_of_complex32_does_not_overflow() -> None:
    """S1: |60000 + 60000j| is past the largest float16."""
    lab = wl.Lab(held(torch.tensor([60000 + 60000j, 1]).to(torch.complex32)))
    summary = lab["w"].summary()
    assert (summary.inf, summary.max) == (0, pytest.approx(60000 * math.sqrt(2), rel=1e-3))
    with pytest.raises(wl.EditRefused, match="nan or inf in complex32"):
        lab["w"].mul_(2)
    with pytest.raises(wl.EditRefused, match="complex32 holds at most"):
        lab["w"].fill_(1e5j)


def every_dtype() -> list[torch.dtype]:
    found = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    return sorted((dtype for dtype in found if not dtypes.name(dtype).startswith(("qu", "qi"))), key=str)


USES: dict[str, Callable[[wl.Lab], Any]] = {
    "zero_": lambda lab: lab["w"].zero_(),
    "fill_": lambda lab: lab["w"].fill_(1),
    "add_": lambda lab: lab["w"].add_(1),
    "copy_": lambda lab: lab["w"].copy_(torch.zeros(4)),
    "permute_": lambda lab: lab["w"].permute_(0, [3, 2, 1, 0]),
    "prune_": lambda lab: lab["w"].prune_(1),
    "clamp_": lambda lab: lab["w"].clamp_(0, 1),
    "listed cells": lambda lab: lab["w"][[0, 2]].fill_(1),
    "hold": lambda lab: (lab["w"].hold(), lab.step()),
    "hold bounds": lambda lab: (lab["w"].hold(min=0, max=1), lab.step()),
    "hold sign": lambda lab: (lab["w"].hold(sign=True), lab.step()),
    "value": lambda lab: lab["w"].value,
    "summary": lambda lab: lab["w"].summary(),
    "histogram": lambda lab: lab["w"].histogram(5),
    "profile": lambda lab: lab["w"].profile(0),
    "snapshot": lambda lab: (lab.snapshot("s"), lab.diff("s"), lab.restore("s")),
    "recipe": lambda lab: (lab.recipe(), lab.to_python()),
    "extremes": lambda lab: lab.extremes(),
    "transfer": lambda lab: lab.transfer({"w": torch.ones(4)}, weight=0.5),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("use", USES)
def test_every_dtype_of_torch_is_used_or_refused_in_words(use: str) -> None:
    for dtype in every_dtype():
        bits = torch.tensor([1, 0, 1, 1], dtype=torch.uint8).repeat_interleave(dtype.itemsize).view(dtype)
        model = held(bits)
        before = model.w.view(torch.uint8).tolist()
        lab = wl.Lab(model)
        known = dtype in dtypes.KNOWN
        assert lab.tree["w"].editable == known, dtype
        said = ""
        try:
            USES[use](lab)
        except wl.WeightLabError as error:
            said = str(error)
        if not said:
            assert known or use in ("snapshot", "recipe", "extremes", "transfer"), dtype
            continue
        assert said.startswith("w [4]: "), dtype
        assert "not implemented" not in said, dtype
        assert known or f"torch does not compute with {dtypes.name(dtype)}" in said, dtype
        assert model.w.view(torch.uint8).tolist() == before, dtype


def test_every_dtype_that_safetensors_has_is_saved_and_read_back(tmp_path: Path) -> None:
    """As its own reader reads it; the others are refused, and leave no file."""
    for dtype in dtypes.KNOWN:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ComplexHalf")
            values = torch.tensor([1, 0, 1, 1]).to(dtype)
        path = tmp_path / f"{dtype}.safetensors"
        if not format_name(dtype):
            assert dtype in (torch.complex128, torch.complex32)
            with pytest.raises(wl.EditRefused, match=f"safetensors .* has no {dtypes.name(dtype)}"):
                wl.Lab(held(values)).save(path)
            assert not path.exists()
            continue
        wl.Lab(held(values)).save(path)
        lab = wl.open(path)
        assert lab["w"].value.dtype is dtype
        assert torch.equal(lab["w"].value.view(torch.uint8), values.view(torch.uint8))
        if dtype is not getattr(torch, "float8_e8m0fnu", None):
            assert torch.equal(load_file(path)["w"].view(torch.uint8), values.view(torch.uint8))


@pytest.mark.parametrize(("dtype", "top"), [(torch.uint64, TOP - 1), (torch.int64, 2**63 - 1)], ids=str)
def test_the_difference_of_wide_integers_does_not_wrap(dtype: torch.dtype, top: int) -> None:
    low = torch.iinfo(dtype).min
    model = held(torch.tensor([top, top, 3], dtype=dtype))
    lab = wl.Lab(model)
    lab.offer("other", {"w": torch.tensor([top - 1, top, 5], dtype=dtype)})
    assert lab.view("w", "diff:other").tolist() == [1, 0, -2]
    lab.offer("far", {"w": torch.tensor([low, top, 5], dtype=dtype)})
    assert lab.view("w", "diff:far").tolist() == [float(top - low), 0.0, -2.0]


@pytest.mark.parametrize("values", [[TOP], [-1, TOP - 1], -(2**63) - 1])
def test_whole_numbers_of_no_type_are_refused(values: Any) -> None:
    lab = wl.Lab(held(torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(wl.EditRefused, match="must fit into 64 bits"):
        lab["w"].copy_(values)


@pytest.mark.parametrize(
    "where", [{"kind": "below", "value": 0.5}, {"kind": "largest", "value": 1}, {"kind": "between", "value": [0, 1]}]
)
def test_cells_are_chosen_by_value_in_every_dtype_or_refused_in_words(where: dict[str, Any]) -> None:
    for dtype in every_dtype():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ComplexHalf")
            known = dtype in dtypes.KNOWN
            bits = torch.ones(4 * dtype.itemsize, dtype=torch.uint8).view(dtype)
            session = Session(wl.Lab(held(torch.tensor([0, 1, 1, 1]).to(dtype) if known else bits)))
            message = {
                "v": 1,
                "id": 1,
                "op": "preview",
                "name": "w",
                "region": "",
                "edit": "zero_",
                "args": {},
                "where": where,
            }
            reply, _ = session.handle(message)
        if known:
            assert reply["ok"], (dtype, reply)
            wanted = {"below": 1, "largest": 1, "between": 4}[where["kind"]]
            assert reply["preview"]["cells"] == wanted, dtype
        else:
            assert reply["error"]["kind"] == "EditRefused", (dtype, reply)
