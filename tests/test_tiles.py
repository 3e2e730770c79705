"""Layouts and tiles against plain loops (rules S1 to S6)."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from torch import Tensor

from weightlab.errors import Cancelled
from weightlab.model.tree import TensorInfo
from weightlab.progress import Progress
from weightlab.see import bins
from weightlab.see.bins import NAN, NEGATIVE, POSITIVE
from weightlab.see.layout import Layout, layout_of
from weightlab.see.tiles import TILE, Pyramid, Tile

SHAPES = [
    (13, 1, 3, 3),
    (32, 3, 3, 3),
    (5, 4, 3),
    (4, 3, 2, 5),
    (3, 2, 2, 3, 2),
    (7,),
    (),
    (6, 9),
    (150, 3),
    (1, 1),
    (2, 140),
]


def info(shape: tuple[int, ...], module_type: str = "Conv2d") -> TensorInfo:
    return TensorInfo("layer.weight", "parameter", shape, torch.float32, torch.device("cpu"), True, module_type)


def layout(shape: tuple[int, ...], module_type: str = "Conv2d") -> Layout:
    return layout_of(info(shape, module_type))


def sheet_by_loop(tensor: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The sheet cell by cell, from the definition in docs/protocol.md."""
    height, width = layout.block
    values, real = torch.zeros(layout.sheet, dtype=tensor.dtype), torch.zeros(layout.sheet, dtype=torch.bool)

    def number(index: tuple[int, ...], axes: tuple[int, ...]) -> int:
        made = 0
        for axis in axes:
            made = made * tensor.shape[axis] + index[axis]
        return made

    places = {order.axis: order.indices.tolist() for order in layout.orders}
    for index in itertools.product(*map(range, tensor.shape)):
        if any(index[axis] != still for axis, still in layout.fixed):
            continue
        placed = tuple(places[axis].index(i) if axis in places else i for axis, i in enumerate(index))
        facet = number(placed, layout.facets)
        row = facet // layout.wrap * height + number(placed, layout.rows)
        column = facet % layout.wrap * width + number(placed, layout.columns)
        values[row, column], real[row, column] = tensor[index], True
    return values, real


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("module_type", ["Conv2d", "Linear"])
def test_any_cut_of_the_sheet_equals_the_loop(shape: tuple[int, ...], module_type: str) -> None:
    rng = random.Random(str(shape))
    tensor, plan = torch.randn(shape), layout(shape, module_type)
    values, real = sheet_by_loop(tensor, plan)
    assert int(real.sum()) == tensor.numel(), "every cell has one place"
    height, width = plan.sheet
    for _ in range(25):
        top, left = rng.randrange(height), rng.randrange(width)
        bottom, right = rng.randrange(top + 1, height + 1), rng.randrange(left + 1, width + 1)
        cells, there = plan.cut(tensor, top, bottom, left, right)
        there = torch.ones_like(cells, dtype=torch.bool) if there is None else there
        assert torch.equal(there, real[top:bottom, left:right])
        assert torch.equal(cells[there], values[top:bottom, left:right][there])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_box_of_bounds_holds_their_cells(shape: tuple[int, ...]) -> None:
    rng = random.Random(str(shape))
    plan = layout(shape)
    for _ in range(20):
        bounds = tuple((low, rng.randint(low + 1, n)) for n in shape for low in [rng.randrange(n)])
        marked = torch.zeros(shape)
        marked[tuple(slice(*pair) for pair in bounds)] = 1
        rows, columns = sheet_by_loop(marked, plan)[0].nonzero(as_tuple=True)
        top, bottom, left, right = plan.box(bounds)
        assert top <= int(rows.min())
        assert int(rows.max()) < bottom
        assert left <= int(columns.min())
        assert int(columns.max()) < right


def test_known_layers_get_the_layout_that_reads_best() -> None:
    assert layout((1280, 320, 1, 1)).sheet == (1280, 320)
    assert layout((32, 3, 3, 3)).facets == (0,)
    assert layout((32, 3, 3, 3)).wrap in (8, 16)
    assert layout((64, 32, 3, 3)).rows == (0, 2)
    assert layout((64, 32, 3, 3)).labels == ("out", "in", "kh", "kw")
    assert layout((10,), "Linear").sheet == (1, 10)
    assert layout(()).sheet == (1, 1)
    assert layout((8, 3, 5), "Conv1d").rows == (0,)


def expected(tensor: Tensor, plan: Layout, at: tuple[int, int, int, int]) -> Tile:
    """The tile by loops over bins, in float64."""
    values, real = sheet_by_loop(tensor.double(), plan)
    tall, wide = 1 << at[0], 1 << at[1]
    rows, columns = (-(-size // step) for size, step in zip(plan.sheet, (tall, wide), strict=True))
    top, left = at[2] * TILE, at[3] * TILE
    shape = (min(TILE, rows - top), min(TILE, columns - left))
    mean, low, high, rms = (torch.full(shape, math.nan, dtype=torch.float64) for _ in range(4))
    flags = torch.zeros(shape, dtype=torch.uint8)
    for row, column in itertools.product(*map(range, shape)):
        part = (
            slice((top + row) * tall, (top + row + 1) * tall),
            slice((left + column) * wide, (left + column + 1) * wide),
        )
        cells = values[part][real[part]]
        good = cells[cells.isfinite()]
        if good.numel():
            mean[row, column], low[row, column], high[row, column] = good.mean(), good.min(), good.max()
            rms[row, column] = good.square().mean().sqrt()
        flags[row, column] = (
            NAN * bool(cells.isnan().any())
            + POSITIVE * bool((cells == math.inf).any())
            + NEGATIVE * bool((cells == -math.inf).any())
        )
    return Tile(at, mean.float(), low.float(), high.float(), rms.float(), flags, 0)


def assert_tile(made: Tile, wanted: Tile) -> None:
    flags = torch.zeros(made.mean.shape, dtype=torch.uint8) if made.flags is None else made.flags
    assert wanted.flags is not None
    assert torch.equal(flags, wanted.flags)
    for name in ("mean", "min", "max", "rms"):
        torch.testing.assert_close(getattr(made, name), getattr(wanted, name), rtol=1e-5, atol=1e-6, equal_nan=True)


def with_bad_cells(shape: tuple[int, ...]) -> Tensor:
    tensor = torch.randn(shape)
    flat = tensor.view(-1)
    for value in (math.nan, math.inf, -math.inf):
        flat[torch.randint(0, max(flat.numel(), 1), (flat.numel() // 7,))] = value
    return tensor


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bad", [False, True])
def test_tiles_equal_loops_at_every_level_and_edge(shape: tuple[int, ...], bad: bool) -> None:
    """S2, S3: extremes survive, NaN and inf are flagged at every level."""
    tensor, plan = with_bad_cells(shape) if bad else torch.randn(shape), layout(shape)
    if bad:
        tensor = tensor.where(tensor == tensor, math.nan)  # one NaN pattern
    pyramid = Pyramid(lambda: tensor, plan)
    for row_level, column_level in itertools.product(range(3), range(3)):
        rows, columns = pyramid.shape(row_level, column_level)
        for row, column in itertools.product(range(-(-rows // TILE)), range(-(-columns // TILE))):
            at = (row_level, column_level, row, column)
            made, wanted = pyramid.tile(at), expected(tensor, plan, at)
            if at[:2] == (0, 0):
                blank = ~sheet_by_loop(tensor, plan)[1][
                    row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE
                ]
                wanted.mean[~blank & ~wanted.mean.isfinite()] = math.nan
            assert_tile(made, wanted)


@pytest.mark.parametrize("bad", [False, True])
def test_a_patched_base_equals_a_fresh_one_after_random_edits(monkeypatch: pytest.MonkeyPatch, bad: bool) -> None:
    """S5, with a base level small enough to be used for a small tensor."""
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 100)
    rng = random.Random(1)
    for shape in [(31, 27), (12, 3, 5, 5), (300,), (20, 9, 3)]:
        tensor, plan = with_bad_cells(shape) if bad else torch.randn(shape), layout(shape)
        kept = Pyramid(lambda tensor=tensor: tensor, plan)
        assert kept.has_base
        for _ in range(6):
            bounds = tuple((low, rng.randint(low + 1, n)) for n in shape for low in [rng.randrange(n)])
            tensor[tuple(slice(*pair) for pair in bounds)] = rng.choice([0.0, 9.0, math.nan if bad else 2.0])
            kept.invalidate(bounds)
            fresh = Pyramid(lambda tensor=tensor: tensor, plan)
            for up in itertools.product(range(2), range(2)):
                level = (kept.base_level[0] + up[0], kept.base_level[1] + up[1], 0, 0)
                assert_same(kept.tile(level), fresh.tile(level))
                assert_tile(kept.tile(level), expected(tensor, plan, level))


def assert_same(one: Tile, other: Tile) -> None:
    for name in ("mean", "min", "max", "rms"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-7, equal_nan=True)


def test_only_stale_bins_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: an edit of one cell costs one bin of the base, not a pass over the tensor."""
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 64)
    tensor, looked = torch.randn(512, 512), []
    plan = layout((512, 512), "Linear")
    pyramid = Pyramid(lambda: tensor, plan)
    level = (*pyramid.base_level, 0, 0)
    pyramid.tile(level)
    cut = Layout.cut

    def counted(self: Layout, *args: int) -> object:
        made = cut(self, *args)
        looked.append(made[0].numel())
        return made

    monkeypatch.setattr(Layout, "cut", counted)
    pyramid.tile(level)
    assert looked == []
    pyramid.invalidate(((100, 101), (7, 8)))
    pyramid.tile(level)
    assert sum(looked) <= 2 ** (level[0] + level[1])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool]
)
def test_every_dtype_has_a_picture(dtype: torch.dtype) -> None:
    """S1."""
    tensor = torch.randint(0, 2, (9, 7)).to(dtype)
    pyramid = Pyramid(lambda: tensor, layout((9, 7), "Linear"))
    assert_tile(pyramid.tile((1, 2, 0, 0)), expected(tensor.to(torch.float64), pyramid.layout, (1, 2, 0, 0)))


def test_complex_cells_are_shown_by_magnitude() -> None:
    tensor = torch.randn(4, 3, dtype=torch.complex64)
    assert torch.equal(Pyramid(lambda: tensor, layout((4, 3), "Linear")).tile((0, 0, 0, 0)).mean, tensor.abs())


def test_a_tile_that_is_not_there_is_an_error() -> None:
    pyramid = Pyramid(lambda: torch.zeros(4, 3), layout((4, 3), "Linear"))
    for at in ((0, 0, 1, 0), (0, 0, 0, 1), (0, 0, -1, 0)):
        with pytest.raises(IndexError):
            pyramid.tile(at)


def test_what_was_made_of_a_tile_is_kept_until_its_cells_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: for a tensor with a base; any level, neighbours not touched."""
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 64)
    tensor = torch.randn(600, 600)
    pyramid = Pyramid(lambda: tensor, layout((600, 600), "Linear"))

    def ask(*at: int) -> bool:
        key = (at, "q8", ("mean",))
        if pyramid.kept(key) is not None:
            return False
        pyramid.keep(key, ({}, bytes(pyramid.tile(at).mean.shape[0])))
        return True

    asked = [(0, 0, 1, 1), (0, 0, 0, 0), (1, 0, 0, 1), (*pyramid.base_level, 0, 0)]
    assert all(ask(*at) for at in asked)
    assert not any(ask(*at) for at in asked)
    pyramid.invalidate(((130, 131), (200, 201)))
    assert [ask(*at) for at in asked] == [True, False, True, True]


def test_a_cancelled_patch_leaves_no_picture_of_two_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 64)
    tensor = torch.randn(300, 300)
    pyramid = Pyramid(lambda: tensor, layout((300, 300), "Linear"))
    at = (*pyramid.base_level, 0, 0)
    pyramid.tile(at)
    tensor.zero_()
    pyramid.invalidate(((0, 300), (0, 300)))
    following = Progress()
    following.cancel()
    with following.listening(), pytest.raises(Cancelled):
        pyramid.tile(at)
    assert float(pyramid.tile(at).max.max()) == 0.0


@pytest.mark.parametrize("bad", [False, True])
def test_tiles_together_are_the_tiles_one_by_one(monkeypatch: pytest.MonkeyPatch, bad: bool) -> None:
    """S5: whatever set of them a screen lacks, each comes once, and is what it is alone."""
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 1 << 14)
    rng = random.Random(2)
    shape = (1100, 900)
    tensor, plan = with_bad_cells(shape) if bad else torch.randn(shape), layout(shape, "Linear")
    pyramid = Pyramid(lambda: tensor, plan)
    for level in [(0, 0), (1, 1), (2, 0), pyramid.base_level]:
        down, across = (-(-size // TILE) for size in pyramid.shape(*level))
        every = [(*level, row, column) for row in range(down) for column in range(across)]
        wanted = rng.sample(every, max(1, len(every) * 2 // 3))
        made = list(pyramid.tiles([*wanted, wanted[0]]))
        assert sorted(tile.at for tile in made) == sorted(wanted)
        for tile in made:
            alone = pyramid.tile(tile.at)
            for name, off in (("mean", 1e-5), ("min", 0), ("max", 0), ("rms", 1e-5)):  # torch may do what is small
                one, other = getattr(tile, name), getattr(alone, name)
                torch.testing.assert_close(one, other, rtol=off, atol=off / 10, equal_nan=True)
            flags = [torch.zeros(1) if each.flags is None else each.flags for each in (tile, alone)]
            assert bool((flags[0] == flags[1]).all())


def test_a_base_has_enough_bins_and_not_many_more() -> None:
    for size, level in ((1024, (0, 0)), (4096, (3, 3)), (16384, (4, 4))):
        assert Pyramid(lambda: torch.zeros(1), layout((size, size), "Linear")).base_level == level


@pytest.mark.parametrize("bad", [False, True])
def test_bins_are_halved_alike_by_numpy_and_by_torch(bad: bool) -> None:
    """Torch does it on other devices."""
    tensor = with_bad_cells((45, 38)) if bad else torch.randn(45, 38)
    made = bins.reduce(tensor, 3, 2)
    for axis in (0, 1):
        planes = [made.mean, made.min, made.max, made.rms, made.count, made.flags]
        by_torch, halved = bins._halved(torch, axis, planes), bins.halve(made, axis)
        by_numpy = [halved.mean, halved.min, halved.max, halved.rms, halved.count, halved.flags]
        for one, other in zip(by_torch, by_numpy, strict=True):
            if one is None:
                assert other is None
            else:
                torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-7, equal_nan=True)
        made = halved
