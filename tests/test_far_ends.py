"""Numbers at the ends of what a dtype holds: statistics, spectra, differences and figures of them are right, or refused (S1)."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from weightlab.jupyter.protocol import Session
from weightlab.see.glance import glance
from weightlab.see.layout import Layout, Order
from weightlab.see.spectrum import spectrum
from weightlab.see.summary import summarize

LEAST, LARGEST = 5e-324, 1.7e308


@pytest.mark.parametrize("ends", [(0.0, LEAST), (-LEAST, LEAST), (-2.2e-308, 2.2e-308), (-LARGEST, LARGEST)])
def test_numbers_that_have_no_inverse_or_no_difference_are_counted(ends: tuple[float, float]) -> None:
    tensor = torch.tensor([*ends, 0.0], dtype=torch.float64)
    made, seen = summarize(tensor), glance(tensor)
    assert (made.min, made.max) == (seen.min, seen.max) == ends
    assert sum(made.histogram.counts) == 3
    assert max(seen.bars) == 255
    assert (made.quantiles[0][1], made.quantiles[-1][1]) == ends


def test_a_quantile_is_the_value_of_a_cell_that_leaves_its_share_below() -> None:
    torch.manual_seed(2)
    for size in (1, 2, 7, 199, 400):
        cells = torch.randn(size, dtype=torch.float64)
        told = summarize(cells).quantiles
        for share, value in told:
            # The definition: the least cell with at least this share of the cells up to it.
            assert value == min(c for c in cells.tolist() if (cells <= c).sum() >= share * size)
        if size < 200:
            assert (told[0][1], told[-1][1]) == (cells.min(), cells.max()), "99 % of few cells are all of them"


@pytest.mark.parametrize("unit", [1e200, 1e-200, LEAST, 1e308])
def test_a_spectrum_of_what_has_no_square(unit: float) -> None:
    plain = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    plain = plain / 3 if unit == 1e308 else plain
    for matrix in (plain, plain.T):
        made = spectrum(matrix * unit, "w")
        wanted = np.linalg.svd(matrix.numpy(), compute_uv=False)
        assert made.values == pytest.approx((wanted * unit).tolist(), rel=1e-12, abs=unit * 1e-7)
        assert made.stable_rank == pytest.approx((wanted**2).sum() / wanted[0] ** 2)
        assert made.exact


DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int64, torch.bfloat16, torch.float16, torch.float8_e4m3fn,
    torch.complex64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_difference_has_its_sign_and_its_digits_in_every_dtype(dtype: torch.dtype) -> None:
    now, then = torch.tensor([0.0, 1.0, 3.0, 1.0]).to(dtype), torch.tensor([1.0, 0.0, 5.0, 1.0]).to(dtype)
    model = nn.Module()
    model.register_buffer("held", then.clone())
    lab = wl.Lab(model)
    lab.snapshot("then")
    lab["held"].copy_(now)
    made = lab.view("held", "diff:then")
    wanted = [a - b for a, b in zip(now.to(torch.complex64).tolist(), then.to(torch.complex64).tolist(), strict=True)]
    assert made.to(torch.complex64).tolist() == wanted
    assert lab.is_signed("held", "diff:then") == (not dtype.is_complex)
    reply, _ = Session(lab).handle({"v": 1, "id": 1, "op": "open", "name": "held", "view": "diff:then"})
    assert reply["ok"], reply
    # The page writes numbers of the dtype that it knows; of another it asks for the text.
    assert not reply["exact_text"] or made.dtype == dtype


def test_small_floats_do_not_round_in_a_difference() -> None:
    model = nn.Linear(2, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 256.0]]))
    lab = wl.Lab(model)
    lab.snapshot("then")
    lab["weight"].copy_(torch.tensor([[2**-9, -1.0]]))
    assert lab.view("weight", "diff:then").tolist() == [[2**-9 - 1, -257.0]], "257 is no bfloat16"


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_wide_unsigned_integers_are_shown_in_another_order(dtype: torch.dtype) -> None:
    cells = torch.tensor([7, 40000, 1]).to(dtype)
    order = Order(0, "norm", torch.tensor([2, 0, 1]), "1")
    plan = Layout((3,), (), (0,), (), 1, ("",), orders=(order,))
    cut, _ = plan.cut(cells, 0, 1, 0, 3)
    assert cut.tolist() == [[1, 7, 40000]]


@pytest.mark.parametrize("cells", [[[3e38, -3e38]], [[1e308, -1e308]], [[LEAST, 0.0]], [[math.inf, 1e308]]])
def test_a_figure_of_far_ends_draws_without_a_warning(cells: list[list[float]]) -> None:
    model = nn.Module()
    model.register_parameter("w", nn.Parameter(torch.tensor(cells, dtype=torch.float64)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = wl.Lab(model)["w"].plot()._repr_png_()
    assert drawn.startswith(b"\x89PNG")


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(nan=7.5), other.nan_to_num(nan=7.5))


def test_a_patch_of_a_compiled_base_has_the_bits_of_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """S5 to the last bit: a patch of few cells goes the way that the whole went."""
    from weightlab.see import reading
    from weightlab.see.tiles import Pyramid

    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 64)
    torch.manual_seed(5)
    tensor = torch.randn(211, 190)
    plan = Layout((211, 190), (0,), (1,), (), 1, ("", ""))
    assert reading.planes(tensor, 4, 4, patient=True) is not None, "numba is part of the tests"
    kept = Pyramid(lambda: tensor, plan)
    level = (*kept.base_level, 0, 0)
    kept.tile(level)
    for top, left in ((0, 0), (37, 90), (205, 180)):
        tensor[top : top + 6, left : left + 9] = torch.randn(6, 9)
        kept.invalidate([(top, top + 6), (left, left + 9)])
    patched, fresh = kept.tile(level), Pyramid(lambda: tensor, plan).tile(level)
    for name in ("mean", "min", "max", "rms"):
        assert same(getattr(patched, name), getattr(fresh, name)), name


def test_the_map_of_a_model_reaches_the_ends_of_float64() -> None:
    """A warning of matplotlib is an error here: its ticks go a power past the largest number."""
    model = torch.nn.ParameterDict(
        {
            "huge": torch.tensor([1.7e308, -1.7e308], dtype=torch.float64),
            "tiny": torch.tensor([1e-308, -1e-308], dtype=torch.float64),
            "plain": torch.tensor([1.0, -1.0]),
        }
    )
    figure = wl.Lab(model).plot_model("std")
    figure.canvas.draw()
    assert [axes.get_ylabel() for axes in figure.axes][1] == "log10 of std"
