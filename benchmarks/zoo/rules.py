"""What others would say: the built-in rules of Amazon SageMaker Debugger, and torch's anomaly mode.

The rules are written anew from their published definitions, at their default thresholds, on one forward and backward of
the same batch. As there, activations are those of modules: what a forward computes by function calls is not recorded.
"""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from .specimen import Specimen, seed_all

# Which kinds each rule speaks for, read generously.
SPEAKS = {
    "VanishingGradient": ("vanishing", "scale_low"),
    "ExplodingTensor": ("nonfinite_weight", "nonfinite_activation", "nonfinite_gradient", "exploding"),
    "DeadRelu": ("dead_relu",),
    "SaturatedActivation": ("saturated",),
    "PoorWeightInitialization": ("scale_low", "scale_high", "symmetric_units", "vanishing", "exploding"),
    "AllZero": ("zero_weight", "zero_path", "zero_norm_scale", "dead_relu"),
}
Alarm = tuple[str, str]  # rule, place


def sagemaker(specimen: Specimen) -> list[Alarm]:
    """Every alarm of the six rules: on weights, gradients, and inputs and outputs of modules without children."""
    alarms: list[Alarm] = []
    handles = []
    model = specimen.model

    def look(name: str, held: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            fed = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
            if isinstance(output, Tensor) and output.is_floating_point():
                alarms.extend((rule, name) for rule in _activation(held, fed, output.detach()))

        handles.append(held.register_forward_hook(hook))

    for name, held in model.named_modules():
        if not any(True for _ in held.children()):
            look(name, held)
    model.zero_grad()
    seed_all(specimen.seed)
    try:
        loss = specimen.run(specimen.batch)
        if not bool(loss.isfinite()):
            alarms.append(("ExplodingTensor", ""))
        loss.backward()
    except (RuntimeError, ValueError):
        pass  # a forward that raises ends the job that the rules watch
    finally:
        for handle in handles:
            handle.remove()
    alarms += _weights_and_gradients(dict(model.named_parameters()))
    model.zero_grad()
    return list(dict.fromkeys(alarms))


def _activation(held: nn.Module, fed: Tensor | None, output: Tensor) -> list[str]:
    found = []
    if not bool(output.isfinite().all()):
        found.append("ExplodingTensor")
    if not bool(output.any()):
        found.append("AllZero")
    if isinstance(held, nn.ReLU | nn.ReLU6) and _two_levels(output > 0):
        found.append("DeadRelu")
    if fed is not None and isinstance(held, nn.Tanh) and _two_levels(fed.detach().abs() <= 9.4999):
        found.append("SaturatedActivation")
    if fed is not None and isinstance(held, nn.Sigmoid) and _two_levels((fed >= -23) & (fed <= 16.99999)):
        found.append("SaturatedActivation")
    return found


def _two_levels(active: Tensor) -> bool:
    """More than half of the units are active on less than 1 % of the samples."""
    share = active.flatten(1).float().mean(0)
    return float((share < 0.01).float().mean()) > 0.5


def _weights_and_gradients(parameters: dict[str, nn.Parameter]) -> list[Alarm]:
    alarms: list[Alarm] = []
    variances = {}
    for name, held in parameters.items():
        value = held.detach()
        if not bool(value.isfinite().all()):
            alarms.append(("ExplodingTensor", name))
        if name.rpartition(".")[2].startswith("weight"):
            if not bool(value.any()):
                alarms.append(("AllZero", name))
            if value.ndim > 1:
                variances[name] = float(value.var())
        grad = held.grad
        if grad is None:
            continue
        if not bool(grad.isfinite().all()):
            alarms.append(("ExplodingTensor", name))
            continue
        if not bool(grad.any()):
            alarms.append(("AllZero", name))
        if float(grad.abs().mean()) < 1e-7:
            alarms.append(("VanishingGradient", name))
        low, high = torch.quantile(grad.float().flatten(), torch.tensor([0.05, 0.95])).tolist()
        if grad.ndim > 1 and high - low < 0.001:
            alarms.append(("PoorWeightInitialization", name))
    if variances:
        smallest, largest = min(variances, key=variances.__getitem__), max(variances, key=variances.__getitem__)
        if variances[largest] > 10 * variances[smallest]:
            alarms += [("PoorWeightInitialization", smallest), ("PoorWeightInitialization", largest)]
    return alarms


def anomaly(specimen: Specimen) -> str | None:
    """The backward function that anomaly mode blames, or None where it says nothing."""
    specimen.model.zero_grad()
    seed_all(specimen.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.autograd.detect_anomaly(check_nan=True):
                specimen.run(specimen.batch).backward()
        except RuntimeError as error:
            named = re.search(r"Function '(\w+)' returned nan", str(error))
            return named.group(1) if named else None
        except ValueError:
            return None
        finally:
            specimen.model.zero_grad()
    return None
