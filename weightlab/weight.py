"""`WeightRef`: a handle on a tensor of the model or a part of it, which speaks torch.

Methods that end in `_` change the model in place, each call as one undo entry, and return the handle. Reading gives
detached copies: nothing that is done to them reaches the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from weightlab.edit.linked import linked_edits
from weightlab.edit.operations import Edit
from weightlab.edit.readback import refuse_lost
from weightlab.errors import EditRefused
from weightlab.model import given, storage
from weightlab.model.region import Region
from weightlab.model.tree import TensorInfo
from weightlab.see.layout import Layout
from weightlab.see.profiles import Profile, profile
from weightlab.see.spectrum import Spectrum, spectrum
from weightlab.see.summary import BINS, Histogram, Summary, summarize
from weightlab.train.hold import Constraint, Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from weightlab.lab import Lab

Number = bool | int | float | complex
Moments = Literal["keep", "zero"] | None  # what the optimizer keeps for the cells: see Lab.apply


class WeightRef:
    """Names cells of one tensor of a Lab's model. Made by `lab["conv1.weight"]`, narrowed by indexing.

    Attributes:
        region: which cells of the tensor.

    Example:
        >>> w = lab["conv1.weight"]          # doctest: +SKIP
        >>> w[3].zero_()                     # filter 3
        >>> w[:, :, 1:2, 1:2].fill_(0.5)     # any basic index
        >>> w[w.value.abs() < 1e-3].zero_()  # a boolean mask
        >>> w[3] = torch.ones(3, 5, 5)       # broadcast and cast as torch's copy_
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

    def __getitem__(self, index: Any) -> WeightRef:
        """The part that `tensor[index]` would be.

        Raises:
            EditRefused: the index does not fit.
        """
        return WeightRef(self._lab, self.info, self.region.index(_unwrapped(index), self.info.title))

    def __setitem__(self, index: Any, value: Tensor | Number | Sequence[Any]) -> None:
        """`copy_` into a part: broadcast and cast as torch does; what does not fit is refused."""
        self[index].copy_(value)

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

    def summary(self) -> Summary:
        """Exact statistics of the cells. Cost: about ten passes over them in float64."""
        with self._lab.lock:
            return summarize(self._cells())

    def histogram(self, bins: int = BINS) -> Histogram:
        """Counts of the finite cells in `bins` equal bins between their extremes."""
        bins = given.whole_number(bins, f"{self.info.title}: bins", 1, 65536)
        with self._lab.lock:
            return summarize(self._cells(), bins=bins).histogram

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
            return profile(shown if self.region.is_whole else storage.read(shown, self.region), axis)

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

    def plot(self, view: str = "value", layout: Layout | None = None) -> Figure:
        """A matplotlib figure: the heatmap of the tensor with these cells framed, and their histogram.

        Args:
            view: "value", "gradient" (the present `.grad`), "held", "diff:<snapshot>", or a moment of the optimizer.
            layout: made by `layout`; by default the one that suits the layer.

        Raises:
            EditRefused: there is no such view of this tensor, or the layout is of another shape.
        """
        from weightlab.see.figures import plot_tensor

        with self._lab.lock:
            self._tensor(alone=True)
            tensor = self._lab.view(self.info.name, view)
            return plot_tensor(tensor, self.info, self.region, view, layout or self.layout())

    def zero_(self, *, linked: bool = False, moments: Moments = None) -> WeightRef:
        """Set the cells to 0; NaN cells too (nothing is multiplied).

        Args:
            linked: also zero scale, shift and running mean of a BatchNorm behind these filters; warns if there is none.
        """
        linked = given.flag(linked, f"{self.info.title}: linked")
        edit = Edit(self.info.name, self.region, "zero_")
        also = linked_edits(self._lab.tree, edit) if linked else []
        if also:
            self._lab.apply(
                [edit, *also], f"Zero {self.info.name}{self.region} and the norm behind it", moments=moments
            )
            return self
        if linked:
            what = "linked=True links nothing: these are no whole filters with a norm behind them"
            warnings.warn(f"{self.info.title}: {what}", stacklevel=2)
        return self._apply("zero_", moments=moments)

    def fill_(self, value: Number, *, moments: Moments = None) -> WeightRef:
        """Set the cells to one number. Refused if the dtype cannot hold it."""
        return self._apply("fill_", value=value, moments=moments)

    def add_(self, value: Number | Tensor, *, moments: Moments = None) -> WeightRef:
        """Add a number, or a tensor that broadcasts."""
        return self._apply("add_", value=value, moments=moments)

    def sub_(self, value: Number | Tensor, *, moments: Moments = None) -> WeightRef:
        """Subtract a number, or a tensor that broadcasts."""
        return self._apply("sub_", value=value, moments=moments)

    def mul_(self, value: Number | Tensor, *, moments: Moments = None) -> WeightRef:
        """Multiply by a number, or a tensor that broadcasts."""
        return self._apply("mul_", value=value, moments=moments)

    def div_(self, value: Number | Tensor, *, moments: Moments = None) -> WeightRef:
        """Divide by a number or tensor without zeros; for integers every quotient must be whole."""
        return self._apply("div_", value=value, moments=moments)

    def clamp_(self, min: Number | None = None, max: Number | None = None, *, moments: Moments = None) -> WeightRef:
        """Limit the cells to `min..max`; either may be None. NaN passes through, and the entry says so."""
        return self._apply("clamp_", min=min, max=max, moments=moments)

    def copy_(self, values: Tensor | WeightRef | Number | Sequence[Any], *, moments: Moments = None) -> WeightRef:
        """Set the cells to values that broadcast to `shape`, cast to the dtype."""
        return self._apply("copy_", values=values, moments=moments)

    def lerp_(self, end: Tensor | WeightRef, weight: Number, *, moments: Moments = None) -> WeightRef:
        """Move the cells towards `end`: w + weight * (end - w)."""
        return self._apply("lerp_", end=end, weight=weight, moments=moments)

    def neg_(self, *, moments: Moments = None) -> WeightRef:
        """Flip the sign."""
        return self._apply("neg_", moments=moments)

    def abs_(self, *, moments: Moments = None) -> WeightRef:
        """Take magnitudes."""
        return self._apply("abs_", moments=moments)

    def round_(self, *, moments: Moments = None) -> WeightRef:
        """Round to whole numbers, halves to even."""
        return self._apply("round_", moments=moments)

    def sign_(self, *, moments: Moments = None) -> WeightRef:
        """Replace the cells by -1, 0 or 1."""
        return self._apply("sign_", moments=moments)

    def normal_(
        self, mean: float = 0.0, std: float = 1.0, *, seed: int | None = None, moments: Moments = None
    ) -> WeightRef:
        """Draw the cells from a normal distribution; the seed is stored, torch's global generator does not move."""
        return self._apply("normal_", mean=mean, std=std, seed=seed, moments=moments)

    def uniform_(
        self, a: float = 0.0, b: float = 1.0, *, seed: int | None = None, moments: Moments = None
    ) -> WeightRef:
        """Draw the cells from [a, b)."""
        return self._apply("uniform_", a=a, b=b, seed=seed, moments=moments)

    def init_(
        self, method: str, *, seed: int | None = None, moments: Moments = None, **arguments: Number | str
    ) -> WeightRef:
        """Initialise by a function of `torch.nn.init`; fan_in and fan_out are the whole tensor's, also for a part.

        Example:
            >>> lab["fc.weight"].init_("kaiming_normal_", nonlinearity="relu", seed=0)  # doctest: +SKIP
        """
        return self._apply("init_", method=method, seed=seed, **arguments, moments=moments)

    def permute_(self, axis: int, order: Sequence[int], *, moments: Moments = None) -> WeightRef:
        """Reorder along an axis: new[i] = old[order[i]]."""
        return self._apply("permute_", axis=axis, order=order, moments=moments)

    def prune_(
        self,
        amount: float | int,
        by: str = "magnitude",
        *,
        axis: int | None = None,
        seed: int | None = None,
        moments: Moments = None,
    ) -> WeightRef:
        """Zero a share (float) or a count (int) of the cells, those of least magnitude or random ones.

        Args:
            axis: prune that share or count in each slice along this axis instead of over all cells.
        """
        return self._apply("prune_", amount=amount, by=by, axis=axis, seed=seed, moments=moments)

    def quantize_(self, bits: int, *, axis: int | None = None, moments: Moments = None) -> WeightRef:
        """Round to a uniform symmetric grid of 2**bits - 1 levels, with one scale, or one per index of `axis`."""
        return self._apply("quantize_", bits=bits, axis=axis, moments=moments)

    def apply_(self, function: Callable[[Tensor], Tensor | None], *, moments: Moments = None) -> WeightRef:
        """Set the cells to what a function makes of a copy of them (returned, or changed in place).

        What it returns is broadcast, as `copy_` does: `apply_(lambda cells: cells.mean())` gives every cell the mean.

        Raises:
            EditRefused: it returned something that does not broadcast, or made finite cells nan or inf.
        """
        if not callable(function):
            raise EditRefused(f"{self.info.title}: apply_ takes a function of a tensor, got {type(function).__name__}.")

        def made() -> Edit:
            before = self.value
            cells = before.clone()
            found = function(cells)
            found = cells if found is None else found
            refuse_lost(self.info.title, before, found)
            return Edit(self.info.name, self.region, "copy_", {"values": _unwrapped(found)})

        self._lab._land(made, moments)
        return self

    def requires_grad_(self, flag: bool = True) -> WeightRef:
        """Freeze (False) or train (True) the whole parameter, as one undo entry."""
        if not self.region.is_whole:
            raise EditRefused(
                f"{self.info.title}: requires_grad belongs to the whole parameter, not to {self.region}. "
                f"Call lab[{self.info.name!r}].requires_grad_({flag}), or hold() these cells."
            )
        return self._apply("requires_grad_", flag=flag)

    def hold(
        self,
        *,
        min: float | None = None,
        max: float | None = None,
        sign: bool = False,
        like: WeightRef | None = None,
        rule: Callable[[Tensor], Tensor | None] | None = None,
    ) -> Constraint:
        """Keep these cells through optimizer steps, whatever momentum and weight decay want. One undo entry.

        Without arguments they keep their present values. A hold is against the optimizer, not against you: an edit of
        held cells moves what is held.

        Args:
            min, max: clamp after each step instead, and at once.
            sign: keep the sign of each cell instead; what would cross becomes 0.
            like: follow other cells of the same shape instead, of this model.
            rule: a function that sees the cells after each step, and returns or changes them.

        Returns:
            The hold: `release()` ends it.

        Raises:
            EditRefused: it contradicts another hold; nothing was changed.
        """
        sign = given.flag(sign, f"{self.info.title}: sign")
        asked = [min is not None or max is not None, sign, like is not None, rule is not None]
        if sum(asked) > 1:
            raise EditRefused(
                f"{self.info.title}: a hold keeps bounds, a sign, a tie or a rule, one at a time. Hold twice."
            )
        if like is not None and not (isinstance(like, WeightRef) and like._lab is self._lab):
            raise EditRefused(f"{self.info.title}: a tie is with cells of the same Lab. Give like=lab['name'].")
        kinds: tuple[Kind, ...] = ("clamp", "sign", "tie", "rule")
        kind: Kind = next((kind for kind, given in zip(kinds, asked, strict=True) if given), "keep")
        source = None if like is None else (like.info.name, like.region)
        return self._lab.hold(Constraint(self.info.name, self.region, kind, min, max, source, rule))

    def __len__(self) -> int:
        """Length of the first axis, as of a tensor."""
        if not self.region.view_shape:
            raise EditRefused(f"{self.info.title}: a single cell has no length. Read .value.")
        return self.region.view_shape[0]

    def __iter__(self) -> Iterator[WeightRef]:
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

    def _cells(self) -> Tensor:
        return storage.seen(self._tensor(), self.region)

    def _apply(self, op: str, moments: Moments = None, **arguments: Any) -> WeightRef:
        given = {k: v for k, v in arguments.items() if v is not None or k in ("value", "values", "end")}

        def made() -> Edit:
            return Edit(self.info.name, self.region, op, {key: _unwrapped(value) for key, value in given.items()})

        self._lab._land(made, moments)
        return self

    def __repr__(self) -> str:
        part = "" if self.region.is_whole else f"{self.region} "
        dtype = str(self.info.dtype).removeprefix("torch.")
        return f"<{self.info.name} {part}{list(self.shape)} {dtype} on {self.info.device}>"


def _unwrapped(value: Any) -> Any:
    """Handles stand for their values where a tensor is asked for."""
    if isinstance(value, tuple):
        return tuple(_unwrapped(item) for item in value)
    return value.value if isinstance(value, WeightRef) else value
