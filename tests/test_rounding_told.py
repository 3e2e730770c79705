"""What a narrow type makes of a number is told before the edit, and arguments of the page reach torch (J7)."""

from __future__ import annotations

import torch
from torch import nn

import weightlab
from tests.wire_examples import ask
from weightlab.jupyter.protocol import Session


def test_a_preview_tells_what_the_type_would_round() -> None:
    layer = nn.Linear(3, 2).to(torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    session = Session(weightlab.Lab(layer))
    fill = {"name": "weight", "region": "[0]", "edit": "fill_"}
    told = ask(session, "preview", args={"value": "1.003"}, **fill)["preview"]
    assert (told["changed"], told["rounded"], told["requested"], told["stored"]) == (0, 3, "1.003", "1.0")
    exact = ask(session, "preview", args={"value": "0.5"}, **fill)["preview"]
    assert (exact["changed"], exact["rounded"], exact["requested"]) == (3, 0, "")
    assert ask(session, "preview", args={"value": "nan"}, **fill)["preview"]["rounded"] == 0


def test_the_arguments_of_init_and_axes_come_from_the_page() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    lab = weightlab.Lab(layer)
    session = Session(lab)
    whole = {"name": "weight", "region": "[...]"}
    args = {"method": "orthogonal_", "gain": "2", "seed": "1"}
    ask(session, "edit", edit="init_", args=args, **whole)
    assert torch.allclose(layer.weight.T @ layer.weight, 4 * torch.eye(3), atol=1e-5)
    before = layer.weight.detach().clone()
    ask(session, "edit", edit="permute_", args={"axis": "0", "order": ["3", "1", "0", "2"]}, **whole)
    assert torch.equal(layer.weight, before[[3, 1, 0, 2]])
    ask(session, "edit", edit="prune_", args={"amount": "1", "by": "magnitude", "axis": "0"}, **whole)
    assert (layer.weight == 0).sum(1).tolist() == [1, 1, 1, 1]
    args = {"method": "kaiming_uniform_", "nonlinearity": "relu", "mode": "fan_out", "seed": "3"}
    ask(session, "edit", edit="init_", args=args, **whole)
    assert layer.weight.abs().max() <= (6 / 4) ** 0.5
