"""Gates of recurrent layers that are shut by their bias for every input."""

from __future__ import annotations

import math
import re

import torch

from weightlab.check.evidence import Cause, Evidence, number
from weightlab.check.measures import Op

GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "new")}
# From here on a float32 sigmoid is 0 or 1 up to rounding, and its slope is below the machine epsilon 2^-23.
SHUT = 23 * math.log(2)


# What stops the signal: nothing comes in, nothing goes out, nothing new is taken.
CLOSES = {"input": -1, "output": -1, "update": 1}


def shut_gate(evidence: Evidence, name: str, op: Op, closing: bool = False) -> Cause | None:
    """The gate of an LSTM or GRU whose two biases add up to what no input outweighs; None where there is none.

    Args:
        closing: only gates that let nothing through; one that is held open for ever harms less.
    """
    gates = GATES.get(op.name.removesuffix("_cell"))
    if gates is None:
        return None
    for bias in evidence.weights(op):
        other = re.sub(r"bias_ih", "bias_hh", bias)
        if "bias_ih" not in bias or other not in evidence.tree:
            continue
        held = evidence.tree.tensor(bias).detach().float().cpu(), evidence.tree.tensor(other).detach().float().cpu()
        parts = (held[0] + held[1]).chunk(len(gates))
        for place, (gate, part) in enumerate(zip(gates, parts, strict=True)):
            if not part.numel() or not bool((part.abs() > SHUT).all()):
                continue
            if closing and not bool((part.sign() == CLOSES.get(gate, 0)).all()):
                continue
            blame = bias if float(torch.linalg.vector_norm(held[0].chunk(len(gates))[place])) >= float(
                torch.linalg.vector_norm(held[1].chunk(len(gates))[place])
            ) else other  # fmt: skip
            low, high = float(part.min()), float(part.max())
            said = number(low) if low == high else f"between {number(low)} and {number(high)}"
            text = f"{op.where}: its {gate} gate is saturated in all {part.numel()} units, because {blame} makes it {said}."
            region = f"[{place * part.numel()}:{(place + 1) * part.numel()}]"
            seen = (f"beyond ±{number(SHUT)} the slope of a gate is below 1.2e−7",)
            title = f"The {gate} gate is shut"
            affects = (name,) if name else ()
            return Cause("saturated", op.path, affects, "error", text, seen, None, title, blame, region, op.index)
    return None
