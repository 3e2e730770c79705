"""The layers of a model that has run: each weight with its gain and where its output goes."""

from __future__ import annotations

import math

from weightlab.check.evidence import MULTIPLY, Evidence
from weightlab.check.expected import Layer, layer_of
from weightlab.check.listening import Listening
from weightlab.check.measures import LOOKUPS, Op
from weightlab.check.roles import COMPOSITE, Roles

TRANSPOSES = {"t", "T", "mT", "transpose", "permute"}


class Heard:
    """Sizes of what was fed to an Op and of what it put out, by what `Listening` measured."""

    def __init__(self, listening: Listening, roles: Roles) -> None:
        self._heard, self._roles = listening.heard, roles

    def fed(self, op: Op, depth: int = 0) -> float | None:
        """Root mean square of the data that an Op takes."""
        squares = self._squares(op, 0)
        return math.sqrt(sum(squares) / len(squares)) if squares else None

    def _squares(self, op: Op, depth: int) -> list[float]:
        found = [size.rms**2 for size in self._heard[op.index].outside] if op.index in self._heard else []
        for source in self._roles.fed_by(op):
            heard = self._heard.get(source.index)
            if source.is_view and depth < 12:
                found += self._squares(source, depth + 1)
            elif heard is not None and heard.out is not None:
                found.append(heard.out.rms**2)
        return found

    def varies(self, op: Op) -> float | None:
        """Variance between samples of what an Op takes, where one function made it."""
        sources = self._roles.fed_by(op)
        while len(sources) == 1 and sources[0].is_view:
            sources = self._roles.fed_by(sources[0])
        own = self._heard.get(sources[0].index) if len(sources) == 1 else None
        if own is None or own.out is None or own.uneven is None:
            return None
        return own.out.rms**2 * float(own.uneven)

    def out(self, op: Op) -> float | None:
        heard = self._heard.get(op.index)
        return heard.out.rms if heard is not None and heard.out is not None else None

    def gradient(self, op: Op) -> float | None:
        """Root mean square of the gradient that arrived at what an Op put out."""
        heard = self._heard.get(op.index)
        return heard.gradient.rms if heard is not None and heard.gradient is not None else None


def scaled(roles: Roles, op: Op) -> Op:
    """The Op itself, or the last of the plain factors that its output is multiplied by before anything else."""
    while True:
        users = roles.users(op)
        if len(users) != 1 or users[0].name not in (*MULTIPLY, "div", "__truediv__", "detach"):
            return op
        following = users[0]
        if following.parameters or len(roles.fed_by(following)) != 1 or not following.module_type:
            return op
        op = following


def _largest_factor(roles: Roles, heard: Heard, op: Op, end: Op) -> tuple[int, float] | None:
    """Of the plain factors from a layer to where they end, the Op and the value of the one that is furthest from 1."""
    found: tuple[int, float] | None = None
    while op is not end:
        following = roles.users(op)[0]
        before, after = heard.out(op), heard.out(following)
        if before and after:
            value = after / before
            if found is None or abs(math.log(value)) > abs(math.log(found[1])):
                found = following.index, value
        op = following
    return found


def layers_that_ran(evidence: Evidence, listening: Listening, roles: Roles) -> list[Layer]:
    """One Layer for each weight that a recorded Op mixes units with, in order of execution."""
    tree, heard = evidence.tree, Heard(listening, roles)
    found: dict[str, Layer] = {}
    modules = tree.modules
    for op in evidence.ops:
        if not roles.is_layer(op):
            continue
        for name in roles.weights(op):
            if len(tree[name].shape) < 2:
                continue
            if name in found:
                found[name].roles |= roles.after(op)
                found[name].ops = (*found[name].ops, op.index)
                continue
            layer = layer_of(tree, tree[name], op.name, modules.get(name.rpartition(".")[0]))
            if layer is None:
                continue
            _orient(layer, evidence, roles, op)
            layer.ops = (op.index,)
            layer.roles = {"attention"} if _is_query(op, name) else set(roles.after(op))
            end = scaled(roles, op)
            layer.activation = roles.activation(end)
            layer.first = not roles.fed_by(op) or not any(_is_made(roles, source) for source in roles.fed_by(op))
            layer.direct = _is_direct(evidence, op, name)
            fed, made, out = heard.fed(op), heard.out(op), heard.out(end)
            if op.name in COMPOSITE:
                pass
            elif not out or not math.isfinite(out):
                layer.gain = layer.gain if end is op and layer.direct else 0.0  # by which factor nobody knows
            elif layer.direct and made:
                layer.gain *= out / made  # the plain factors; what a bias adds is no gain
                layer.factor = _largest_factor(roles, heard, op, end)
            elif fed:
                layer.gain = out / fed
            found[name] = layer
    for op in evidence.ops:
        # A table of vectors that is also the output layer has the size of vectors, not of weights.
        if op.name in LOOKUPS:
            for name in roles.weights(op):
                if name in found:
                    found[name].direct, found[name].gain = False, 0.0
    return list(found.values())


def _is_made(roles: Roles, op: Op) -> bool:
    """Whether any layer had a part in this."""
    waiting, seen = [op], {op.index}
    while waiting:
        each = waiting.pop()
        if roles.is_layer(each):
            return True
        for source in roles.fed_by(each):
            if source.index not in seen:
                seen.add(source.index)
                waiting.append(source)
    return False


def _is_query(op: Op, name: str) -> bool:
    return "multi_head_attention" in op.name and not name.endswith("out_proj.weight")


def _is_direct(evidence: Evidence, op: Op, name: str) -> bool:
    """Whether the Op takes the parameter itself or a view of it, rather than something computed from it."""
    if name in op.parameters:
        return True
    waiting = list(op.inputs)
    while waiting:
        source = evidence.ops[waiting.pop()]
        if source.is_view and evidence.weightlike(source):
            if name in source.parameters:
                return True
            waiting += source.inputs
    return False


def _orient(layer: Layer, evidence: Evidence, roles: Roles, op: Op) -> None:
    """`x @ W` takes W as [in, out], where `F.linear` takes [out, in]."""
    if op.name in ("matmul", "mm", "__matmul__", "addmm") and len(layer.shape) == 2:
        turned = any(
            evidence.ops[index].name in TRANSPOSES
            for index in op.inputs
            if layer.name in roles.weights(evidence.ops[index])
        )
        rows, columns = layer.shape
        if not turned and op.outs and op.outs[0].shape and op.outs[0].shape[-1] == columns:
            layer.axis, layer.fan_in, layer.fans = 1, float(rows), (rows, columns)
            layer.gain = layer.size * math.sqrt(rows)
    elif op.name == "einsum" or op.name == "bmm":
        layer.axis = None
