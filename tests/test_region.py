"""Regions index as torch does, compose, print and parse."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model.region import Region

SHAPE = (5, 3, 4)


def cells(region: Region) -> Tensor:
    """Flat indices of the region's cells, by an independent road."""
    every = torch.arange(torch.Size(region.shape).numel()).view(region.shape)
    return region.cells if region.cells is not None else every[region.slices]


def random_index(rng: random.Random, shape: tuple[int, ...]) -> object:
    kind = rng.randrange(5)
    if kind == 0 and shape:
        return rng.randrange(-shape[0], shape[0])
    if kind == 1:
        return tuple(
            slice(*sorted(rng.randrange(-n, n + 2) for _ in range(2)), rng.choice([None, 1, 2])) for n in shape[:2]
        )
    if kind == 2:
        return torch.rand(shape) > 0.5
    if kind == 3 and shape:
        return torch.tensor(rng.sample(range(shape[0]), rng.randint(1, shape[0])))
    return (Ellipsis, slice(0, 2)) if shape else Ellipsis


@pytest.mark.parametrize("seed", range(60))
def test_indexing_twice_names_the_cells_that_torch_would(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    every = torch.arange(60).view(SHAPE)
    region = Region.whole(SHAPE)
    for _ in range(2):
        index = random_index(rng, tuple(every.shape))
        every, region = every[index], region.index(index)
        assert torch.equal(cells(region), every)
        assert region.view_shape == tuple(every.shape)
        assert region.numel == every.numel()
        if every.numel() == 0:
            break
    assert Region.from_json(region.to_json(), SHAPE) == region


@pytest.mark.parametrize(
    "text", ["[3]", "[3, :, 1:2]", "[:, 0]", "[1:4:2]", "[...]", "[-1]", "[..., 1]", "[::2, 1:]", "[0:100]"]
)
def test_text_means_what_python_means_and_prints_so_that_it_reads_back(text: str) -> None:
    every = torch.arange(60).view(SHAPE)
    region = Region.parse(text, SHAPE)
    assert torch.equal(cells(region), eval(f"every{text}", {"every": every}))
    assert Region.parse(str(region), SHAPE) == region


def test_the_printed_form_is_short() -> None:
    assert str(Region.parse("[3, :, 1:2]", SHAPE)) == "[3, :, 1:2]"
    assert str(Region.parse("", SHAPE)) == str(Region.parse("[:, :]", SHAPE)) == "[...]"
    assert str(Region.parse("[4, :, :]", SHAPE)) == "[4]"
    assert str(Region.whole(())) == "[...]"


def test_lists_of_indices_are_read() -> None:
    assert cells(Region.parse("[[0, 2], 1]", SHAPE)).tolist() == [[4, 5, 6, 7], [28, 29, 30, 31]]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[a]", "no index expression"),
        ("[1,,2]", "no index expression"),
        ("__import__('os')", "no index expression"),
        ("[0.5]", "no index expression"),
        ("[1:2:3:4]", "no index expression"),
        ("[[0]", "no index expression"),
        ("[1, 2, 3, 4]", "4 axes, the tensor has 3"),
        ("[5]", "expected -5 to 4"),
        ("[::-1]", "step must be at least 1"),
        ("[..., ...]", "'...' once"),
    ],
)
def test_text_that_does_not_fit_says_what_would(text: str, part: str) -> None:
    with pytest.raises(EditRefused, match=r"conv\.weight") as caught:
        Region.parse(text, SHAPE, "conv.weight [5, 3, 4]")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "index", [None, "a", 0.5, torch.zeros(2), torch.zeros(4, dtype=torch.bool), [9], (0, 0, 0, 0), {}, object()]
)
def test_an_index_of_a_wrong_kind_is_refused(index: object) -> None:
    with pytest.raises(EditRefused):
        Region.whole(SHAPE).index(index)


def test_bounds_enclose_the_cells() -> None:
    assert Region.parse("[1:4:2, 1]", SHAPE).bounds == ((1, 4), (1, 2), (0, 4))
    assert Region.of_cells(SHAPE, torch.tensor([13, 30])).bounds == ((1, 3), (0, 2), (1, 3))
    assert Region.parse("[3:3]", SHAPE).bounds == ((0, 0),) * 3


def test_a_scalar_has_one_cell() -> None:
    region = Region.parse("", ())
    assert (region.numel, region.slices, region.bounds) == (1, (), ())
    with pytest.raises(EditRefused):
        region.index(0)
