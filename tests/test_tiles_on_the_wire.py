"""Tiles as the page gets them: which ones, their bytes, at most 2 MB (S4)."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.wire_examples import Example, ask
from weightlab.jupyter.protocol import Session
from weightlab.see.layout import layout_of


@pytest.fixture
def session() -> Session:
    return Session(wl.Lab(Example()))


def decode(head: dict[str, Any], buffer: bytes) -> dict[str, Tensor]:
    """The page's side, written from docs/protocol.md."""
    count, planes = head["rows"] * head["columns"], {}
    for number, plane in enumerate(head["planes"]):
        if head["encoding"] == "f32":
            values = np.frombuffer(buffer, np.float32, count, head["offset"] + 4 * count * number).astype(np.float64)
        else:
            codes = np.frombuffer(buffer, np.uint8, count, head["offset"] + count * number)
            low, high = head["scale"][number]
            values = low + codes.astype(np.float64) * (high - low) / 252
            values[codes == 253], values[codes == 254], values[codes == 255] = -np.inf, np.inf, np.nan
        planes[plane] = torch.from_numpy(values.reshape(head["rows"], head["columns"]))
    return planes


@pytest.mark.parametrize("encoding", ["f32", "q8"])
def test_tiles_decode_to_the_sheet(session: Session, encoding: str) -> None:
    weight = session.lab.model.conv.weight.detach()
    with torch.no_grad():
        weight[0, 0, 0, 0], weight[1, 0, 0, 0], weight[2, 0, 0, 0] = math.nan, math.inf, -math.inf
    reply, made = session.handle(
        {
            "v": 1,
            "id": "1",
            "op": "tiles",
            "name": "conv.weight",
            "tiles": [[0, 0, 0, 0], [1, 1, 0, 0]],
            "encoding": encoding,
        },
        [],
    )
    assert reply["left"] == []
    exact, reduced = reply["tiles"]
    assert exact["offset"] % 4 == reduced["offset"] % 4 == 0
    sheet, real = layout_of(session.lab.tree["conv.weight"]).cut(weight.detach(), 0, exact["rows"], 0, exact["columns"])
    assert real is None
    step = 0 if encoding == "f32" else float(weight[weight.isfinite()].max() - weight[weight.isfinite()].min()) / 252
    torch.testing.assert_close(decode(exact, made[0])["value"], sheet.double(), atol=step, rtol=0, equal_nan=True)
    assert (exact["nan"], exact["inf"]) == (1, 2)
    planes = decode(reduced, made[0])
    assert int(planes["mean"].isnan().sum()) == 1
    assert planes["min"].isfinite().all()


def test_the_extreme_of_a_bin_is_its_cell_farthest_from_zero(session: Session) -> None:
    """S2, S3: one plane tells of spikes on both sides, and of cells that are not finite; that of root mean squares does, too."""
    weight = session.lab.model.conv.weight.detach()
    with torch.no_grad():
        weight[0, 0, 0, 0], weight[4, 1, 1, 1] = math.nan, -math.inf
    message = {"v": 1, "id": "1", "op": "tiles", "name": "conv.weight", "tiles": [[1, 1, 0, 0]], "encoding": "f32"}
    (reply, made), (one, part) = (
        session.handle({**message, "planes": planes}, []) for planes in (["mean", "min", "max"], ["extreme", "rms"])
    )
    all_of, drawn = decode(reply["tiles"][0], made[0]), decode(one["tiles"][0], part[0])
    extreme = drawn["extreme"]
    bad = ~all_of["mean"].isfinite()
    assert int(bad.sum()) == 2
    assert torch.equal(extreme[bad].nan_to_num(5.0), all_of["mean"][bad].nan_to_num(5.0))
    farthest = torch.where(all_of["min"].abs() > all_of["max"].abs(), all_of["min"], all_of["max"])
    assert torch.equal(extreme[~bad], farthest[~bad])
    assert torch.equal(drawn["rms"][bad].nan_to_num(5.0), all_of["mean"][bad].nan_to_num(5.0))
    assert (drawn["rms"][~bad] <= farthest[~bad].abs() * 1.0001).all()


@pytest.mark.parametrize("shape", [(5, 3), (300, 700), (40, 9000), (1500, 2000), (0, 3), (7,), (16, 3, 5, 5)])
def test_opening_brings_the_tiles_of_the_first_screen(shape: tuple[int, ...]) -> None:
    """The very tiles that would be asked for next, behind the orders in the one buffer."""
    session = Session(wl.Lab(nn.ParameterDict({"w": torch.randn(shape)})))
    fields = {"name": "w", "layout": {"sort": [[0, "norm"]]}} if len(shape) == 2 and shape[0] else {"name": "w"}
    screen = {"rows": 200, "columns": 500, "planes": ["extreme"]}
    opened, made = session.handle({"v": 1, "id": "1", "op": "open", **fields, "screen": screen}, [])
    plain, orders = session.handle({"v": 1, "id": "1", "op": "open", **fields}, [])
    assert plain["tiles"] == []
    if 0 in shape:
        assert opened["tiles"] == []
        return
    begin = opened["tiles"][0]["offset"]
    assert made[0][:begin] == (orders[0] if orders else b"")
    sheet = layout_of(session.lab.tree["w"]).sheet
    row_level, column_level = opened["tiles"][0]["at"][:2]
    assert -(-sheet[0] // 2**row_level) <= 200
    assert -(-sheet[1] // 2**column_level) <= 500
    asked = {"v": 1, "id": "2", "op": "tiles", "name": "w", "tiles": [head["at"] for head in opened["tiles"]]}
    if "layout" in fields:
        asked["layout"] = {"orders": [order["token"] for order in opened["layout"]["orders"]]}
    encoding = opened["tiles"][0]["encoding"]
    assert encoding == ("f32" if math.prod(shape) < 2000 else "q8")
    again, tiles = session.handle({**asked, "encoding": encoding, "planes": ["extreme"]}, [])
    assert tiles[0] == made[0][begin:]
    assert [head["at"] for head in again["tiles"]] == [head["at"] for head in opened["tiles"]]


def test_a_reply_is_at_most_two_megabytes(session: Session) -> None:
    """S4: what does not fit is listed as left, and can be asked for again."""
    session.lab.model.register_buffer("big", torch.randn(1024, 1024))
    session.lab.refresh()
    wanted = [[0, 0, row, column] for row in range(8) for column in range(8)]
    seen, asked = [], wanted
    while asked:
        message = {"v": 1, "id": "1", "op": "tiles", "name": "big", "tiles": asked, "encoding": "f32"}
        reply, made = session.handle(message, [])
        assert len(made[0]) + len(json.dumps(reply)) <= 2 * 1024 * 1024
        seen += [head["at"] for head in reply["tiles"]]
        asked = reply["left"]
    assert seen == wanted


def test_opening_a_big_tensor_sends_what_the_screen_needs() -> None:
    """S4: the size depends on the screen, not on the tensor."""
    session = Session(wl.Lab(nn.Embedding(40_000, 256)))
    opened = ask(session, "open", name="weight")
    assert not opened["summary"]["exact"]
    assert len(json.dumps(opened)) < 5000
    _, made = session.handle(
        {"v": 1, "id": "1", "op": "tiles", "name": "weight", "tiles": [[8, 0, 0, 0], [8, 0, 0, 1]], "encoding": "q8"},
        [],
    )
    assert sum(map(len, made)) < 150_000
    assert ask(session, "summary", name="weight")["summary"]["exact"]


def test_cells_are_read_exactly(session: Session) -> None:
    weight = session.lab.model.conv.weight
    texts = ask(session, "read", name="conv.weight", cells=[[3, 0, 1, 2], [0, 0, 0, 0]])["texts"]
    assert [np.float32(text) for text in texts] == [weight[3, 0, 1, 2].item(), weight[0, 0, 0, 0].item()]
