"""Rule J10: weights that are computed from others: parametrized, weight-normed, pruned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import weightlab as wl
from tests.cells import raw, state

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse"),
]


def pruned() -> nn.Module:
    layer = nn.Linear(4, 3)
    prune.random_unstructured(layer, "weight", 0.4)
    return layer


class Doubled(nn.Module):
    """A parametrization without an inverse."""

    def forward(self, value: Tensor) -> Tensor:
        return 2 * value


class Symmetric(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value.triu() + value.triu(1).transpose(-1, -2)

    def right_inverse(self, value: Tensor) -> Tensor:
        return value.triu()


def parametrized(step: nn.Module) -> nn.Module:
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", step)
    return layer


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "weight_norm of the whole": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=None),
    "old weight_norm": lambda: nn.utils.weight_norm(nn.Linear(4, 3)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
    "old spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(3, 3)),
    "pruned": pruned,
    "doubled": lambda: parametrized(Doubled()),
    "symmetric": lambda: parametrized(Symmetric()),
}
EDITS: dict[str, Callable[[wl.WeightRef], Any]] = {
    "zero a row": lambda w: w[1].zero_(),
    "zero all": lambda w: w.zero_(),
    "one cell": lambda w: w[0, 1].fill_(0.5),
    "scale": lambda w: w.mul_(2),
    "copy": lambda w: w.copy_(torch.arange(w.value.numel(), dtype=torch.float32).view(w.shape) / 8 - 0.4),
    "clamp": lambda w: w.clamp_(-0.1, 0.1),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_is_exact_through_the_next_forward_or_refused(kind: str, edit: str) -> None:
    """J10: never lost at the next forward; refused with the names to edit instead, and no byte changed."""
    model = COMPUTED[kind]().eval()
    columns = model.weight.shape[1]
    model(torch.randn(2, columns))
    lab = wl.Lab(model)
    info = lab.tree["weight"]
    assert info.kind == "computed"
    before, weight = state(model), lab["weight"].value
    plain = wl.Lab(nn.Linear(columns, 3, bias=False))
    plain["weight"].copy_(weight)
    EDITS[edit](plain["weight"])
    asked = plain["weight"].value
    message = ""
    try:
        EDITS[edit](lab["weight"])
    except wl.EditRefused as error:
        message = str(error)
    if message:
        assert "Edit '" in message
        assert state(model) == before
        assert lab.history == ()
        return
    inputs = torch.randn(2, columns)
    after = model(inputs)
    assert torch.equal(lab["weight"].value + 0, asked + 0)
    assert torch.equal(model.weight.detach() + 0, asked + 0)
    assert torch.allclose(after, nn.functional.linear(inputs, asked, model.bias), atol=1e-6)
    assert len(lab.history) == 1
    lab.undo()
    assert state(model) == before
    model(inputs)
    assert torch.equal(lab["weight"].value, weight)
    lab.redo()
    model(inputs)
    assert torch.equal(lab["weight"].value + 0, asked + 0)


def test_what_the_computed_kinds_can_do_is_done() -> None:
    """J10: a zero row of weight_norm is g = 0; a pruned weight takes values outside its mask; inverses are used."""
    for kind, edit in [
        ("weight_norm", "zero a row"),
        ("old weight_norm", "zero a row"),
        ("pruned", "scale"),
        ("weight_norm", "zero all"),
    ]:
        model = COMPUTED[kind]().eval()
        lab = wl.Lab(model)
        EDITS[edit](lab["weight"])
        assert len(lab.history) == 1, kind
        out = model(torch.randn(2, 4))
        assert bool(out.isfinite().all())
    model = COMPUTED["symmetric"]()
    lab = wl.Lab(model)
    lab["weight"][0, 0].fill_(0.5)
    assert model.weight[0, 0].item() == 0.5
    with pytest.raises(wl.EditRefused):
        lab["weight"][0, 1].fill_(0.5)


@pytest.mark.parametrize("kind", COMPUTED)
def test_looking_at_computed_weights_leaves_no_trace(kind: str) -> None:
    model = COMPUTED[kind]()
    model.train()
    before, rng = state(model), torch.get_rng_state()
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training, list(vars(m))) for m in model.modules()]
    versions = [p._version for p in (*model.parameters(), *model.buffers())]
    lab = wl.Lab(model)
    for info in lab.tree:
        assert lab[info.name].value is not None
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training, list(vars(m))) for m in model.modules()
    ] == hooks
    assert [p._version for p in (*model.parameters(), *model.buffers())] == versions


def test_what_torch_says_of_a_computed_weight_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """J11: never a bare IndexError, also on the way through the originals."""
    from weightlab.edit import operations

    def failing(args: Any, target: Any) -> Callable[[Tensor], None]:
        return lambda cells: cells.select(9, 0).zero_() and None

    known = operations.OPERATIONS
    monkeypatch.setattr(operations, "OPERATIONS", {**known, "neg_": replace(known["neg_"], change=failing)})
    lab = wl.Lab(parametrizations.weight_norm(nn.Linear(4, 3)))
    before = {name: raw(tensor) for name, tensor in lab.model.state_dict().items()}
    with pytest.raises(wl.EditRefused, match=r"weight \[3, 4\]: neg_ failed: Dimension out of range"):
        lab["weight"].neg_()
    assert {name: raw(tensor) for name, tensor in lab.model.state_dict().items()} == before
    assert lab.history == ()


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "prune"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_a_hook_based_weight_follows_its_originals_at_once(kind: str) -> None:
    """J10: nobody has to wait for the next forward, which gives the very same values."""
    layer = nn.Linear(3, 2).eval()
    if kind == "prune":
        nn.utils.prune.l1_unstructured(layer, "weight", 2)
    else:
        getattr(nn.utils, kind)(layer)
    original = "weight_g" if kind == "weight_norm" else "weight_orig"
    layer(torch.ones(1, 3))
    lab = wl.Lab(layer)
    value = lab["weight"].value
    lab.snapshot("start")

    def follows() -> bool:
        shown = lab["weight"].value
        layer(torch.ones(1, 3))
        return torch.equal(shown, lab["weight"].value)

    lab[original][1:].mul_(2)
    assert follows()
    if kind != "spectral_norm":
        assert not torch.equal(lab["weight"].value, value)
    lab.undo()
    assert torch.equal(lab["weight"].value, value)
    lab.redo()
    assert follows()
    lab.restore("start")
    assert torch.equal(lab["weight"].value, value)
    with pytest.raises(ZeroDivisionError), lab.stroke("fails"):
        lab[original][1:].mul_(3)
        raise ZeroDivisionError
    assert torch.equal(lab["weight"].value, value)
    if kind != "spectral_norm":
        lab["weight"][0].zero_()
        assert follows()
        assert not lab["weight"].value[0].any()
        lab.undo()
        assert torch.equal(lab["weight"].value, value)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
@pytest.mark.parametrize("seed", range(8))  # the last bit of a norm is not the same in all sums of it
def test_a_normed_kernel_of_several_axes_is_edited_by_filter(
    norm: Callable[[nn.Module], nn.Module], kind: Callable[..., nn.Module], seed: int
) -> None:  # J10
    torch.manual_seed(seed)
    model = norm(kind(2, 3, 2))
    lab = wl.Lab(model)
    before, bytes_before = lab["weight"].value, state(model)
    lab["weight"][0].zero_()
    lab["weight"][1].mul_(2)
    x = torch.randn(1, 2, *[5] * (before.ndim - 2))
    model(x)
    wanted = before.clone()
    wanted[0] = 0
    wanted[1] *= 2
    assert torch.allclose(lab["weight"].value, wanted, rtol=1e-6)
    lab.undo()
    lab.undo()
    assert state(model) == bytes_before


def test_an_edit_of_some_cells_costs_those_cells_and_their_moments_alone() -> None:  # J6, J10, J12
    torch.manual_seed(0)
    pruned = nn.Linear(64, 64)
    torch.nn.utils.prune.custom_from_mask(pruned, "weight", torch.ones(64, 64).triu())
    lab = wl.Lab(nn.Sequential(pruned))
    lab["0.weight"][0, 5].fill_(0.25)
    assert lab.history[-1].nbytes == 2 * 4  # the old cell, and the value that the recipe copies there
    assert len(lab.history[-1].code) < 200
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    lab = wl.Lab(model, optimizer=optimizer)
    lab["0.weight"][2].fill_(0.5, moments="zero")
    for name in ("original0", "original1"):
        moment = optimizer.state[model.get_parameter(f"0.parametrizations.weight.{name}")]["exp_avg"]
        assert moment.any(1).tolist() == [True, True, False, True]


def test_an_edit_where_parametrizations_are_cached_is_seen_at_once() -> None:  # J10
    lab = wl.Lab(parametrizations.weight_norm(nn.Linear(3, 4)))
    with parametrize.cached():
        lab.model(torch.ones(2, 3))
        lab["weight"][2].fill_(0.5)
        assert lab["weight"].value[2].tolist() == [0.5] * 3
        lab["parametrizations.weight.original0"].zero_()
        assert not lab.model.weight.any()
        lab.undo()
        assert lab.model.weight[2].tolist() == [0.5] * 3
