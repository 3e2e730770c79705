"""What the kernel answers to an edit of the page: refusals that say which cells are meant, and the norm behind a filter."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from torch import nn

import weightlab as wl
from tests.wire_examples import ask
from weightlab.jupyter.protocol import Session


@pytest.fixture
def session() -> Session:
    layers = OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3))
    return Session(wl.Lab(nn.Sequential(layers)))


def edited(session: Session, name: str, edit: str, args: dict[str, Any], **target: Any) -> dict[str, Any]:
    return ask(session, op="edit", name=name, edit=edit, args=args, **target)


def refusal(session: Session, values: list[str], region: str) -> str:
    message = {"v": 1, "id": "t", "op": "edit", "name": "conv.bias", "edit": "copy_", "args": {"values": values}}
    reply, _ = session.handle({**message, "region": region}, ())
    return str(reply["error"]["message"])


@pytest.mark.parametrize(
    ("region", "told"),
    [
        ("[::2]", "2 cells are selected: [0:3:2], got 3 numbers. Give 2, or one for all, or clear the region"),
        ("[0]", "1 cell is selected: [0], got 3 numbers."),
    ],
)
def test_values_that_do_not_fit_the_region_are_refused_with_what_is_selected(
    session: Session, region: str, told: str
) -> None:
    assert told in refusal(session, ["1", "2", "3"], region)
    whole = refusal(session, ["1", "2"], "[...]")
    assert whole.endswith("the tensor has 3 cells, got 2 numbers. Give 3, or one for all.")


@pytest.mark.parametrize(("edit", "args"), [("zero_", {}), ("fill_", {"value": "0"}), ("mul_", {"value": "0"})])
def test_whatever_makes_a_filter_zero_offers_the_norm_behind(session: Session, edit: str, args: dict[str, Any]) -> None:
    assert edited(session, "conv.weight", edit, args, region="[1]")["behind"] == "norm"
    if args:
        assert edited(session, "conv.weight", edit, {"value": "2"}, region="[0]")["behind"] is None


@pytest.mark.parametrize(("kind", "value", "offered"), [("largest", "18", None), ("smallest", "18", "norm")])
def test_a_condition_that_would_pick_other_cells_once_these_are_zero_offers_nothing(
    session: Session, kind: str, value: str, offered: str | None
) -> None:
    session.lab["conv.weight"][0].fill_(1e-3)
    session.lab["conv.weight"][1].fill_(7)
    session.lab["conv.weight"][2].fill_(1)
    answer = edited(session, "conv.weight", "zero_", {}, region="[...]", where={"kind": kind, "value": value})
    assert answer["entry"]["cells"] == 18
    assert answer["behind"] == offered
