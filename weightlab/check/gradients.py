"""Forward and backward that leave no trace, and what each parameter's gradient says.

The model runs on aliases of its parameters (`sandbox`), the functions it calls are followed (`recording`), and a hook on
each alias measures the gradient when it is complete and frees it at once (`backward`). The rows say which gradients do
not flow, and `causes` finds out why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from weightlab.check.backward import Backward
from weightlab.check.causes import find_causes
from weightlab.check.evidence import Evidence
from weightlab.check.measures import LOOKUPS
from weightlab.check.memory import let_go, out_of_memory
from weightlab.check.probe import GIVE, Attempt, Probe
from weightlab.check.recording import Lineage, Recording
from weightlab.check.report import Change, Changes, GradientReport, GradientRow, Status
from weightlab.check.sandbox import Sandbox, same_surroundings
from weightlab.check.sizes import Gradient, cancelled_units, exploding, unit_axis, weak, weight_norm
from weightlab.check.structure import unsafe
from weightlab.check.verify import verification
from weightlab.errors import Cancelled, ProbeFailed
from weightlab.model.tree import ParameterTree, TensorInfo

__all__ = ["Change", "Changes", "GradientReport", "GradientRow", "Status", "check_gradients"]


@dataclass(frozen=True, slots=True)
class Observation:
    """One check, with all that was measured on the way: the diagnosis reads more from it than the report says."""

    report: GradientReport
    evidence: Evidence
    gradients: dict[str, Gradient]
    recording: Recording
    asked: tuple[str, ...]  # whose gradients were to be kept
    kept: dict[str, Tensor]  # and those that there are, on their own device

    @property
    def all_flow(self) -> bool:
        """Whether nothing needs a cause that only measured activations can give."""
        explained = self.evidence.cancelled
        rows = all(row.status in ("flowing", "frozen") or row.name in explained for row in self.report.rows)
        return rows and not self.evidence.exploding


def check_gradients(
    tree: ParameterTree, probe: Probe, *, microbatch: int | None = None, verify: int = 0
) -> GradientReport:
    """Run the probe forward and backward and report on every parameter, leaving no trace (rule G1).

    The model stays in the train or eval mode it is in. Random numbers come from one seed, so that dropout draws the
    same masks at each check and two checks of an unchanged model agree. Works under `no_grad`, `inference_mode` and
    autocast. Gradients are those before the user's own hooks on parameters.

    Cost: one forward and backward while every gradient flows. Where one does not, they run once more with two passes over
    each activation and its gradient, to find out why; from then on that is done at once, until all flow again.

    Args:
        microbatch: samples at a time, for batches whose activations do not fit into memory. The gradients add up to
            those of the whole batch where the loss is a mean over samples; they are all held until the last piece.
        verify: so many random cells are compared with finite differences in float64 (`verify.py`).

    Raises:
        ProbeFailed: the forward or backward raised or ran out of memory, or no input could be made. The model is as it
            was all the same.
    """
    return check(tree, probe, microbatch=microbatch, verify=verify).report


def check(
    tree: ParameterTree,
    probe: Probe,
    keep: tuple[str, ...] = (),
    *,
    microbatch: int | None = None,
    verify: int = 0,
) -> Observation:
    """`check_gradients` with its evidence; `keep` as in `observe`."""
    try:
        seen = None if probe.thorough else observe(tree, probe, Lineage, keep, microbatch)
        if seen is None or not seen.all_flow:
            seen = observe(tree, probe, Recording, keep, microbatch)
        probe.thorough = not seen.all_flow
        if verify:
            reached = [name for name in seen.gradients if seen.report[name].status != "nonfinite"]
            report = replace(seen.report, verified=verification(tree, probe, verify, reached))
            seen = replace(seen, report=report)
        return seen
    except Exception as error:
        if not out_of_memory(error):
            raise
        let_go(error)
        many = "a smaller one" if microbatch else "check_gradients(microbatch=1), or more samples a piece"
        text = f"{type(probe.callee).__name__}: the check ran out of memory, and nothing was changed."
        raise ProbeFailed(f"{text} Give the Lab a smaller batch, or try {many}.") from None


def observe(
    tree: ParameterTree,
    probe: Probe,
    kind: type[Recording] = Recording,
    keep: tuple[str, ...] = (),
    microbatch: int | None = None,
) -> Observation:
    """One pass of `check_gradients` with its evidence.

    Args:
        kind: may be a Recording that measures more, or less.
        keep: names whose gradients are handed over and not freed: somebody looks at them.
    """
    broken = unsafe(tree)
    if broken:
        raise ProbeFailed(broken)
    pieces = probe.pieces(microbatch)
    roots = [probe.model, tree.model, *(part for part in (probe.loss, probe.probe) if isinstance(part, nn.Module))]
    # The tree is not asked while stand-ins are in the model: it would read the model again, twice.
    parameters = [info for info in tree if info.kind == "parameter"]
    axes = {info.name: unit_axis(tree, info.name) for info in parameters}
    modules = tree.modules
    with same_surroundings():
        with Sandbox(tree, roots) as sandbox:
            recording = kind(sandbox, modules)
            backward = Backward(axes, keep, sandbox, lambda share: recording.tell(0.5 + share / 2, "backward"))
            value = 0.0
            try:
                recording.hook()
                for number, (piece, share) in enumerate(pieces):
                    recording.begin(number, len(pieces))
                    attempt, loss = _forward(piece, recording)
                    recording.live = False
                    with recording:
                        backward.run(loss if len(pieces) == 1 else loss * share, number == len(pieces) - 1)
                    value += float(loss.detach()) * share
                    del loss
                    recording.end()
            finally:
                recording.unhook()
        gradients = backward.found
        trained = {info.name for info in parameters if _trained(info, sandbox)}
        faint, cancelled = weak(tree, gradients, recording.ops)
        units = cancelled_units(gradients, recording.ops)
        rows = tuple(
            replace(
                _row(info, info.name in trained, gradients, info.name in faint, units.get(info.name), recording),
                weight=weight_norm(tree.tensor(info.name)),
            )
            for info in parameters
        )
        evidence = Evidence(
            tree,
            {row.name: row.status for row in rows},
            recording.ops,
            recording.users(),
            recording.ran,
            {name: gradient.largest.cpu() == 0 for name, gradient in gradients.items()},
            cancelled,
            exploding(tree, gradients),
            recording.scales,
            units,
            recording.end_at,
        )
        causes = find_causes(evidence)
    note = _note(attempt.note, recording.unmeasured, microbatch if len(pieces) > 1 else None)
    report = GradientReport(
        value, rows, causes, probe.synthetic, note, probe.callee.training, recording.output, recording.reads_logits
    )
    return Observation(report, evidence, gradients, recording, keep, backward.kept)


def _forward(probe: Probe, recording: Recording) -> tuple[Attempt, Tensor]:
    first: Exception | None = None
    for attempt in probe.attempts():
        recording.restart()
        try:
            with recording:
                loss = attempt.run()
        except (ProbeFailed, Cancelled):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            first = first or error
            continue
        recording.ends(loss)
        return attempt, _scalar(loss)
    title = type(probe.callee).__name__
    assert first is not None  # attempts() yields at least one, or raises
    raised = f"{type(first).__name__}: {first}".strip()
    if probe.synthetic:
        raise ProbeFailed(f"{title}: no input that was made up fits, the first one raised {raised}. {GIVE}") from first
    if not recording.inside and "" in recording.ran:
        said = f"{title}: it ran, and the loss raised {raised}"
    else:
        said = f"{title}: the forward pass raised {raised}"
        if recording.inside not in ("", title):
            said = f"{said} (in {recording.inside})"
    raise ProbeFailed(f"{said}. {probe.given}".strip()) from first


def _note(made_up: str, unmeasured: set[str], microbatch: int | None) -> str:
    notes = [made_up] if made_up else []
    if microbatch is not None:
        notes.append(
            f"in pieces of {microbatch} samples, as for a loss that is their mean; batch statistics are per piece"
        )
    if unmeasured:
        missing = ", ".join(sorted(unmeasured))
        notes.append(f"could not be measured, so causes behind it may be missing: {missing}")
    return "; ".join(notes)


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise ProbeFailed(f"loss: expected a tensor with one number, got {type(loss).__name__}. {GIVE}")
    if loss.numel() != 1:
        raise ProbeFailed(f"loss {list(loss.shape)}: expected one number. Reduce it, for example with .mean().")
    if loss.is_complex():
        raise ProbeFailed("loss: expected a real number, got a complex one. Take .abs() or .real.")
    return loss.reshape(())


def _padding(name: str, recording: Recording) -> Tensor | None:
    """Rows that lookups asked for, where lookups are all that uses this parameter."""
    used: Tensor | None = None
    for op in recording.ops:
        if name in op.parameters:
            if recording.measures and op.tracked and not op.is_view and not op.grads and op.used_rows is None:
                continue  # nothing comes back from there, such as the distances by which a code is chosen
            if op.name not in LOOKUPS or op.used_rows is None:
                return None
            used = op.used_rows if used is None else used | op.used_rows
    return used


def _trained(info: TensorInfo, sandbox: Sandbox) -> bool:
    """Whether a gradient is wanted now: the flag may have been set since the tree was read, or by the forward itself."""
    held, alias = sandbox.real.get(info.name), sandbox.aliases.get(info.name)
    if alias is not None and not alias.requires_grad:
        return False
    return info.requires_grad if held is None else any(parameter.requires_grad for parameter in held)


def _row(
    info: TensorInfo,
    trained: bool,
    gradients: dict[str, Gradient],
    weak: bool,
    cancelled: Tensor | None,
    recording: Recording,
) -> GradientRow:
    gradient = gradients.get(info.name)
    units = info.shape[gradient.axis if gradient else 0] if info.shape else 1
    status: Status
    norm: float | None = None
    zero: tuple[int, ...] = ()
    if not trained:
        status = "frozen"
    elif gradient is None:
        status = "unreached"
    else:
        per_unit = gradient.largest.cpu()
        silent = per_unit == 0 if cancelled is None else (per_unit == 0) & ~cancelled
        norm, zero = gradient.norm, tuple(silent.nonzero().flatten().tolist())
        used = _padding(info.name, recording) if zero else None
        if not bool(per_unit.isfinite().all()):
            status = "nonfinite"
        elif zero and len(zero) == per_unit.numel():
            status = "zero"
        elif zero and not (used is not None and not bool((silent & used).any())):
            status = "partial"
        else:
            status = "weak" if weak else "flowing"
    samples, reaching = recording.reaching(info.name, units) if gradient is not None else (0, ())
    return GradientRow(info.name, status, norm, len(zero), units, info.shape, info.aliases, zero, reaching, samples)
