"""What a model holds: one `TensorInfo` for each parameter and buffer, found by dotted name.

Names are those of `state_dict()`, without the `_orig_mod.` that `torch.compile` puts in. Tensors that share storage,
offset, shape and strides are tied: they are one row, under their first name, with the others as `aliases`.
Weights that a module computes at each forward (parametrizations, weight_norm, spectral_norm, pruning) are listed with
kind "computed"; what they are computed from are ordinary parameters and buffers beside them.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from weightlab.errors import UnknownName
from weightlab.model.overlap import sharing
from weightlab.model.storage import is_uninitialized, why_not_editable

Kind = Literal["parameter", "buffer", "computed"]
COMPILED = "_orig_mod."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a model.

    Attributes:
        name: dotted name, as in `state_dict()`; the first one of a tied tensor.
        kind: "parameter", "buffer", or "computed" (made anew from other tensors at each forward).
        shape: sizes of the axes; `()` for a scalar.
        dtype, device, requires_grad: as torch's.
        module_type: class name of the module that holds it.
        aliases: the other names of a tied tensor.
        editable: whether its values can be set; computed ones through their originals, where those can give them.
        reason: why not, or what it is computed from; empty for a plain tensor.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool
    module_type: str
    aliases: tuple[str, ...] = ()
    editable: bool = True
    reason: str = ""

    @property
    def numel(self) -> int:
        """Number of cells."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def title(self) -> str:
        """Name and shape as errors begin with them: `conv1.weight [16, 3, 7, 7]`."""
        return f"{self.name} {list(self.shape)}"


def spellings(name: str) -> tuple[str, ...]:
    """A name as it is, without what `torch.compile` puts in, and with and without the "module." of DataParallel."""
    plain = name.replace(COMPILED, "")
    return name, plain, f"module.{plain}", plain.removeprefix("module.")


class ParameterTree:
    """The tensors of one model, in the order of `named_modules()`.

    The tree follows the model: it holds no tensors, a look-up checks the one place that it is about, and iterating
    checks all of them. A layer or parameter that the user's code replaced, froze, pruned or cast is seen at once.

    Example:
        >>> tree = ParameterTree(nn.Linear(3, 2))
        >>> [info.name for info in tree]
        ['weight', 'bias']
        >>> tree["bias"].shape
        (2,)
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.readings = 0  # grows whenever the structure was read again
        self.refresh()

    def refresh(self) -> None:
        """Read the model's structure again."""
        self.readings += 1
        self._infos: dict[str, TensorInfo] = {}
        self._first: dict[str, str] = {}
        self._modules: dict[str, nn.Module] = {}
        for path, module in self.model.named_modules(remove_duplicate=False):
            self._modules[path.replace(COMPILED, "").removesuffix("_orig_mod").rstrip(".")] = module

        groups: dict[object, list[tuple[str, Kind, Tensor, str]]] = {}
        for path, module in self._modules.items():
            for local, kind, tensor in _tensors_of(module):
                name = f"{path}.{local}" if path else local
                member = (name, kind, tensor, type(module).__name__)
                group = groups.setdefault(_identity(tensor, name, kind), [])
                if all(name != other[0] for other in group):
                    group.append(member)
        for group in groups.values():
            name, kind, tensor, module_type = group[0]
            reason = why_not_editable(tensor)
            if kind == "computed":
                reason = self._computed_reason(name)
            self._infos[name] = TensorInfo(
                name=name,
                kind=kind,
                shape=() if is_uninitialized(tensor) else tuple(tensor.shape),
                dtype=tensor.dtype,
                device=tensor.device,
                requires_grad=tensor.requires_grad and kind != "computed",
                module_type=module_type,
                aliases=tuple(other[0] for other in group[1:]),
                editable=not reason or kind == "computed",
                reason=reason,
            )
            for other in group:
                self._first[other[0]] = name
        held = [group[0] for group in groups.values() if group[0][1] != "computed"]
        self._sharing = sharing({name: tensor for name, _, tensor, _ in held if not is_uninitialized(tensor)})
        self._seen = {name: self._token(name) for name in self._infos}
        self._structure = self._outline()

    def update(self) -> None:
        """Read the model again if anything about its structure is not as it was."""
        if self._outline() != self._structure or any(self._token(name) != token for name, token in self._seen.items()):
            self.refresh()

    def _outline(self) -> tuple[tuple[int, ...], ...]:
        """Which modules the model has now, and how many tensors of each kind they hold."""
        walk = self.model.named_modules(remove_duplicate=False)
        return tuple((id(module), len(module._parameters), len(module._buffers)) for _, module in walk)

    def _token(self, name: str) -> object:
        """What is found at a name now, walking from the model; equal while nothing there was exchanged or changed in kind."""
        *path, local = name.split(".")
        module: nn.Module | None = self.model
        for part in (*path, None):
            # A compiled module wraps the one that is meant.
            while module is not None and part not in module._modules and "_orig_mod" in module._modules:
                module = module._modules["_orig_mod"]
            if part is not None and module is not None:
                # Not .get: the modules of a scripted model are in no dict.
                module = module._modules[part] if part in module._modules else None  # noqa: SIM401
        if module is None:
            return None
        held: Tensor | None = module._parameters[local] if local in module._parameters else None  # noqa: SIM401
        if held is None and local in module._buffers:
            held = module._buffers[local]
        if held is None:
            return id(module)
        if is_uninitialized(held):
            return id(module), id(held)
        return id(module), id(held), held.shape, held.dtype, held.device, held.requires_grad

    def __iter__(self) -> Iterator[TensorInfo]:
        self.update()
        return iter(self._infos.values())

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, name: object) -> bool:
        return self._resolve(name) is not None

    def __getitem__(self, name: str) -> TensorInfo:
        """The tensor of this name, or of which this is a tied name.

        Raises:
            UnknownName: no parameter or buffer has this name; the message has the closest one.
        """
        first = self._resolve(name)
        if first is None:
            self.update()
        elif self._token(first) != self._seen[first]:
            self.refresh()
        else:
            return self._infos[first]
        first = self._resolve(name)
        if first is None:
            raise UnknownName(self._unknown(name))
        return self._infos[first]

    def find(self, pattern: str) -> list[TensorInfo]:
        """All tensors one of whose names fits the pattern: `*` stands for anything, case is ignored.

        A pattern without `*` fits any part of a name, as the page's filter does.
        """
        if not isinstance(pattern, str):
            raise UnknownName(f"find: a pattern is a str such as 'conv*', got {type(pattern).__name__}.")
        fits = pattern.lower() if "*" in pattern or "?" in pattern else f"*{pattern.lower()}*"
        return [
            info for info in self if any(fnmatch.fnmatchcase(name.lower(), fits) for name in (info.name, *info.aliases))
        ]

    def tensor(self, name: str) -> Tensor:
        """The live tensor of this name, as the model holds it now.

        Raises:
            UnknownName: the model has no such tensor, or has none any more.
        """
        return self.held(self[name])

    def held(self, info: TensorInfo) -> Tensor:
        """`tensor` for an info that was looked up just now."""
        path, _, local = info.name.rpartition(".")
        module = self._modules.get(path)
        if info.kind == "computed" and module is not None and parametrize.is_parametrized(module, local):
            return _computed_value(module, local)
        value = getattr(module, local, None) if module is not None else None
        if not isinstance(value, Tensor):
            raise UnknownName(f"{info.title}: the model no longer holds this tensor. Call lab.refresh().")
        return value

    def sharing(self, name: str) -> tuple[str, ...]:
        """Other tensors, not tied to this one, that have some of its memory: a view of it, or what it is a view of."""
        return self._sharing.get(name, ())

    def expression(self, name: str) -> str:
        """Plain PyTorch for the tensor of this name, with the model as `model`.

        >>> ParameterTree(nn.Linear(3, 2)).expression("bias")
        'model.get_parameter("bias")'
        """
        return self.spelled(self[name])

    def spelled(self, info: TensorInfo) -> str:
        """`expression` for an info that was looked up just now."""
        quoted = literal(info.name)
        if info.kind == "parameter":
            return f"model.get_parameter({quoted})"
        if info.kind == "buffer":
            return f"model.get_buffer({quoted})"
        path, _, local = info.name.rpartition(".")
        module = f"model.get_submodule({literal(path)})"
        return f"{module}.{local}" if local.isidentifier() else f"getattr({module}, {literal(local)})"

    def module(self, path: str) -> nn.Module:
        """The submodule at a dotted path; the model itself for the empty path.

        Raises:
            UnknownName: there is none.
        """
        if path not in self._modules:
            raise UnknownName(f"{path}: no module has this name.{_closest(path, self._modules)}")
        return self._modules[path]

    def above(self, name: str) -> list[nn.Module]:
        """The modules that hold a tensor, from the model down."""
        dots = [at for at, letter in enumerate(name) if letter == "."]
        return [self._modules[path] for path in ("", *(name[:at] for at in dots)) if path in self._modules]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Dotted path to submodule, the model itself under the empty path, in the model's order."""
        return dict(self._modules)

    def _resolve(self, name: object) -> str | None:
        if not isinstance(name, str):
            return None
        if name in self._first:
            return self._first[name]
        return next((self._first[spelling] for spelling in spellings(name) if spelling in self._first), None)

    def _unknown(self, name: object) -> str:
        if not isinstance(name, str):
            return f"lab[...]: a name of a parameter is a str such as 'fc.weight', got {type(name).__name__}."
        inside = [other for other in self._first if other.startswith(f"{name}.")]
        if name in self._modules and inside:
            return f"{name}: this is a module, not a tensor. It holds {', '.join(map(repr, inside[:4]))}."
        return f"{name}: no parameter or buffer has this name.{_closest(name, self._first) or ' List them: list(lab.tree).'}"

    def originals(self, name: str) -> list[str]:
        """The names of what a computed weight is computed from."""
        path, _, local = name.rpartition(".")
        module = self._modules[path]
        prefix = f"{path}." if path else ""
        if not parametrize.is_parametrized(module, local):
            return [prefix + n for n in _old_style_originals(module, local)]
        chain: nn.Module = module.get_submodule(f"parametrizations.{local}")
        held = (*chain.named_parameters(recurse=False), *chain.named_buffers(recurse=False))
        return [f"{prefix}parametrizations.{local}.{n}" for n, _ in held]

    def _computed_reason(self, name: str) -> str:
        path, _, local = name.rpartition(".")
        kinds = "a forward pre-hook such as weight_norm, spectral_norm or prune"
        if parametrize.is_parametrized(self._modules[path], local):
            chain: nn.Module = self._modules[path].get_submodule(f"parametrizations.{local}")
            kinds = ", ".join(type(step).__name__ for step in chain.children())
        return f"its values are computed by {kinds}. Edit {' or '.join(map(repr, self.originals(name)))}."


def literal(name: str) -> str:
    """A name as a Python literal in double quotes. Names of a file can be anything, and must never become code."""
    body = one_line(name.replace("\\", "\\\\")).replace('"', '\\"')
    return f'"{body}"'


def one_line(text: str) -> str:
    """The text with everything escaped that ends a line, or that cannot be seen: safe in a comment of generated code."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Kind, Tensor]]:
    """Local name, kind and tensor of what this very module holds, computed ones last."""
    # A ParametrizationList and the module it belongs to are both walked by named_modules.
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, "parameter", parameter
    for name, buffer in module._buffers.items():
        if buffer is not None:
            yield name, "buffer", buffer
    if parametrize.is_parametrized(module):
        for name in module.get_submodule("parametrizations")._modules:
            value = _value_or_none(module, name)
            if value is not None:
                yield name, "computed", value
    for name, value in vars(module).items():
        if isinstance(value, Tensor) and _old_style_originals(module, name):
            yield name, "computed", value


def _value_or_none(module: nn.Module, name: str) -> Tensor | None:
    try:
        return _computed_value(module, name)
    except Exception:  # the user's own code: what it raises is his to see, at the forward
        return None


def _computed_value(module: nn.Module, name: str) -> Tensor:
    """A parametrized tensor, computed without a trace.

    In training mode spectral_norm would take a step of its power iteration; a random one would move torch's generator.
    """
    steps = list(module.get_submodule(f"parametrizations.{name}").modules())
    modes = [step.training for step in steps]
    try:
        for step in steps:
            step.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            value = getattr(module, name)
    finally:
        for step, mode in zip(steps, modes, strict=True):
            step.training = mode
    assert isinstance(value, Tensor)
    return value


def _old_style_originals(module: nn.Module, name: str) -> list[str]:
    """What hook-based weight_norm (`_g`, `_v`), spectral_norm and prune (`_orig`, `_mask`) keep for a weight."""
    held = {**module._parameters, **module._buffers}
    return [name + end for end in ("_g", "_v", "_orig", "_mask") if held.get(name + end) is not None]


def _identity(tensor: Tensor, name: str, kind: Kind) -> object:
    """Equal for tied tensors only: same storage, offset, shape and strides, and not empty."""
    if kind == "computed":
        return name
    if is_uninitialized(tensor) or tensor.numel() == 0 or tensor.is_meta or tensor.layout is not torch.strided:
        return id(tensor)
    try:
        storage = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # tensor subclasses without storage of their own
        return id(tensor)
    if storage == 0:
        return id(tensor)
    return (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)


def _closest(name: str, names: object) -> str:
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.4)  # type: ignore[call-overload]
    return f" Closest: '{found[0]}'." if found else ""
