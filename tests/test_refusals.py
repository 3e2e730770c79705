"""Rule J11: what cannot be done is refused with a reason, as a WeightLabError, and changes not one byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import weightlab as wl

Act = Callable[[wl.Lab], Any]


def _restored_by_a_number(lab: wl.Lab) -> None:
    lab.snapshot("s")
    lab.restore("s", 5)  # type: ignore[arg-type]


BAD: dict[str, tuple[Act, str]] = {
    "an unknown name": (lambda lab: lab["conv1.wieght"], "Closest: 'conv1.weight'"),
    "a name like no other": (lambda lab: lab["zzz"], r"list\(lab.tree\)"),
    "a module": (lambda lab: lab["conv1"], "this is a module"),
    "an argument too many": (lambda lab: lab["fc.bias"].round_(2), "round_: too many positional arguments"),  # type: ignore[call-arg]
    "an argument too few": (lambda lab: lab["fc.bias"].fill_(), "missing a required argument: 'value'"),  # type: ignore[call-arg]
    "an argument of another name": (lambda lab: lab["fc.bias"].clamp_(low=0), "It takes min, max, moments"),  # type: ignore[call-arg]
    "an Edit that freezes a part": (
        lambda lab: lab.apply(wl.Edit("fc.bias", lab["fc.bias"][0].region, "requires_grad_", {"flag": False})),
        "belongs to the whole parameter",
    ),
    "a hold of a number": (lambda lab: lab["fc.bias"].hold(1), "It takes min, max, sign, like, rule"),  # type: ignore[call-arg]
    "a profile along no axis": (lambda lab: lab["fc.bias"].profile(9), r"fc.bias \[\d+\]: there is no axis 9"),
    "no name": (lambda lab: lab[3], "a name of a parameter is a str"),  # type: ignore[index]
    "an index past the end": (lambda lab: lab["conv1.weight"][4], "expected -4 to 3"),
    "too many axes": (lambda lab: lab["fc.bias"][0, 0], "the index has 2 axes, the tensor has 1"),
    "a mask of another shape": (lambda lab: lab["fc.weight"][torch.zeros(4, 5, dtype=torch.bool)], "does not fit"),
    "text for a number": (lambda lab: lab["fc.bias"].fill_("1"), "value must be one number, got str '1'"),
    "nothing for a number": (lambda lab: lab["fc.bias"].fill_(None), "got nothing"),
    "a list for a number": (lambda lab: lab["fc.bias"].fill_([1, 2]), "value must be one number"),
    "a complex number": (lambda lab: lab["fc.bias"].fill_(1j), "real numbers only"),
    "a number that overflows": (lambda lab: lab["fc.bias"].fill_(1e39), r"at most ±3.403e\+38"),
    "a huge int": (lambda lab: lab["fc.bias"].fill_(10**400), "at most"),
    "division by zero": (lambda lab: lab["fc.bias"].div_(0), "division by 0"),
    "division by a tensor with a zero": (lambda lab: lab["fc.bias"].div_(torch.arange(5.0)), "division by 0"),
    "a product that overflows": (lambda lab: lab["fc.bias"].fill_(1e30).mul_(1e30), "finite cell"),
    "a shape that does not broadcast": (
        lambda lab: lab["fc.weight"].copy_(torch.ones(3)), r"\[3\] do not broadcast to the \[5, 4\]"
    ),
    "a shape that would grow the cells": (lambda lab: lab["fc.bias"].copy_(torch.ones(2, 5)), "do not broadcast"),
    "text for values": (lambda lab: lab["fc.bias"].copy_("abc"), "must be a tensor or numbers"),
    "ragged values": (lambda lab: lab["fc.weight"].copy_([[1], [1, 2]]), "no tensor"),
    "values that overflow": (lambda lab: lab["fc.bias"].copy_(torch.full((5,), 1e300, dtype=torch.float64)), "at most"),
    "no bounds": (lambda lab: lab["fc.bias"].clamp_(), "a minimum, a maximum or both"),
    "crossed bounds": (lambda lab: lab["fc.bias"].clamp_(1, -1), "Swap them"),
    "a NaN bound": (lambda lab: lab["fc.bias"].clamp_(float("nan")), "got nan"),
    "an unknown init": (lambda lab: lab["fc.bias"].init_("foo"), "Known: uniform_"),
    "an init that does not suit": (lambda lab: lab["fc.bias"].init_("xavier_normal_"), "cannot initialise"),
    "an init with a wrong argument": (lambda lab: lab["fc.weight"].init_("normal_", sdt=1.0), "no argument 'sdt'"),
    "a negative deviation": (lambda lab: lab["fc.bias"].normal_(0, -1), "must not be negative"),
    "a text seed": (lambda lab: lab["fc.bias"].normal_(seed="a"), "seed must be one number"),
    "a wrong order": (lambda lab: lab["fc.bias"].permute_(0, [0, 0, 1, 2, 3]), "each of 0 to 4 once"),
    "a wrong axis": (lambda lab: lab["fc.bias"].permute_(1, [0]), "axis must be a whole number from -1 to 0"),
    "too large a share": (lambda lab: lab["fc.bias"].prune_(1.5), "share from 0.0 to 1.0"),
    "too large a count": (lambda lab: lab["fc.bias"].prune_(6), "0 to 5 cells"),
    "one bit": (lambda lab: lab["fc.bias"].quantize_(1), "from 2 to 16"),
    "a function that is none": (lambda lab: lab["fc.bias"].apply_(3), "takes a function"),
    "a function of another shape": (lambda lab: lab["fc.bias"].apply_(lambda cells: cells[:2]), "do not broadcast"),
    "part of a flag": (lambda lab: lab["fc.bias"][0].requires_grad_(False), "belongs to the whole parameter"),
    "duplicates with values": (lambda lab: lab["fc.bias"][[0, 0]].copy_(torch.tensor([1.0, 2.0])), "more than once"),
    "a fraction into integers": (lambda lab: lab["count"].fill_(0.5), "whole numbers only"),
    "fractions into integers": (lambda lab: lab["count"].copy_(torch.tensor([0.5, 1.0])), "whole numbers only"),
    "an integer overflow": (lambda lab: lab["count"].fill_(200), "-128 to 127"),
    "a sum that overflows": (lambda lab: lab["count"].add_(127), "-128 to 127, a result would be 1"),
    "NaN into integers": (lambda lab: lab["count"].fill_(float("nan")), "whole numbers only"),
    "quotients that are not whole": (lambda lab: lab["count"].div_(2), "not all quotients are whole"),
    "random fractions into integers": (lambda lab: lab["count"].normal_(), "fractions"),
    "a buffer that should train": (lambda lab: lab["count"].requires_grad_(True), "buffer"),
    "arithmetic on bools": (lambda lab: lab["flags"].mul_(2), "no meaning for bool"),
    "a bool that is none": (lambda lab: lab["flags"].fill_(2), "True and False only"),
    "an unknown operation": (
        lambda lab: lab.apply(wl.Edit("fc.bias", wl.Region.whole((5,)), "explode_")), "no operation 'explode_'"
    ),
    "an unknown argument": (
        lambda lab: lab.apply(wl.Edit("fc.bias", wl.Region.whole((5,)), "zero_", {"x": 1})), "unknown argument 'x'"
    ),
    "a region of another tensor": (
        lambda lab: lab.apply(wl.Edit("fc.bias", wl.Region.whole((6,)), "zero_")), r"for shape \[6\]"
    ),
    "a stroke without words": (lambda lab: lab.stroke(3).__enter__(), "text must be a str"),
    "two ellipses": (lambda lab: lab["fc.weight"][..., 0, ...], "once"),
    "a step backwards": (lambda lab: lab["fc.bias"][::-1], "step must be at least 1"),
    "a new axis": (lambda lab: lab["fc.bias"][None], "got None"),
    "a float index": (lambda lab: lab["fc.bias"][1.5], "index is made of"),
    "a text index": (lambda lab: lab["fc.bias"]["0"], "index is made of"),
    "an index tensor past the end": (lambda lab: lab["fc.bias"][[0, 9]], "does not fit"),
    "a list of text": (lambda lab: lab["fc.bias"].copy_(["a"]), "no tensor"),
    "complex values": (lambda lab: lab["fc.bias"].copy_(torch.ones(5) * 1j), "real numbers only"),
    "sparse values": (lambda lab: lab["fc.bias"].copy_(torch.ones(5).to_sparse()), "dense tensor"),
    "meta values": (lambda lab: lab["fc.bias"].copy_(torch.ones(5, device="meta")), "dense tensor"),
    "an item of a wrong shape": (lambda lab: lab["fc.weight"].__setitem__(0, torch.ones(3)), "do not broadcast"),
    "a blend of a wrong shape": (lambda lab: lab["fc.bias"].lerp_(torch.ones(4), 0.5), "do not broadcast"),
    "a blend with a text": (lambda lab: lab["fc.bias"].lerp_(torch.ones(5), "half"), "weight must be one number"),
    "a blend of integers": (lambda lab: lab["count"].lerp_(torch.ones(2), 0.5), "fractions"),
    "a sum with a text": (lambda lab: lab["fc.bias"].add_("1"), "value must be"),
    "a product with nothing": (lambda lab: lab["fc.bias"].mul_(None), "got nothing"),
    "a sum of a wrong shape": (lambda lab: lab["fc.bias"].add_(torch.ones(3)), "do not broadcast"),
    "a text bound": (lambda lab: lab["fc.bias"].clamp_("a"), "min must be one number"),
    "an infinite deviation": (lambda lab: lab["fc.bias"].normal_(0, float("inf")), "must be finite"),
    "crossed ends": (lambda lab: lab["fc.bias"].uniform_(1, 0), "Swap them"),
    "a negative seed": (lambda lab: lab["fc.bias"].normal_(seed=-1), "seed must be a whole number"),
    "an init of no text": (lambda lab: lab["fc.weight"].init_(3), "takes a function of torch.nn.init"),
    "an init that is private": (lambda lab: lab["fc.weight"].init_("_no_grad_fill_"), "Known: uniform_"),
    "an init with a list": (lambda lab: lab["fc.weight"].init_("normal_", mean=[1]), "must be a number or a text"),
    "an init without its argument": (lambda lab: lab["fc.weight"].init_("constant_"), "cannot initialise"),
    "an init that overflows": (lambda lab: lab["fc.weight"].init_("constant_", val=float("1e39")), "."),
    "an order of a wrong length": (lambda lab: lab["fc.bias"].permute_(0, [0, 1]), "each of 0 to 4 once"),
    "an order of text": (lambda lab: lab["fc.bias"].permute_(0, "01234"), "each of 0 to 4 once"),
    "a negative share": (lambda lab: lab["fc.bias"].prune_(-0.1), "share from 0.0 to 1.0"),
    "pruning by luck": (lambda lab: lab["fc.bias"].prune_(0.5, by="luck"), "'magnitude' or 'random'"),
    "pruning a wrong axis": (lambda lab: lab["fc.bias"].prune_(1, axis=3), "axis must be"),
    "quantized integers": (lambda lab: lab["count"].quantize_(4), "real fractions"),
    "half a bit": (lambda lab: lab["fc.bias"].quantize_(2.5), "from 2 to 16"),
    "a flag that is none": (lambda lab: lab["fc.bias"].requires_grad_("no"), "True or False"),
    "moments by a wrong word": (lambda lab: lab["fc.bias"].zero_(moments="drop"), "'zero' or 'keep'"),
    "a hold with crossed bounds": (lambda lab: lab["fc.bias"].hold(min=1, max=0), "Swap them"),
    "a hold to a text": (lambda lab: lab["fc.bias"].hold(max="1"), "must be a number"),
    "a hold of nothing": (lambda lab: lab["fc.bias"][5:].hold(), "no cell"),
    "a hold of bools to bounds": (lambda lab: lab["flags"].hold(min=0), "no order"),
    "a keep outside a bound": (lambda lab: lab["fc.weight"].hold(max=-9), "outside the bounds"),
    "a snapshot without a name": (lambda lab: lab.snapshot(""), "label must be a text"),
    "an unknown snapshot": (lambda lab: lab.restore("then"), "no snapshot"),
    "a position past the end": (lambda lab: lab.jump(99), "position must be a whole number from 0 to"),
    "a snapshot under a list": (lambda lab: lab.snapshot(["x"]), "label must be a text"),  # type: ignore[arg-type]
    "a snapshot called by a list": (lambda lab: lab.restore(["a"]), "no snapshot"),  # type: ignore[arg-type]
    "names that are none": (_restored_by_a_number, "names must be a list of names, got int"),
    "a match to a list": (
        lambda lab: lab.transfer({"a": torch.ones(5)}, match={"fc.bias": ["x"]}), "must give a name or None, got list"  # type: ignore[dict-item]
    ),
    "a huge share of another model": (lambda lab: lab.transfer({}, weight=10**400), "weight must be a finite number"),
    "a file that is a number": (lambda lab: lab.save(5), "must be a str or a Path, got int"),  # type: ignore[arg-type]
    "a recipe's file that is a number": (lambda lab: lab.save_recipe(5), "must be a str or a Path"),  # type: ignore[arg-type]
    "a file without a name": (lambda lab: lab.save(""), "names no file"),
    "a file with a zero in its name": (lambda lab: lab.save("a\0b"), "names no file"),
    "moments by an array": (
        lambda lab: lab.apply(
            wl.Edit("fc.bias", wl.Region.whole((5,)), "zero_"), moments=torch.ones(2).numpy()  # type: ignore[arg-type]
        ),
        "'zero' or 'keep'",
    ),
    "a region by hand with a cell too many": (
        lambda lab: lab.apply(
            wl.Edit("fc.bias", wl.Region((5,), ((0, 5, 1),), (False,), torch.tensor([5])), "zero_")
        ),
        "does not have",
    ),
    "a region by hand past the end": (
        lambda lab: lab.apply(wl.Edit("fc.bias", wl.Region((5,), ((3, 6, 1),), (False,)), "zero_")), "does not have"
    ),
    "a region by hand of too few axes": (
        lambda lab: lab.apply(wl.Edit("fc.weight", wl.Region((5, 4), ((0, 5, 1),), (False,)), "zero_")), "does not have"
    ),
    "a mean that is lost": (lambda lab: lab["fc.bias"].apply_(lambda cells: cells.mean() / 0), "5 finite cells"),
    "too many values": (lambda lab: lab["fc.bias"].copy_(torch.ones(7)), r"Give shape \[5\], or index: its"),
    "an unknown view": (lambda lab: lab.view("fc.bias", "colour"), "no view"),
}  # fmt: skip


def moment_bytes(optimizer: torch.optim.Optimizer) -> list[bytes]:
    return [
        value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for state in optimizer.state.values()
        for value in state.values()
    ]


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_words_and_changes_no_byte(
    case: str, small_cnn: nn.Sequential, bytes_of: Callable[[nn.Module], dict[str, bytes]]
) -> None:
    small_cnn.register_buffer("count", torch.tensor([1, 2], dtype=torch.int8))
    small_cnn.register_buffer("flags", torch.tensor([True, False]))
    optimizer = torch.optim.Adam(small_cnn.parameters())
    small_cnn(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    lab = wl.Lab(small_cnn, optimizer=optimizer)
    act, part = BAD[case]
    if "product that" in case:
        lab["fc.bias"].fill_(1e30)
    lab["fc.weight"][0].hold()
    before, history, holds, moments = bytes_of(small_cnn), lab.history, lab.constraints, moment_bytes(optimizer)
    with pytest.raises(wl.WeightLabError, match=part) as caught:
        act(lab)
    assert bytes_of(small_cnn) == before
    assert lab.history == history
    assert lab.constraints == holds
    assert moment_bytes(optimizer) == moments
    assert str(caught.value).endswith("."), "an error is a sentence"
    assert "[" in str(caught.value) or ":" in str(caught.value), "and says which tensor"


def special_tensors() -> dict[str, tuple[torch.Tensor, str]]:
    with torch.inference_mode():
        inference = torch.ones(2, 3)
    return {
        "meta": (torch.ones(2, 3, device="meta"), "meta device"),
        "sparse": (torch.ones(2, 3).to_sparse(), "layout is sparse_coo"),
        "inference": (inference, "inference mode"),
        "expanded": (torch.ones(1, 3).expand(2, 3), "share one place in memory"),
        "overlapping": (torch.ones(5).as_strided((3, 3), (1, 1)), "share one place in memory"),
    }


@pytest.mark.parametrize("kind", special_tensors())
@pytest.mark.filterwarnings("ignore:Sparse")
def test_tensors_that_cannot_be_edited_are_listed_and_refused(kind: str) -> None:
    tensor, reason = special_tensors()[kind]
    model = nn.Module()
    model.register_buffer("odd", tensor)
    lab = wl.Lab(model)
    assert not lab.tree["odd"].editable
    assert reason in lab.tree["odd"].reason
    with pytest.raises(wl.EditRefused, match=r"odd \[2, 3\]|odd \[3, 3\]"):
        lab["odd"].zero_()
    assert lab.history == ()


def test_an_uninitialised_lazy_layer_says_what_to_do() -> None:
    lab = wl.Lab(nn.LazyLinear(3))
    with pytest.raises(wl.EditRefused, match="Run one forward pass"):
        lab["weight"].zero_()


@pytest.mark.parametrize("bad", ["model", "optimizer", "undo_bytes", "batch"])
def test_a_lab_of_wrong_arguments_is_refused(bad: str) -> None:
    model: Any = "model" if bad == "model" else nn.Linear(2, 2)
    others: dict[str, Any] = {} if bad == "model" else {bad: "nonsense"}
    with pytest.raises(wl.WeightLabError):
        wl.Lab(model, **others)


def test_a_huge_number_is_refused_for_integers_too() -> None:
    model = nn.Module()
    model.register_buffer("count", torch.zeros(2, dtype=torch.int64))
    lab = wl.Lab(model)
    lab["count"].fill_(2**62)
    with pytest.raises(wl.EditRefused, match="64 bits"):
        lab["count"].mul_(4)
    assert model.count.tolist() == [2**62] * 2


def test_a_snapshot_of_another_shape_is_not_broadcast() -> None:
    model = nn.Module()
    model.register_buffer("bias", torch.ones(1))
    lab = wl.Lab(model)
    lab.snapshot("s")
    model.bias = torch.zeros(5)
    with pytest.raises(wl.EditRefused, match=r"bias \[5\]: the snapshot 's' has it with shape \[1\]"):
        lab.restore("s")
    assert model.bias.tolist() == [0.0] * 5


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_a_function_of_float8_cells_is_applied(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("w", torch.ones(3).to(dtype))
    lab = wl.Lab(model)
    lab["w"].apply_(lambda cells: cells.float() * 2)
    assert model.w.float().tolist() == [2.0] * 3
    with pytest.raises(wl.EditRefused, match="3 finite cells nan or inf"):
        lab["w"].apply_(lambda cells: cells.float() * float("nan"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex128])
def test_a_mask_of_a_scalar_names_its_cell_or_none(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("s", torch.tensor(1).to(dtype))
    lab = wl.Lab(model)
    assert lab["s"][torch.tensor(False)].value.shape == (0,)
    assert lab["s"][torch.tensor(True)].value.tolist() == [1]
    lab["s"][torch.tensor(True)].zero_()
    assert model.s.tolist() == 0
    lab.undo()
    assert model.s.tolist() == 1
