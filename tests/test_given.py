"""Flags and numbers of the public interface: True is no number, a text is no flag, NumPy's scalars are taken (J11)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import weightlab as wl

Act = Callable[[wl.Lab], Any]

WRONG: dict[str, tuple[Act, str]] = {
    "a flag for a position": (lambda lab: lab.jump(True), "position must be a whole number from 0 to 1, got True"),
    "a text for a position": (lambda lab: lab.jump("0"), "got '0'"),
    "a fraction for a position": (lambda lab: lab.jump(0.0), "got 0.0"),
    "a text for force": (lambda lab: lab.undo(force="no"), "undo: force must be True or False, got str"),
    "a number for force": (lambda lab: lab.redo(force=0), "redo: force must be True or False, got int"),
    "a text for the force of a jump": (lambda lab: lab.jump(0, force="no"), "jump: force must be True or False"),
    "a text for a sign": (lambda lab: lab["fc.weight"].hold(sign="yes"), "sign must be True or False, got str"),
    "a number for a sign": (lambda lab: lab["fc.weight"].hold(sign=1), "sign must be True or False, got int"),
    "a text for linked": (lambda lab: lab["fc.weight"].zero_(linked="no"), "linked must be True or False, got str"),
    "a tensor for linked": (lambda lab: lab["fc.weight"].zero_(linked=torch.ones(2)), "linked must be True or False"),
    "a text for auto_check": (lambda lab: setattr(lab, "auto_check", "off"), "auto_check must be True or False"),
    "a flag for undo_bytes": (lambda lab: wl.Lab(lab.model, undo_bytes=True), "undo_bytes must be a whole number"),
    "a fraction of undo_bytes": (lambda lab: wl.Lab(lab.model, undo_bytes=1e9), "got 1000000000.0"),
    "a text for a checking flag": (lambda lab: wl.Lab(lab.model, auto_check="no"), "auto_check must be True or False"),
    "a flag for bins": (lambda lab: lab["fc.weight"].histogram(True), "bins must be a whole number from 1"),
    "a flag for a weight": (lambda lab: lab.transfer(lab.model, weight=True), "weight must be a finite number"),
    "a text for a weight": (lambda lab: lab.transfer(lab.model, weight="0.5"), "weight must be a finite number"),
    "no weight": (lambda lab: lab.transfer(lab.model, weight=float("nan")), "weight must be a finite number, got nan"),
    "a flag for a bound": (lambda lab: lab["fc.weight"].hold(min=False), "a bound must be a number"),
    "a NumPy flag for a bound": (lambda lab: lab["fc.weight"].hold(min=np.False_), "a bound must be a number"),
    "a flag for an axis": (lambda lab: lab["fc.weight"].profile(True), "no axis True"),
    "a text for rows": (lambda lab: lab["fc.weight"].layout(rows="0", columns=[1]), "rows must be like"),
    "a number for rows": (lambda lab: lab["fc.weight"].layout(rows=0, columns=1), "rows must be like"),
    "a text among rows": (lambda lab: lab["fc.weight"].layout(rows=["0"], columns=[1]), "an axis of rows"),
    "a list for fixed": (lambda lab: lab["fc.weight"].layout(fixed=[0]), "fixed must be like"),
    "a text for a fixed index": (lambda lab: lab["fc.weight"].layout(fixed={0: "1"}), "the index of a fixed axis"),
    "a float for the mode of init": (
        lambda lab: lab["fc.weight"].init_("kaiming_normal_", mode=1.0), "kaiming_normal_ cannot initialise"
    ),
    "an array for a view": (lambda lab: lab["fc.weight"].summary(view=np.array([1.5, 2.0])), "named by a text, got ndarray"),
    "an array for the view of a histogram": (lambda lab: lab["fc.weight"].histogram(view=np.array([1, 2])), "named by a text"),
    "a quantized index": (
        lambda lab: lab["fc.weight"][_quantized()], "must be dense"
    ),
    "a list for sort": (lambda lab: lab["fc.weight"].layout(sort=[0]), "sort must be like"),
}  # fmt: skip


@pytest.mark.parametrize("call", WRONG)
def test_what_merely_counts_as_a_flag_or_a_number_is_refused(call: str) -> None:
    act, said = WRONG[call]
    lab = _lab()
    before = [tensor.detach().clone() for tensor in lab.model.state_dict().values()]
    with pytest.raises(wl.WeightLabError, match=said):
        act(lab)
    assert all(map(torch.equal, before, lab.model.state_dict().values()))
    assert len(lab.history) == 1
    assert not lab.constraints
    assert not lab.auto_check


def test_numpy_scalars_are_as_good_as_python_ones() -> None:
    lab = wl.Lab(_lab().model, undo_bytes=np.int64(2**20))
    weight = lab["fc.weight"]
    weight.fill_(np.float32(0.5)).add_(np.float64(1)).mul_(np.int32(2))
    assert weight.value.eq(3).all()
    lab.jump(np.int64(1))
    assert weight.value.eq(0.5).all()
    lab.undo(force=np.bool_(False))
    lab.auto_check = np.bool_(False)  # type: ignore[assignment]
    lab.transfer(_lab().model, weight=np.float32(0.5))
    hold = weight.hold(min=np.float32(-2), max=np.int64(2))
    assert (hold.min, hold.max) == (-2, 2)
    assert type(hold.min) is float
    assert len(weight.histogram(np.int16(7)).counts) == 7
    assert weight.profile(np.int64(1)).norm.shape == (4,)
    assert weight.layout(rows=[np.int64(1)], columns=[np.int64(0)]).rows == (1,)


def _quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch means to give them up
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)


def _lab() -> wl.Lab:
    model = nn.Sequential()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.add_module("fc", nn.Linear(4, 3))
    lab = wl.Lab(model)
    lab["fc.bias"].fill_(1)
    return lab
