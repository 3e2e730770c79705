"""Layouts of any axes in any role, and what the axes of known modules mean (rules S1, S5)."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.test_tiles import expected, info, sheet_by_loop
from weightlab.errors import EditRefused
from weightlab.see.groups import Group, following_norm, role_of
from weightlab.see.layout import Layout, Order, layout_of
from weightlab.see.tiles import Pyramid


def a_layout(rng: random.Random) -> Layout:
    """Each axis in any role, some fixed, some in another order."""
    shape = tuple(rng.randint(1, 5) for _ in range(rng.randint(1, 5)))
    roles: dict[str, list[int]] = {"rows": [], "columns": [], "facets": [], "fixed": []}
    for axis in rng.sample(range(len(shape)), len(shape)):
        roles[rng.choice(list(roles))].append(axis)
    fixed = {axis: rng.randrange(shape[axis]) for axis in roles.pop("fixed")}
    orders = [
        Order(axis, "norm", torch.tensor(rng.sample(range(shape[axis]), shape[axis])), f"{axis}")
        for axis in range(len(shape))
        if rng.random() < 0.4
    ]
    return layout_of(info(shape)).arranged(**roles, fixed=fixed, orders=orders)


@pytest.mark.parametrize("seed", range(60))
def test_any_cut_of_any_layout_equals_the_loop(seed: int) -> None:
    rng = random.Random(seed)
    plan = a_layout(rng)
    tensor = torch.randn(plan.shape)
    values, real = sheet_by_loop(tensor, plan)
    shown = tensor[tuple(dict(plan.fixed).get(axis, slice(None)) for axis in range(tensor.ndim))]
    assert int(real.sum()) == shown.numel(), "every shown cell has one place"
    height, width = plan.sheet
    for _ in range(6):
        top, left = rng.randrange(height), rng.randrange(width)
        bottom, right = rng.randrange(top + 1, height + 1), rng.randrange(left + 1, width + 1)
        cells, there = plan.cut(tensor, top, bottom, left, right)
        there = torch.ones_like(cells, dtype=torch.bool) if there is None else there
        assert torch.equal(there, real[top:bottom, left:right]), plan
        assert torch.equal(cells[there], values[top:bottom, left:right][there]), plan


@pytest.mark.parametrize("seed", range(60))
def test_the_box_of_bounds_holds_their_cells_in_any_layout(seed: int) -> None:
    rng = random.Random(seed)
    plan = a_layout(rng)
    for _ in range(6):
        bounds = tuple((low, rng.randint(low + 1, n)) for n in plan.shape for low in [rng.randrange(n)])
        marked = torch.zeros(plan.shape)
        marked[tuple(slice(*pair) for pair in bounds)] = 1
        rows, columns = sheet_by_loop(marked, plan)[0].nonzero(as_tuple=True)
        top, bottom, left, right = plan.box(bounds)
        if rows.numel():
            assert top <= int(rows.min())
            assert int(rows.max()) < bottom
            assert left <= int(columns.min())
            assert int(columns.max()) < right


def test_a_patched_pyramid_of_a_sorted_slice_equals_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """S5."""
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 64)
    tensor = torch.randn(40, 3, 30)
    order = Order(0, "norm", torch.randperm(40, generator=torch.Generator().manual_seed(1)), "1")
    plan = layout_of(info((40, 3, 30))).arranged((0,), (2,), fixed={1: 2}, orders=[order])
    pyramid = Pyramid(lambda: tensor, plan)
    at = (*pyramid.base_level, 0, 0)
    pyramid.tile(at)
    rng = random.Random(0)
    for _ in range(8):
        bounds = tuple((low, rng.randint(low + 1, n)) for n in plan.shape for low in [rng.randrange(n)])
        tensor[tuple(slice(*pair) for pair in bounds)] = rng.random()
        pyramid.invalidate(bounds)
        torch.testing.assert_close(pyramid.tile(at).mean, expected(tensor, plan, at).mean)
        torch.testing.assert_close(pyramid.tile(at).max, expected(tensor, plan, at).max)


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"rows": [0], "columns": [1]}, "each of the axes 0 to 2 needs one role, got"),
        ({"rows": [0, 1], "columns": [1, 2]}, "each of the axes 0 to 2 needs one role, got"),
        ({"rows": [0], "columns": [1], "fixed": {2: 5}}, "axis 2 has no index 5: expected 0 to 4"),
        ({"rows": [0], "columns": [1], "facets": [7]}, "each of the axes 0 to 2 needs one role, got"),
        ({"sort": {0: "size"}}, "sorted by one of"),
        ({"sort": {4: "norm"}}, "no axis 4"),
        ({"fixed": {9: 0}}, "each of the axes"),
    ],
)
def test_what_is_no_layout_is_refused(roles: dict[str, Any], said: str) -> None:
    lab = wl.Lab(nn.Conv1d(3, 4, 5))
    with pytest.raises(EditRefused, match=said):
        lab["weight"].layout(**roles)


def test_a_layout_is_made_by_name_and_negative_axes_count_from_the_end() -> None:
    lab = wl.Lab(nn.Conv1d(3, 4, 5))
    plan = lab["weight"].layout(rows=[-1], columns=[0], fixed={-2: -1})
    assert (plan.rows, plan.columns, plan.fixed) == ((2,), (0,), ((1, 2),))
    assert lab["weight"].layout(fixed={1: 1}).rows == (0,)
    by_norm = lab["weight"].layout(sort={0: "norm"})
    norms = lab["weight"].value.flatten(1).norm(dim=1)[by_norm.orders[0].indices]
    assert torch.equal(norms, norms.sort().values)


def test_pictures_in_other_layouts_follow_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weightlab.see.tiles.BASE_BINS", 4)
    lab = wl.Lab(nn.Conv1d(3, 4, 5))
    plan = lab["weight"].layout(rows=[2], columns=[0], fixed={1: 1}, sort={0: "norm"})
    at = (0, 0, 0, 0)
    lab.pyramid("weight", layout=plan).tile(at)
    lab["weight"][2, 1].fill_(7)
    shown = lab.pyramid("weight", layout=plan).tile(at).mean
    base = lab.pyramid("weight", layout=plan)
    assert base.has_base
    assert float(base.tile((*base.base_level, 0, 0)).max.max()) == 7
    lab["weight"][2, 1].fill_(8)
    assert float(lab.pyramid("weight", layout=plan).tile((*base.base_level, 0, 0)).max.max()) == 8
    shown = lab.pyramid("weight", layout=plan).tile(at).mean
    assert torch.equal(shown, lab["weight"].value[:, 1].T[:, plan.orders[0].indices])
    with torch.no_grad():
        lab.model.weight[0, 1] = 9.0  # by the user's own code
    assert lab.pyramid("weight", layout=plan).tile(at).mean.eq(9).sum() == 5


def groups(lab: wl.Lab, name: str) -> dict[str, Group]:
    return {group.name: group for group in lab[name].layout().groups}


def test_a_packed_projection_is_cut_into_q_k_v_and_heads() -> None:
    lab = wl.Lab(nn.TransformerEncoderLayer(12, 3, 8))
    for name in ("self_attn.in_proj_weight", "self_attn.in_proj_bias"):
        found = groups(lab, name)
        assert (found[""].axis, found[""].starts, found[""].labels) == (0, (0, 12, 24), ("q", "k", "v"))
        assert found["head"].labels[3:7] == ("k 0", "k 1", "k 2", "v 0")
        assert found["head"].starts == tuple(range(0, 36, 4))
        assert "num_heads = 3 of MultiheadAttention" in found[""].source
    assert groups(lab, "self_attn.out_proj.weight")["head"].axis == 1
    assert groups(lab, "self_attn.out_proj.bias") == {}
    assert groups(lab, "linear1.weight") == {}


class Grouped(nn.Module):
    """Attention whose keys and values have fewer heads than its queries."""

    def __init__(self, heads: int = 6, key_heads: int = 2, size: int = 4, **attributes: int) -> None:
        super().__init__()
        self.config = {"num_attention_heads": heads, "num_key_value_heads": key_heads}
        self.q_proj = nn.Linear(20, heads * size)
        self.k_proj = nn.Linear(20, key_heads * size)
        self.v_proj = nn.Linear(20, key_heads * size)
        self.o_proj = nn.Linear(heads * size, 20)
        self.gate_proj = nn.Linear(20, heads * size)
        for name, value in attributes.items():
            setattr(self, name, value)


def test_grouped_queries_have_their_own_numbers_of_heads() -> None:
    lab = wl.Lab(nn.ModuleDict({"attention": Grouped()}))
    assert groups(lab, "attention.q_proj.weight")["q head"].starts == tuple(range(0, 24, 4))
    assert groups(lab, "attention.k_proj.weight")["k head"].labels == ("0", "1")
    assert groups(lab, "attention.v_proj.bias")["v head"].starts == (0, 4)
    out = groups(lab, "attention.o_proj.weight")["head"]
    assert (out.axis, len(out.starts)) == (1, 6)
    assert "num_key_value_heads = 2" in out.source
    assert "'o_proj' by its name" in out.source
    assert groups(lab, "attention.gate_proj.weight") == {}


def test_a_number_of_heads_that_does_not_fit_gives_no_groups() -> None:
    assert groups(wl.Lab(nn.Sequential(Grouped(head_dim=8))), "0.q_proj.weight") == {}
    lab = wl.Lab(nn.Sequential(Grouped(heads=6, key_heads=2)))
    lab.model[0].config["num_attention_heads"] = 5
    assert groups(lab, "0.q_proj.weight") == {}


class Conv1D(nn.Module):
    """A linear layer that is stored [in, out], as GPT-2's."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n_head = 2
        self.c_attn = Conv1D(24, 8)
        self.c_proj = Conv1D(8, 8)


def test_a_transposed_projection_has_its_heads_on_the_other_axis() -> None:
    lab = wl.Lab(nn.Sequential(Causal()))
    assert lab["0.c_attn.weight"].layout().labels == ("in", "out")
    found = groups(lab, "0.c_attn.weight")
    assert (found[""].axis, found[""].starts) == (1, (0, 8, 16))
    assert found["head"].labels == ("q 0", "q 1", "k 0", "k 1", "v 0", "v 1")
    assert groups(lab, "0.c_attn.bias")["head"].axis == 0
    assert groups(lab, "0.c_proj.weight")["head"].axis == 0


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", "ifgo"), ("GRU", "rzn")])
def test_gates_of_recurrent_layers(kind: str, gates: str) -> None:
    lab = wl.Lab(nn.Sequential(getattr(nn, kind)(5, 3, 2, bidirectional=True), getattr(nn, f"{kind}Cell")(5, 3)))
    for name in ("0.weight_ih_l0", "0.weight_hh_l1_reverse", "0.bias_ih_l0", "1.weight_hh", "1.bias_hh"):
        found = groups(lab, name)["gate"]
        assert (found.axis, found.labels) == (0, tuple(gates))
        assert found.starts == tuple(range(0, 3 * len(gates), 3))


def test_what_has_no_groups_has_none() -> None:
    lab = wl.Lab(nn.ModuleDict({"rnn": nn.RNN(5, 3), "conv": nn.Conv2d(4, 4, 3, groups=4), "fc": nn.Linear(3, 3)}))
    for name in ("rnn.weight_ih_l0", "conv.weight", "fc.weight"):
        assert groups(lab, name) == {}
    lab = wl.Lab(nn.Conv2d(6, 12, 3, groups=3))
    assert groups(lab, "weight")["group"].starts == (0, 4, 8)


ROLES = {
    "q": ("q", "query", "q_proj", "wq"),
    "k": ("to_k", "key"),
    "v": ("v_proj", "value"),
    "qkv": ("qkv", "Wqkv", "c_attn", "qkv_proj", "in_proj"),
    "out": ("out_proj", "o_proj", "c_proj", "dense", "to_out"),
    "": ("up_proj", "fc", "query_key_value", "kv_proj", "to", "1", ""),
}


@pytest.mark.parametrize(("role", "names"), ROLES.items())
def test_a_projection_is_known_by_its_name_or_not_at_all(role: str, names: tuple[str, ...]) -> None:
    assert {name: role_of(name) for name in names} == dict.fromkeys(names, role)


def test_the_norm_that_follows_a_layer_is_found_by_order_and_size() -> None:
    layers = {"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(4, 6), "ln": nn.LayerNorm(6)}
    more = {
        "up": nn.ConvTranspose2d(4, 4, 3),
        "bn2": nn.BatchNorm2d(4),
        "out": nn.Linear(4, 2),
        "bare": nn.BatchNorm1d(2, affine=False),
    }
    more |= {"odd": nn.Linear(4, 3), "other": nn.LayerNorm(4)}
    lab = wl.Lab(nn.ModuleDict({**layers, **more}))
    behind = {
        name: following_norm(lab.tree[f"{name}.weight"], lab.tree.modules)
        for name in ("conv", "fc", "up", "out", "ln", "odd")
    }
    assert behind == {"conv": "bn", "fc": "ln", "up": "", "out": "", "ln": "", "odd": ""}
    nested = wl.Lab(nn.Sequential(nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4))))
    assert following_norm(nested.tree["0.0.weight"], nested.tree.modules) == "0.1"
