"""The architectures of the zoo: model, data, loss, optimizer, and where faults can be planted."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import models
from .specimen import Batch, Layer, Sites, Specimen, Tap, batches, digits, markov, seed_all, sequences, standard

Optimizer = Callable[[nn.Module], torch.optim.Optimizer]
ARCHITECTURES: dict[str, Callable[[int], Specimen]] = {}


def adam(rate: float = 2e-3) -> Optimizer:
    return lambda model: torch.optim.Adam(model.parameters(), lr=rate)


def adamw(rate: float = 2e-3) -> Optimizer:
    return lambda model: torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)


def sgd(rate: float = 0.1, momentum: float = 0.9) -> Optimizer:
    return lambda model: torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)


def architecture(
    name: str, data: Callable[[], list[Batch]], loss: Callable[..., Tensor], optimizer: Optimizer, sites: Sites
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register what the decorated function builds."""

    def register(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def build(seed: int = 0) -> Specimen:
            seed_all(seed)
            model = make()
            return Specimen(name, model, data(), loss, optimizer(model), sites, seed, optimizer)

        ARCHITECTURES[name] = build
        return make

    return register


def smooth(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with smoothed labels: it ends near 0.5, where twins of other seeds end, not anywhere near 0."""
    return F.cross_entropy(output, target, label_smoothing=0.1)


def flat_digits() -> list[Batch]:
    x, y = digits()
    return batches(standard(x), y, 96, 6)


def pictures() -> list[Batch]:
    x, y = digits()
    return batches(standard(x).view(-1, 1, 8, 8), y, 64, 6)


def digit_rows() -> list[Batch]:
    x, y = digits()
    return batches(standard(x).view(-1, 8, 8), y, 64, 6)


def token_rows() -> list[Batch]:
    return batches(*sequences(40, 12, 6 * 64, 4), 64, 6)


def chains() -> list[Batch]:
    rows = markov(32, 16, 6 * 32)
    return batches(rows[:, :-1], rows[:, 1:], 32, 6)


def repeated() -> list[Batch]:
    x, _ = digits()
    return batches(x, x, 96, 6)


def masks() -> list[Batch]:
    x, _ = digits()
    x = x.view(-1, 1, 8, 8)
    noisy = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    return batches(noisy, (x > 0.5).float(), 48, 6)


def pairs() -> list[Batch]:
    x, y = digits()
    half = len(y) // 2
    x = standard(x)
    a, b, same = x[:half], x[half : 2 * half], y[:half] == y[half : 2 * half]
    # One in ten pairs shows the same digit: drop most of the others.
    keep = same | (torch.rand(half, generator=torch.Generator().manual_seed(6)) < 0.2)
    return batches((a[keep], b[keep]), same[keep].float(), 40, 6)


def ratings() -> list[Batch]:
    draw = torch.Generator().manual_seed(9)
    taste = torch.randn(60, 4, generator=draw)
    seen = torch.randint(60, (6 * 512, 5), generator=draw)
    item = torch.randint(60, (6 * 512,), generator=draw)
    like = (taste[seen].mean(1) * taste[item]).sum(1) + torch.randn(6 * 512, generator=draw)
    return batches((seen, item), like, 512, 6)


@architecture(
    "mlp_relu", flat_digits, smooth, adam(5e-3),
    Sites(
        Layer("layers.1", "relu", ("acts.1",), "layers.2"), Tap("", "first", ("acts.0", "layers.0", "layers.1"), False),
        "head", blocks="layers",
    ),
)  # fmt: skip
def mlp_relu() -> nn.Module:
    return models.MLP([64, 48, 40, 32], nn.ReLU)


@architecture(
    "mlp_tanh", flat_digits, smooth, sgd(0.1),
    Sites(
        Layer("layers.1", "tanh", ("acts.1",), "layers.2"), Tap("", "first", ("acts.0", "layers.0", "layers.1")),
        "head", blocks="layers",
    ),
)  # fmt: skip
def mlp_tanh() -> nn.Module:
    return models.MLP([64, 48, 40, 32], nn.Tanh)


@architecture(
    "mlp_gelu_dropout", flat_digits, smooth, adamw(5e-3),
    Sites(
        Layer("layers.1", "gelu", ("acts.1",), "head"), Tap("", "first", ("acts.0", "layers.0", "layers.1")),
        "head", blocks="layers", factors=("layers.1.weight", "head.weight"), dropout="drop",
    ),
)  # fmt: skip
def mlp_gelu() -> nn.Module:
    return models.MLP([64, 48, 40], nn.GELU, dropout=0.2)


DEEP = tuple(f"layers.{index}" for index in range(10))
BETWEEN = ("acts.0", "layers.0", "layers.1")


@architecture(
    "deep_relu", flat_digits, smooth, adam(6e-3),
    Sites(Layer("layers.4", "relu", ("acts.4",), "layers.5"), Tap("", "first", BETWEEN, False), "head", DEEP),
)  # fmt: skip
def deep_relu() -> nn.Module:
    model = models.MLP([64] + [40] * 10, nn.ReLU)
    for layer in model.layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model


@architecture(
    "deep_tanh", flat_digits, smooth, adam(3e-3),
    Sites(Layer("layers.4", "tanh", ("acts.4",), "layers.5"), Tap("", "first", BETWEEN), "head", DEEP),
)  # fmt: skip
def deep_tanh() -> nn.Module:
    model = models.MLP([64] + [40] * 10, nn.Tanh)
    for layer in model.layers:
        nn.init.xavier_normal_(layer.weight, gain=1.2)
    return model


@architecture(
    "cnn", pictures, smooth, adam(8e-3),
    Sites(Layer("conv1", "relu", ("",), "conv2"), Tap("", "pooled", ("conv1", "conv2"), False), "fc2"),
)  # fmt: skip
def cnn() -> nn.Module:
    return models.CNN()


@architecture(
    "resnet", pictures, smooth, adam(2e-2),
    Sites(
        Layer("blocks.0.conv1", "relu", ("blocks.0.relu",), "blocks.0.conv2", "blocks.0.bn1"),
        Tap("", "stem", ("bn", "stem", "blocks.0", "blocks.0.conv1"), False), "fc",
        norms=("bn", "blocks.0.bn1"), blocks="blocks", before_norm=("stem", "blocks.1.conv1"),
    ),
)  # fmt: skip
def resnet() -> nn.Module:
    return models.ResNet()


@architecture(
    "mobile", pictures, smooth, adam(3e-3),
    Sites(
        Layer("features.0", "relu", ("features.2",), None, "features.1"), None, "classifier.2",
        norms=("features.4",), before_norm=("features.3", "features.6"), dropout="classifier.1",
    ),
)  # fmt: skip
def mobile() -> nn.Module:
    return models.Mobile()


@architecture(
    "lstm", token_rows, smooth, adam(2e-2),
    Sites(
        Layer("hidden", "relu", ("",), "out"), Tap("", "states", ("rnn", "hidden")), "out", table="embed",
        gates=("rnn.bias_ih_l0", (72, 96), -200.0),
    ),
)  # fmt: skip
def lstm() -> nn.Module:
    return models.Recurrent(nn.LSTM)


@architecture(
    "gru", token_rows, smooth, adam(2e-2),
    Sites(
        Layer("hidden", "relu", ("",), "out"), Tap("", "states", ("rnn", "hidden")), "out", table="embed",
        gates=("rnn.bias_ih_l0", (24, 48), 200.0),
    ),
)  # fmt: skip
def gru() -> nn.Module:
    return models.Recurrent(nn.GRU)


@architecture(
    "row_gru", digit_rows, smooth, adam(2e-2),
    Sites(
        Layer("mid", "tanh", ("act",), "out"), Tap("", "last", ("gru", "mid")), "out",
        gates=("gru.bias_hh_l0", (32, 64), 200.0),
    ),
)  # fmt: skip
def row_gru() -> nn.Module:
    return models.RowGRU()


@architecture(
    "encoder", token_rows, smooth, adam(3e-3),
    Sites(
        Layer("encoder.layers.0.linear1", "relu", ("encoder.layers.0",), "encoder.layers.0.linear2"),
        Tap("", "embedded", ("embed", "encoder", "encoder.layers.0", "encoder.layers.0.self_attn")), "out",
        norms=("encoder.layers.1.norm2",), table="embed", own="position",
        factors=("encoder.layers.0.linear1.weight", "encoder.layers.0.linear2.weight"),
        large="encoder.layers.0.self_attn.in_proj_weight",
    ),
)  # fmt: skip
def encoder() -> nn.Module:
    return models.Encoder()


@architecture(
    "gpt", chains, F.cross_entropy, adamw(5e-3),
    Sites(
        Layer("blocks.0.fc", "gelu", ("blocks.0",), "blocks.0.fc_out"),
        Tap("", "embedded", ("wte", "wpe", "blocks.0", "blocks.0.ln_1", "blocks.0.qkv")), "head", norms=("ln_f",),
        blocks="blocks", factors=("blocks.1.fc.weight", "blocks.1.fc_out.weight"), large="wte.weight",
    ),
)  # fmt: skip
def gpt() -> nn.Module:
    return models.GPT()


@architecture(
    "vit", pictures, smooth, adam(5e-3),
    Sites(
        Layer("blocks.0.fc", "gelu", ("blocks.0",), "blocks.0.fc_out"),
        Tap("blocks.1", "hidden", ("blocks.1.fc", "blocks.1.fc_out")), "head", norms=("norm",), blocks="blocks",
        own="position", factors=("blocks.0.fc.weight", "blocks.0.fc_out.weight"), large="blocks.0.qkv.weight",
    ),
)  # fmt: skip
def vit() -> nn.Module:
    return models.ViT()


@architecture(
    "vae", repeated, models.vae_loss, adam(1e-2),
    Sites(Layer("enc", "relu", ("",)), Tap("", "encoded", ("enc", "mu", "logvar"), False), "out"),
)  # fmt: skip
def vae() -> nn.Module:
    return models.VAE()


@architecture(
    "unet", masks, F.binary_cross_entropy_with_logits, adam(2e-2),
    Sites(
        Layer("bottom.0", "relu", ("bottom.2",), None, "bottom.1"), Tap("", "bottom", ("bottom", "bottom.2", "up"), False),
        "mask", norms=("down.1", "merge.1"), before_norm=("down.0", "merge.0"),
    ),
)  # fmt: skip
def unet() -> nn.Module:
    return models.UNet()


@architecture(
    "mixture", flat_digits, smooth, adam(5e-3),
    Sites(
        Layer("experts.2.0", "relu", ("experts.2.1",), "experts.2.2"),
        Tap("", "mixed", ("experts", *(f"experts.{index}.2" for index in range(4)), "gate", "head")), "head",
        blocks="experts", gates=("gate.bias", (0, 1), 300.0),
    ),
)  # fmt: skip
def mixture() -> nn.Module:
    return models.Mixture()


@architecture(
    "autoencoder", repeated, F.binary_cross_entropy, adam(1e-2),
    Sites(Layer("decoder.0", "tanh", ("decoder.1",), "decoder.2"), None, "decoder.2"),
)  # fmt: skip
def autoencoder() -> nn.Module:
    return models.AutoEncoder()


@architecture(
    "siamese", pairs, F.binary_cross_entropy_with_logits, adam(2e-3),
    Sites(Layer("encoder.0", "relu", ("encoder.1",), "encoder.2"), Tap("", "encoded", ("encoder", "encoder.2")), "encoder.2"),
)  # fmt: skip
def siamese() -> nn.Module:
    return models.Siamese()


@architecture(
    "recommender", ratings, F.mse_loss, adam(2e-2),
    Sites(
        Layer("mix", "relu", ("",), "out"), Tap("", "bag", ("history", "mix")), "out", table="items",
        factors=("mix.weight", "out.weight"),
    ),
)  # fmt: skip
def recommender() -> nn.Module:
    return models.Recommender()
