"""`Handle`: names cells of a tensor and looks at them. `WeightRef` adds what changes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weightlab.errors import EditRefused
from weightlab.model import given, storage
from weightlab.model.region import Region
from weightlab.model.tree import TensorInfo
from weightlab.see.layout import Layout
from weightlab.see.profiles import Profile, profile
from weightlab.see.spectrum import Spectrum, spectrum
from weightlab.see.summary import BINS, Histogram, Summary, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

    from weightlab.lab import Lab


class Handle:
    """Names cells of one tensor of a Lab's model; reading gives detached copies.

    Attributes:
        region: which cells of the tensor.
    """

    __slots__ = ("_lab", "_name", "region")

    def __init__(self, lab: Lab, info: TensorInfo, region: Region) -> None:
        self._lab = lab
        self._name = info.name
        self.region = region

    @property
    def info(self) -> TensorInfo:
        """Name, shape, dtype, device and ties of the whole tensor, as they are now."""
        with self._lab.lock:
            return self._lab.tree[self._name]

    def __getitem__(self, index: Any) -> Self:
        """The part that `tensor[index]` would be.

        Raises:
            EditRefused: the index does not fit.
        """
        return type(self)(self._lab, self.info, self.region.index(unwrapped(index), self.info.title))

    @property
    def value(self) -> Tensor:
        """A detached copy of the cells, on their device, shaped as `tensor[index]`."""
        with self._lab.lock:
            return storage.read(self._tensor(), self.region)

    @property
    def grad(self) -> Tensor | None:
        """A detached copy of the cells' present `.grad`, or None where there is none."""
        with self._lab.lock:
            grad = self._lab.tree.tensor(self.info.name).grad
            return None if grad is None else storage.read(grad, self.region)

    @property
    def shape(self) -> torch.Size:
        """Shape of `value`."""
        return torch.Size(self.region.view_shape)

    def summary(self, view: str = "value") -> Summary:
        """Exact statistics of the cells, in a view as in `plot`. Cost: a few passes over them, none of which copies them."""
        with self._lab.lock:
            return summarize(self._cells(view))

    def histogram(self, bins: int = BINS, view: str = "value") -> Histogram:
        """Counts of the finite cells in `bins` equal bins between their extremes, in a view as in `plot`."""
        bins = given.whole_number(bins, f"{self.info.title}: bins", 1, 65536)
        with self._lab.lock:
            return summarize(self._cells(view), bins=bins).histogram

    def profile(self, axis: int, view: str = "value") -> Profile:
        """Norm, mean and share of zeros of each index of an axis, over these cells, in float64.

        Args:
            axis: of `value`; negative ones count from the end.
            view: as in `plot`.

        Raises:
            EditRefused: there is no such axis, or no such view.

        Example:
            >>> lab["conv1.weight"].profile(0).norm  # doctest: +SKIP
            tensor([0.9471, 1.0236, ...], dtype=torch.float64)
        """
        with self._lab.lock:
            self._tensor(alone=True)
            shown = self._lab.view(self.info.name, view)
            part = "" if self.region.is_whole else f", cells {self.region}"
            return profile(shown if not part else storage.read(shown, self.region), axis, self.info.title + part)

    def layout(
        self,
        *,
        rows: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
        facets: Sequence[int] | None = None,
        fixed: Mapping[int, int] | None = None,
        sort: Mapping[int, str] | None = None,
        view: str = "value",
    ) -> Layout:
        """How the tensor is laid out as a picture, for `plot`: by itself, or as asked. See `Lab.layout`.

        Example:
            >>> w = lab["conv1.weight"]                                    # doctest: +SKIP
            >>> w.plot(layout=w.layout(fixed={1: 0}, sort={0: "norm"}))    # doctest: +SKIP
        """
        return self._lab.layout(
            self.info.name, rows=rows, columns=columns, facets=facets, fixed=fixed, sort=sort, view=view
        )

    def spectrum(self) -> Spectrum:
        """Singular values and ranks of the cells as a matrix, the first axis against all others; see `Spectrum`.

        Raises:
            EditRefused: fewer than two axes, or a cell is not finite.
        """
        with self._lab.lock:
            part = "" if self.region.is_whole else str(self.region)
            return spectrum(self._cells(), self.info.title, f"{self.info.name}{part}")

    def plot(
        self,
        view: str = "value",
        layout: Layout | None = None,
        *,
        range: str | tuple[float, float] = "symmetric",
        scale: str = "linear",
        cmap: str = "auto",
        reduction: str = "extreme",
        rgb: bool = False,
        edges: str | None = None,
    ) -> Figure:
        """A matplotlib figure: the heatmap of the tensor with these cells framed, and their histogram.

        Args:
            view: "value", "gradient" (the present `.grad`), "held", "diff:<snapshot>", or a moment of the optimizer.
            layout: made by `layout`; by default the one that suits the layer.
            range: of the colours: "symmetric" about 0 (from 0 on for what is never negative), "full" from the smallest to
                the largest cell, "robust" about 99 of 100 cells, "shared" over all parameters, or `(low, high)`.
            scale: "linear", "symlog", or "log" of the magnitude.
            cmap: "auto" diverges where both signs can be expected; or one of "RdBu_r", "PuOr_r", "PiYG", "BrBG_r",
                "viridis", "cividis", "magma", "gray".
            reduction: of cells that share a pixel: "extreme" (the largest magnitude), "mean", "min", "max" or "rms".
            rgb: the filters of a convolution with three inputs as coloured pictures.
            edges: "norm", "mean", "zeros" or "largest" of each row and column along the sides.

        Raises:
            EditRefused: there is no such view of this tensor, the layout is of another shape, or a word is not known.

        Example:
            >>> lab["conv1.weight"].plot(rgb=True)                             # doctest: +SKIP
            >>> lab["fc.weight"].plot("exp_avg_sq", scale="log", edges="norm")  # doctest: +SKIP
        """
        from weightlab.see.figure_look import Look
        from weightlab.see.figure_rgb import coloured
        from weightlab.see.figures import plot_tensor

        look = Look(range, scale, cmap, reduction).checked(self.info.title)
        rgb = given.flag(rgb, f"{self.info.title}: rgb")
        with self._lab.lock:
            self._tensor(alone=True)
            tensor = self._lab.view(self.info.name, view)
            plain = layout or self.layout()
            layout = coloured(plain, self.info.title, sheet=layout is None) if rgb else plain
            signed = self._lab.is_signed(self.info.name, view)
            extent = self._lab.extremes() if look.range == "shared" else None
            return plot_tensor(
                tensor,
                self.info,
                self.region,
                view,
                layout,
                look=look,
                signed=signed,
                extent=extent,
                rgb=rgb,
                edges=edges,
            )

    def __len__(self) -> int:
        """Length of the first axis, as of a tensor."""
        if not self.region.view_shape:
            raise EditRefused(f"{self.info.title}: a single cell has no length. Read .value.")
        return self.region.view_shape[0]

    def __iter__(self) -> Iterator[Self]:
        """Handles along the first axis: `for filter in lab["conv1.weight"]`."""
        return (self[index] for index in range(len(self)))

    def _tensor(self, alone: bool = False) -> Tensor:
        """The live tensor, if it has values to read."""
        tensor = self._lab.tree.tensor(self._name)
        reason = storage.why_not_readable(tensor, alone)
        if reason:
            raise EditRefused(f"{self.info.title}: {reason}")
        if tuple(tensor.shape) != self.region.shape:
            shape = list(self.region.shape)
            raise EditRefused(
                f"{self.info.title}: this handle was made for shape {shape}. Take lab[{self._name!r}] anew."
            )
        return tensor

    def _cells(self, view: str = "value") -> Tensor:
        return storage.seen(
            self._tensor() if isinstance(view, str) and view == "value" else self._lab.view(self._name, view),
            self.region,
        )

    def __repr__(self) -> str:
        part = "" if self.region.is_whole else f"{self.region} "
        dtype = str(self.info.dtype).removeprefix("torch.")
        return f"<{self.info.name} {part}{list(self.shape)} {dtype} on {self.info.device}>"


def unwrapped(value: Any) -> Any:
    """Handles stand for their values where a tensor is asked for."""
    if isinstance(value, tuple):
        return tuple(unwrapped(item) for item in value)
    return value.value if isinstance(value, Handle) else value
