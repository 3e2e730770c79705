"""What of a tensor can be looked at, and where the numbers come from."""

from __future__ import annotations

import gc
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import weightlab as wl
from weightlab.see import colours


def model_and_batch() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(41)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    return model, (torch.randn(6, 5), torch.randint(0, 3, (6,)))


def plain_gradient(model: nn.Module, batch: tuple[Tensor, Tensor], name: str) -> Tensor:
    parameter = model.get_parameter(name)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(batch[0]), batch[1]), parameter)
    return gradient


def test_the_gradient_without_a_grad_is_that_of_the_check_and_leaves_no_trace() -> None:
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    assert torch.equal(lab.view("0.weight", "gradient"), plain_gradient(model, batch, "0.weight"))
    assert all(parameter.grad is None for parameter in model.parameters())  # G1
    assert lab.about("0.weight", "gradient") == "by the gradient check on the batch"


def test_a_grad_that_is_there_comes_first_and_says_so() -> None:
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    (3 * model(batch[0]).sum()).backward()
    grad = model.get_parameter("0.weight").grad
    assert grad is not None
    assert torch.equal(lab.view("0.weight", "gradient"), grad)
    assert lab.about("0.weight", "gradient").startswith(".grad")
    assert torch.equal(lab.view("0.weight", "check_gradient"), plain_gradient(model, batch, "0.weight"))
    assert lab.views("0.weight") == ["value", "gradient", "check_gradient"]


def test_statistics_are_those_of_the_view_and_of_the_cells() -> None:
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    part = lab["0.weight"][2:5]
    gradient = plain_gradient(model, batch, "0.weight")[2:5].double()
    assert part.summary("gradient").mean == pytest.approx(gradient.mean().item())
    assert part.histogram(4, view="gradient").low == gradient.min().item()
    with pytest.raises(wl.UnknownName, match="nowhere"):
        part.summary("diff:nowhere")


def test_a_later_check_renews_the_gradient_that_is_looked_at() -> None:
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    lab.view("2.weight", "gradient")
    lab["2.bias"].fill_(2.0)
    assert lab.about("2.weight", "gradient").endswith("before the last change")
    lab.check_gradients()
    assert torch.equal(lab.view("2.weight", "gradient"), plain_gradient(model, batch, "2.weight"))
    assert lab.about("2.weight", "gradient") == "by the gradient check on the batch"


def test_the_picture_of_a_gradient_follows_the_check() -> None:
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    first = lab.pyramid("2.weight", "gradient").tile((0, 0, 0, 0)).mean
    lab["0.weight"].mul_(3)
    lab.check_gradients()
    second = lab.pyramid("2.weight", "gradient").tile((0, 0, 0, 0)).mean
    assert not torch.equal(first, second)
    assert torch.equal(second, plain_gradient(model, batch, "2.weight"))


def test_at_most_two_gradients_are_kept() -> None:
    """G5: somebody looks at them; no other gradient stays."""
    model, batch = model_and_batch()
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    for name in ("0.weight", "0.bias", "2.weight"):
        lab.view(name, "gradient")
    assert list(lab._gradients) == ["0.bias", "2.weight"]


def test_a_frozen_parameter_has_no_gradient_to_look_at() -> None:
    model, batch = model_and_batch()
    model.get_parameter("0.weight").requires_grad_(False)
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy)
    with pytest.raises(wl.EditRefused, match="it is frozen"):
        lab.view("0.weight", "gradient")
    assert "gradient" not in lab.views("0.weight")


def test_the_update_is_what_the_last_step_changed() -> None:
    model, batch = model_and_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy, optimizer=optimizer)
    with pytest.raises(wl.EditRefused, match="run a step, then look again"):
        lab.view("0.weight", "update")
    for _ in range(2):
        before = model.get_parameter("0.weight").detach().clone()
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        shown = lab.pyramid("0.weight", "update").tile((0, 0, 0, 0)).mean  # each time anew
        assert torch.equal(shown, model.get_parameter("0.weight").detach() - before)
    wanted = model.get_parameter("0.weight").detach() - before
    lab["0.weight"][0].zero_()  # what the user changes is no update
    assert torch.equal(lab.view("0.weight", "update"), wanted)
    assert torch.equal(lab.pyramid("0.weight", "update").tile((0, 0, 0, 0)).mean, wanted)
    assert {"exp_avg", "exp_avg_sq", "update"} <= set(lab.views("0.weight"))
    assert not lab.is_signed("0.weight", "exp_avg_sq")


def test_held_cells_have_no_update() -> None:
    model, batch = model_and_batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy, optimizer=optimizer)
    with pytest.raises(wl.EditRefused):
        lab.view("0.weight", "update")
    lab["0.weight"][1].hold()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    update = lab.view("0.weight", "update")
    assert (update[1] == 0).all()
    assert (update[0] != 0).any()


def test_without_an_optimizer_the_update_says_what_to_give() -> None:
    lab = wl.Lab(model_and_batch()[0])
    with pytest.raises(wl.EditRefused, match=r"Give Lab\(model, optimizer"):
        lab.view("0.weight", "update")


def test_a_lab_that_is_gone_leaves_no_hook_on_the_optimizer() -> None:
    model, batch = model_and_batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lab = wl.Lab(model, batch=batch, loss=F.cross_entropy, optimizer=optimizer)
    with pytest.raises(wl.EditRefused):
        lab.view("0.weight", "update")
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    del lab
    gc.collect()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_the_shared_range_is_that_of_all_finite_parameters() -> None:
    model, _ = model_and_batch()
    lab = wl.Lab(model)
    lab["0.weight"][0, 0] = -7.5
    lab["2.bias"][1] = 9.25
    with torch.no_grad():
        model.get_parameter("0.bias")[:2] = torch.tensor([math.inf, math.nan])
    assert lab.extremes() == (-7.5, 9.25)
    lab["2.bias"][1] = 0.0
    assert lab.extremes()[1] == max(float(p.detach()[p.isfinite()].max()) for p in model.parameters())


@pytest.mark.parametrize("name", colours.MAPS)
def test_a_colour_table_has_both_ends_and_the_middle_of_its_map(name: str) -> None:
    from matplotlib import colormaps

    table = list(colours.table(name))
    assert len(table) == 256 * 3
    for entry, position in ((1, 0.0), (128, 0.5), (255, 1.0)):
        red, green, blue, _ = colormaps[name](position, bytes=True)
        assert table[entry * 3 : entry * 3 + 3] == [red, green, blue]
    if colours.MAPS[name] == "sequential":  # read without its hues it still goes up
        light = [0.21 * r + 0.72 * g + 0.07 * b for r, g, b in zip(table[3::3], table[4::3], table[5::3], strict=True)]
        assert all(after - before > -1 for before, after in itertools.pairwise(light))


def test_what_other_code_has_changed_is_noticed_told_and_drawn_anew() -> None:
    model = nn.Linear(3, 2)
    lab = wl.Lab(model)
    told: list[list[tuple[str, wl.Region]]] = []
    lab.on_change(told.append)
    lab.pyramid("weight").tile((0, 0, 0, 0), lab.revision)
    lab.notice()
    assert told == []
    revision = lab.revision
    with torch.no_grad():
        model.weight.fill_(7.0)
    lab.notice()
    lab.notice()
    assert [[name for name, _ in changed] for changed in told] == [["weight"]]
    assert lab.revision == revision + 1
    again = lab.pyramid("weight").tile((0, 0, 0, 0), lab.revision)
    assert bool((again.mean == 7).all())
    lab["bias"].zero_()  # is told by itself
    lab.notice()
    assert len(told) == 2
