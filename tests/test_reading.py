"""One pass by numba and several by torch give the same bins, moments and histograms (rules S1, S2, S3, S5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import weightlab as wl
from weightlab.progress import Progress
from weightlab.see import reading, summary
from weightlab.see.bins import Bins, reduce

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.uint16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors are read by the compiled loops, too, in many pieces."""
    monkeypatch.setattr(reading, "WORTH_CELLS", 0)
    monkeypatch.setattr(reading, "WAIT_CELLS", -1)
    monkeypatch.setattr(reading, "_PIECE", 1 << 10)


def cells(dtype: torch.dtype, *shape: int) -> Tensor:
    if not dtype.is_floating_point:
        return torch.randint(0, 2 if dtype is torch.bool else 100, shape).to(dtype)
    return (torch.randn(shape, dtype=torch.float64) * 20).to(dtype)


def spoilt(tensor: Tensor) -> Tensor:
    flat = tensor.view(-1)
    for value in (math.nan, math.inf, -math.inf):
        flat[torch.randint(0, flat.numel(), (flat.numel() // 50,))] = value
    flat[: flat.numel() // 4] = math.nan
    return tensor


def by_torch(monkeypatch: pytest.MonkeyPatch, tensor: Tensor, tall: int, wide: int) -> Bins:
    with monkeypatch.context() as without:
        without.setattr(reading, "planes", lambda *_, **__: None)
        return reduce(tensor, tall, wide)


def assert_bins(one: Bins, other: Bins) -> None:
    """Extremes, counts and flags to the bit; mean and rms within 1e-5 of the largest magnitude in the bin."""
    for name in ("min", "max", "count"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, equal_nan=True)
    assert (one.flags is None) == (other.flags is None)
    if one.flags is not None:
        assert torch.equal(one.flags, other.flags)
    largest = torch.maximum(other.min.abs(), other.max.abs()).double()
    for name in ("mean", "rms"):
        a, b = getattr(one, name).double(), getattr(other, name).double()
        assert torch.equal(a.isnan(), b.isnan())
        assert bool(((a / largest - b / largest).abs() <= 1e-5)[largest > 0].all()), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bins_of_both_ways_are_alike_for_every_dtype(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = cells(dtype, 67, 1103)
    for tall, wide in ((1, 4), (4, 4), (16, 2), (3, 1), (128, 1024), (7, 2048), (1, 1)):
        assert reading.planes(tensor, tall, wide) is not None
        assert_bins(reduce(tensor, tall, wide), by_torch(monkeypatch, tensor, tall, wide))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_bad_cells_and_huge_ones_are_alike_in_both_ways(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = torch.full((9, 1030), torch.finfo(dtype).max, dtype=dtype)
    huge[::2] *= -0.9
    for tensor in (spoilt(cells(dtype, 61, 1103)), huge, cells(dtype, 5, 7).fill_(math.nan)):
        for tall, wide in ((4, 4), (2, 1024), (64, 2)):
            assert_bins(reduce(tensor, tall, wide), by_torch(monkeypatch, tensor, tall, wide))


def test_any_strides_are_read_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    base = torch.randn(90, 70)
    for tensor in (base.t(), base[3:77, 5:66], base[::3], base[:, ::3], base[:1], base[:, :1], base[4:5].t()):
        assert_bins(reduce(tensor, 4, 8), by_torch(monkeypatch, tensor, 4, 8))
    assert_bins(reduce(base[:1].expand(9, 70), 4, 8), by_torch(monkeypatch, base[:1].repeat(9, 1), 4, 8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_and_histogram_of_both_ways_are_alike(dtype: torch.dtype) -> None:
    tensor = cells(dtype, 31, 1009)
    if dtype.is_floating_point and dtype.itemsize > 1:
        spoilt(tensor[3:9])
    assert_moments(tensor)
    assert_moments(tensor.t())
    assert_moments(tensor[::2])  # no line in memory: torch does it


def assert_moments(tensor: Tensor) -> None:
    read, wanted = reading.moments(tensor, 0.5), summary._moments(tensor, 0.5)
    if read is None:
        assert tensor.dtype in reading._WIDE or not tensor.is_contiguous()
        return
    assert (read.low, read.high, read.zero, read.nan) == (wanted.low, wanted.high, wanted.zero, wanted.nan)
    assert (read.positive, read.negative) == (wanted.positive, wanted.negative)
    assert read.total == pytest.approx(wanted.total, rel=1e-12, abs=1e-9)
    assert read.squares == pytest.approx(wanted.squares, rel=1e-12)
    counts = reading.histogram(tensor, wanted.low, wanted.high, 17)
    assert counts is not None
    assert counts.tolist() == summary._binned(tensor, wanted.low, wanted.high, 17).tolist()


def test_every_half_and_bfloat_is_read_as_torch_reads_it() -> None:
    """All 65,536 codes: denormal, infinite and NaN ones too."""
    codes = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        bins = reduce(codes.view(dtype).view(1, -1), 1, 1)
        wanted = codes.view(dtype).double()
        torch.testing.assert_close(
            bins.min[0].double(), wanted.where(wanted.isfinite(), math.nan), rtol=0, atol=0, equal_nan=True
        )


def test_a_large_mean_does_not_cost_the_digits_of_the_deviation() -> None:
    """S1: sums about zero would have none left."""
    tensor = (torch.randn(40_000, dtype=torch.float64) + 1e9).view(200, 200)
    values = tensor.numpy()
    made = summary._counted(tensor, 0.0)
    assert made.std == pytest.approx(values.std(), rel=1e-9)
    assert made.mean == pytest.approx(values.mean(), rel=1e-15)


def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "weightlab.see.compiled", None)
    monkeypatch.setattr(reading, "_compiled", {})
    monkeypatch.delattr("weightlab.see.compiled", raising=False)
    tensor = torch.randn(40, 50)
    assert reading.planes(tensor, 4, 4) is None
    assert summary.summarize(tensor).std == pytest.approx(float(tensor.double().numpy().std()))


def test_reading_is_cancelled_between_two_pieces() -> None:
    following = Progress()
    following.cancel()
    with following.listening(), pytest.raises(wl.Cancelled, match="counting 90,000 cells"):
        summary.summarize(torch.randn(300, 300))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_gpu_gives_the_same_bins_and_numbers(dtype: torch.dtype) -> None:
    tensor = cells(dtype, 300, 700)
    there = tensor.cuda()
    bins = reduce(there, 4, 8)
    planes = (getattr(bins, name).cpu() for name in ("mean", "min", "max", "rms", "count"))
    assert_bins(Bins(*planes, None), reduce(tensor, 4, 8))
    made, wanted = summary.summarize(there), summary.summarize(tensor)
    assert made.histogram.counts == wanted.histogram.counts
    assert made.std == pytest.approx(wanted.std, rel=1e-12)


def test_sums_of_many_pieces_do_not_drift() -> None:
    tensor = torch.full((1 << 20,), 0.1)
    made = reading.moments(tensor, 0.0)
    assert made is not None
    assert made.total == pytest.approx(float(np.float32(0.1)) * 2**20, rel=1e-15)
