"""Layer-sequential unit variance (Mishkin and Matas 2016, "All you need is a good init", algorithm 1)."""

from __future__ import annotations

import math

from weightlab.check.gradients import observe
from weightlab.check.layers import layers_that_ran
from weightlab.check.listening import Listening
from weightlab.check.probe import Probe
from weightlab.check.roles import Roles
from weightlab.errors import ProbeFailed
from weightlab.model.tree import ParameterTree

# Mishkin and Matas stop at a variance within 0.1 of 1.
CLOSE = 0.05


def factor(tree: ParameterTree, probe: Probe, name: str) -> float | None:
    """By what to multiply a weight so that its layer puts out a mean square of 1 on the probe; None where it does, or cannot.

    To be asked and applied layer by layer, in order of execution: each depends on those before it.
    """
    try:
        seen = observe(tree, probe, Listening)
    except ProbeFailed:
        return None
    listening = seen.recording
    assert isinstance(listening, Listening)
    roles = Roles(seen.evidence)
    for layer in layers_that_ran(seen.evidence, listening, roles):
        if layer.name != name or not layer.ops:
            continue
        heard = listening.heard.get(layer.ops[0])
        out = heard.out.rms if heard is not None and heard.out is not None else 0.0
        if not math.isfinite(out) or out <= 0 or abs(out - 1) < CLOSE:
            return None
        return 1 / out
    return None
