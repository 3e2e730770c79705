"""J4, J9 to J11, J13: every kind of tensor is edited exactly, or refused with a reason and no byte changed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import state

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*quantiz.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse"),
]


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(3, 2, num_layers=2, bidirectional=True), lambda: nn.GRU(3, 2), lambda: nn.RNN(3, 2)]
)
def test_a_recurrent_layer_uses_the_edited_weights_at_the_next_forward(make: Callable[[], nn.RNNBase]) -> None:
    """J1: flat weights are still the parameters themselves."""
    torch.manual_seed(0)
    model = make()
    inputs = torch.randn(4, 1, 3)
    first = model(inputs)[0]
    lab = wl.Lab(model)
    lab["weight_ih_l0"][0].fill_(3.0)
    lab["bias_hh_l0"].zero_()
    twin = copy.deepcopy(model)
    twin.flatten_parameters()
    second = model(inputs)[0]
    assert not torch.equal(first, second)
    assert torch.equal(second, twin(inputs)[0])
    assert all(any(flat is p for p in model.parameters()) for flat in model._flat_weights)
    lab.undo()
    lab.undo()
    assert torch.equal(model(inputs)[0], first)


def test_packed_attention_projections_are_edited_by_rows() -> None:
    model = nn.MultiheadAttention(4, 2, batch_first=True)
    lab = wl.Lab(model)
    lab["in_proj_weight"][8:].zero_()  # the values' part
    lab["in_proj_bias"][8:].zero_()
    out, _ = model(*[torch.randn(1, 3, 4)] * 3)
    assert torch.allclose(out, model.out_proj.bias.expand(1, 3, 4))


def layouts() -> dict[str, Tensor]:
    base = torch.arange(120.0)
    return {
        "channels_last": base.view(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "transposed": base[:60].view(3, 20).t(),
        "permuted": base.view(2, 3, 4, 5).permute(3, 0, 2, 1),
        "strided": base.view(10, 12)[::3, 1::2],
        "offset": base[7:19].view(3, 4),
        "diagonal": base[:100].view(10, 10).diagonal(),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "one": torch.ones(1, 1, 1),
    }


@pytest.mark.parametrize("kind", layouts())
def test_any_layout_is_edited_in_place(kind: str) -> None:
    """J1, J4: the same memory, the same strides, and only the cells of the region; memory around a view is not touched."""
    tensor = layouts()[kind]
    whole = torch.empty(0).set_(tensor.untyped_storage())
    start, memory = tensor.clone(), whole.clone()
    model = nn.Module()
    model.weight = nn.Parameter(tensor)
    pointer, strides = model.weight.data_ptr(), model.weight.stride()
    lab = wl.Lab(model)
    lab["weight"].mul_(2)
    assert torch.equal(model.weight.detach(), start * 2)
    if tensor.ndim:
        part = lab["weight"][..., :1]
        part.fill_(-1.0)
        assert bool((model.weight[..., :1] == -1).all())
        assert torch.equal(model.weight.detach()[..., 1:], start[..., 1:] * 2)
        lab["weight"][torch.rand(tensor.shape) > 0.5].zero_()
    assert (model.weight.data_ptr(), model.weight.stride()) == (pointer, strides)
    while lab.undo():
        pass
    assert torch.equal(whole, memory), "every byte of the storage, also between the cells"


def refused() -> dict[str, tuple[Tensor, str]]:
    with torch.inference_mode():
        inference = torch.ones(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells that some of these kinds are young, others old
        return _refused(inference)


def _refused(inference: Tensor) -> dict[str, tuple[Tensor, str]]:
    return {
        "meta": (torch.ones(2, 3, device="meta"), "meta device"),
        "sparse": (torch.eye(3).to_sparse(), "layout is sparse_coo"),
        "sparse_csr": (torch.eye(3).to_sparse_csr(), "layout is sparse_csr"),
        "inference": (inference, "inference mode"),
        "expanded": (torch.ones(1, 3).expand(2, 3), "share one place"),
        "overlapping": (torch.ones(5).as_strided((3, 3), (1, 1)), "share one place"),
        "quantized": (torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8), "quantized"),
        "per channel": (
            torch.quantize_per_channel(torch.ones(2, 3), torch.ones(2), torch.zeros(2).long(), 0, torch.qint8), "quantized"
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", refused())
def test_what_cannot_be_written_is_listed_with_a_reason_and_refused(kind: str) -> None:
    """J11; the rest of the model stays editable, saves say which tensor stands in the way, and snapshots skip it."""
    tensor, reason = refused()[kind]
    model = nn.Linear(2, 2)
    model.register_buffer("odd", tensor)
    lab = wl.Lab(model)
    assert not lab.tree["odd"].editable
    assert reason in lab.tree["odd"].reason
    for act in (
        lambda: lab["odd"].zero_(), lambda: lab["odd"][0].fill_(1), lambda: lab["odd"].copy_(1.0), lambda: lab["odd"].hold(),
        lambda: lab["odd"].init_("ones_"), lambda: lab["odd"][torch.tensor([0])].mul_(2),
    ):  # fmt: skip
        with pytest.raises(wl.EditRefused, match="odd"):
            act()
    assert lab.history == ()
    lab.snapshot("before")
    lab["weight"].zero_()
    assert [row.name for row in lab.diff("before")] == ["weight"]
    lab.restore("before")
    lab.recipe()
    assert len(lab.history) == 2


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz, torch.complex64, torch.complex128, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.uint16, torch.uint32, torch.uint64, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "index", [..., (slice(None), 1), [0, 2], torch.eye(3) > 0], ids=["whole", "column", "rows", "mask"]
)
def test_every_dtype_takes_zeros_ones_and_its_own_values(dtype: torch.dtype, index: Any) -> None:
    """J11: edited where torch can, else refused with a reason; J2 either way."""
    values = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]).to(dtype)
    model = nn.Module()
    model.register_buffer("odd", values.clone())
    lab = wl.Lab(model)
    before = state(model)
    lab.snapshot("before")
    lab["odd"][index].fill_(1)
    lab["odd"][index].zero_()
    lab["odd"][index].copy_(torch.ones(()))
    assert (
        bool((model.odd[index].to(torch.complex128) == 1).all()) if isinstance(index, tuple) or index is ... else True
    )
    for act in (
        lambda w: w.mul_(2),
        lambda w: w.add_(1),
        lambda w: w.neg_(),
        lambda w: w.prune_(1),
        lambda w: w.clamp_(0, 1),
    ):
        count, now = len(lab.history), state(model)
        try:
            act(lab["odd"][index])
        except wl.EditRefused:
            assert state(model) == now
            assert len(lab.history) == count
    lab.diff("before")
    hold = lab["odd"][index].hold()
    lab.step()
    hold.release()
    while lab.undo():
        pass
    assert state(model) == before
    assert len(lab.diff("before")) == 0


def test_a_compiled_model_runs_with_the_edited_weight() -> None:
    """J13: names are the model's own, and the compiled code sees the edit."""
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model = torch.compile(plain, backend="eager")
    inputs = torch.randn(5, 3)
    first = model(inputs)
    lab = wl.Lab(model)
    assert [info.name for info in lab.tree] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    lab["2.weight"].zero_()
    lab["_orig_mod.2.bias"].fill_(0.5)
    assert bool((model(inputs) == 0.5).all())
    assert "_orig_mod" not in lab.to_python()
    fresh = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    wl.replay(lab.recipe(), fresh)
    assert fresh[2].bias.tolist() == [0.5, 0.5]
    lab.undo()
    lab.undo()
    assert torch.equal(model(inputs), first)


class Lora(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 3)
        self.base.requires_grad_(False)
        self.lora_A = nn.ParameterDict({"default": nn.Parameter(torch.randn(2, 4))})
        self.lora_B = nn.ParameterDict({"default": nn.Parameter(torch.zeros(3, 2))})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(()))])

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A["default"].T @ self.lora_B["default"].T * self.scales[0]


def test_adapters_are_edited_beside_their_frozen_base() -> None:
    model = Lora()
    lab = wl.Lab(model)
    lab["lora_B.default"][0].fill_(1.0)
    lab["base.weight"].zero_()
    assert not model.base.weight.requires_grad
    lab["scales.0"].fill_(0.5)
    inputs = torch.randn(2, 4)
    assert torch.allclose(model(inputs)[:, 0], model.base.bias[0] + (inputs @ model.lora_A["default"].T).sum(1) * 0.5)
    scope: dict[str, Any] = {}
    exec(lab.to_python(), scope)
    other = Lora()
    other.load_state_dict({**model.state_dict(), "base.weight": torch.ones(3, 4)})
    scope["apply"](other)
    assert state(other) == state(model)


def test_names_of_a_wrapped_model_work_with_and_without_the_wrapper() -> None:
    model = nn.DataParallel(nn.Linear(3, 2))
    lab = wl.Lab(model)
    lab["module.weight"][0].zero_()
    lab["weight"][1].zero_()
    assert bool((model.module.weight == 0).all())
    bare = nn.Linear(3, 2)
    wl.replay(lab.recipe(), bare)
    assert bool((bare.weight == 0).all())


@pytest.mark.parametrize("wrapped", ["this", "other", "the other's state dict"])
def test_a_wrapped_model_is_compared_and_copied_by_the_same_names(wrapped: str) -> None:
    one, other = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    lab = wl.Lab(nn.DataParallel(one) if wrapped == "this" else one)
    source: Any = nn.DataParallel(other) if wrapped != "this" else other
    source = source.state_dict() if "dict" in wrapped else source
    assert {row.name.removeprefix("module.") for row in lab.diff(source)} == {"0.weight", "0.bias"}
    assert len(lab.transfer(source).copied) == 2
    assert state(one) == state(other)
    assert not lab.diff(source).rows


def test_a_match_of_names_that_are_not_there_is_refused() -> None:
    lab, other = wl.Lab(nn.Linear(3, 2)), nn.Linear(3, 2)
    with pytest.raises(wl.EditRefused, match="wieght"):
        lab.transfer(other, match={"wieght": "weight"})
    assert not lab.history


def test_tied_weights_are_one_under_every_name(tied_model: nn.Module) -> None:
    """J9."""
    lab = wl.Lab(tied_model)
    lab["head.weight"][2].fill_(7.0)
    assert lab.history[-1].names == ("embed.weight", "head.weight")
    assert tied_model.embed.weight is tied_model.head.weight
    assert tied_model.embed(torch.tensor(2)).tolist() == [7.0] * 3
    lab.undo()
    assert len(lab.tree) == 1


def test_an_autocast_block_sees_the_edit() -> None:
    """J13: the cast that autocast keeps of the old weight is dropped."""
    model = nn.Linear(3, 2, bias=False)
    lab = wl.Lab(model)
    inputs = torch.ones(1, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(inputs)
        lab["weight"].fill_(1.0)
        assert model(inputs).tolist() == [[3.0, 3.0]]
