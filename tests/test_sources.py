"""Values from elsewhere: offered models, averages of whole models, and what the page may ask of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from weightlab.jupyter.protocol import Session


def classifier(classes: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, classes))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def ask(session: Session, op: str, **fields: Any) -> dict[str, Any]:
    return session.handle({"v": 1, "id": "t", "op": op, **fields})[0]


def edit(session: Session, name: str, region: str, edit: str, **args: Any) -> dict[str, Any]:
    return ask(session, "edit", name=name, region=region, edit=edit, args=args)


def test_an_offered_model_is_named_by_its_label_and_read_when_it_is_asked_for() -> None:
    model, other = classifier(5, 0), classifier(5, 1)
    lab = wl.Lab(model)
    lab.offer("pretrained", other)
    with torch.no_grad():
        other[0].weight.fill_(0.25)
    assert lab.diff("pretrained")["0.weight"].cells == 12
    assert torch.equal(lab.view("0.weight", "diff:pretrained"), model[0].weight.detach() - 0.25)
    lab.transfer("pretrained")
    assert torch.equal(model[0].weight, other[0].weight)
    lab.offer("pretrained", None)
    with pytest.raises(wl.UnknownName, match="pretrained"):
        lab.source("pretrained")


def test_a_file_and_a_lab_can_be_offered(tmp_path: Path) -> None:
    model, other = classifier(5, 0), classifier(5, 1)
    wl.Lab(other).save(tmp_path / "other.safetensors")
    lab = wl.Lab(model)
    lab.offer("file", tmp_path / "other.safetensors")
    lab.offer("lab", wl.Lab(other))
    assert torch.equal(lab.source("file")["0.weight"], lab.source("lab")["0.weight"])


@pytest.mark.parametrize("label", ["", "x" * 101, 3, "taken"])
def test_a_bad_offer_is_refused_and_nothing_is_kept(label: Any) -> None:
    lab = wl.Lab(classifier(5, 0))
    lab.snapshot("taken")
    with pytest.raises(wl.EditRefused, match=r"offer|snapshot"):
        lab.offer(label, classifier(5, 1))
    with pytest.raises(wl.EditRefused, match="expected"):
        lab.offer("number", 3)  # type: ignore[arg-type]
    assert lab.offers == {}


def test_a_label_is_a_snapshot_or_an_offer_and_never_both() -> None:
    lab = wl.Lab(classifier(5, 0))
    lab.offer("pretrained", classifier(5, 1))
    with pytest.raises(wl.EditRefused, match="other model"):
        lab.snapshot("pretrained")
    assert lab.snapshots.labels == ()


def test_a_transfer_with_a_weight_averages_what_has_an_average_as_one_entry() -> None:
    model, other = classifier(5, 0), classifier(5, 1)
    other[1].num_batches_tracked.fill_(7)
    before = values(model)
    lab = wl.Lab(model)
    report = lab.transfer(other, weight=0.25)
    for name, tensor in model.state_dict().items():
        wanted = before[name]
        if tensor.is_floating_point():
            wanted = torch.lerp(wanted, other.state_dict()[name], 0.25)
        assert torch.equal(tensor, wanted), name
    assert report.left == ("1.num_batches_tracked",)
    assert len(lab.history) == 1
    lab.undo()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # J2


def test_a_tensor_that_does_not_take_the_values_is_a_row_and_the_others_are_copied() -> None:
    model = nn.Module()
    model.register_buffer("narrow", torch.ones(2, dtype=torch.float16))
    model.register_buffer("real", torch.ones(2))
    model.register_buffer("whole", torch.ones(2, dtype=torch.int8))
    model.register_buffer("good", torch.ones(2))
    model.register_buffer("turn", torch.ones(2, dtype=torch.complex64))
    other = {"narrow": torch.tensor([1e6, 1.0]), "real": torch.tensor([1j, 1j]), "whole": torch.tensor([300, 1]),
             "good": torch.tensor([2.0, 3.0]), "turn": torch.tensor([1 + 2j, 3 - 4j])}  # fmt: skip
    lab = wl.Lab(model)
    report = lab.transfer(other)
    assert report.copied == ("good", "turn")
    notes = {row.name: row.note for row in report if row.status == "left"}
    assert "float16 holds at most" in notes["narrow"]
    assert "real numbers only" in notes["real"]
    assert "int8 holds -128 to 127" in notes["whole"]
    lab.undo()
    averaged = lab.transfer(other, weight=0.5)
    assert averaged.copied == ("good", "turn")
    assert model.turn.tolist() == [1 + 1j, 2 - 2j]


def test_an_average_that_overflows_is_a_row() -> None:
    model = nn.Module()
    model.register_buffer("narrow", torch.tensor([60000.0, 1.0], dtype=torch.float16))
    model.register_buffer("good", torch.ones(2))
    lab = wl.Lab(model)
    report = lab.transfer({"narrow": torch.tensor([-60000.0, 1.0]).half(), "good": torch.zeros(2)}, weight=-0.5)
    assert (report.copied, report.left) == (("good",), ("narrow",))
    assert model.narrow.tolist() == [60000.0, 1.0]


@pytest.mark.parametrize("weight", [True, "half", float("nan"), None])
def test_a_weight_that_is_no_number_changes_nothing(weight: Any) -> None:
    model = classifier(5, 0)
    before = values(model)
    with pytest.raises(wl.EditRefused, match="weight"):
        wl.Lab(model).transfer(classifier(5, 1), weight=weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # J3


def test_the_page_copies_a_part_of_another_shape() -> None:
    model, other = classifier(6, 0), classifier(5, 1)
    lab = wl.Lab(model)
    lab.offer("pretrained", other)
    session = Session(lab)
    reply = edit(session, "2.weight", "[...]", "copy_", source="pretrained")
    assert not reply["ok"]
    assert "2.weight [6, 4]" in reply["error"]["message"]
    assert edit(session, "2.weight", "[:5]", "copy_", source="pretrained")["ok"]
    assert torch.equal(model[2].weight[:5], other[2].weight)
    assert edit(session, "2.weight", "[5]", "copy_", source="pretrained", part="[0]")["ok"]
    assert torch.equal(model[2].weight[5], other[2].weight[0])
    assert edit(session, "2.bias", "[:3]", "copy_", source="pretrained", tensor="1.bias", part="[1:]")["ok"]
    assert torch.equal(model[2].bias[:3], other[1].bias[1:])
    reply = edit(session, "2.bias", "[0]", "copy_", source="pretrained", tensor="2.bais")
    assert "Closest: '2.bias'" in reply["error"]["message"]


def test_the_page_averages_the_cells_that_a_condition_picks() -> None:
    model, other = classifier(5, 0), classifier(5, 1)
    lab = wl.Lab(model)
    lab.offer("pretrained", other)
    before = model[0].weight.detach().clone()
    picked = before.abs() > 0.2
    where = {"kind": "above", "value": "0.2"}
    fields = {"name": "0.weight", "region": "[...]", "where": where}
    call = {"edit": "lerp_", "args": {"source": "pretrained", "weight": "0.5"}}
    assert ask(Session(lab), "preview", **fields, **call)["preview"]["changed"] == int(picked.sum())
    assert ask(Session(lab), "edit", **fields, **call)["ok"]
    middle = torch.lerp(before, other[0].weight.detach(), 0.5)
    assert torch.equal(model[0].weight, torch.where(picked, middle, before))


def test_a_planned_transfer_tells_and_changes_nothing_and_the_real_one_does_what_was_told() -> None:
    model, other = classifier(6, 0), classifier(5, 1)
    lab = wl.Lab(model)
    lab.offer("pretrained", other)
    session = Session(lab)
    before = values(model)
    plan = ask(session, "transfer", label="pretrained", plan=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [row["name"] for row in plan["rows"] if row["status"] == "left"] == ["2.weight", "2.bias"]
    done = ask(session, "transfer", label="pretrained")
    assert done["rows"] == plan["rows"]
    assert done["entry"]["text"] == "Transfer 2 tensors from pretrained"
    assert torch.equal(model[0].weight, other[0].weight)
    assert ask(session, "drop", label="pretrained")["state"]["offers"] == []


def test_a_zeroed_unit_names_the_norm_behind_it_and_linked_zeroes_it() -> None:
    model = classifier(5, 0)
    session = Session(wl.Lab(model))
    assert edit(session, "0.weight", "[2]", "zero_")["behind"] == "1"
    assert edit(session, "0.weight", "[1]", "fill_", value=0.5)["behind"] is None
    call = {"name": "0.weight", "region": "[2]", "edit": "zero_", "args": {}, "linked": True}
    assert ask(session, "edit", **call)["behind"] is None
    assert model[1].weight.tolist() == [1, 1, 0, 1]


def test_moments_are_told_once_the_optimizer_has_some_and_kept_when_asked() -> None:
    model = classifier(5, 0)
    optimizer = torch.optim.Adam(model.parameters())
    session = Session(wl.Lab(model, optimizer=optimizer))
    assert ask(session, "hello")["state"]["moments"] is False
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    assert ask(session, "hello")["state"]["moments"] is True
    moment = optimizer.state[model[0].weight]["exp_avg"]
    kept = moment.clone()
    call = {"name": "0.weight", "region": "[0]", "edit": "zero_", "args": {}}
    ask(session, "edit", **call, moments="keep")
    assert torch.equal(moment, kept)  # J12
    ask(session, "edit", name="0.weight", region="[1]", edit="fill_", args={"value": 1}, moments="zero")
    assert not moment[1].any()


def test_cells_of_a_hold_that_lists_them_are_told() -> None:
    session = Session(wl.Lab(classifier(5, 0)))
    where = {"kind": "largest", "value": 3}
    state = ask(session, "hold", name="0.weight", region="[...]", where=where, kind="keep")["state"]
    reply, buffers = session.handle({"v": 1, "id": "t", "op": "held", "hold": state["holds"][0]["id"]})
    assert not reply["truncated"]
    cells = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float64).long()
    weight = session.lab.tree.tensor("0.weight").detach().flatten()
    assert set(cells.tolist()) == set(weight.abs().argsort(descending=True)[:3].tolist())
