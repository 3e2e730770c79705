"""Search for cells, and cells as text: against sorted lists, over dtypes and strides."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from weightlab.errors import Cancelled
from weightlab.progress import Progress
from weightlab.see import find as module
from weightlab.see import reading
from weightlab.see.find import find
from weightlab.see.table import as_torch, as_tsv


@pytest.fixture(params=[1 << 22, 7], ids=["one piece", "many pieces"], autouse=True)
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", request.param)


def walk(tensor: Tensor, what: str, **options: float) -> list[int]:
    found: list[int] = []
    at: int | None = None
    while (at := find(tensor, what, at, **options)) is not None and len(found) < 200:
        found.append(at)
    return found


def cells(dtype: torch.dtype = torch.float32) -> Tensor:
    made = (torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)) * 3).round().to(dtype)
    return made.transpose(0, 1)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.float64], ids=str
)
@pytest.mark.parametrize("what", ["largest", "smallest", "magnitude", "nearest"])
def test_next_walks_through_all_cells_in_order_and_previous_walks_back(what: str, dtype: torch.dtype) -> None:
    tensor = cells(dtype)
    numbers = tensor.double().flatten().tolist()
    key = {
        "largest": lambda v: -v,
        "smallest": lambda v: v,
        "magnitude": lambda v: -abs(v),
        "nearest": lambda v: abs(v - 1),
    }
    wanted = sorted(range(60), key=lambda at: (key[what](numbers[at]), at))
    assert walk(tensor, what, value=1.0) == wanted
    assert [find(tensor, what, at, 1.0, back=True) for at in wanted[1:]] == wanted[:-1]
    assert find(tensor, what, wanted[0], 1.0, back=True) is None


def test_cells_that_are_not_finite_are_found_by_kind_and_around_the_end() -> None:
    """S3."""
    tensor = cells().contiguous()
    tensor.view(-1)[[4, 30, 31]] = math.nan
    tensor.view(-1)[[2, 59]] = torch.tensor([math.inf, -math.inf])
    assert [find(tensor, "nan", at) for at in (None, 4, 30, 31)] == [4, 30, 31, 4]
    assert [find(tensor, "nan", at, back=True) for at in (31, 4, 10)] == [30, 31, 4]
    assert [find(tensor, "inf", at) for at in (None, 2, 59)] == [2, 59, 2]
    assert len(walk(tensor, "largest")) == 55
    assert find(tensor, "largest", 4) == find(tensor, "largest")


@pytest.mark.parametrize("tensor", [torch.empty(0, 3), torch.full((3, 2), math.nan)], ids=["empty", "all nan"])
def test_where_there_is_none_nothing_is_found(tensor: Tensor) -> None:
    for what in ("largest", "smallest", "magnitude", "nearest", "inf"):
        assert find(tensor, what) is None


def test_a_scalar_is_its_own_largest_cell() -> None:
    assert find(torch.tensor(3.5), "largest") == 0
    assert find(torch.tensor(3.5), "largest", 0) is None


@pytest.mark.parametrize(
    "tensor",
    [
        cells(),
        cells(torch.bfloat16),
        torch.tensor([[0.1, math.nan], [-math.inf, -0.0]]),
        torch.tensor(7, dtype=torch.int16),
        torch.empty(0, 2),
        torch.tensor([True, False]),
        torch.tensor([1.5 - 2j, complex(math.inf, 1)]),
    ],
    ids=["box", "bfloat16", "not finite", "scalar", "empty", "bool", "complex"],
)
def test_cells_copied_as_torch_code_are_the_same_cells(tensor: Tensor) -> None:
    made = eval(as_torch(tensor), {"torch": torch})
    assert made.dtype == tensor.dtype
    assert made.shape == tensor.shape
    assert str(made.tolist()) == str(tensor.tolist())


def test_tab_separated_rows_are_the_last_axis() -> None:
    assert as_tsv(torch.arange(12).view(2, 2, 3)) == "0\t1\t2\n3\t4\t5\n6\t7\t8\n9\t10\t11"
    assert as_tsv(torch.tensor(0.1)) == "0.1"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8], ids=str)
def test_a_large_tensor_is_searched_in_the_same_order_by_compiled_loops(dtype: torch.dtype) -> None:
    tensor = (torch.randn(130, 257, generator=torch.Generator().manual_seed(1)) * 9).round().to(dtype)
    if dtype.is_floating_point:
        tensor[3, 3], tensor[5, 5], tensor[7, 7] = math.nan, math.inf, -math.inf
    reading.moments(tensor, 0.0, patient=True)  # the loops are there from here on
    transposed = tensor.t().contiguous().t()  # these cells are not in a row: torch searches them
    for what in ("largest", "smallest", "magnitude", "nearest"):
        for back in (False, True):
            at: int | None = None if not back else 20_000
            for _ in range(4):
                ours, other = find(tensor, what, at, 1.25, back), find(transposed, what, at, 1.25, back)
                assert ours == other
                at = ours


def test_whole_numbers_are_told_apart_that_float64_cannot() -> None:  # S1
    large = torch.tensor([2**53, 2**53 + 1, 2**53, -(2**63), 2**63 - 1])
    assert walk(large, "largest") == [4, 1, 0, 2, 3]
    assert walk(large, "smallest") == [3, 0, 2, 1, 4]
    assert walk(large, "magnitude") == [3, 4, 1, 0, 2]
    assert walk(large, "nearest", value=float(2**53)) == [0, 2, 1, 4, 3]
    unsigned = torch.tensor([2**53, 2**53 + 1, 0], dtype=torch.uint64)
    assert walk(unsigned, "largest") == walk(unsigned, "magnitude") == [1, 0, 2]
    assert walk(unsigned, "nearest", value=1.0) == [2, 0, 1]


@pytest.mark.parametrize("what", ["largest", "nearest", "nan"])
def test_a_search_says_how_far_it_is_and_can_be_cancelled(what: str) -> None:
    told: list[int] = []
    tensor = torch.ones(100, 7)
    with Progress(lambda done, total, words: told.append(done)).listening() as progress:
        progress.cancel()
        with pytest.raises(Cancelled, match="searching 700 cells"):
            find(tensor, what)
