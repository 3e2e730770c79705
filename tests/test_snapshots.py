"""Named copies: diff against an independent reference, restore to the byte, large models copied on first write, transfer."""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import state
from weightlab.edit import snapshots


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def odd_bits(model: nn.Module) -> None:
    """A NaN with a payload and -0.0 in the first weight."""
    with torch.no_grad():
        model.get_parameter("0.weight").view(torch.int32)[0, :2] = torch.tensor(
            [0x7FC01234, -(2**31)], dtype=torch.int32
        )


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("large", [False, True], ids=["at once", "on first write"])
def test_restore_gives_back_every_byte_as_one_entry(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(snapshots, "at_once", lambda: 0)
    model = net()
    odd_bits(model)
    lab = wl.Lab(model)
    before = state(model)
    with pytest.warns(UserWarning, match="quarter of the free memory") if large else nullcontext():
        lab.snapshot("before")
    lab["0.weight"].fill_(0.5)
    lab["1.bias"].normal_()
    changed = state(model)
    assert {row.name for row in lab.diff("before")} == {"0.weight", "1.bias"}
    lab.restore("before", ["1.bias"])
    assert state(model)["1.bias"] == before["1.bias"]
    assert state(model)["0.weight"] == changed["0.weight"]
    lab.restore("before")
    assert state(model) == before
    assert len(lab.diff("before")) == 0
    assert len(lab.history) == 4
    lab.undo()
    lab.undo()
    assert state(model) == changed


@pytest.mark.filterwarnings("ignore:snapshot")
def test_steps_of_an_optimizer_are_caught_and_foreign_writes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "at_once", lambda: 0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lab = wl.Lab(model)
    before = state(model)
    lab.snapshot("before")
    step(model, optimizer)
    assert state(model) != before
    assert len(lab.diff("before")) == 4
    lab.restore("before")
    assert state(model) == before
    lab.snapshot("again")
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(wl.EditRefused, match="other code changed it before the snapshot"):
        lab.diff("again")


@pytest.mark.filterwarnings("ignore:snapshot")
def test_a_large_model_with_running_statistics_trains_and_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """J2: a training forward changes buffers, and announces itself to nobody."""
    monkeypatch.setattr(snapshots, "at_once", lambda: 0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lab = wl.Lab(model)
    before = state(model)
    lab.snapshot("a")
    optimizer.zero_grad()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    assert state(model) != before
    lab.restore("a")
    assert state(model) == before


def test_a_model_is_copied_at_once_where_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that writes past the Lab and every optimizer costs the snapshot nothing then."""
    monkeypatch.setattr(snapshots, "AT_ONCE", 0)
    monkeypatch.setattr(snapshots, "free_memory", lambda: 2**20)
    model = net()
    lab = wl.Lab(model)
    before = state(model)
    lab.snapshot("a")
    with torch.no_grad():
        model[0].weight.add_(1)
    lab.restore("a")
    assert state(model) == before


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.filterwarnings("ignore:snapshot")
def test_what_two_snapshots_have_alike_is_kept_once(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(snapshots, "AT_ONCE", 0)
        monkeypatch.setattr(snapshots, "free_memory", lambda: 0)
    lab = wl.Lab(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    lab.snapshot("one")
    lab["0.bias"].fill_(0.5)
    lab["0.bias"][0] = -0.0
    lab.snapshot("two")
    lab["0.weight"].mul_(2)
    lab["0.bias"][0] = 0.0
    lab.snapshot("three")
    lab["1.weight"].zero_()
    one, two, three = (lab.source(label) for label in ("one", "two", "three"))
    alike = {name: (one[name] is two[name], two[name] is three[name]) for name in ("0.weight", "0.bias", "1.weight")}
    assert alike == {"0.weight": (True, False), "0.bias": (False, False), "1.weight": (True, True)}
    assert two["0.bias"].tolist() == [0, 0.5]
    assert two["0.bias"].signbit().tolist() == [True, False]


def test_a_diff_agrees_with_plain_loops() -> None:
    one, other = net(), net()
    rows = wl.Lab(one).diff(other)
    assert [row.name for row in rows] == [name for name, _ in one.named_parameters()]
    for row in rows:
        a: list[float] = one.get_parameter(row.name).double().flatten().tolist()
        b: list[float] = other.get_parameter(row.name).double().flatten().tolist()
        gaps = [abs(x - y) for x, y in zip(a, b, strict=True)]
        assert row.cells == sum(gap > 0 for gap in gaps)
        assert row.max == max(gaps)
        assert math.isclose(row.mean, sum(gaps) / len(gaps))
        length = math.sqrt(sum(y * y for y in b))
        assert math.isclose(row.relative_l2, math.sqrt(sum(g * g for g in gaps)) / length)
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        assert math.isclose(row.cosine, dot / length / math.sqrt(sum(x * x for x in a)))


def test_a_diff_takes_models_labs_state_dicts_and_files(tmp_path: Path) -> None:
    model, other = net(), net()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other[1].bias[1] += 1
    lab = wl.Lab(model)
    wl.Lab(other).save(tmp_path / "o.safetensors")
    for against in (
        other,
        wl.Lab(other),
        other.state_dict(),
        tmp_path / "o.safetensors",
        str(tmp_path / "o.safetensors"),
    ):
        rows = lab.diff(against)
        assert [(row.name, row.cells) for row in rows] == [("1.bias", 1)]
        assert rows.equal == 3
    with pytest.raises(wl.UnknownName):
        lab.diff("nope")
    with pytest.raises(wl.EditRefused):
        lab.diff(3)  # type: ignore[arg-type]


def test_a_diff_tells_minus_zero_and_nan_by_their_bytes() -> None:
    model = net()
    lab = wl.Lab(model)
    lab["0.bias"].zero_()
    lab.snapshot("zero")
    with torch.no_grad():
        model[0].bias[0] = -0.0
        model[0].bias[1] = float("nan")
    assert lab.diff("zero")["0.bias"].cells == 2


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("now", "then", "largest"),
    [
        ([INF, 1.0, 4.0], [INF, 2.0, 4.0], 1.0),
        ([NAN, 1.0, 4.0], [0.5, 2.0, 4.0], NAN),
        ([0.5, 1.0, 4.0], [NAN, 2.0, 4.0], NAN),
        ([INF, 1.0, 4.0], [0.5, 2.0, 4.0], INF),
        ([INF, 1.0, 4.0], [-INF, 2.0, 4.0], INF),
        ([NAN, INF, 1.0, 4.0], [0.0, 0.0, 2.0, 4.0], NAN),
        ([NAN, 1.0, 4.0], [NAN, 2.0, 4.0], 1.0),
    ],
)
def test_a_diff_is_over_finite_cells_and_tells_the_others(now: list[float], then: list[float], largest: float) -> None:
    model = nn.Module()
    model.register_buffer("w", torch.tensor(now))
    row = wl.Lab(model).diff({"w": torch.tensor(then)})["w"]
    assert row.max == largest or (math.isnan(row.max) and math.isnan(largest))
    assert row.mean == 0.5  # of 1 and 4 against 2 and 4
    assert row.relative_l2 == pytest.approx(1 / math.sqrt(20))
    assert row.cosine == pytest.approx(18 / math.sqrt(17 * 20))


@pytest.mark.parametrize(("dtype", "top"), [(torch.uint64, 2**64 - 1), (torch.int64, 2**63 - 1)], ids=str)
def test_a_diff_of_neighbouring_large_integers_is_one(dtype: torch.dtype, top: int) -> None:
    model = nn.Module()
    model.register_buffer("n", torch.tensor([top, 0], dtype=dtype))
    row = wl.Lab(model).diff({"n": torch.tensor([top - 1, 0], dtype=dtype)})["n"]
    assert (row.cells, row.max) == (1, 1.0)
    assert wl.Lab(model).diff({"n": torch.tensor([0, 0], dtype=dtype)})["n"].max == float(top)


def weight_normed(old: bool) -> nn.Sequential:
    layer = nn.Linear(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.utils.weight_norm(layer) if old else nn.utils.parametrizations.weight_norm(layer)
    return nn.Sequential(normed)


@pytest.mark.parametrize("old", [False, True], ids=["parametrized", "by a hook"])
def test_a_computed_weight_is_restored_through_its_originals(old: bool) -> None:
    model = weight_normed(old)
    lab = wl.Lab(model)
    before = state(model)
    lab.snapshot("s")
    for name in lab.tree.originals("0.weight"):
        lab[name].mul_(3)
    lab["0.bias"].zero_()
    entry = lab.restore("s", ["0.weight", "0.weight"])
    assert entry is not None
    changed = {name for name, value in state(model).items() if value != before[name]}
    assert changed == {"0.bias"}
    assert entry.text.count("0.weight_g" if old else "original0") == 1


def test_a_tensor_that_is_newer_than_the_snapshot_is_told() -> None:
    model = net()
    lab = wl.Lab(model)
    lab.snapshot("s")
    model.register_buffer("scale", torch.ones(2))
    lab["0.bias"].zero_()
    now = state(model)
    with pytest.raises(wl.EditRefused, match=r"scale \[2\]: the snapshot 's' does not have it"):
        lab.restore("s", ["0.bias", "scale"])
    assert state(model) == now
    with pytest.warns(UserWarning, match="does not have scale, which keep"):
        lab.restore("s")
    assert len(lab.diff({"0.bias": model[0].bias.detach()})) > 0
    assert len(lab.history) == 2


def test_a_name_that_is_given_twice_is_said_once() -> None:
    lab = wl.Lab(net())
    lab.snapshot("s")
    lab["1.bias"].zero_()
    entry = lab.restore("s", ["1.bias", "1.bias"])
    assert entry is not None
    assert entry.text == "Restore 1.bias from s"
    assert len(entry.edits) == 1


def test_unknown_labels_and_names_are_refused() -> None:
    lab = wl.Lab(net())
    lab.snapshot("a")
    for act in (lambda: lab.restore("b"), lambda: lab.restore("a", ["nope"]), lambda: lab.view("0.bias", "diff:b")):
        with pytest.raises(wl.UnknownName):
            act()
    for label in ("", 3):
        with pytest.raises(wl.EditRefused):
            lab.snapshot(label)  # type: ignore[arg-type]
    assert lab.history == ()


def test_transfer_copies_what_fits_and_says_why_the_rest_was_left() -> None:
    model, other = net(), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    with torch.no_grad():
        other[0].bias.copy_(model[0].bias)
    lab = wl.Lab(model)
    before = state(model)
    report = lab.transfer(other)
    assert [(row.name, row.status) for row in report] == [
        ("0.weight", "copied"), ("0.bias", "equal"), ("1.weight", "left"), ("1.bias", "left")
    ]  # fmt: skip
    assert "shape [2, 4], there [5, 4]" in str(report)
    assert torch.equal(model[0].weight, other[0].weight)
    assert len(lab.history) == 1
    lab.undo()
    assert state(model) == before
    renamed: dict[str, Tensor] = {f"x.{name}": value for name, value in other.state_dict().items()}
    assert lab.transfer(renamed, match=lambda name: f"x.{name}").copied == ("0.weight",)
    with pytest.raises(wl.EditRefused):
        lab.transfer(other, match=3)  # type: ignore[arg-type]
