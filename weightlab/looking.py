"""Pictures of tensors, dropped when what they show has changed. A part of `Lab`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from weightlab.errors import EditRefused
from weightlab.model.region import Region
from weightlab.see.layout import Layout, Order, axes_asked, layout_of
from weightlab.see.profiles import order_by
from weightlab.see.tiles import Pyramid
from weightlab.viewing import Viewing

KEPT_PYRAMIDS = 16
KEPT_ORDERS = 32
NOTICED = 2_000


class Looking(Viewing):
    """Pictures of a Lab's tensors."""

    def __init__(self) -> None:
        Viewing.__init__(self)
        self.foreign: list[tuple[str, Region]] = []  # what other code was found to have changed at the last change
        self._pyramids: dict[tuple[str, str, str], Pyramid] = {}  # by name, view and layout; last used last
        self._versions: dict[str, object] = {}
        self._noticed: dict[str, object] = {}
        self._own: set[str] = set()
        self._writes = 0
        self._stamps: dict[tuple[str, str, str], object] = {}
        self._orders: dict[str, tuple[str, Order]] = {}  # of which tensor, by the token that the page has
        self._sorted = 0

    def layout(
        self,
        name: str,
        *,
        rows: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
        facets: Sequence[int] | None = None,
        fixed: Mapping[int, int] | None = None,
        sort: Mapping[int, str] | None = None,
        view: str = "value",
    ) -> Layout:
        """How a tensor is laid out: by itself, or as asked.

        Args:
            rows, columns, facets: axes in each role; of several the last runs fastest. Without any of them as the layer suggests.
            fixed: axis to the one index that is shown.
            sort: axis to "norm", "mean", "zeros" or "similar": the places of its indices, as the view is now.

        Raises:
            EditRefused: an axis has no role, or two, or cannot be sorted so.
        """
        info = self.tree[name]
        axes_asked(info.title, rows=rows, columns=columns, facets=facets, fixed=fixed, sort=sort)
        path = info.name.rpartition(".")[0]
        parent = self.tree.module(path.rpartition(".")[0]) if path else None
        plain = layout_of(info, self.tree.module(path), parent)
        if rows is columns is facets is None:
            if not fixed and not sort:
                return plain
            still = {axis % len(info.shape) for axis in fixed or {} if info.shape}
            roles = [[axis for axis in role if axis not in still] for role in (plain.rows, plain.columns, plain.facets)]
        else:
            roles = [list(role or ()) for role in (rows, columns, facets)]
        with self.lock:
            orders = []
            for axis, by in (sort or {}).items():
                self._sorted += 1
                order = order_by(self.view(info.name, view), axis, by, f"{self._sorted}")
                self._orders[order.token] = info.name, order
                orders.append(order)
            while len(self._orders) > KEPT_ORDERS:
                del self._orders[next(iter(self._orders))]
        return plain.arranged(roles[0], roles[1], roles[2], fixed, orders, info.title)

    def order(self, name: str, token: str) -> Order:
        """An order that `layout` made for this tensor.

        Raises:
            EditRefused: it is not kept any more.
        """
        info = self.tree[name]
        of, order = self._orders.get(token, ("", None))
        if order is None or of != info.name or order.indices.numel() != info.shape[order.axis]:
            raise EditRefused(f"{info.title}: this order of an axis is not kept any more. Sort it again.")
        return order

    def pyramid(self, name: str, view: str = "value", layout: Layout | None = None) -> Pyramid:
        """The level-of-detail pyramid of a tensor's view, kept between calls; that of values is patched by edits."""
        info = self.tree[name]
        with self.lock:
            layout = layout or self.layout(info.name)
            key = info.name, view, layout.key
            if view != "value":
                found = self._pyramids.pop(key, None)
                if found is None or self._stamps.get(key) != self._stamp(info.name, view):
                    shown = self.view(info.name, view)
                    found = Pyramid(lambda: shown, layout)
                    self._stamps[key] = self._stamp(info.name, view)
                return self._keep(key, found)
            version = self._version(info.name)
            if self._versions.get(info.name) != version:
                self._forget(info.name)
            self._versions[info.name] = version
            found = self._pyramids.pop(key, None)
            if found is None or found.layout.shape != info.shape:
                found = Pyramid(lambda: self.tree.tensor(info.name).detach(), layout)
            return self._keep(key, found)

    def _keep(self, key: tuple[str, str, str], pyramid: Pyramid) -> Pyramid:
        self._pyramids[key] = pyramid
        while len(self._pyramids) > KEPT_PYRAMIDS:
            oldest = next(iter(self._pyramids))
            del self._pyramids[oldest]
            self._stamps.pop(oldest, None)
        return pyramid

    def _forget(self, name: str) -> None:
        for key in [key for key in self._pyramids if key[:2] == (name, "value")]:
            del self._pyramids[key]

    def _mark(self, changed: Sequence[tuple[str, Region]]) -> None:
        """Cells of these regions changed: pictures of values compute what they touch anew."""
        for (name, view, _), pyramid in list(self._pyramids.items()):
            for which, region in changed:
                if which == name and view == "value":
                    pyramid.invalidate(region.bounds)
        for name, _ in changed:
            self._versions[name] = self._noticed[name] = self._version(name)
        for key in [key for key in self._pyramids if key[1] != "value"]:
            del (
                self._pyramids[key],
                self._stamps[key],
            )  # other views are made anew: what they show may depend on any change

    @contextmanager
    def _own_writes(self, names: Iterable[str] = ()) -> Iterator[None]:
        """Around what the Lab writes. What is taken back, or changes no cell, raises the version too: it is not foreign."""
        with self.lock:
            self._writes += 1
            self._writes_to(names)
        try:
            yield
        finally:
            with self.lock:
                self._writes -= 1
                while self._own and not self._writes:
                    name = self._own.pop()
                    if name in self.tree:
                        self._noticed[name] = self._version(name)

    def _writes_to(self, names: Iterable[str]) -> None:
        """Of these tensors, those that nobody else has changed by now are the Lab's own."""
        for name in names:
            if name in self._noticed and name in self.tree and self._noticed[name] == self._version(name):
                self._own.add(name)

    def notice(self) -> None:
        """Find what other code has changed since the last look, such as a cell that trained, and tell the listeners.

        In a model of more than `NOTICED` tensors only those with a picture are looked at: a look costs 10 microseconds.
        """
        with self.lock:
            names = [info.name for info in self.tree] if len(self.tree) <= NOTICED else list(self._versions)
            changed = []
            for name in names:
                if name not in self.tree:
                    continue
                version = self._version(name)
                if self._noticed.setdefault(name, version) != version:
                    changed.append((name, Region.whole(self.tree[name].shape)))
            if changed:
                self._mark(changed)
                self.revision += 1
        if changed:
            self._tell(changed)

    def _find_foreign(self) -> None:
        """Drop pictures of tensors that other code has changed since they were made."""
        self.foreign = []
        for name in dict.fromkeys(name for name, view, _ in self._pyramids if view == "value"):
            if name not in self.tree or self._versions.get(name) != self._version(name):
                self._forget(name)
                if name in self.tree:
                    self.foreign.append((name, Region.whole(self.tree[name].shape)))
