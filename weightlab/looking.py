"""Views of tensors and their pictures, dropped when what they show has changed. A part of `Lab`."""

from __future__ import annotations

from torch import Tensor

from weightlab.edit.entry import CellPatch
from weightlab.errors import EditRefused
from weightlab.model.region import Region
from weightlab.part import Part
from weightlab.see.layout import layout_of
from weightlab.see.tiles import Pyramid
from weightlab.train.optimizer_state import moments_of


class Looking(Part):
    """Pictures of a Lab's tensors."""

    def __init__(self) -> None:
        self.foreign: list[tuple[str, Region]] = []  # what other code was found to have changed at the last change
        self._pyramids: dict[str, Pyramid] = {}
        self._versions: dict[str, object] = {}

    def pyramid(self, name: str, view: str = "value") -> Pyramid:
        """The level-of-detail pyramid of a tensor's view, kept between calls; that of values is patched by edits."""
        info = self.tree[name]
        with self.lock:
            if view != "value":
                key = f"{info.name}\0{view}"
                if key not in self._pyramids:
                    shown = self.view(info.name, view)
                    self._pyramids[key] = Pyramid(lambda: shown, layout_of(info))
                return self._pyramids[key]
            version = self._version(info.name)
            found = self._pyramids.pop(info.name, None)
            if self._versions.get(info.name) != version:
                found = None
            self._versions[info.name] = version
            if found is None or found.layout.shape != info.shape:
                found = Pyramid(lambda: self.tree.tensor(info.name).detach(), layout_of(info))
            self._pyramids[info.name] = found  # last used last
            while len(self._pyramids) > 16:
                del self._pyramids[next(iter(self._pyramids))]
            return found

    def view(self, name: str, view: str = "value") -> Tensor:
        """The tensor behind a view of a tensor.

        "value", "before" (the last entry on it), "gradient" (its present `.grad`), "held" (which cells are),
        "diff:<snapshot>", or an optimizer's moment such as "exp_avg".

        Raises:
            EditRefused: there is no such view.
        """
        tensor = self.tree.tensor(name)
        if not isinstance(view, str):
            raise EditRefused(f"{self.tree[name].title}: a view is named by a text, got {type(view).__name__}.")
        if view == "value":
            return tensor.detach()
        if view == "gradient":
            if tensor.grad is None:
                raise EditRefused(f"{self.tree[name].title}: it has no .grad now. Run a backward pass first.")
            return tensor.grad.detach()
        if view == "before":
            return self._before(name)
        if view == "held":
            return self.holds.mask(name)
        if view.startswith("diff:"):
            old = self.snapshots.tensors(view.removeprefix("diff:"))
            return tensor.detach() - old[self.tree[name].name].to(tensor.device)
        moments = {} if self.optimizer is None else moments_of(self.optimizer, tensor)
        if view in moments:
            return moments[view].detach()
        known = ", ".join(map(repr, ("value", "before", "gradient", "held", "diff:<snapshot>", *moments)))
        raise EditRefused(f"{self.tree[name].title}: there is no view {view!r} now. Known: {known}.")

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

    def _find_foreign(self) -> None:
        """Drop pictures of tensors that other code has changed since they were made."""
        self.foreign = []
        for name in [name for name in self._pyramids if "\0" not in name]:
            if name not in self.tree or self._versions.get(name) != self._version(name):
                del self._pyramids[name]
                if name in self.tree:
                    self.foreign.append((name, Region.whole(self.tree[name].shape)))

    def _version(self, name: str) -> object:
        """Changes with every write that autograd's counter sees, and with every exchange of the tensor."""
        tensor = self.tree.tensor(name)
        return id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
