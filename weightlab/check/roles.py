"""Where the output of a layer goes: into another layer, a normalisation, a residual sum, attention, or the loss.

A weight's scale means something else in each place. Behind a normalisation it is divided out again; in a residual
branch a small one only makes the branch start quietly; in a plain chain it multiplies everything behind it.
"""

from __future__ import annotations

from typing import Literal

from weightlab.check.evidence import MATRIX, MULTIPLY, Evidence
from weightlab.check.measures import NORMS, Op

Role = Literal["layer", "norm", "sum", "gate", "attention", "loss"]
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
COMPOSITE = {*RECURRENT, "multi_head_attention_forward", "_native_multi_head_attention"}
ACTIVATIONS = {
    *("relu", "leaky_relu", "prelu", "rrelu", "relu6", "threshold", "clamp", "clamp_min", "elu", "celu", "selu"),
    *("gelu", "silu", "mish", "softplus", "tanh", "sigmoid", "hardtanh", "hardsigmoid", "hardswish", "softsign"),
    *("sin", "cos", "exp", "logsigmoid", "glu", "softmax", "log_softmax"),
}


class Roles:
    """Answers about one recorded forward pass."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._data: dict[int, list[Op]] = {}
        self._weights: dict[int, list[str]] = {}

    def fed_by(self, op: Op) -> list[Op]:
        evidence = self._evidence
        if op.index not in self._data:
            self._data[op.index] = evidence.data(op)
        return self._data[op.index]

    def weights(self, op: Op) -> list[str]:
        if op.index not in self._weights:
            self._weights[op.index] = self._evidence.weights(op)
        return self._weights[op.index]

    def is_layer(self, op: Op) -> bool:
        """Whether this mixes units by a weight: linear, convolution, recurrent."""
        if op.name in COMPOSITE:
            return bool(self.weights(op))
        if op.name not in MATRIX and not op.name.startswith("conv"):
            return False
        return any(len(self._evidence.tree[name].shape) > 1 for name in self.weights(op))

    def users(self, op: Op) -> list[Op]:
        return [self._evidence.ops[index] for index in self._evidence.users[op.index]]

    def after(self, op: Op) -> set[Role]:
        """Where this Op's output arrives, through activations, views, pooling and the like."""
        found: set[Role] = set()
        for end, _ in self.ends(op):
            found.add(end)
        return found or {"loss"}

    def ends(self, op: Op) -> list[tuple[Role, Op]]:
        """The Ops at which this one's output arrives, and in which role."""
        found: list[tuple[Role, Op]] = []
        seen: set[int] = set()
        waiting = [op]
        while waiting:
            for user in self.users(waiting.pop()):
                if user.index in seen:
                    continue
                seen.add(user.index)
                role = self._role(user)
                if role is None:
                    waiting.append(user)
                else:
                    found.append((role, user))
        return found

    def _role(self, user: Op) -> Role | None:
        """What it means to arrive here; None to go on behind it."""
        if not user.module_type:
            return "loss"
        if user.name in NORMS:
            return "norm"
        if self.is_layer(user):
            return "layer"
        if user.name == "scaled_dot_product_attention":
            return "attention"
        sources = len({source.index for source in self.fed_by(user)})
        if user.is_view or sources < 2:
            return None
        if user.name in MATRIX:
            return "attention"
        if user.name in MULTIPLY or user.name in ("div", "__truediv__", "where", "lerp"):
            return "gate"
        return "sum"

    def ends_branch(self, op: Op) -> bool:
        """Whether this output is added to something that does not come from it, with nothing but gates on the way."""
        behind = {op.index}
        waiting = [op]
        while waiting:
            for user in self.users(waiting.pop()):
                if user.index not in behind:
                    behind.add(user.index)
                    waiting.append(user)
        waiting, seen = [op], set()
        while waiting:
            for role, end in self.ends(waiting.pop()):
                if end.index in seen:
                    continue
                seen.add(end.index)
                if role == "sum" and any(source.index not in behind for source in self.fed_by(end)):
                    return True
                if role == "gate" or (role == "sum" and end.outside):
                    waiting.append(end)
        return False

    def activation(self, op: Op) -> str:
        """The activation function that an Op's output enters first, "linear" where there is none."""
        waiting, seen = [op], {op.index}
        while waiting:
            for user in self.users(waiting.pop(0)):
                if user.index in seen:
                    continue
                seen.add(user.index)
                if user.name in ACTIVATIONS and user.module_type:
                    return user.name
                if user.name in NORMS or user.is_view or "dropout" in user.name or "pool" in user.name:
                    waiting.append(user)
        return "linear"
