"""Statistics against an independent float64 reference (rules S1, S2, S3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from weightlab.see.glance import glance
from weightlab.see.numbers import parse_number, texts
from weightlab.see.summary import QUANTILES, SAMPLE, summarize

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def assert_reference(tensor: Tensor) -> None:
    made = summarize(tensor)
    values = tensor.double().reshape(-1).numpy()
    good = values[np.isfinite(values)]
    assert made.count == values.size
    assert made.exact
    assert made.nan == int(np.isnan(values).sum())
    assert made.inf == int(np.isinf(values).sum())
    assert made.zero == int((good == 0).sum())
    for name, wanted in (
        ("min", good.min()), ("max", good.max()), ("mean", math.fsum(good) / good.size), ("std", good.std()),
        ("l2", math.sqrt(math.fsum(good * good))),
    ):  # fmt: skip
        assert getattr(made, name) == pytest.approx(wanted, rel=1e-12, abs=1e-300), name
    counts, _ = np.histogram(good, bins=len(made.histogram.counts), range=(made.histogram.low, made.histogram.high))
    assert sum(made.histogram.counts) == good.size
    if good.min() < good.max():
        assert np.abs(counts - np.array(made.histogram.counts)).sum() <= 0.02 * good.size + 2, (
            "but for cells on an edge"
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_statistics_equal_the_reference_for_every_dtype(dtype: torch.dtype) -> None:
    assert_reference(torch.randn(37, 11).mul(20).to(dtype) if dtype is not torch.bool else torch.rand(37, 11) > 0.3)


def test_statistics_equal_the_reference_for_odd_strides() -> None:
    base = torch.randn(8, 6, 10, 12)
    assert_reference(base.to(memory_format=torch.channels_last))
    assert_reference(base.transpose(0, 3)[::2, 1:])
    assert_reference(torch.randn(3_000_001)[1:])
    assert_reference(torch.randn(1500, 1500).t())


def test_bad_cells_are_counted_and_left_out() -> None:
    tensor = torch.randn(1000)
    tensor[:10], tensor[10:14], tensor[14] = math.nan, math.inf, -math.inf
    assert_reference(tensor)


def test_squares_that_overflow_do_not() -> None:
    made = summarize(torch.tensor([3e300, -4e300], dtype=torch.float64))
    assert made.l2 == pytest.approx(5e300)
    assert made.std == pytest.approx(3.5e300)
    assert summarize(torch.full((4,), 3e38)).l2 == pytest.approx(6e38)


def test_std_is_a_standard_deviation() -> None:
    assert summarize(torch.tensor([1.0, 3.0])).std == 1.0


@pytest.mark.parametrize("tensor", [torch.empty(0, 3), torch.full((4,), math.nan)], ids=["empty", "all NaN"])
def test_without_finite_cells_the_moments_are_nan(tensor: Tensor) -> None:
    made = summarize(tensor)
    assert all(math.isnan(getattr(made, name)) for name in ("min", "max", "mean", "std"))
    assert made.quantiles == ()


def test_a_scalar_is_its_own_statistics() -> None:
    made = summarize(torch.tensor(2.5))
    assert (made.min, made.max, made.mean, made.std, made.l2) == (2.5, 2.5, 2.5, 0.0, 2.5)


def test_a_sample_says_so_and_has_the_true_extremes() -> None:
    """S2."""
    tensor = torch.randn(1100, 1000)
    tensor[17, 3], tensor[901, 77] = 50.0, -60.0
    made = summarize(tensor, exact=False)
    assert not made.exact
    assert made.sampled <= SAMPLE
    assert (made.min, made.max) == (-60.0, 50.0)
    assert made.std == pytest.approx(float(tensor.std()), rel=0.05)
    assert sum(made.histogram.counts) == pytest.approx(made.count, rel=0.01)


def test_quantiles_are_in_order_and_right() -> None:
    made = dict(summarize(torch.arange(1001.0)).quantiles)
    assert made[0.5] == 500
    assert made[0.05] == 50


FLOATS = [0.1, -0.041207194, 1e-45, 3.4028235e38, 16777216.0, 1 / 3, 5e-324, -0.0, 123456.789, 1e22]


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
    ids=str,
)
def test_a_text_reads_back_as_the_same_number_and_none_is_shorter(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    cells = torch.cat([torch.tensor(FLOATS, dtype=torch.float64), torch.randn(200, dtype=torch.float64)]).to(dtype)
    for cell, text in zip(cells, texts(cells), strict=True):
        value = float(cell.double())
        if math.isnan(value):
            assert text == "nan"
            continue
        again = torch.tensor(float(text), dtype=torch.float64).to(dtype)
        assert torch.equal(again.double(), cell.double())
        digits = len(text.lstrip("-").split("e")[0].replace(".", "").strip("0")) if math.isfinite(value) else 0
        if digits > 1:
            fewer = torch.tensor(float(f"{value:.{digits - 1}g}"), dtype=torch.float64).to(dtype)
            assert float(fewer.double()) != value, f"{text} could be shorter"


def test_texts_of_other_cells() -> None:
    assert texts(torch.tensor([3, -4])) == ["3", "-4"]
    assert texts(torch.tensor([True, False])) == ["True", "False"]
    assert texts(torch.tensor([math.nan, math.inf, -math.inf])) == ["nan", "inf", "-inf"]
    assert texts(torch.tensor([1 - 2j, 0.1 + 0j])) == ["1.0-2.0j", "0.1+0.0j"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), (" -1e-3 ", -0.001), ("nan", math.nan), ("-inf", -math.inf), (".5", 0.5), ("−2", -2), (7, 7)],
)
def test_numbers_are_read_as_typed(text: str | int, number: float) -> None:
    assert parse_number(text, "w") == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    "text", ["", "abc", "1,5", "1_000", "0x10", "1 2", "__import__('os')", "1e99999", None, True, [1]]
)
def test_what_is_no_number_is_refused(text: object) -> None:
    from weightlab.errors import EditRefused

    with pytest.raises(EditRefused, match="is no number"):
        parse_number(text, "w [3]")  # type: ignore[arg-type]


@pytest.mark.parametrize("period", [2, 3, 5, 16, 17, 34, 64])
def test_no_period_of_a_weight_meets_the_cells_of_a_sample(period: int) -> None:  # S1, S2
    cells = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(3))
    cells[:, ::period] = 0
    for tensor in (cells, cells.t(), cells.flatten()):
        made = summarize(tensor, exact=False)
        assert made.sampled <= 65536
        assert not made.exact
        assert abs(made.zero / made.count - float((tensor == 0).double().mean())) < 0.01
        assert abs(made.std - float(tensor.double().std())) < 0.02
        seen = glance(tensor)
        assert abs(seen.zero / seen.count - float((tensor == 0).double().mean())) < 0.02


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool,
     torch.int16, torch.int64, torch.uint32, torch.complex64],
)  # fmt: skip
def test_quantiles_are_over_every_cell(dtype: torch.dtype) -> None:  # S1
    cells = torch.randn(311, 407, generator=torch.Generator().manual_seed(4)) * 50
    cells = cells.clamp(0 if dtype is torch.uint32 else -100, 100)
    cells[::3] = 0.0
    if dtype.is_floating_point or dtype.is_complex:
        cells[0, 0], cells[1], cells[2, :7], cells[5:90:7] = math.nan, math.inf, -math.inf, -0.0
    cells = cells.to(dtype)
    for tensor in (cells, cells.t(), cells[:, ::2][:, :180]):
        real = tensor.abs() if tensor.is_complex() else tensor
        ordered = real.double().flatten().sort().values
        ordered = ordered[ordered.isfinite()].tolist()
        expected = [(q, ordered[max(math.ceil(q * len(ordered)), 1) - 1]) for q in QUANTILES]
        assert list(summarize(tensor).quantiles) == expected
