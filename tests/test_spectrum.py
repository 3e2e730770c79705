"""Singular values and ranks against an SVD in float64; randomised ones within their bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from weightlab.see import spectrum as module
from weightlab.see.spectrum import spectrum


def reference(matrix: Tensor) -> tuple[Tensor, float, float]:
    values = torch.linalg.svdvals(matrix.to(torch.complex128 if matrix.is_complex() else torch.float64))
    shares = values / values.sum()
    entropy = -torch.special.xlogy(shares, shares).sum()
    return values, math.exp(entropy), float((values**2).sum() / values[0] ** 2)


def decaying(rows: int, columns: int, seed: int = 0) -> Tensor:
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return made * torch.logspace(0, -2, columns)


@pytest.mark.parametrize(
    "tensor",
    [
        decaying(60, 37),
        decaying(37, 61),
        decaying(40, 30).bfloat16(),
        decaying(30, 20).double() * 1e100,
        decaying(24, 30).reshape(24, 6, 5).permute(2, 0, 1),
        torch.complex(decaying(20, 15), decaying(20, 15, 1)),
        decaying(12, 27).reshape(12, 3, 3, 3).contiguous(memory_format=torch.channels_last),
        torch.eye(9),
    ],
    ids=["tall", "wide", "bfloat16", "large", "permuted", "complex", "channels_last", "identity"],
)
def test_values_and_ranks_are_those_of_an_svd(tensor: Tensor) -> None:
    """S1: to 1e-7 of the largest value, the precision that the docstring states."""
    seen = spectrum(tensor, "w")
    values, effective, stable = reference(tensor.reshape(tensor.shape[0], -1))
    assert seen.exact
    assert seen.matrix == (tensor.shape[0], tensor.numel() // tensor.shape[0])
    assert list(seen.values) == pytest.approx(values.tolist(), rel=0, abs=1e-7 * float(values[0]))
    assert seen.effective_rank == pytest.approx(effective, rel=1e-5)
    assert seen.stable_rank == pytest.approx(stable, rel=1e-5)


def test_ranks_of_known_matrices() -> None:
    one = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 4))
    assert spectrum(one, "w").effective_rank == pytest.approx(1, abs=1e-4)
    assert spectrum(torch.eye(7) * 3, "w").effective_rank == pytest.approx(7)
    assert spectrum(torch.eye(7) * 3, "w").stable_rank == pytest.approx(7)
    assert spectrum(torch.zeros(4, 3), "w").effective_rank == 0


def test_a_random_matrix_ends_at_the_edge_and_structure_stands_above_it() -> None:
    """Marchenko and Pastur 1967: the largest value of m x n cells of variance v tends to sqrt(v) (sqrt(m) + sqrt(n))."""
    noise = torch.randn(400, 300, generator=torch.Generator().manual_seed(3)) * 0.02
    seen = spectrum(noise, "w")
    assert seen.values[0] == pytest.approx(seen.edge, rel=0.03)
    assert seen.above_edge <= 1
    planted = noise + 2.0 * torch.outer(
        nn.functional.normalize(noise[:, 0], dim=0), nn.functional.normalize(noise[0], dim=0)
    )
    assert spectrum(planted, "w").above_edge == 1


def test_beyond_the_exact_size_values_are_close_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halko, Martinsson and Tropp 2011; the effective rank by stochastic Lanczos quadrature."""
    monkeypatch.setattr(module, "EXACT_SIDE", 200)
    matrix = torch.randn(900, 700, generator=torch.Generator().manual_seed(4))
    matrix[:, :9] *= 12
    seen = spectrum(matrix, "w")
    values, effective, stable = reference(matrix)
    assert not seen.exact
    assert len(seen.values) == 64
    assert seen.values[:9] == pytest.approx(values[:9].tolist(), rel=1e-3)
    assert seen.stable_rank == pytest.approx(stable, rel=1e-3)
    assert seen.effective_rank == pytest.approx(effective, rel=0.03)
    assert spectrum(matrix, "w") == seen  # repeats, and torch's generator did not move
    for scale in (1e-25, 1e25):
        scaled = spectrum(matrix * scale, "w")
        assert scaled.effective_rank == pytest.approx(seen.effective_rank, rel=1e-3)
        assert scaled.values[0] == pytest.approx(seen.values[0] * scale, rel=1e-4)


def test_a_spectrum_takes_no_random_numbers_of_the_user() -> None:
    before = torch.get_rng_state()
    spectrum(decaying(30, 20), "w")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_handle_has_the_spectrum_of_its_cells() -> None:
    lab = wl.Lab(nn.Conv2d(4, 6, 3))
    seen = lab["weight"].spectrum()
    assert seen.matrix == (6, 36)
    part = lab["weight"][:2].spectrum()
    assert part.matrix == (2, 36)
    assert part.values == pytest.approx(reference(lab.model.weight[:2].detach().reshape(2, -1))[0].tolist(), rel=1e-5)
    figure = part.plot()
    assert "weight[0:2]" in figure.axes[0].get_title("left")
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize(("name", "words"), [("bias", "has 1 axes"), ("weight", "finite")])
def test_what_has_no_spectrum_is_refused(name: str, words: str) -> None:
    lab = wl.Lab(nn.Linear(4, 3))
    lab["weight"][0, 0].fill_(math.nan)
    with pytest.raises(wl.EditRefused, match=words):
        lab[name].spectrum()


def test_a_spectrum_that_is_no_longer_wanted_ends_between_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT_SIDE", 10)
    shares: list[float] = []

    def tick(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spectrum(decaying(200, 150), "w", tick=tick)
    assert shares == sorted(shares)
    assert shares[-1] < 0.6
