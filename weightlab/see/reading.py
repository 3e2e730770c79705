"""One pass over a large tensor on the CPU: several threads, each in compiled loops that do not hold Python's lock.

Measured on 4096 x 4096 float32, two cores, in passes of `torch.linalg.vector_norm` (3 to 5 ms): mean, min, max and rms of
16 x 16 cells 1.1 (by torch 20, since each of the four is a pass of its own and makes tensors on its way); all moments and
counts 1.5 (torch: 30); a histogram 2 (torch.histc: 14). Eager torch cannot do two things to a cell that it has loaded,
and in pieces that fit the cache its calls cost more than the work. Hence numba, where it is installed.

numba compiles each loop once per machine and kind of cell, in a few seconds, and keeps the result beside this file (or in
the user's cache). Until it has, a thread of its own compiles and torch does the work; only what would take torch longer
than that waits. On CUDA, for complex numbers and for wide integers torch does it all: see `bins.py` and `summary.py`,
which say how far the two may differ.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weightlab.model import dtypes
from weightlab.model.storage import apart
from weightlab.progress import report

WORTH_CELLS = 1 << 14  # fewer are done before the threads are awake
WAIT_CELLS = 1 << 26  # more take torch longer than numba needs to compile
_PIECE = 1 << 18
_RESULTS = 1 << 20  # columns of five numbers

Array = Any
Compiled = Any  # the module weightlab.see.compiled

_lock = threading.Lock()
_compiler = ThreadPoolExecutor(1, "weightlab-compiles")
_compiled: dict[Any, Future[Compiled]] = {}  # by NumPy's dtype
_pools: dict[int, ThreadPoolExecutor] = {}
_PLAIN = (torch.float32, torch.float64)
_WIDE = (
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.uint32,
    torch.int64,
    torch.uint64,
)  # become float32 for a picture


@dataclass(frozen=True, slots=True)
class Source:
    """The memory of a tensor as the compiled loops take it: one line of cells, and how they become numbers."""

    cells: Array
    kind: str
    table: Array

    @property
    def exact(self) -> str:
        """The floating dtype that holds every cell exactly."""
        return "float64" if self.cells.dtype == np.float64 else "float32"


def planes(
    cells: Tensor, tall: int, wide: int, *, patient: bool = False, worth: int = WORTH_CELLS
) -> tuple[Array, ...] | None:
    """Mean, min, max, rms, flags and number of cells that are not finite, for bins of `tall` x `wide` cells.

    Args:
        cells: [rows, columns].
        wide: a power of two.
        patient: wait for the compiler in any case.
        worth: how many cells are worth the threads; 0 to have a few as those around them were.

    Returns:
        Arrays per bin, the last two None where all cells are finite; or None where it is not for this module to do.
    """
    rows, columns = cells.shape
    if cells.stride(1) != 1 and cells.stride(0) == 1 and tall & (tall - 1) == 0:
        turned = planes(cells.t(), wide, tall, patient=patient, worth=worth)
        return None if turned is None else tuple(None if part is None else part.T for part in turned)
    if not cells.numel() or wide & (wide - 1) or (cells.numel() < worth and not patient):
        return None
    if cells.dtype in _WIDE and cells.device.type == "cpu":
        cells = cells.float()
    if not _supported(cells):
        return None
    if cells.stride(1) != 1 or cells.stride(0) < columns:
        cells = cells.contiguous()
    stride = cells.stride(0) if rows > 1 else columns
    source = _source(cells.as_strided(((rows - 1) * stride + columns,), (1,)))
    compiled = ready(source, cells.numel(), patient)
    if compiled is None:
        return None
    shape = -(-rows // tall), -(-columns // wide)
    low, high, mean, rms = (np.empty(shape, source.exact) for _ in range(4))
    flags, missing = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)

    def part(first: int, last: int) -> int:
        spoilt: int = compiled.planes(
            source.cells, stride, rows, columns, getattr(compiled, source.kind), source.table,
            tall, wide.bit_length() - 1, first, last, low, high, mean, rms, flags, missing,
        )  # fmt: skip
        return spoilt

    step = max(1, _PIECE // max(1, columns * tall))
    spoilt = sum(in_parts(part, shape[0], step))
    return mean, low, high, rms, *((flags, missing) if spoilt else (None, None))


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the finite cells, about a pivot; NaN passes into none of them."""

    low: float
    high: float
    total: float
    squares: float
    zero: int
    nan: int
    positive: int
    negative: int


def moments(tensor: Tensor, pivot: float, *, patient: bool = False) -> Moments | None:
    """All that one pass tells about the cells of a tensor; `low` is inf where there is no finite one.

    Squares that overflow float64 are infinite: then a pass over scaled numbers has to follow.
    """
    source = line(tensor)
    compiled = None if source is None else ready(source, tensor.numel(), patient)
    if source is None or compiled is None:
        return None
    lanes = np.empty(0, source.exact)

    def part(first: int, last: int) -> Array:
        out = np.zeros(8)
        kind = getattr(compiled, source.kind)
        compiled.moments(source.cells, kind, source.table, first, last, pivot, lanes, out)
        return out

    parts = np.array(in_parts(part, tensor.numel(), _PIECE, f"counting {tensor.numel():,} cells"))
    # Sums of pieces as exactly as float64 can.
    sums: list[float] = [
        math.fsum(column) if np.isfinite(column).all() else float(column.sum()) for column in parts[:, 2:].T
    ]
    return Moments(
        float(parts[:, 0].min()), float(parts[:, 1].max()), sums[0], sums[1], *(int(each) for each in sums[2:])
    )


def histogram(tensor: Tensor, low: float, high: float, bins: int, *, patient: bool = False) -> Array | None:
    """Counts of the finite cells in equal bins from `low` to `high`, which all of them lie in."""
    source = line(tensor)
    compiled = None if source is None else ready(source, tensor.numel(), patient)
    if source is None or compiled is None:
        return None

    def part(first: int, last: int) -> Array:
        counts = np.zeros(bins, np.int64)
        kind = getattr(compiled, source.kind)
        scale = bins / (high / 2 - low / 2)
        compiled.histogram(source.cells, kind, source.table, first, last, low / 2, scale, counts)
        return counts

    return np.sum(in_parts(part, tensor.numel(), _PIECE, f"counting {tensor.numel():,} cells"), axis=0)


def lines(tensor: Tensor, axis: int, *, patient: bool = False) -> Array | None:
    """What stands on each index of an axis, in one pass.

    Returns:
        float64 [5, size of the axis]: sum, sum of squares and largest magnitude of the finite cells, zeros, and cells that are
        not finite; None where it is not for this module to do: where the tensor is not contiguous, too.
    """
    if not tensor.is_contiguous() or not tensor.numel():
        return None
    source = line(tensor)
    compiled = None if source is None else ready(source, tensor.numel(), patient)
    if source is None or compiled is None:
        return None
    from weightlab.see import compiled_lines

    outer, size, inner = math.prod(tensor.shape[:axis]), tensor.shape[axis], math.prod(tensor.shape[axis + 1 :])
    kind, lanes = getattr(compiled, source.kind), np.empty(0, source.exact)
    pieces = max(1, tensor.numel() // _PIECE)
    words = f"reading {tensor.numel():,} cells"

    def take(out: Array, rows: tuple[int, int], indices: tuple[int, int], run: tuple[int, int]) -> Array:
        compiled_lines.lines(source.cells, kind, source.table, size, inner, lanes, *rows, *indices, *run, out)
        return out

    if outer == 1 and size >= pieces:  # each index by itself: all write into one result
        shared = np.zeros((5, size))
        in_parts(lambda a, b: take(shared, (0, 1), (a, b), (0, inner)), size, -(-size // pieces), words)
        return shared
    # Parts of every index: each has a result of its own, which must stay small beside the tensor.
    pieces = max(1, min(pieces, _RESULTS // size))
    if outer >= inner:
        parts = in_parts(
            lambda a, b: take(np.zeros((5, size)), (a, b), (0, size), (0, inner)), outer, -(-outer // pieces), words
        )
    else:
        step = max(-(-inner // pieces), min(inner, compiled_lines.LONG))
        parts = in_parts(lambda a, b: take(np.zeros((5, size)), (0, outer), (0, size), (a, b)), inner, step, words)
    made = np.sum(parts, axis=0)
    made[2] = np.max([part[2] for part in parts], axis=0)
    return made


def prepare(kinds: set[torch.dtype]) -> None:
    """Have the loops for cells of these kinds compiled, in a thread; a page calls it as soon as it knows a model."""
    for dtype in kinds:
        tiny = torch.zeros(1, dtype=dtype)
        if _supported(tiny):
            _future(_source(tiny))


def _supported(tensor: Tensor) -> bool:
    real = tensor.dtype in _PLAIN or (dtypes.exact_in_float32(tensor.dtype) and tensor.dtype not in _WIDE)
    return real and tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized


def line(tensor: Tensor) -> Source | None:
    """All cells as one line in any order: of a dense tensor its memory, whatever its strides."""
    if tensor.numel() < WORTH_CELLS or not _supported(tensor):
        return None
    reach = 1
    for stride, size in sorted((tensor.stride(axis), size) for axis, size in enumerate(tensor.shape) if size > 1):
        if stride != reach:
            return None
        reach *= size
    return _source(tensor.as_strided((tensor.numel(),), (1,)))


def _source(cells: Tensor) -> Source:
    if cells.dtype in _PLAIN:
        return Source(apart(cells).numpy(), "PLAIN", np.zeros(256, np.float32))
    if cells.dtype.itemsize == 2:
        kind = "BFLOAT" if cells.dtype is torch.bfloat16 else "HALF"
        return Source(apart(cells.view(torch.int16)).numpy().view(np.uint16), kind, np.zeros(256, np.float32))
    # One byte: booleans, small integers and the float8 types have 256 values at most.
    codes = torch.arange(256, dtype=torch.uint8)
    table = codes.view(cells.dtype) if cells.dtype is not torch.bool else codes > 0
    return Source(apart(cells.view(torch.uint8)).numpy(), "TABLE", table.float().numpy())


def ready(source: Source, cells: int, patient: bool) -> Compiled | None:
    future = _future(source)
    if not future.done() and not (patient or cells > WAIT_CELLS):
        return None
    while not future.done():
        report(0, 1, "preparing fast loops for this machine, once")
        wait([future], 0.1)
    return future.result()


def _future(source: Source) -> Future[Compiled]:
    with _lock:
        if source.cells.dtype not in _compiled:
            _compiled[source.cells.dtype] = _compiler.submit(_compile, source)
        return _compiled[source.cells.dtype]


def _compile(source: Source) -> Compiled | None:
    """Compile by calling, on one cell. None where numba is missing, or has no place to keep what it made."""
    try:
        from weightlab.see import compiled, compiled_lines, compiled_search
    except (ImportError, RuntimeError, OSError):
        return None
    loops: Compiled = compiled
    kind = getattr(loops, source.kind)
    line, table = source.cells[:1].copy(), source.table
    out = [np.zeros((1, 1), source.exact) for _ in range(4)]
    loops.planes(line, 1, 1, 1, kind, table, 1, 0, 0, 1, *out, np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.int32))
    loops.moments(line, kind, table, 0, 1, 0.0, np.empty(0, source.exact), np.zeros(8))
    loops.histogram(line, kind, table, 0, 1, 0.0, 1.0, np.zeros(2, np.int64))
    compiled_lines.lines(line, kind, table, 1, 1, np.empty(0, source.exact), 0, 1, 0, 1, 0, 1, np.zeros((5, 1)))
    codes, none = line.view(f"u{line.itemsize}"), np.empty(0, np.uint64)
    compiled_search.digits(codes, 0, 1, 0, 0, np.zeros(1 << 16, np.uint8), none, np.zeros((1, 1 << 16), np.int32))
    compiled_search.best(line, kind, table, 0, 1, 0, 0.0, 1.0, np.inf, -1, np.empty(2))
    return loops


def added(run: Callable[[int, int], Array], count: int, step: int, words: str) -> Array:
    """The sum of what `run(first, last)` counts in parts of all of `count`; a few parts are kept at a time."""
    several = step * 16
    made: Array = np.int64(0)
    for start in range(0, count, several):
        report(start, count, words)
        here = min(several, count - start)
        parts = in_parts(lambda a, b, at=start: run(at + a, at + b), here, step)  # type: ignore[misc]
        for part in parts:
            made = made + part
    return made


def in_parts(run: Callable[[int, int], Any], count: int, step: int, words: str = "") -> list[Any]:
    """`run(first, last)` over all of `count`, on as many threads as torch uses."""
    if count <= step:
        return [run(0, count)]
    threads = min(torch.get_num_threads(), os.cpu_count() or 1)
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, "weightlab-reads")
    starts = range(0, count, step)
    futures = [_pools[threads].submit(run, start, min(start + step, count)) for start in starts]
    try:
        done = []
        for start, future in zip(starts, futures, strict=True):
            if words:
                report(start, count, words)
            done.append(future.result())
        return done
    finally:
        for future in futures:
            future.cancel()
