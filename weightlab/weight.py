"""`WeightRef`: a handle on a tensor of the model or a part of it, which speaks torch.

Methods that end in `_` change the model in place, each call as one undo entry, and return the handle. Reading gives
detached copies: nothing that is done to them reaches the model.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from weightlab.edit.linked import linked_edits
from weightlab.edit.operations import Edit
from weightlab.edit.readback import refuse_lost
from weightlab.errors import EditRefused
from weightlab.handle import Handle, unwrapped
from weightlab.model import given
from weightlab.train.hold import Constraint, Kind

Number = bool | int | float | complex
Moments = Literal["keep", "zero"] | None  # what the optimizer keeps for the cells: see Lab.apply


def _calls_are_checked(cls: type[WeightRef]) -> type[WeightRef]:
    """A call with too many, too few or unknown arguments is refused like any other: no bare TypeError."""
    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, _checked(method))
    return cls


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def called(self: WeightRef, *args: Any, **arguments: Any) -> Any:
        try:
            signature.bind(self, *args, **arguments)
        except TypeError as error:
            _, *takes = signature.parameters
            message = f"{self.info.title}: {method.__name__}: {error}. It takes {', '.join(takes)}."
            raise EditRefused(message) from None
        return method(self, *args, **arguments)

    return called


@_calls_are_checked
class WeightRef(Handle):
    """Names cells of one tensor of a Lab's model. Made by `lab["conv1.weight"]`, narrowed by indexing.

    Example:
        >>> w = lab["conv1.weight"]          # doctest: +SKIP
        >>> w[3].zero_()                     # filter 3
        >>> w[:, :, 1:2, 1:2].fill_(0.5)     # any basic index
        >>> w[w.value.abs() < 1e-3].zero_()  # a boolean mask
        >>> w[3] = torch.ones(3, 5, 5)       # broadcast and cast as torch's copy_
    """

    __slots__ = ()

    def __setitem__(self, index: Any, value: Tensor | Number | Sequence[Any]) -> None:
        """`copy_` into a part: broadcast and cast as torch does; what does not fit is refused."""
        self[index].copy_(value)

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
            warnings.warn(f"{self.info.title}: {what}", stacklevel=3)
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
            Exception: whatever the function raises; nothing has changed then.
        """
        if not callable(function):
            raise EditRefused(f"{self.info.title}: apply_ takes a function of a tensor, got {type(function).__name__}.")

        def made() -> Edit:
            before = self.value
            cells = before.clone()
            found = function(cells)
            found = cells if found is None else found
            refuse_lost(self.info.title, before, found)
            return Edit(self.info.name, self.region, "copy_", {"values": unwrapped(found)})

        self._lab._land(made, moments)
        return self

    def requires_grad_(self, flag: bool = True) -> WeightRef:
        """Freeze (False) or train (True) the whole parameter, as one undo entry."""
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
        kind: Kind = next((kind for kind, wanted in zip(kinds, asked, strict=True) if wanted), "keep")
        source = None if like is None else (like.info.name, like.region)
        return self._lab.hold(Constraint(self.info.name, self.region, kind, min, max, source, rule))

    def _apply(self, op: str, moments: Moments = None, **arguments: Any) -> WeightRef:
        named = {k: v for k, v in arguments.items() if v is not None or k in ("value", "values", "end")}

        def made() -> Edit:
            return Edit(self.info.name, self.region, op, {key: unwrapped(value) for key, value in named.items()})

        self._lab._land(made, moments)
        return self
