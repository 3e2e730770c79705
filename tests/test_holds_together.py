"""T4 and section 9a: several holds on the same cells are all kept, or the one that cannot be is refused when it is made."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from weightlab.model.overlap import flat_cells, meet, positions
from weightlab.model.region import Region

Hold = Callable[[wl.weight.WeightRef], object]


def make(**options: Any) -> tuple[wl.Lab, Tensor]:
    torch.manual_seed(3)
    model = nn.Linear(3, 4, bias=False, **options)
    return wl.Lab(model), model.weight


def move(weight: Tensor, by: float) -> None:
    with torch.no_grad():
        weight.add_(torch.linspace(0.3, 1.0, weight.numel()).view(weight.shape) * by)


TOGETHER: dict[str, tuple[list[Hold], Callable[[Tensor], Tensor]]] = {
    "a tie, then a keep of its source": (
        [lambda w: w[0].hold(like=w[1]), lambda w: w[1].hold()],
        lambda w: w[0] == w[1],
    ),
    "a tie, then bounds of its source": (
        [lambda w: w[0].hold(like=w[1]), lambda w: w[1].hold(max=0.2)],
        lambda w: (w[0] == w[1]) & (w[1] <= 0.2),
    ),
    "bounds, then a tie of them to free cells": (
        [lambda w: w[0].hold(min=-0.01, max=0.01), lambda w: w[0].hold(like=w[1])],
        lambda w: (w[0] == w[1]) & (w[0].abs() <= torch.tensor(0.01)),
    ),
    "bounds on both sides of a tie": (
        [lambda w: w[0].hold(min=-0.5, max=0.1), lambda w: w[1].hold(min=-0.1), lambda w: w[0].hold(like=w[1])],
        lambda w: (w[0] == w[1]) & (w[0] <= torch.tensor(0.1)) & (w[0] >= torch.tensor(-0.1)),
    ),
    "a chain of ties, made from its end, with bounds at one end and a sign at the other": (
        [
            lambda w: w[2].hold(like=w[1]),
            lambda w: w[1].hold(like=w[0]),
            lambda w: w[2].hold(max=0.05),
            lambda w: w[0].hold(sign=True),
        ],
        lambda w: (w[0] == w[1]) & (w[1] == w[2]) & (w[2] <= torch.tensor(0.05)),
    ),
    "two that follow one, the later one under bounds": (
        [lambda w: w[3].hold(like=w[1]), lambda w: w[2].hold(like=w[1]), lambda w: w[2].hold(min=-0.01, max=0.01)],
        lambda w: (w[3] == w[1]) & (w[2] == w[1]) & (w[1].abs() <= torch.tensor(0.01)),
    ),
    "bounds, then a rule": (
        [lambda w: w.hold(min=-0.01, max=0.01), lambda w: w.hold(rule=lambda cells: cells + 1)],
        lambda w: w.abs() <= torch.tensor(0.01),
    ),
    "bounds on every other row": (
        [lambda w: w[::2].hold(min=0.1), lambda w: w[1::2].hold(max=-0.1)],
        lambda w: torch.cat([w[::2] >= torch.tensor(0.1), w[1::2] <= torch.tensor(-0.1)]),
    ),
    "bounds on a mask and on the rest": (
        [lambda w: w[w.value > 0].hold(min=0.1), lambda w: w[~(w.value > 0)].hold(max=-0.1)],
        lambda w: w.abs() >= torch.tensor(0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.parametrize("by", [1.7, -1.7])
def test_holds_that_meet_are_all_kept(kind: str, by: float) -> None:
    lab, weight = make()
    holds, kept = TOGETHER[kind]
    for hold in holds:
        hold(lab["weight"])
    for _ in range(3):
        move(weight, by)
        lab.step()
        assert bool(kept(weight.detach()).all()), weight


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ([lambda w: w[0].hold(min=0.5), lambda w: w[1].hold(max=0.4), lambda w: w[0].hold(like=w[1])], "exclude"),
        ([lambda w: w[0].hold(like=w[1]), lambda w: w[0].hold(min=0.5), lambda w: w[1].hold(max=0.4)], "exclude"),
        ([lambda w: w[0].hold(), lambda w: w[1].hold(), lambda w: w[0].hold(like=w[1])], "copy the cells"),
        ([lambda w: w[0].fill_(1.0).hold(sign=True), lambda w: w.hold(max=-0.1)], "exclude"),
        ([lambda w: w[:2].hold(like=w[1:3])], "follow themselves"),
        ([lambda w: w[0].hold(like=w[1]), lambda w: w[1].hold(like=w[0])], "follow themselves"),
        ([lambda w: w[0].hold(like=w[1]), lambda w: w[1].hold(like=w[2]), lambda w: w[2].hold(like=w[0])], "themselves"),
        ([lambda w: w[0].hold(like=w[1]), lambda w: w[0].hold(like=w[2])], "follow others already"),
    ],
)  # fmt: skip
def test_holds_that_cannot_be_kept_together_are_refused(holds: list[Hold], message: str) -> None:
    lab, weight = make()
    for hold in holds[:-1]:
        hold(lab["weight"])
    before, history, in_force = weight.detach().clone(), lab.history, lab.constraints
    with pytest.raises(wl.EditRefused, match=message):
        holds[-1](lab["weight"])
    assert torch.equal(weight.detach(), before)
    assert (lab.history, lab.constraints) == (history, in_force)


def test_an_edit_that_moves_a_kept_cell_outside_a_bound_is_refused() -> None:
    lab, weight = make()
    lab["weight"].hold(min=-1, max=1)
    lab["weight"][0, 0].hold()
    lab["weight"][2].hold(like=lab["weight"][0])
    before = weight.detach().clone()
    with pytest.raises(wl.EditRefused, match=r"1 cells of 'Hold weight.0, 0.' would lie outside"):
        with lab.stroke("both"):
            lab["weight"][3].fill_(0.5)
            lab["weight"][0].fill_(5)
    assert torch.equal(weight.detach(), before)
    lab["weight"][0, 0].fill_(0.75)
    move(weight, 1.0)
    lab.step()
    assert weight[0, 0].item() == weight[2, 0].item() == 0.75
    assert float(weight.detach().abs().max()) <= 1


def test_an_edit_that_moves_a_held_sign_outside_a_bound_is_refused() -> None:
    lab, _ = make()
    lab["weight"].hold(max=-0.1)
    lab["weight"].hold(sign=True)
    with pytest.raises(wl.EditRefused, match="3 cells of 'Hold the sign of weight' would lie outside"):
        lab["weight"][1].fill_(0.5)
    lab["weight"][1].fill_(-0.05)  # the next step clamps it


def test_an_edit_of_cells_that_others_are_kept_equal_to_moves_both() -> None:
    lab, weight = make()
    lab["weight"][1].copy_(lab["weight"][0].value)
    lab["weight"].hold()
    lab["weight"][0].hold(like=lab["weight"][1])
    for row in (1, 0):
        lab["weight"][row].fill_(0.25 * (row + 1))
        move(weight, 1.0)
        lab.step()
        assert weight[:2].tolist() == [[0.25 * (row + 1)] * 3] * 2


def test_a_rule_that_raises_leaves_all_other_holds_kept() -> None:
    lab, weight = make()
    start = weight.detach().clone()
    lab["weight"][0].hold(rule=lambda cells: 1 / 0)
    lab["weight"][1].hold()
    lab["weight"][2].hold(max=-2)
    lab["weight"][3].hold(like=lab["weight"][1])
    move(weight, 1.0)
    with pytest.raises(ZeroDivisionError):
        lab.step()
    assert torch.equal(weight[1], start[1])
    assert torch.equal(weight[3], start[1])
    assert bool((weight[2] <= -2).all())


NARROW = [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint8, torch.uint16, torch.uint32, torch.int8, torch.bfloat16]


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_dtype_that_has_an_order_is_held(dtype: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("w", torch.tensor([[0, 1, 2], [3, 4, 1]]).to(dtype))
    lab = wl.Lab(model)
    lab["w"][0].hold(max=2)
    lab["w"][1].hold(sign=True)
    lab["w"][1, 2].hold()
    with torch.no_grad():
        model.w.copy_(torch.tensor([[5, 1, 3], [3, 7, 6]]).to(dtype))
    lab.step()
    assert model.w.double().tolist() == [[2, 1, 2], [3, 7, 1]]
    lab["w"][0].hold(like=lab["w"][1])
    lab.step()
    assert model.w.double().tolist() == [[2, 2, 1], [2, 2, 1]]


def test_a_parameter_of_another_shape_releases_its_holds_once_and_says_so() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    lab = wl.Lab(model)
    lab["1.weight"][0].hold()
    lab["0.weight"][3].hold()
    lab["1.bias"].hold(like=lab["0.bias"][:2])
    model[0] = nn.Linear(3, 2)
    fresh = model[0].weight.detach().clone()
    kept = model[1].weight.detach().clone()
    move(model[1].weight, 1.0)
    with pytest.warns(UserWarning, match="was released: 0.(weight|bias) was replaced by one of shape") as caught:
        lab.step()
    assert len(caught) == 2
    lab.step()
    assert [hold.text for hold in lab.constraints] == ["Hold 1.weight[0]"]
    assert torch.equal(model[1].weight[0], kept[0])
    assert torch.equal(model[0].weight, fresh)
    lab["0.weight"][0].fill_(1.0)
    assert not lab.view("0.weight", "held").any()
    for _ in range(4):
        lab.undo(force=True)
    assert lab.constraints == ()


def test_a_cast_model_keeps_its_holds() -> None:
    lab, _ = make()
    lab["weight"][1].fill_(0.3).hold()
    lab.model.to(torch.bfloat16)
    move(lab.model.weight, 1.0)
    lab.step()
    assert lab.model.weight[1].tolist() == [torch.tensor(0.3, dtype=torch.bfloat16).item()] * 3


def test_holds_work_in_inference_mode_and_beside_a_default_device_of_meta() -> None:
    for mode in (torch.inference_mode(), torch.device("meta")):
        lab, weight = make()
        with mode:
            lab["weight"].hold(sign=True)
            lab["weight"][1:3].hold()
            lab["weight"][2, 1:].fill_(0.25)
            lab["weight"][0].hold(like=lab["weight"][1])
            lab["weight"][3].hold(max=0.1)
            lab["weight"][torch.tensor([3, 1], device="cpu")].hold(min=-9)
            lab.step()
            assert int(lab.view("weight", "held").sum()) == 12
        assert weight[2, 1:].tolist() == [0.25, 0.25]
        lab["weight"][2, :1].fill_(0.5)
        lab.step()
        assert weight[2].tolist() == [0.5, 0.25, 0.25]


def test_computed_weights_are_edited_beside_a_default_device_of_meta() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with torch.device("meta"):
        wl.Lab(layer)["weight"][1].zero_()
    assert layer.weight[1].tolist() == [0, 0, 0]


def test_a_hold_in_words_says_what_the_bound_is() -> None:
    lab, _ = make()
    made = [lab["weight"].hold(max=9), lab["weight"][1].hold(min=-9), lab["weight"].hold(min=-2, max=3)]
    assert [str(hold) for hold in made] == [
        "Hold weight at most 9",
        "Hold weight[1] at least -9",
        "Hold weight from -2 to 3",
    ]


WHOLE = Region.whole((4, 3))


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        None,
        wl.Constraint("weight", WHOLE, "tie"),
        wl.Constraint("weight", WHOLE, "clamp"),
        wl.Constraint("weight", WHOLE, "rule"),
        wl.Constraint("weight", WHOLE, "rule", rule=3),
        wl.Constraint("weight", WHOLE, "keep", max=1),
        wl.Constraint("weight", WHOLE, "zz"),
        wl.Constraint("weight", WHOLE, ["keep"]),
        wl.Constraint("weight", Region.whole((3, 4)), "keep"),
        wl.Constraint("weight", "[1]", "keep"),
        wl.Constraint("weight", WHOLE, "tie", source="weight"),
        wl.Constraint("weight", WHOLE, "tie", source=("nope", WHOLE)),
        wl.Constraint("weight", WHOLE, "tie", source=("weight", Region.whole((3, 4)))),
        wl.Constraint("nope", WHOLE, "keep"),
        wl.Constraint(3, WHOLE, "keep"),
        wl.Constraint("weight", WHOLE, "clamp", max=math.nan),
    ],
)
def test_what_is_no_hold_is_refused_in_a_sentence(bad: Any) -> None:
    lab, _ = make()
    with pytest.raises(wl.WeightLabError) as caught:
        lab.hold(bad)
    assert str(caught.value).endswith(".")
    assert lab.history == lab.constraints == ()


def test_more_that_is_no_hold_is_refused() -> None:
    lab, _ = make()
    with pytest.raises(wl.EditRefused, match="True or False"):
        lab["weight"].hold(sign=torch.tensor([1, 2]))
    hold = lab["weight"].hold()
    with pytest.raises(wl.EditRefused, match="in force already"):
        lab.hold(hold)


def test_a_hold_made_between_a_step_and_its_end_does_not_take_what_the_optimizer_left() -> None:
    lab, weight = make()
    start = weight.detach().clone()
    lab["weight"][1].hold()
    move(weight, 1.0)
    lab["weight"][:, 0].hold(max=5)
    lab["weight"][0].hold(like=lab["weight"][1])
    lab.step()
    assert torch.equal(weight[:2], start[[1, 1]])


def test_recipes_and_scripts_say_which_holds_they_leave_out() -> None:
    lab, weight = make()
    lab["weight"].hold(max=0.1)
    gone = lab["weight"][0].hold()
    lab["weight"][2].hold(like=lab["weight"][3])
    gone.release()
    with pytest.warns(UserWarning, match=r"recipe: it leaves out 2 of the changes.*Hold weight at most 0.1"):
        recipe = lab.recipe()
    assert [text.split(":")[0] for text in recipe["left_out"]] == [
        "Hold weight at most 0.1",
        "Hold weight[2] equal to weight[3]",
    ]
    with pytest.warns(UserWarning, match="replay: it leaves out 2"):
        again = wl.replay(recipe, make()[0].model)
    assert torch.equal(again["weight"].value, weight)
    script = lab.to_python()
    assert script.count("# Not done here") == 2
    assert "equal to weight[3]" in script
    scope: dict[str, Any] = {}
    exec(script, scope)
    assert torch.equal(scope["apply"](make()[0].model).weight, weight)


def test_regions_meet_where_they_share_cells() -> None:
    """Against masks, which cost the whole tensor."""
    torch.manual_seed(0)
    whole = Region.whole((5, 4))
    mask = torch.rand(5, 4) > 0.5
    indexes = [
        (), 2, (slice(None), 3), (slice(0, 5, 2),), (slice(1, 5, 2),), (slice(1, 4), slice(0, 4, 3)), (4, 1), mask, ~mask,
        [[4, 0], [1, 1]], (slice(2, 2),), torch.zeros(5, 4, dtype=torch.bool),
    ]  # fmt: skip
    regions = [whole.index(index) for index in indexes]
    numbers = torch.arange(20).view(5, 4)
    for one in regions:
        mine = numbers.flatten()[flat_cells(one)]
        for other in regions:
            theirs = numbers.flatten()[flat_cells(other)].flatten().tolist()
            shared = [n in theirs for n in mine.flatten().tolist()]
            assert meet(one, other) == any(shared)
            at = positions(one, other).flatten().tolist()
            assert [p >= 0 for p in at] == shared
            assert [theirs[p] for p in at if p >= 0] == [
                n for n, s in zip(mine.flatten().tolist(), shared, strict=True) if s
            ]


def test_a_bound_that_no_float_holds_is_refused_and_infinity_is_none() -> None:
    lab = wl.Lab(nn.Linear(3, 2))
    with pytest.raises(wl.EditRefused, match="up to 1e308"):
        lab["weight"].hold(min=10**400)
    assert lab.constraints == ()
    lab["weight"].hold(min=-math.inf, max=1)


def test_a_hold_that_another_thread_undid_is_not_released_again() -> None:
    lab = wl.Lab(nn.Linear(3, 2))
    hold = lab["weight"].hold()
    with lab.lock:
        releasing = threading.Thread(target=hold.release)
        releasing.start()
        time.sleep(0.1)  # it has looked whether the hold is in force, and waits for the lock
        lab.undo()
    releasing.join(20)
    assert lab.constraints == ()
    assert lab.history == ()
