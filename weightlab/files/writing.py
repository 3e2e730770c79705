"""Writing a safetensors file piece by piece, so that it can be followed and cancelled, and costs no second copy.

The format: 8 bytes for the length of the header (little-endian), the header as JSON, then the tensors' bytes one after
another, row-major, little-endian; `data_offsets` count from the end of the header. Its own writer takes all bytes at once.

Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from weightlab.errors import EditRefused, WeightLabError
from weightlab.model import dtypes
from weightlab.model.storage import apart
from weightlab.progress import report

_PIECE = 1 << 22  # cells that are copied at a time


def path_to_write(path: object, what: str) -> Path:
    """The path of a file that can be written.

    Raises:
        EditRefused: it is no path, or names no file.
    """
    if not isinstance(path, str | os.PathLike):
        raise EditRefused(f"{what}: the path must be a str or a Path, got {type(path).__name__}. Give 'model.file'.")
    name = os.fspath(path)
    try:
        os.fsencode(name)
        is_file = isinstance(name, str) and "\0" not in name and bool(Path(name).name) and not Path(name).is_dir()
    except (OSError, ValueError) as error:  # too long, or letters that no file name has
        raise EditRefused(
            f"{what}: {name!r:.100} cannot name a file: {error!s:.200}. Give a shorter, plain name."
        ) from error
    if not is_file:
        raise EditRefused(f"{what}: {name!r:.100} names no file. Give a path that ends in a name.")
    return Path(name)


@contextmanager
def replacing(target: Path, what: str) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `target` when the block ends: whole, or not at all.

    Where the target is a link, what it points to is replaced.

    Raises:
        EditRefused: it cannot be written; whatever else the block raises passes on. The file that was there is as it was.
    """
    made: Path | None = None
    try:
        place = Path(os.path.realpath(target))
        made = place.with_name(
            f".{place.name[:40]}.{secrets.token_hex(4)}.part"
        )  # of its own: another may save there too
        with made.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a name that outlives a power cut should not outlive its bytes
        os.replace(made, place)
    except WeightLabError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise EditRefused(
            f"{what}: {target} cannot be written: {error}. The file that was there is as it was."
        ) from error
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink(missing_ok=True)


@cache
def format_name(dtype: torch.dtype) -> str:
    """What the installed safetensors calls a dtype, in the header that its own writer makes; empty where it has no name."""
    if dtype not in dtypes.KNOWN:
        return ""
    try:
        made = safetensors.torch.save(
            {"cell": torch.zeros(1, dtype=torch.uint8).expand(dtype.itemsize).clone().view(dtype)}
        )
    except (LookupError, ValueError, TypeError, RuntimeError, safetensors.SafetensorError):
        return ""
    (length,) = struct.unpack("<Q", made[:8])
    return str(json.loads(made[8 : 8 + length])["cell"]["dtype"])


def write(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors of any strides and device; a half-written file never replaces a good one.

    Raises:
        EditRefused: the format has no such dtype, or the file cannot be written.
        Cancelled: nobody waits for the file any more.
    """
    # Wide cells first, as the format's own writer does: then every tensor begins at a multiple of its cells' size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        tensor = tensors[name]
        kind = format_name(tensor.dtype)
        if not kind:
            raise EditRefused(
                f"{name} {list(tensor.shape)}: safetensors {safetensors.__version__} has no {dtypes.name(tensor.dtype)}. "
                f"Convert it first, or call torch.save(model.state_dict(), path)."
            )
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    done = 0
    with replacing(target, "save") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            for piece in _pieces(tensors[name]):
                report(done, end, f"saving {name}")
                raw: Any = apart(piece.flatten().view(torch.uint8)).numpy()
                done += file.write(raw)


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Contiguous parts on the CPU in row-major order, of at most `_PIECE` cells."""
    if tensor.numel() <= _PIECE:
        if tensor.numel():
            yield tensor.resolve_conj().resolve_neg().cpu().contiguous()
        return
    if tensor.shape[0] == 1:
        yield from _pieces(tensor[0])
        return
    rows = max(1, _PIECE * tensor.shape[0] // tensor.numel())
    for part in tensor.split(rows):
        yield from _pieces(part) if part.numel() > _PIECE else [part.resolve_conj().resolve_neg().cpu().contiguous()]
