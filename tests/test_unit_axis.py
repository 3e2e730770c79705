"""Rules G2 and G3: the units of an activation are those of the layer that made it, on whichever axis they are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import weightlab as wl


class Turned(nn.Module):
    """Layers that put units last, as one whose units are axis 1 would."""

    def __init__(self, turn):
        super().__init__()
        self.a, self.b, self.turn = nn.Linear(8, 16), nn.Linear(16, 5), turn

    def forward(self, x):
        h = F.relu(self.a(x))
        return self.b(self.turn(h)).flatten(1, -2).transpose(1, 2)


def there_and_back(h):
    return F.relu(h.transpose(1, -1)).transpose(1, -1)


CASES = {
    "Conv1d": lambda: (nn.Sequential(nn.Conv1d(8, 16, 1), nn.ReLU(), nn.Conv1d(16, 5, 1)), (32, 8, 12)),
    "Conv1d, as long as wide": lambda: (
        nn.Sequential(nn.Conv1d(8, 16, 1), nn.ReLU(), nn.Conv1d(16, 5, 1)),
        (32, 8, 16),
    ),
    "Conv2d": lambda: (nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 5, 1)), (32, 8, 3, 4)),
    "Linear, as long as wide": lambda: (Turned(nn.Identity()), (32, 16, 8)),
    "Linear on images": lambda: (Turned(nn.Identity()), (32, 16, 3, 8)),
    "Linear, turned": lambda: (Turned(there_and_back), (32, 16, 8)),
}


def loss(out, y):
    return F.cross_entropy(out, y[:, None].expand(-1, out[0, 0].numel()).reshape(-1, *out.shape[2:]))


@pytest.mark.parametrize("every", [False, True], ids=["half", "all"])
@pytest.mark.parametrize("case", CASES)
def test_dead_units_are_counted_on_the_axis_of_their_layer(case, every):
    torch.manual_seed(0)
    model, shape = CASES[case]()
    held = model.a if isinstance(model, Turned) else model[0]
    dead = 16 if every else 8
    with torch.no_grad():
        held.bias[:dead] = -50
    x, y = torch.randn(shape), torch.arange(32) % 5
    lab = wl.Lab(model, batch=(x, y), loss=loss)
    name = "a" if isinstance(model, Turned) else "0"
    row = lab.check_gradients()[f"{name}.weight"]
    assert row.zero_at == tuple(range(dead))
    assert row.reaching == (*[0] * dead, *[32] * (16 - dead))
    found = next(one for one in lab.diagnose() if one.kind == "dead_relu")
    assert found.name == f"{name}.bias"
    assert (f"{dead} of 16" if not every else "all 16") in found.text
    lab.repair(found)
    assert not bool(held.bias[:dead].any())
    assert lab.diagnose().serious == []
