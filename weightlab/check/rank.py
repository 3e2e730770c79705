"""Weights that let only a few directions through."""

from __future__ import annotations

import torch
from torch import Tensor

from weightlab.check.expected import Layer, Scheme
from weightlab.check.finding import Finding
from weightlab.check.repairs import redraw
from weightlab.model.tree import ParameterTree

# A random matrix has full rank; its least singular value is about 1 / sqrt(n) of the typical one (Edelman 1988), and
# training adds large singular values without removing the small ones. Below this share of the largest one a direction is
# as good as closed.
CLOSED = 1e-3
# Full rank is what a random or orthogonal start has (Saxe et al. 2014); a quarter of it is no accident.
SHARE = 0.25
SIDE = 256


def rank(tree: ParameterTree, layers: list[Layer], scheme: Scheme, passed: set[str]) -> list[Finding]:
    """`rank_collapse` of weights whose numerical rank is at most a quarter of what their shape allows."""
    found = []
    for layer in layers:
        if layer.name in passed or not layer.trained or layer.size == 0 or not layer.direct or layer.axis is None:
            continue
        value = tree.tensor(layer.name).detach()
        # Of a transposed convolution [in, out, *kernel] the map from one position is [in, out * kernel].
        matrix = value.flatten(1) if value.ndim > 2 else value.movedim(layer.axis, 0)
        units = matrix.shape[0] // layer.blocks
        if layer.kind == "conv" and layer.blocks > 1:
            continue
        full = min(units, matrix.shape[1])
        if full < 4 or not bool(torch.isfinite(matrix.sum())):
            continue
        ranks = [_rank(matrix[block * units : (block + 1) * units]) for block in range(layer.blocks)]
        left = min(ranks)
        if left == 0 or left > max(1, int(SHARE * full)):
            continue
        text = (
            f"{layer.name}: its rank is {left} of {full}, so {units} units carry only {left} different "
            f"number{'s' if left > 1 else ''}."
        )
        seen = (f"{full - left} of {full} singular values are below {CLOSED:g} of the largest",)
        repair = redraw(tree, layer, scheme, None, "Draw it anew with full rank")
        title = f"{layer.name} has rank {left} of {full}"
        found.append(
            Finding("rank_collapse", layer.name, (layer.name,), "warning", text, seen, repair, title, layer.name)
        )
    return found


def _rank(matrix: Tensor) -> int:
    """Numerical rank of the nonzero rows and columns; of a part of them where that part has full rank already.

    Rows that are zero were pruned or silenced, which is another matter.
    """
    zero = max(CLOSED, 2 * torch.finfo(matrix.dtype).eps)
    matrix = matrix[matrix.any(1)]
    matrix = matrix[:, matrix.any(0)]
    if not matrix.numel():
        return 0
    part = matrix[_spread(matrix.shape[0])][:, _spread(matrix.shape[1])]
    if part.shape != matrix.shape:
        found = _count(part, zero)
        if found > SHARE * min(part.shape):
            return min(matrix.shape)  # at least as open as this part
        if min(matrix.shape) > 2048:
            return found
    return _count(matrix, zero)


def _spread(count: int) -> Tensor:
    """At most `SIDE` indices, spread at random."""
    if count <= SIDE:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:SIDE].sort().values


def _count(matrix: Tensor, zero: float) -> int:
    values = torch.linalg.svdvals(matrix.to("cpu", torch.float32))
    return int((values > zero * values[0]).sum())
