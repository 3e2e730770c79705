"""The bounds of a hold in the tensor's own dtype (rule T4)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab import EditRefused


@pytest.mark.parametrize(
    ("dtype", "high"),
    [(torch.bfloat16, 0.1), (torch.float16, 0.1), (torch.float16, 1e9), (torch.float8_e4m3fn, 0.1), (torch.bfloat16, -1e-60),
     (torch.float8_e5m2, 0.3), (torch.int8, 2.5), (torch.int16, 1e30), (torch.float8_e4m3fnuz, -1e-9)],
)  # fmt: skip
def test_bounds_are_rounded_inwards_to_what_the_tensor_holds(dtype: torch.dtype, high: float) -> None:  # T4
    model = nn.Module()
    for name in ("upper", "lower"):
        model.register_buffer(name, torch.linspace(-120, 120, 241).to(dtype))
    lab = wl.Lab(model)
    upper, lower = lab["upper"].hold(max=high).max, lab["lower"].hold(min=-high).min
    assert upper is not None
    assert lower == (-upper if dtype is not torch.int16 else -(2**15))
    assert torch.tensor([upper], dtype=torch.float64).to(dtype).double() == upper
    assert "rounded inwards" in lab.history[0].notes[0]
    for _ in range(2):
        assert lab["upper"].value.double().max() <= high
        assert lab["lower"].value.double().min() >= -high
        model.upper.copy_(torch.full((241,), 3).to(dtype))
        model.lower.copy_(torch.full((241,), -3).to(dtype))
        lab.step()


def test_bounds_that_float32_holds_to_its_precision_are_those_of_torch() -> None:
    lab = wl.Lab(nn.Linear(3, 2))
    assert lab["weight"].hold(max=0.1).max == 0.1
    assert not lab.history[-1].notes or "inwards" not in lab.history[-1].notes[0]


def test_bounds_between_which_a_dtype_has_no_number_are_refused() -> None:
    model = nn.Linear(3, 2).bfloat16()
    model.register_buffer("count", torch.arange(3))
    lab = wl.Lab(model)
    for name, low, high in (("weight", 0.1001, 0.1002), ("count", 0.2, 0.8), ("count", None, -1e30)):
        with pytest.raises(EditRefused, match=r"no number of (bfloat16|int64) lies from"):
            lab[name].hold(min=low, max=high)
    assert not lab.history
    assert not lab.constraints
