"""Forward and backward that leave no trace, and what each parameter's gradient says.

One pass: the model runs on aliases of its parameters (`sandbox`), the functions it calls are followed (`recording`),
and a hook on each alias measures the gradient when it is complete and frees it at once, so that no two are held
together (rule G5). Reentrant checkpointing delivers a gradient in parts, so there they are all kept to the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weightlab.check.causes import find_causes
from weightlab.check.evidence import Evidence
from weightlab.check.measures import LOOKUPS
from weightlab.check.probe import GIVE, Attempt, Probe
from weightlab.check.recording import Recording
from weightlab.check.report import Change, Changes, GradientReport, GradientRow, Status
from weightlab.check.sandbox import Sandbox, same_surroundings
from weightlab.check.sizes import Gradient, exploding, unit_axis, weak
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


def check_gradients(tree: ParameterTree, probe: Probe) -> GradientReport:
    """Run the probe forward and backward and report on every parameter, leaving no trace (rule G1).

    The model stays in the train or eval mode it is in. Random numbers come from one seed, so that dropout draws the
    same masks at each check and two checks of an unchanged model agree. Works under `no_grad`, `inference_mode` and
    autocast. Gradients are those before the user's own hooks on parameters. Cost: about one forward and backward, and
    two passes over each activation and its gradient; nothing is kept but one number per channel.

    Raises:
        ProbeFailed: the forward or backward raised, or no input could be made. The model is as it was all the same.
    """
    return observe(tree, probe).report


def observe(
    tree: ParameterTree, probe: Probe, kind: type[Recording] = Recording, keep: tuple[str, ...] = ()
) -> Observation:
    """`check_gradients` with its evidence.

    Args:
        kind: may be a Recording that measures more.
        keep: names whose gradients are handed over and not freed: somebody looks at them.
    """
    roots = [probe.model, tree.model, *(part for part in (probe.loss, probe.probe) if isinstance(part, nn.Module))]
    # The tree is not asked while stand-ins are in the model: it would read the model again, twice.
    parameters = [info for info in tree if info.kind == "parameter"]
    axes = {info.name: unit_axis(tree, info.name) for info in parameters}
    modules = tree.modules
    with same_surroundings():
        with Sandbox(tree, roots) as sandbox:
            recording = kind(sandbox, modules)
            try:
                recording.hook()
                attempt, loss = _forward(probe, recording)
                recording.live = False
                with recording:
                    gradients, kept = _backward(loss, axes, sandbox, keep)
            finally:
                recording.unhook()
        value = float(loss.detach())
        del loss
        trained = {info.name for info in parameters if _trained(info, sandbox)}
        faint, cancelled = weak(tree, gradients, recording.ops)
        rows = tuple(
            _row(
                info, info.name in trained, gradients.get(info.name), info.name in faint, _padding(info.name, recording)
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
        )
        causes = find_causes(evidence)
    note = _note(attempt.note, recording.unmeasured)
    report = GradientReport(value, rows, causes, probe.synthetic, note, probe.callee.training)
    return Observation(report, evidence, gradients, recording, keep, kept)


def _forward(probe: Probe, recording: Recording) -> tuple[Attempt, Tensor]:
    last: Exception | None = None
    for attempt in probe.attempts():
        recording.restart()
        try:
            with recording:
                loss = attempt.run()
        except (ProbeFailed, Cancelled):
            raise
        except Exception as error:
            last = error
            continue
        return attempt, _scalar(loss)
    title = type(probe.callee).__name__
    assert last is not None  # attempts() yields at least one, or raises
    raised = f"{type(last).__name__}: {last}".strip()
    if probe.synthetic:
        raise ProbeFailed(f"{title}: no input that was made up fits, the last one raised {raised}. {GIVE}") from last
    raise ProbeFailed(f"{title}: the forward pass raised {raised}") from last


def _note(made_up: str, unmeasured: set[str]) -> str:
    if not unmeasured:
        return made_up
    missing = f"could not be measured, so causes behind it may be missing: {', '.join(sorted(unmeasured))}"
    return f"{made_up}; {missing}" if made_up else missing


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise ProbeFailed(f"loss: expected a tensor with one number, got {type(loss).__name__}. {GIVE}")
    if loss.numel() != 1:
        raise ProbeFailed(f"loss {list(loss.shape)}: expected one number. Reduce it, for example with .mean().")
    if loss.is_complex():
        raise ProbeFailed("loss: expected a real number, got a complex one. Take .abs() or .real.")
    return loss.reshape(())


def _backward(
    loss: Tensor, axes: dict[str, int], sandbox: Sandbox, keep: tuple[str, ...]
) -> tuple[dict[str, Gradient], dict[str, Tensor]]:
    """Differentiate, and measure each gradient as it becomes complete; those to be kept are, the others are freed."""
    whole: dict[str, Tensor] = {}
    if not loss.requires_grad:
        return {}, whole
    found: dict[str, Gradient] = {}
    leaves, reentrant = _graph(loss)
    reached = {id(leaf) for leaf in leaves}
    # A closure, or a list two levels deep, may have brought a real parameter into the graph: then it is measured there.
    sources = [(name, alias) for name, alias in sandbox.aliases.items()]
    sources += [(name, p) for name, held in sandbox.real.items() for p in held if id(p) in reached and p.requires_grad]
    handles = []
    kept: list[tuple[str, Tensor]] = []

    def hook_for(name: str) -> Any:
        def hook(leaf: Tensor) -> None:
            if leaf.grad is not None:
                gradient = Gradient(leaf.grad, axes.get(name, 0), len(found))
                if name in found:
                    found[name].add(gradient)
                else:
                    found[name] = gradient
                if name in keep:
                    own = leaf.grad.detach()
                    whole[name] = whole[name] + own if name in whole else own
                leaf.grad = None

        return hook

    for name, leaf in sources:
        leaf.grad = None
        if reentrant:
            kept.append((name, leaf))
        else:
            handles.append(leaf.register_post_accumulate_grad_hook(hook_for(name)))
    try:
        if reentrant:  # refuses `inputs`; what else is in the graph keeps its .grad
            ours = {id(leaf) for _, leaf in sources}
            with _grads_aside([leaf for leaf in leaves if id(leaf) not in ours]):
                torch.autograd.backward(loss)
        elif any(id(leaf) in reached for _, leaf in sources):
            torch.autograd.backward(loss, inputs=[leaf for _, leaf in sources])
    except Cancelled:
        raise
    except Exception as error:
        raise ProbeFailed(f"the backward pass raised {type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    for name, leaf in kept:
        hook_for(name)(leaf)
    return found, whole


def _graph(loss: Tensor) -> tuple[list[Tensor], bool]:
    """The leaves that the loss depends on, and whether reentrant checkpointing hides others."""
    leaves: list[Tensor] = []
    reentrant = False
    stack, seen = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        reentrant = reentrant or node.name() == "CheckpointFunctionBackward"
        stack.extend(following for following, _ in node.next_functions)
    return leaves, reentrant


@contextlib.contextmanager
def _grads_aside(leaves: list[Tensor]) -> Iterator[None]:
    aside = [(leaf, leaf.grad) for leaf in leaves]
    try:
        for leaf, _ in aside:
            leaf.grad = None
        yield
    finally:
        for leaf, grad in aside:
            leaf.grad = grad


def _padding(name: str, recording: Recording) -> Tensor | None:
    """Rows that lookups asked for, where lookups are all that uses this parameter."""
    used: Tensor | None = None
    for op in recording.ops:
        if name in op.parameters:
            if op.name not in LOOKUPS or op.used_rows is None:
                return None
            used = op.used_rows if used is None else used | op.used_rows
    return used


def _trained(info: TensorInfo, sandbox: Sandbox) -> bool:
    """Whether a gradient is wanted now: the flag may have been set since the tree was read."""
    held = sandbox.real.get(info.name)
    return info.requires_grad if held is None else any(parameter.requires_grad for parameter in held)


def _row(info: TensorInfo, trained: bool, gradient: Gradient | None, weak: bool, used: Tensor | None) -> GradientRow:
    units = info.shape[gradient.axis if gradient else 0] if info.shape else 1
    status: Status
    norm: float | None = None
    zero_units = 0
    if not trained:
        status = "frozen"
    elif gradient is None:
        status = "unreached"
    else:
        per_unit = gradient.largest.cpu()
        norm, zero_units = gradient.norm, int((per_unit == 0).sum())
        if not bool(per_unit.isfinite().all()):
            status = "nonfinite"
        elif zero_units and zero_units == per_unit.numel():
            status = "zero"
        elif zero_units and not (used is not None and not bool(((per_unit == 0) & used).any())):
            status = "partial"
        else:
            status = "weak" if weak else "flowing"
    return GradientRow(info.name, status, norm, zero_units, units, info.shape, info.aliases)
