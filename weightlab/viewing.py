"""What of a tensor can be looked at: values, gradients, moments, updates, differences, holds. A part of `Lab`."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from weightlab.check.gradients import Observation
from weightlab.check.probe import Probe
from weightlab.edit.entry import CellPatch
from weightlab.errors import EditRefused
from weightlab.model import dtypes
from weightlab.part import Part
from weightlab.see.ends import ends
from weightlab.train.optimizer_state import moments_of
from weightlab.train.updates import Updates

KEPT_GRADIENTS = 2  # two views can stand side by side
_SQUARES = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf"})


class Viewing(Part):
    """Views of a Lab's tensors."""

    probe: Probe
    revision: int

    def __init__(self) -> None:
        self._gradients: dict[str, tuple[int, Tensor]] = {}  # of the last check, with the revision that it was made at
        self._updates = None if self.after_step is None else Updates(self.after_step)
        self._extremes: dict[str, tuple[object, tuple[float, float] | None]] = {}

    @abstractmethod
    def _observe(self, keep: tuple[str, ...]) -> Observation:
        """Run the check; it hands over the gradients of these names."""

    def views(self, name: str) -> list[str]:
        """The views that this tensor has now, values first."""
        info = self.tree[name]
        tensor = self.tree.tensor(info.name)
        found = ["value"]
        if self._touched(info.name):
            found.append("before")
        trained = info.kind == "parameter" and tensor.requires_grad
        if trained or tensor.grad is not None:
            found.append("gradient")
        if trained and tensor.grad is not None:
            found.append("check_gradient")
        if self.optimizer is not None:
            found += moments_of(self.optimizer, tensor)
            if any(held is tensor for group in self.optimizer.param_groups for held in group["params"]):
                found.append("update")
        found += [f"diff:{label}" for label in (*self.snapshots.labels, *self.offers)]
        if any(constraint.name == info.name for constraint in self.holds.active):
            found.append("held")
        return found

    def view(self, name: str, view: str = "value", *, compute: bool = True) -> Tensor:
        """The tensor behind a view of a tensor.

        "value", "before" (the last entry on it), "gradient" (its present `.grad`; without one that of the gradient check,
        which runs if it has to), "check_gradient" (that of the check in any case), "held" (which cells are),
        "update" (what the last step of the optimizer changed), "diff:<snapshot>", or an optimizer's moment such as "exp_avg".

        Args:
            compute: False takes only what is at hand: no check runs, and no tensor is watched. For looks at many tensors.

        Raises:
            EditRefused: there is no such view.
            ProbeFailed: the check that makes the gradient could not run.
        """
        info = self.tree[name]
        tensor = self.tree.tensor(name)
        if not isinstance(view, str):
            raise EditRefused(f"{info.title}: a view is named by a text, got {type(view).__name__}.")
        if view == "value":
            return tensor.detach()
        if view == "gradient" and tensor.grad is not None:
            return tensor.grad.detach()
        if view in ("gradient", "check_gradient"):
            if not compute and info.name not in self._gradients:
                raise EditRefused(f"{info.title}: it has no .grad now. Run a backward pass first.")
            return self._checked(info.name)
        if view == "before":
            return self._before(name)
        if view == "held":
            return self.holds.mask(name)
        if view == "update":
            return self._update(info.name, watch=compute)
        if view.startswith("diff:"):
            label = view.removeprefix("diff:")
            old = self.source(label)
            theirs = next((old[each] for each in (info.name, *info.aliases) if each in old), None)
            if theirs is None or theirs.shape != tensor.shape:
                there = "it has no such name" if theirs is None else f"it has {list(theirs.shape)}"
                raise EditRefused(f"{info.title}: there is no difference to '{label}': {there}.")
            return _difference(tensor.detach(), theirs.detach().to(tensor.device))
        moments = {} if self.optimizer is None else moments_of(self.optimizer, tensor)
        if view in moments:
            return moments[view].detach()
        known = ", ".join(map(repr, self.views(name)))
        raise EditRefused(f"{info.title}: there is no view {view!r} now. Known: {known}.")

    def about(self, name: str, view: str = "value") -> str:
        """One line on where a view's numbers come from, and how old they are; empty for values."""
        info = self.tree[name]
        tensor = self.tree.tensor(info.name)
        if view == "gradient" and tensor.grad is not None:
            return ".grad, as the last backward pass left it"
        if view in ("gradient", "check_gradient"):
            made, _ = self._gradients.get(info.name, (self.revision, None))
            on = "a made-up input" if self.probe.synthetic else "the batch"
            since = "" if made == self.revision else ", before the last change"
            return f"by the gradient check on {on}{since}"
        if view == "update":
            return "after the last step of the optimizer, minus before"
        if view == "before":
            return "before the last change of this tensor"
        if view == "held":
            return "1 where a cell is held"
        if view.startswith("diff:"):
            return f"now minus {view.removeprefix('diff:')!r}"
        return "" if view == "value" else f"kept by {type(self.optimizer).__name__}"

    def is_signed(self, name: str, view: str = "value") -> bool:
        """Whether values on both sides of 0 can be expected: what can only be positive has a sequential colour map."""
        if view == "held" or view in _SQUARES:
            return False
        dtype = self.tree.tensor(self.tree[name].name).dtype
        if view.startswith("diff:"):
            return not dtype.is_complex
        return not (dtype.is_complex or dtype is torch.bool or "uint" in str(dtype))

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest finite value of all parameters: a colour range that pictures can share.

        One pass over what changed since the last call; (0, 0) for a model without finite parameters.
        """
        with self.lock:
            for info in self.tree:
                if info.kind != "parameter" or not info.editable:
                    continue
                version = self._version(info.name)
                if self._extremes.get(info.name, (None,))[0] != version:
                    seen = ends(self.tree.tensor(info.name))
                    self._extremes[info.name] = version, None if math.isnan(seen.low) else (seen.low, seen.high)
            found = [pair for name, (_, pair) in self._extremes.items() if pair is not None and name in self.tree]
        return (min(low for low, _ in found), max(high for _, high in found)) if found else (0.0, 0.0)

    def _checked(self, name: str) -> Tensor:
        """The gradient that the last check found; the check runs when it did not keep this one."""
        info = self.tree[name]
        if name not in self._gradients:
            self._take(self._observe((name,)))
        while len(self._gradients) > KEPT_GRADIENTS:
            del self._gradients[next(iter(self._gradients))]
        if name not in self._gradients:
            why = "it is frozen" if not self.tree.tensor(name).requires_grad else "the loss does not depend on it"
            raise EditRefused(
                f"{info.title}: the check finds no gradient, because {why}. Run 'Check gradients' for the cause."
            )
        return self._gradients[name][1]

    def _take(self, observation: Observation) -> None:
        """Keep what a check kept of the gradients that are looked at; what it did not reach has none any more."""
        for name in observation.asked:
            self._gradients.pop(name, None)
            if name in observation.kept:
                self._gradients[name] = self.revision, observation.kept[name]

    def _update(self, name: str, watch: bool) -> Tensor:
        info = self.tree[name]
        if self._updates is None:
            raise EditRefused(
                f"{info.title}: no update is known, because this Lab was given no optimizer. Give Lab(model, optimizer=...)."
            )
        if not watch and not self._updates.watches(name):
            raise EditRefused(f"{info.title}: its updates are not watched. Look at its view 'update', then run a step.")
        found = self._updates.watch(name, self.tree.tensor(name))
        if found is None:
            raise EditRefused(
                f"{info.title}: no step of the optimizer was seen since this tensor is watched. It is watched from now on: "
                "run a step, then look again."
            )
        return found

    def _touched(self, name: str) -> bool:
        return any(isinstance(p, CellPatch) and p.name == name for entry in self.history for p in entry.patches)

    def _before(self, name: str) -> Tensor:
        """A copy of a tensor as it was before the last entry that changed it."""
        tensor = self.tree.tensor(name)
        first = self.tree[name].name
        copy = tensor.detach().clone()
        for entry in reversed(self.history):
            patches = [p for p in entry.patches if isinstance(p, CellPatch) and p.name == first]
            for patch in reversed(patches):
                patch.show(copy)
            if patches:
                break
        return copy

    def _stamp(self, name: str, view: str) -> object:
        """Changes when a view may show something else; cheap, and without making the view."""
        tensor = self.tree.tensor(name)
        behind: Tensor | None = tensor.grad if view == "gradient" else None
        if view in ("gradient", "check_gradient") and behind is None:
            behind = self._gradients[name][1] if name in self._gradients else None
        if view == "update" and self._updates is not None:
            return self._updates.steps
        if self.optimizer is not None and view not in ("gradient", "check_gradient"):
            behind = moments_of(self.optimizer, tensor).get(view)
        own = self._version(name) if behind is None else None
        return own, id(behind), None if behind is None else behind._version

    def _version(self, name: str) -> object:
        """Changes with every write that autograd's counter sees, and with every exchange of the tensor."""
        tensor = self.tree.tensor(name)
        return id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _difference(now: Tensor, then: Tensor) -> Tensor:
    """`now - then` in a dtype that holds it: unsigned numbers would wrap around, small floats round."""
    dtype = now.dtype
    if dtype.is_complex or (dtype.is_floating_point and dtype.itemsize >= 4):
        now, dtype = dtypes.widened(now), dtypes.wide(dtype)
        return now - then.to(dtype)
    wide = torch.float32 if dtype.is_floating_point else torch.int64 if dtype.itemsize >= 4 else torch.int32
    if dtype.itemsize == 8:  # int64 gives it modulo 2**64
        rough = now.double() - then.double()
        if bool((rough.abs() >= 2.0**62).any()):
            return rough
    return now.to(wide) - then.to(wide)
