"""Singular values of a matrix view of a tensor, and the two ranks that are read off them.

effective rank    exp(H), H the entropy of p_i = s_i / sum(s)        Roy and Vetterli, "The effective rank", 2007
stable rank       ||A||_F^2 / ||A||_2^2 = sum(s^2) / s_1^2           Rudelson and Vershynin, 2007

Up to 2048 on the shorter side all values come from the eigenvalues of the Gram matrix of that side, in float64: fifteen times
faster than an SVD, and exact to 1e-8 of the largest value, which is below what float32 weights hold. Beyond, the largest come from
a randomised range finder (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1), and the sums over all of them that the
effective rank needs from stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017): both touch the matrix by products only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model.storage import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT_SIDE = 2048
_EXACT_WORK = 1 << 36  # multiplications of a Gram matrix: a few seconds on two cores
_TOP = 64
_OVERSAMPLE = 16
_PROBES, _STEPS = 8, 20
_CHUNK = 1 << 22
_SEED = 20110217

Tick = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of one matrix.

    Attributes:
        name: of the tensor, for the title of a plot.
        matrix: rows and columns of the matrix view: the first axis against all others.
        values: largest first; all min(matrix) of them when `exact`, else the largest 64.
        effective_rank, stable_rank: 0 for a matrix of zeros.
        edge: the largest value to be expected of independent cells with the same mean square (Marchenko and Pastur 1967):
            what stands out above it is structure.
        exact: False where values and ranks are estimates of a randomised method; they repeat from call to call.
    """

    name: str
    matrix: tuple[int, int]
    values: tuple[float, ...]
    effective_rank: float
    stable_rank: float
    edge: float
    exact: bool

    @property
    def above_edge(self) -> int:
        """How many values stand out above `edge`."""
        return sum(value > self.edge for value in self.values)

    def plot(self) -> Figure:
        """The values on a log scale, with the edge of a random matrix of the same size."""
        from weightlab.see.figures import LabFigure

        figure = LabFigure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        # Below that share of the largest there is nothing but rounding.
        shown = [value for value in self.values if value > 1e-6 * self.values[0]]
        axes.plot(range(1, len(shown) + 1), shown, lw=1.4, color="#1a6fd4")
        if shown:
            axes.set_yscale("log")
        if self.edge > 0:
            axes.axhline(self.edge, lw=1, ls="--", color="#8a93a2", label="edge of a random matrix")
            axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("number")
        axes.set_ylabel("singular value")
        about = "" if self.exact else "about "
        axes.set_title(
            f"{self.name} {list(self.matrix)}\neffective rank {about}{self.effective_rank:.1f} · "
            f"stable rank {about}{self.stable_rank:.1f}",
            loc="left", fontsize=9,
        )  # fmt: skip
        return figure


def spectrum(tensor: Tensor, title: str, name: str = "", tick: Tick | None = None) -> Spectrum:
    """Singular values and ranks.

    Args:
        tensor: [out, ...]; a convolution [out, in, kh, kw] is the matrix [out, in * kh * kw].
        title: name and shape, for errors.
        tick: called with the share that is done, between products; what it raises ends the work.

    Raises:
        EditRefused: fewer than two axes, or a cell is not finite.
    """
    shape = list(tensor.shape)
    if len(shape) < 2:
        raise EditRefused(
            f"{title}: a spectrum belongs to a matrix, the tensor has {len(shape)} axes. Take one with two."
        )
    with writing(tensor):
        rows, columns = shape[0], math.prod(shape[1:])
        matrix = _Matrix(tensor.detach(), rows, columns)
        square = matrix.square(title)
        short, long = min(rows, columns), max(rows, columns)
        if not short or square == 0.0:
            return Spectrum(name, (rows, columns), (0.0,) * min(short, EXACT_SIDE), 0.0, 0.0, 0.0, True)
        # ||A||_F^2 / (rows * columns) is the mean square of a cell; the largest of a random matrix tends to this.
        edge = matrix.unit * math.sqrt(square / (rows * columns)) * (math.sqrt(rows) + math.sqrt(columns))
        tell = tick or (lambda share: None)
        exact = short <= EXACT_SIDE and short * short * long <= _EXACT_WORK
        if not exact and (tensor.dtype is torch.float64 or not 1e-15 < square < 1e15):
            matrix.unit *= math.sqrt(square)  # float32 has no room for the products otherwise
            square = 1.0
        found, effective = _exactly(matrix, tell) if exact else _randomised(matrix, tell)
        values = tuple(value * matrix.unit for value in found)
    return Spectrum(name, (rows, columns), values, effective, square / found[0] ** 2, edge, exact)


class _Matrix:
    """A tensor as [rows, columns], read in pieces of whole rows; never copied as a whole."""

    def __init__(self, tensor: Tensor, rows: int, columns: int) -> None:
        self.tensor, self.rows, self.columns = tensor, rows, columns
        self.step = max(1, _CHUNK // max(columns, 1))
        self.unit = 1.0

    def pieces(self) -> list[tuple[int, int]]:
        return [(top, min(top + self.step, self.rows)) for top in range(0, self.rows, self.step)]

    def piece(self, top: int, bottom: int, dtype: torch.dtype) -> Tensor:
        cells = self.tensor[top:bottom].reshape(bottom - top, self.columns)
        if self.unit == 1.0:
            return cells.to(dtype)
        return (cells.to(torch.complex128 if cells.is_complex() else torch.float64) / self.unit).to(dtype)

    def square(self, title: str) -> float:
        """Sum of squares, of cells divided by the unit; 1e200 and 1e-200 have no squares, and set it."""
        wide = torch.complex128 if self.tensor.is_complex() else torch.float64
        norms = [float(torch.linalg.vector_norm(self.piece(*ends, wide))) for ends in self.pieces()]
        total = math.fsum(norm * norm for norm in norms)
        if 1e-200 < total < 1e200 or self.unit != 1.0:
            return total
        largest = max((float(self.piece(*ends, wide).abs().max()) for ends in self.pieces()), default=0.0)
        if not math.isfinite(largest):
            raise EditRefused(f"{title}: a spectrum needs finite cells. Find NaN and inf, and edit them.")
        if largest == 0.0:
            return 0.0
        self.unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)
        return self.square(title)

    def gram(self, tell: Tick) -> Tensor:
        """A A^H or A^H A, whichever is smaller, in float64."""
        wide = self.columns > self.rows
        side = min(self.rows, self.columns)
        dtype = torch.complex128 if self.tensor.is_complex() else torch.float64
        made = torch.zeros(side, side, dtype=dtype, device=self.tensor.device)
        if wide:
            step = max(1, _CHUNK // self.rows)
            flat = self.tensor.reshape(self.rows, self.columns)
            for left in range(0, self.columns, step):
                cells = flat[:, left : left + step].to(dtype) / self.unit
                made += cells @ cells.mH
                tell(0.6 * min(1.0, (left + step) / self.columns))
            return made
        for top, bottom in self.pieces():
            cells = self.piece(top, bottom, dtype)
            made += cells.mH @ cells
            tell(0.6 * bottom / self.rows)
        return made

    def times(self, right: Tensor) -> Tensor:
        """A @ right, right [columns, k]."""
        return torch.cat([self.piece(top, bottom, right.dtype) @ right for top, bottom in self.pieces()])

    def transposed_times(self, left: Tensor) -> Tensor:
        """A^H @ left, left [rows, k]."""
        made = torch.zeros(self.columns, left.shape[1], dtype=left.dtype, device=left.device)
        for top, bottom in self.pieces():
            made += self.piece(top, bottom, left.dtype).mH @ left[top:bottom]
        return made


def _exactly(matrix: _Matrix, tell: Tick) -> tuple[tuple[float, ...], float]:
    values = torch.linalg.eigvalsh(matrix.gram(tell)).clamp_(min=0).sqrt_().flip(0)
    tell(1.0)
    shares = values / values.sum()
    entropy = -float(torch.special.xlogy(shares, shares).sum())
    return tuple(values.tolist()), math.exp(entropy)


def _randomised(matrix: _Matrix, tell: Tick) -> tuple[tuple[float, ...], float]:
    """The largest values, and the effective rank from sum(s) and sum(s log s) = trace of f(A^H A) for two f."""
    dtype = torch.complex128 if matrix.tensor.is_complex() else torch.float32
    generator = torch.Generator(device="cpu").manual_seed(_SEED)
    side = min(matrix.rows, matrix.columns)
    tall = matrix.rows >= matrix.columns
    passes, done = 4 + 2 * _STEPS, 0

    def product(block: Tensor) -> Tensor:
        """A^H A or A A^H, on the shorter side, times a block."""
        nonlocal done
        block = matrix.times(block) if tall else matrix.transposed_times(block)
        tell((done + 1) / passes)
        block = matrix.transposed_times(block) if tall else matrix.times(block)
        done += 2
        tell(done / passes)
        return block

    def random(columns: int) -> Tensor:
        made = torch.randn(side, columns, generator=generator, dtype=torch.float64)
        return made.to(matrix.tensor.device, dtype)

    block = torch.linalg.qr(product(random(_TOP + _OVERSAMPLE))).Q
    block = torch.linalg.qr(product(block)).Q
    projected = matrix.times(block) if tall else matrix.transposed_times(block)
    top = torch.linalg.svdvals(projected.to(torch.complex128 if projected.is_complex() else torch.float64))[:_TOP]

    # Lanczos from each probe at once, all its vectors kept orthogonal: twenty are few.
    probes = random(_PROBES)
    vectors = [probes / torch.linalg.vector_norm(probes, dim=0)]
    diagonal, beside = [], []
    for step in range(_STEPS):
        ahead = product(vectors[-1])
        diagonal.append((vectors[-1].conj() * ahead).sum(0).real.double().cpu())
        for _ in range(2):
            for old in vectors:
                ahead = ahead - old * (old.conj() * ahead).sum(0)
        size = torch.linalg.vector_norm(ahead, dim=0)
        beside.append(size.double().cpu())
        if float(size.min()) == 0.0:
            break
        if step + 1 < _STEPS:
            vectors.append(ahead / size)
    small = torch.diag_embed(torch.stack(diagonal, -1))
    if len(diagonal) > 1:
        off = torch.diag_embed(torch.stack(beside[: len(diagonal) - 1], -1), offset=1)
        small = small + off + off.mT
    nodes, basis = torch.linalg.eigh(small)
    weights = basis[:, 0, :].square() * (side / _PROBES)
    found = nodes.clamp(min=0).sqrt()
    total = float((weights * found).sum())
    logs = float((weights * torch.special.xlogy(found, found)).sum())
    # H = -sum (s / S) log(s / S) = log S - sum(s log s) / S
    effective = math.exp(math.log(total) - logs / total)
    return tuple(top.tolist()), min(effective, float(side))
