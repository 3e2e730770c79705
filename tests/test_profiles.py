"""Profiles and orders against plain loops (rules S1, S6)."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import nn

import weightlab as wl
from weightlab.errors import Cancelled, EditRefused
from weightlab.progress import Progress
from weightlab.see import reading
from weightlab.see.profiles import MOST_SORTED, order_by, profile

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_profile_is_what_a_loop_over_the_axis_finds(dtype: torch.dtype, axis: int) -> None:
    torch.manual_seed(3)
    tensor = (torch.randn(5, 4, 3) * 2).to(dtype)
    tensor[1] = 0
    found = profile(tensor, axis)
    for index in range(tensor.shape[axis]):
        cells = tensor.select(axis, index).double().flatten().tolist()
        assert found.norm[index].item() == pytest.approx(math.sqrt(math.fsum(c * c for c in cells)), rel=1e-14)
        assert found.mean[index].item() == pytest.approx(math.fsum(cells) / len(cells), rel=1e-13, abs=1e-15)
        assert found.zeros[index].item() == pytest.approx(sum(c == 0 for c in cells) / len(cells))
        assert found.largest[index].item() == max(map(abs, cells))
        assert found.nonfinite[index].item() == 0


def test_a_profile_passes_over_what_is_not_finite_and_counts_it() -> None:
    tensor = torch.tensor(
        [[1.0, math.nan, 3.0], [math.inf, -math.inf, math.nan], [1e300, -1e300, 0]], dtype=torch.float64
    )
    found = profile(tensor, 0)
    assert found.norm.tolist() == pytest.approx([math.sqrt(10), 0, math.sqrt(2) * 1e300])
    assert found.mean[0].item() == 2
    assert found.mean[1].isnan()
    assert found.nonfinite.tolist() == [1, 3, 0]
    plain = profile(torch.tensor([[1.0, math.nan], [3e38, 3e38]]), 0)
    assert plain.norm.tolist() == pytest.approx([1, torch.tensor(3e38).item() * math.sqrt(2)])


def test_a_profile_of_no_cells_and_of_strided_cells() -> None:
    assert profile(torch.zeros(3, 0), 0).zeros.tolist() == [0, 0, 0]
    assert profile(torch.zeros(0, 3), 0).norm.numel() == 0
    torch.manual_seed(0)
    tensor = torch.randn(6, 8)[::2, 1::3]
    assert torch.equal(profile(tensor, 0).norm, profile(tensor.contiguous(), 0).norm)


def test_a_profile_in_pieces_equals_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    tensor = torch.randn(7, 5, 2)
    whole = profile(tensor, 1)
    monkeypatch.setattr("weightlab.see.profiles._CELLS", 20)
    assert torch.equal(profile(tensor, 1).norm, whole.norm)
    assert torch.equal(profile(tensor, 1).mean, whole.mean)


@pytest.mark.parametrize("by", ["norm", "mean", "zeros"])
def test_an_order_is_ascending_with_ties_by_index(by: str) -> None:
    rng = random.Random(5)
    tensor = torch.tensor([[float(rng.randrange(3)) for _ in range(4)] for _ in range(9)])
    order = order_by(tensor, 0, by)
    values = getattr(profile(tensor, 0), by).tolist()
    assert order.indices.tolist() == sorted(range(9), key=lambda i: (values[i], i))
    assert order.indices[order.places].tolist() == list(range(9))


def test_rows_without_a_number_are_last() -> None:
    tensor = torch.tensor([[math.nan, math.nan], [1.0, 2.0], [-1.0, 0.0]])
    assert order_by(tensor, 0, "mean").indices.tolist() == [2, 1, 0]


@pytest.mark.parametrize("many", [60, 1500])
def test_rows_that_are_alike_become_neighbours(many: int) -> None:
    seeded = torch.Generator().manual_seed(many)
    centres = torch.randn(4, 24, generator=seeded)
    of = torch.randint(0, 4, (many,), generator=seeded)
    rows = centres[of] + 0.1 * torch.randn(many, 24, generator=seeded)
    before = rows.clone()
    order = order_by(rows, 0, "similar").indices
    assert sorted(order.tolist()) == list(range(many))
    assert int((of[order][1:] != of[order][:-1]).sum()) == 3, "each cluster is one stretch"
    assert torch.equal(rows, before)
    assert torch.equal(order, order_by(rows, 0, "similar").indices), "the same rows, the same order"


@pytest.mark.parametrize("seed", range(6))
def test_every_cluster_of_average_linkage_is_one_stretch(seed: int) -> None:
    """Against the plain definition: merge the two clusters whose rows are nearest on average, until one is left."""
    rows = torch.randn(13, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = rows / rows.norm(dim=1, keepdim=True)
    distances = (1 - unit @ unit.T).tolist()
    order = order_by(rows, 0, "similar").indices.tolist()
    clusters = [[i] for i in range(13)]
    while len(clusters) > 1:
        pairs = [(a, b) for i, a in enumerate(clusters) for b in clusters[i + 1 :]]
        apart = [sum(distances[i][j] for i in a for j in b) / (len(a) * len(b)) for a, b in pairs]
        one, other = pairs[apart.index(min(apart))]
        clusters = [each for each in clusters if each not in (one, other)] + [one + other]
        places = sorted(order.index(i) for i in one + other)
        assert places == list(range(places[0], places[0] + len(places)))


def test_likeness_copes_with_zeros_and_nan_and_wide_rows() -> None:
    tensor = torch.randn(5, 9000)
    tensor[1], tensor[2, 3] = 0, math.nan
    assert sorted(order_by(tensor, 0, "similar").indices.tolist()) == list(range(5))


def test_an_order_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(EditRefused, match="norm, mean, zeros, similar"):
        order_by(torch.zeros(3, 2), 0, "size")
    with pytest.raises(EditRefused, match="no axis 2"):
        order_by(torch.zeros(3, 2), 2, "norm")
    with pytest.raises(EditRefused, match="262,144"):
        order_by(torch.zeros(MOST_SORTED + 1), 0, "norm")


def test_a_handle_gives_the_profile_of_its_cells() -> None:
    lab = wl.Lab(nn.Conv2d(3, 8, 3))
    weight = lab["weight"].value
    assert lab["weight"].profile(0).norm.tolist() == pytest.approx(weight.flatten(1).norm(dim=1).tolist(), rel=1e-6)
    assert lab["weight"][2].profile(-1).mean.shape == (3,)
    assert lab["weight"].profile(1, view="held").norm.tolist() == [0, 0, 0]


@pytest.mark.cuda
def test_profiles_orders_and_sorted_cuts_on_a_gpu_are_those_of_the_cpu() -> None:
    """S6: the tensor stays where it is."""
    torch.manual_seed(2)
    tensor = torch.randn(70, 3, 9)
    there = tensor.cuda()
    here, found = profile(tensor, 0), profile(there, 0)
    for name in ("norm", "mean", "zeros", "largest", "nonfinite"):
        assert getattr(found, name).device.type == "cpu"
        torch.testing.assert_close(getattr(found, name), getattr(here, name))
    for by in ("norm", "similar"):
        assert sorted(order_by(there, 0, by).indices.tolist()) == list(range(70))
    order = order_by(there, 0, "norm", "1")
    plan = wl.Lab(nn.Conv1d(3, 70, 9))["weight"].layout().arranged((0,), (2,), fixed={1: 2}, orders=[order])
    cells, _ = plan.cut(there, 5, 40, 1, 8)
    assert cells.is_cuda
    assert torch.equal(cells.cpu(), tensor[:, 2][order.indices][5:40, 1:8])


LINES = [(200, 300), (3, 30_000), (30_000, 3), (1, 20_000), (20_000,), (40, 30, 3, 7), (7, 1500, 2), (2, 2, 9000)]


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.float8_e5m2],
    ids=str,
)
def test_the_compiled_pass_finds_what_torch_finds(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over every axis, in one piece and in many, with cells that are not finite."""
    torch.manual_seed(4)
    assert reading.lines(torch.zeros(3, 7000, dtype=dtype), 0, patient=True) is not None, "numba is part of the tests"
    for shape in LINES:
        tensor = torch.randn(shape) * 3
        if dtype.is_floating_point:
            tensor.view(-1)[[5, 77, 300, 301]] = torch.tensor([math.nan, math.inf, -math.inf, 0.0])
        tensor = tensor.to(dtype)
        for axis, piece in itertools.product(range(tensor.ndim), (1 << 18, 4096)):
            monkeypatch.setattr(reading, "_PIECE", piece)
            found = profile(tensor, axis)
            with monkeypatch.context() as without:
                without.setattr(reading, "lines", lambda *_: None)
                plain = profile(tensor, axis)
            for name in ("norm", "mean", "zeros", "largest", "nonfinite"):
                one, other = getattr(found, name), getattr(plain, name)
                torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_squares_that_overflow_or_vanish_leave_the_compiled_pass() -> None:
    tensor = torch.full((2, 10_000), 1e-200, dtype=torch.float64)
    tensor[1] = 1e200
    assert reading.lines(tensor, 0, patient=True) is not None
    assert profile(tensor, 0).norm.tolist() == pytest.approx([1e-198, 1e202])


def test_a_long_profile_says_how_far_it_is_and_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PIECE", 1 << 12)
    tensor = torch.zeros(64, 4096)
    reading.lines(tensor, 0, patient=True)
    for axis in (0, 1):
        told: list[int] = []
        progress = Progress(lambda done, total, words, told=told: told.append(done))  # type: ignore[misc]
        monkeypatch.setattr("weightlab.progress.FIRST_SECONDS", 0.0)
        monkeypatch.setattr("weightlab.progress.PAUSE_SECONDS", 0.0)
        with progress.listening():
            profile(tensor, axis)
        assert len(told) > 8
        progress.cancel()
        with progress.listening(), pytest.raises(Cancelled):
            profile(tensor, axis)
