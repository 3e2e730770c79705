"""All tensors of a Lab at a glance: numbers, thumbnails and spectra, kept until the tensor changes. A part of `Lab`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weightlab.errors import EditRefused
from weightlab.model import storage
from weightlab.part import Part
from weightlab.see.glance import Glance, Thumbnail, glance, thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from weightlab.see.modelmap import Colour


class Overview(Part):
    """Glances of a Lab's tensors."""

    def __init__(self) -> None:
        self._glances: dict[str, tuple[object, Glance]] = {}
        self._thumbnails: dict[str, tuple[object, Thumbnail]] = {}

    def glance(self, name: str) -> Glance:
        """Statistics and a small histogram; of a large tensor from a sample, and anew only when it has changed.

        Raises:
            UnknownName: there is no such tensor.
            EditRefused: its values are not there.
        """
        with self.lock:
            first, version = self._current(name)
            found = self._glances.get(first)
            if found is None or found[0] != version:
                found = self._glances[first] = (version, glance(self.tree.tensor(first)))
            return found[1]

    def thumbnail(self, name: str) -> Thumbnail:
        """A picture of at most 32 x 32 bins, made anew only when the tensor has changed.

        Raises:
            as `glance`.
        """
        with self.lock:
            first, version = self._current(name)
            found = self._thumbnails.get(first)
            if found is None or found[0] != version:
                made = thumbnail(self.tree.tensor(first), self.layout(first))
                found = self._thumbnails[first] = (version, made)
            return found[1]

    def plot_model(self, colour: Colour = "picture") -> Figure:
        """Every tensor as a small tile, in order of depth.

        Args:
            colour: "picture", or what colours the tile: "std", "zeros" (their share), "gradient norm", "update ratio" (norm
                of the optimizer's step by norm of the weight, after a check) or "status" of the last check.

        Raises:
            EditRefused: there is no such colour.
        """
        from weightlab.see.modelmap import COLOURS, Tile, plot_model

        if colour not in COLOURS:
            known = ", ".join(map(repr, COLOURS))
            raise EditRefused(f"plot_model: there is no colour {colour!r}. Known: {known}.")
        rows = {} if self.report is None else {row.name: row for row in self.report.rows}
        tiles = []
        with self.lock:
            for info in self.tree:
                readable = not storage.why_not_readable(self.tree.tensor(info.name))
                row = rows.get(info.name)
                value: float | None = None
                if readable and colour in ("std", "zeros"):
                    seen = self.glance(info.name)
                    value = seen.std if colour == "std" else seen.zero / max(seen.count, 1)
                elif colour == "gradient norm":
                    value = None if row is None else row.norm
                elif readable and colour == "update ratio":
                    value = self._update_ratio(info.name)
                picture = self.thumbnail(info.name) if readable and colour == "picture" else None
                tiles.append(Tile(info.name, info.shape, picture, value, "" if row is None else row.status))
        return plot_model(type(self.model).__name__, tiles, colour)

    def _update_ratio(self, name: str) -> float | None:
        """||step|| / ||weight||: of the last step where it was watched, else of the one that the checked gradients lead to."""
        size = self.glance(name).l2
        if not size:
            return None
        try:
            return glance(self.view(name, "update", compute=False)).l2 / size
        except EditRefused:
            step = self.step_norms().get(name)
        return None if step is None else step / size

    def _current(self, name: str) -> tuple[str, object]:
        info = self.tree[name]
        reason = storage.why_not_readable(self.tree.tensor(info.name))
        if reason:
            raise EditRefused(f"{info.title}: {reason}")
        return info.name, self._version(info.name)
