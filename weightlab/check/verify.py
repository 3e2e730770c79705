"""A spot check of the gradients themselves: random cells against finite differences in float64.

For a cell w the central difference (L(w + h) - L(w - h)) / 2h has an error of order h^2 from curvature and eps |L| / h from
rounding; h = eps^(1/3) times the size of the weights balances the two (Press et al. 2007, "Numerical Recipes", section
5.7). In float64 that leaves about nine digits. A derivative that somebody wrote by hand (`autograd.Function`) and that is
wrong by a factor or a sign shows at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from weightlab.check.backward import grads_aside, graph_of
from weightlab.check.constants import HeldStill, SameState
from weightlab.check.memory import out_of_memory
from weightlab.check.probe import Attempt, Probe
from weightlab.check.sandbox import Sandbox, same_surroundings, seeded
from weightlab.errors import Cancelled, ProbeFailed
from weightlab.model.tree import ParameterTree
from weightlab.progress import report

# Above these relative errors a derivative is called wrong: far above what rounding and curvature leave.
AGREES = {torch.float64: 1e-4, torch.float32: 3e-2}
SMALLER = (
    1.0,
    1e-1,
    1e-2,
)  # steps are tried down to these: a kink of a ReLU between w - h and w + h is no wrong gradient


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the gradient that autograd gives, the central difference, and their relative difference."""

    name: str
    index: tuple[int, ...]
    gradient: float
    difference: float
    error: float
    agrees: bool

    def __str__(self) -> str:
        sign = "agrees" if self.agrees else "DIFFERS"
        return f"{self.name}{list(self.index)}: gradient {self.gradient:.6g}, difference {self.difference:.6g}, {sign}"


@dataclass(frozen=True, slots=True)
class Verification:
    """Cells whose gradient was compared, in `dtype` (float64, or float32 where the model runs in no other).

    `note` says why none could be compared, and is empty otherwise.
    """

    cells: tuple[Cell, ...]
    dtype: torch.dtype
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all do."""
        return all(cell.agrees for cell in self.cells)

    def __str__(self) -> str:
        if self.note:
            return f"not verified: {self.note}"
        good = sum(cell.agrees for cell in self.cells)
        worst = max((cell.error for cell in self.cells), default=0.0)
        name = str(self.dtype).removeprefix("torch.")
        lines = [f"verified: {good} of {len(self.cells)} random cells agree with central differences in {name}"]
        lines[0] += f", largest relative error {worst:.1e}"
        return "\n".join([*lines, *(f"  {cell}" for cell in self.cells if not cell.agrees)])


def verification(tree: ParameterTree, probe: Probe, count: int, names: Sequence[str]) -> Verification:
    """Compare the gradient of random cells with finite differences, leaving no trace.

    Args:
        count: how many cells; each takes two to six forward passes.
        names: of parameters with a gradient, from which cells are drawn, each tensor alike.

    What autograd takes for a constant is one here too (`constants.py`).

    Cost: a copy of the model in float64 while it runs, and of what its forward computes outside the graph.

    Raises:
        ProbeFailed: the count is none, or no parameter has a gradient.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ProbeFailed(f"verify: expected a number of cells, at least 1, got {count!r}.")
    if not names:
        raise ProbeFailed("verify: no parameter gets a gradient that could be compared.")
    generator = torch.Generator().manual_seed(0)

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=generator))

    drawn = [names[draw(len(names))] for _ in range(count)]
    chosen = [(name, draw(max(1, tree[name].numel))) for name in drawn if tree[name].numel]
    try:
        compared = _compare(tree, probe, chosen, torch.float64)
        if not isinstance(compared, torch.dtype):
            return Verification(compared, torch.float64)
    except Exception as error:
        if isinstance(error, Cancelled) or out_of_memory(error):
            raise
    # Something in the model or the probe insists on its own dtype.
    compared = _compare(tree, probe, chosen, None)
    if not isinstance(compared, torch.dtype):
        return Verification(compared, torch.float32)
    coarse = str(compared).removeprefix("torch.")
    note = f"the forward computes in {coarse}, too coarse for differences that could be compared with a gradient."
    return Verification((), torch.float32, note)


def _compare(
    tree: ParameterTree, probe: Probe, chosen: Sequence[tuple[str, int]], dtype: torch.dtype | None
) -> tuple[Cell, ...] | torch.dtype:
    """The cells; or the dtype on the way to the loss that is coarser than the one that was asked for."""
    roots = [probe.model, tree.model, *(part for part in (probe.loss, probe.probe) if isinstance(part, nn.Module))]
    shapes = {name: tree[name].shape for name, _ in chosen}
    modules = list({id(m): m for root in roots for m in root.modules()}.values())
    with same_surroundings(), Sandbox(tree, roots, dtype or torch.float32) as sandbox:
        still = HeldStill(dtype or torch.float32)
        state = partial(SameState, modules, sandbox.copies())
        devices = {leaf.device.type for leaf in sandbox.aliases.values()}

        def forward(attempt: Attempt, again: bool) -> Tensor:
            still.begin(again)
            with seeded(), torch.autocast(next(iter(devices), "cpu"), enabled=False), still:
                loss: Tensor = attempt.run()
            return loss.reshape(())

        def tried(attempt: Attempt) -> None:
            with state():
                forward(attempt, again=False)

        attempt = _first_that_runs(probe, dtype, tried)

        def run() -> Tensor:
            with state():
                return forward(attempt, again=True)

        leaves = {name: sandbox.aliases[name] for name, _ in chosen}
        with state():  # until the backward is done: it may need what the forward read
            loss = forward(attempt, again=False)
            if still.coarse is not None:
                return still.coarse
            gradients = _differentiated(loss, leaves, sandbox)
        cells = []
        for done, (name, flat) in enumerate(chosen):
            report(done, len(chosen), "verifying gradients")
            gradient = gradients[name]
            exact = 0.0 if gradient is None else float(gradient.reshape(-1)[flat])
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), shapes[name])) if shapes[name] else ()
            cells.append(_cell(name, index, exact, leaves[name], run, abs(float(loss.detach()))))
    return tuple(cells)


def _differentiated(loss: Tensor, leaves: dict[str, Tensor], sandbox: Sandbox) -> dict[str, Tensor | None]:
    """The gradient of each leaf; None where none arrives."""
    reached, reentrant = graph_of(loss)
    if not reentrant:
        made = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, made, strict=True))
    # Reentrant checkpointing knows a plain backward only, and what it recomputes may reach leaves that this graph does not show.
    for held in sandbox.real.values():
        for parameter in held:
            sandbox.put_aside(parameter)
    ours = [*sandbox.aliases.values()]
    with grads_aside([*(leaf for leaf in reached if all(leaf is not own for own in ours)), *ours]):
        torch.autograd.backward(loss)
        return {name: leaf.grad for name, leaf in leaves.items()}


def _first_that_runs(probe: Probe, dtype: torch.dtype | None, run: Callable[[Attempt], None]) -> Attempt:
    last: Exception | None = None
    for attempt in probe.attempts(dtype):
        try:
            run(attempt)
        except Exception as error:
            last = error
            continue
        return attempt
    assert last is not None
    raise last


def _cell(
    name: str, index: tuple[int, ...], exact: float, leaf: Tensor, run: Callable[[], Tensor], loss: float
) -> Cell:
    eps = torch.finfo(leaf.dtype).eps
    limit = AGREES[torch.float64 if leaf.dtype is torch.float64 else torch.float32]
    size = float(leaf.detach().square().mean().sqrt()) or 1.0
    best: Cell | None = None
    for smaller in SMALLER:
        step = eps ** (1 / 3) * size * smaller
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                before = leaf[index].clone()
                leaf[index] = before + sign * step
                moved = float(leaf[index]) - float(before)
            try:
                sides.append((float(run().detach()), moved))
            finally:
                with torch.no_grad():
                    leaf[index] = before
        (up, right), (down, left) = sides
        difference = (up - down) / (right - left) if right != left else math.nan
        noise = 8 * eps * loss / step  # what rounding of the loss alone can make of the difference
        error = abs(exact - difference) / max(abs(exact), abs(difference), 1e-300) if exact != difference else 0.0
        agrees = abs(exact - difference) <= limit * max(abs(exact), abs(difference)) + noise
        cell = Cell(name, index, exact, difference, error, agrees)
        if best is None or error < best.error:
            best = cell
        if agrees:
            return cell
    assert best is not None
    return best
