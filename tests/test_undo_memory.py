"""What undo keeps: every byte is counted, goes to the temporary file past the budget, and gives its place back (J6)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import weightlab as wl
from tests.cells import raw
from weightlab.edit.saved import Saved
from weightlab.edit.spill import Spill
from weightlab.model import storage
from weightlab.model.region import Region

Act = Callable[[wl.WeightRef, Tensor], object]
SIDE = 128
CELLS = SIDE * SIDE * 4  # bytes

WITH_TENSORS: dict[str, Act] = {
    "copy_": lambda w, t: w.copy_(t),
    "apply_": lambda w, t: w.apply_(lambda cells: cells + t),
    "lerp_": lambda w, t: w.lerp_(t, 0.25),
    "add_": lambda w, t: w.add_(t),
    "copy_ to listed rows": lambda w, t: w[[3, 1, 2]].copy_(t[:3]),
    "permute_": lambda w, t: w.permute_(1, torch.randperm(SIDE)),
    "a mask": lambda w, t: w[t > 0].neg_(),
}


@pytest.mark.parametrize("name", WITH_TENSORS)
def test_what_an_edit_keeps_in_memory_is_what_it_counts(name: str) -> None:  # J6
    lab = _lab()
    WITH_TENSORS[name](lab["weight"], _values())
    entry = lab.history[-1]
    assert entry.nbytes == lab.journal.nbytes
    assert entry.nbytes <= _reachable(lab) <= entry.nbytes + 2048
    lab.undo()
    assert lab.journal.nbytes <= _reachable(lab) <= lab.journal.nbytes + 2048


@pytest.mark.parametrize("name", WITH_TENSORS)
def test_past_the_budget_nothing_of_an_edit_stays_in_memory(name: str) -> None:  # J2, J6
    lab, plenty = _lab(undo_bytes=0), _lab()
    values = _values()
    before = lab["weight"].value
    for each in (lab, plenty):
        torch.manual_seed(1)
        with _spilling(each):
            WITH_TENSORS[name](each["weight"], values)
    assert lab.journal.nbytes == 0
    assert _reachable(lab) <= 2048
    assert lab.history[-1].nbytes == plenty.history[-1].nbytes
    after = lab["weight"].value
    assert lab.recipe() == plenty.recipe()
    assert lab.to_python() == plenty.to_python()
    for _ in range(2):
        lab.undo()
        assert _same(lab["weight"].value, before)
        assert _reachable(lab) <= 2048
        lab.redo()
        assert _same(lab["weight"].value, after)
        assert _reachable(lab) <= 2048
    assert lab.recipe() == plenty.recipe()
    assert _same(wl.replay(lab.recipe(), _holder(before)).tree.tensor("weight"), after)
    with torch.no_grad():
        lab.tree.tensor("weight").fill_(7)
    lab.undo(force=True)  # keeps what redo gives: it computes the edit again
    lab.redo()
    edited = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    storage.put(edited, lab.history[-1].edits[0].region, torch.ones(lab.history[-1].edits[0].region.view_shape).bool())
    assert _same(lab["weight"].value[edited], after[edited])


def test_many_edits_with_tensors_stay_inside_the_budget() -> None:  # J6
    budget = 3 * CELLS
    lab = _lab(undo_bytes=budget)
    states = [lab["weight"].value]
    with pytest.warns(UserWarning, match="undo_bytes"):
        for number in range(12):
            lab["weight"].copy_(_values(number))
            states.append(lab["weight"].value)
            assert lab.journal.nbytes <= budget
            assert _reachable(lab, but=states) <= budget + 12 * 2048
    for position in (0, 12, 5, 7, 0):
        lab.jump(position)
        assert _same(lab["weight"].value, states[position])
        assert _reachable(lab, but=states) <= budget + 12 * 2048


@pytest.mark.parametrize("how", ["restore", "transfer"])
def test_restore_and_transfer_spill_the_values_that_they_wrote(how: str) -> None:  # J6
    lab = _lab(undo_bytes=0)
    other = _holder(_values(9))
    with pytest.warns(UserWarning, match="undo_bytes"):
        if how == "restore":
            lab.snapshot("before")
            lab["weight"].add_(1)
            lab.restore("before")
            lab.snapshots.drop("before")
        else:
            lab.transfer(other)
    assert lab.journal.nbytes == 0
    assert _reachable(lab, but=[other.weight]) <= 2 * 2048


def test_an_undone_copy_keeps_its_values_once() -> None:  # J6: they are what redo writes
    lab = _lab()
    lab["weight"].copy_(_values())
    assert lab.history[-1].nbytes == 2 * CELLS
    lab.undo()
    assert lab.journal.nbytes == CELLS
    assert _reachable(lab) <= CELLS + 2048
    lab.redo()
    assert lab.journal.nbytes == 2 * CELLS
    lab.undo()
    assert _same(lab["weight"].value, _holder().weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.complex64])
def test_values_of_a_wider_type_are_kept_as_the_cells_took_them(dtype: torch.dtype) -> None:  # J6
    made = torch.randn(9, 31, dtype=torch.float64) * 10
    given = made.round() if dtype == torch.int8 else made
    holder = nn.Module()
    holder.register_buffer("weight", torch.zeros(9, 31).to(dtype))
    for part in (None, slice(0, 9, 2), [5, 0, 2]):
        lab = wl.Lab(copy.deepcopy(holder))
        target = lab["weight"] if part is None else lab["weight"][part]
        target.copy_(given if part is None else given[part])
        entry, size = lab.history[-1], target.value.numel() * dtype.itemsize
        index = sum(patch.nbytes for patch in entry.patches) - 2 * size
        assert 0 <= index <= 20
        after = raw(lab["weight"].value)
        assert entry.nbytes == 2 * size + index
        assert raw(wl.replay(lab.recipe(), copy.deepcopy(holder))["weight"].value) == after
        scope: dict[str, Any] = {}
        exec(lab.to_python(), scope)
        assert raw(scope["apply"](copy.deepcopy(holder)).weight) == after
        lab.undo()
        assert lab.journal.nbytes == size + index
        lab.redo()
        assert raw(lab["weight"].value) == after
    few = wl.Lab(copy.deepcopy(holder))
    few["weight"][0, :2].copy_([2.0, 3.0])
    assert few.history[-1].edits[0].args["values"].dtype != dtype  # as they were given, to be spelled so


def test_the_bounds_of_listed_cells_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = _lab(undo_bytes=0)
    with pytest.warns(UserWarning, match="undo_bytes"):
        lab["weight"][_values() > 1].zero_()
    region = lab.history[-1].changed[0][1]
    first = region.bounds
    monkeypatch.setattr(Spill, "read", None)  # nothing is read for it again
    assert region.bounds == first
    monkeypatch.undo()
    assert first == Region.of_cells(region.shape, region.cells).bounds


ROWS: dict[str, Any] = {
    "rows in any order": [90, 3, 77, 20, 5, 21],
    "rows in ascending order": [3, 5, 20, 21, 77, 90],
    "columns": (slice(None), [90, 3, 77, 20, 5, 21]),
    "rows of some columns": ([9, 3, 7], slice(2, 120, 2)),
    "a mask of rows": torch.arange(SIDE) % 5 == 2,
    "columns of listed rows": None,
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_cost_an_index_of_the_axis_and_not_one_of_each_cell(name: str) -> None:  # J6
    lab = _lab()
    weight = lab["weight"]
    part = weight[[5, 1, 9]][:, torch.tensor([7, 80, 3])] if ROWS[name] is None else weight[ROWS[name]]
    before, after = weight.value, weight.value
    part.mul_(2)
    entry = lab.history[-1]
    assert entry.nbytes <= entry.cells * 4 + 4 * SIDE // 4
    expected = torch.zeros(SIDE, SIDE)
    at = part.region.cells
    expected.view(-1)[at.flatten()] = 1
    after[expected == 1] *= 2
    assert _same(weight.value, after)
    lab.undo()
    assert _same(weight.value, before)
    lab.redo()
    assert _same(weight.value, after)
    assert torch.equal(pickle.loads(pickle.dumps(entry.edits))[0].region.cells, at)


def test_the_file_does_not_grow_with_jumps() -> None:  # J6
    lab = _lab(undo_bytes=CELLS)
    with pytest.warns(UserWarning, match="undo_bytes"):
        for number in range(10):
            lab["weight"].add_(number + 1.0)
    once = _file(lab)
    assert once <= 10 * CELLS
    for _ in range(5):
        lab.jump(0)
        lab.jump(10)
    assert _file(lab) <= 10 * CELLS


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a thread"])
def test_a_dropped_branch_gives_its_place_in_the_file_to_the_next(beside: bool) -> None:  # J6
    """With other threads there are stacks to be looked at: no frame may be kept, with what its callers hold."""
    lab = _lab(undo_bytes=0)
    over = threading.Event()
    if beside:
        threading.Thread(target=over.wait, daemon=True).start()
    with pytest.warns(UserWarning, match="undo_bytes"):
        for number in range(6):
            lab["weight"].add_(_values(number))
    full = _file(lab)
    for _ in range(4):
        lab.jump(1)
        for number in range(5):
            lab["weight"].add_(_values(number))
        assert _file(lab) <= full
    lab.jump(0)
    lab["weight"][:2].add_(1)  # drops all six
    assert _file(lab) <= full // 6
    over.set()


def test_an_entry_that_somebody_holds_is_read_after_its_branch_was_dropped() -> None:
    lab = _lab(undo_bytes=0)
    with pytest.warns(UserWarning, match="undo_bytes"):
        lab["weight"].copy_(_values(3))
    entry = lab.history[-1]
    lab.undo()
    for number in range(4):
        lab["weight"].copy_(_values(number + 10))
    assert _same(entry.edits[0].args["values"], _values(3))
    del lab
    gc.collect()
    assert _same(entry.edits[0].args["values"], _values(3))


def test_places_in_the_file_are_given_out_again_and_never_twice() -> None:
    random, spill = np.random.default_rng(0), Spill()
    alive: list[tuple[Saved, Tensor]] = []
    largest = 0
    for _ in range(600):
        if alive and random.random() < 0.5:
            alive.pop(int(random.integers(len(alive))))
        else:
            cells = torch.from_numpy(random.integers(0, 255, int(random.integers(1, 400)), dtype=np.uint8))
            saved = Saved(cells.clone())
            saved.to_disk(spill)
            assert saved.held == 0
            alive.append((saved, cells))
        largest = max(largest, sum(cells.numel() for _, cells in alive))
        assert all(torch.equal(saved.tensor(), cells) for saved, cells in alive[-3:])
    assert all(torch.equal(saved.tensor(), cells) for saved, cells in alive)
    assert spill.size <= 2 * largest
    del saved
    alive.clear()
    assert spill.size == 0


def test_a_stroke_stays_inside_the_budget_before_it_ends() -> None:  # J3, J6
    budget = 2 * CELLS
    lab = _lab(undo_bytes=budget)
    before = lab["weight"].value
    with pytest.warns(UserWarning, match="undo_bytes"), lab.stroke("all"):
        for number in range(5):
            with lab.stroke("part"):
                lab["weight"].add_(_values(number))
            assert lab.journal._budget.held <= budget
            assert _file(lab) == max(0, 2 * (number + 1) * CELLS - budget)
    assert lab.journal.nbytes == lab.journal._budget.held <= budget
    after = lab["weight"].value
    with pytest.raises(ZeroDivisionError), lab.stroke("fails"):
        for number in range(5):
            lab["weight"].add_(_values(number))
        raise ZeroDivisionError
    assert lab.journal.nbytes == lab.journal._budget.held <= budget
    assert _same(lab["weight"].value, after)
    with lab.stroke("takes itself back"):
        lab["weight"].neg_()
        lab["weight"].neg_()
    assert lab.journal.nbytes == lab.journal._budget.held <= budget
    lab.undo()
    assert _same(lab["weight"].value, before)


def test_the_file_goes_with_the_lab() -> None:  # J6
    lab = _lab(undo_bytes=0)
    with pytest.warns(UserWarning, match="undo_bytes"):
        lab["weight"].copy_(_values())
    file = lab.journal._budget.spill._file
    assert file is not None
    assert not file.closed
    gone = weakref.ref(lab.journal)
    del lab
    gc.collect()
    assert gone() is None
    assert file.closed


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_a_process_does_not_grow_with_what_moves_to_disk() -> None:  # J6
    code = (
        "import torch, warnings, weightlab as wl; warnings.simplefilter('ignore'); torch.set_num_threads(1)\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "lab = wl.Lab(torch.nn.Linear(1024, 1024, bias=False), undo_bytes=2**20)\n"
        "values = [torch.randn(1024, 1024) for _ in range(4)]; lab['weight'].copy_(values[1])\n"
        "first = resident()\n"
        "for number in range(60): lab['weight'].copy_(values[number % 4])\n"
        "print(resident() - first)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert grown < 75 * 2**20  # 480 MB have moved to disk


@pytest.mark.skipif(sys.platform == "win32", reason="a killed process of Windows closes its files itself")
def test_no_file_is_left_by_a_process_that_is_killed(tmp_path: Path) -> None:  # J6
    code = (
        "import torch, warnings, weightlab as wl; warnings.simplefilter('ignore')\n"
        "lab = wl.Lab(torch.nn.Linear(64, 64), undo_bytes=0); lab['weight'].neg_()\n"
        "print(lab.journal._budget.spill.size, flush=True); input()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == 64 * 64 * 4
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.rglob("weightlab-undo-*")) == []


def test_where_the_disk_is_full_undo_stays_in_memory_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:  # J3, J6
    lab = _lab(undo_bytes=0)
    before = lab["weight"].value
    monkeypatch.setattr("tempfile.tempdir", "/dev/null/no-such-folder")
    with pytest.warns(UserWarning, match="cannot be written"):
        lab["weight"].copy_(_values())
    assert lab.journal.nbytes == 2 * CELLS
    lab.undo()
    assert _same(lab["weight"].value, before)


def _holder(values: Tensor | None = None) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(_values(1000) if values is None else values.clone())
    return module


def _lab(undo_bytes: int = 2**30) -> wl.Lab:
    return wl.Lab(_holder(), undo_bytes=undo_bytes)


def _values(seed: int = 0) -> Tensor:
    return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.detach().view(torch.int32), other.detach().view(torch.int32))


def _file(lab: wl.Lab) -> int:
    """Bytes of the temporary file, as the system counts them."""
    spill = lab.journal._budget.spill
    size = spill.size
    assert size == (os.fstat(spill._file.fileno()).st_size if spill._file else 0)
    return size


def _spilling(lab: wl.Lab) -> Any:
    return pytest.warns(UserWarning, match="undo_bytes") if lab.journal.undo_bytes == 0 else nullcontext()


def _reachable(lab: wl.Lab, but: list[Tensor] | None = None) -> int:
    """Bytes of all tensors, arrays, lists of numbers and buffers that the journal leads to, beside the model's own."""
    known = {tensor.untyped_storage().data_ptr() for tensor in [*lab.model.parameters(), *(but or [])]}
    storages: dict[int, int] = {}
    total = 0
    for thing in _from(lab.journal):
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            if storage.data_ptr() not in known:
                storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(thing, np.ndarray) and thing.base is None:
            storages.setdefault(thing.ctypes.data, thing.nbytes)
        elif isinstance(thing, list) and thing and all(type(item) is int for item in thing):
            total += sys.getsizeof(thing)
        elif isinstance(thing, bytes | bytearray) and len(thing) > 64:
            total += len(thing)
    return total + sum(storages.values())


def _from(root: object) -> Iterator[object]:
    seen, todo = {id(root)}, [root]
    skipped = (types.ModuleType, type, nn.Module, types.BuiltinFunctionType, types.FrameType)
    while todo:
        thing = todo.pop()
        yield thing
        if isinstance(thing, types.FunctionType):
            found: list[Any] = [*(thing.__closure__ or ()), *(thing.__defaults__ or ())]
        elif isinstance(thing, Tensor):
            continue
        else:
            found = gc.get_referents(thing)
            found += [getattr(thing, "base", None)] if isinstance(thing, np.ndarray) else []
        for each in found:
            if id(each) not in seen and not isinstance(each, skipped):
                seen.add(id(each))
                todo.append(each)
