"""A step of training that began before anybody followed it, read off the stacks of the other threads (rule T1).

Hooks see the steps that begin after them. A Lab without a page has none, so when the first edit comes from beside a training
loop, the step that it must not meet is there already. What keeps a graph alive is a variable of the loop: the output or the
loss in a frame of the thread that trains. Its graph says more: it leads to the model's parameters, and after a backward
what it had saved is gone.
"""

from __future__ import annotations

import itertools
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.nn.parameter import is_lazy

from weightlab.model.nested import tensors_in

_PROBED = 8  # parameters, one of which a graph of the model is taken to reach
_MARK = "weightlab"
_FEW = 32  # a variable with more items is data and no output
_LOOKED_AT = 1000  # functions of a graph
_LIBRARY = sysconfig.get_paths()["stdlib"]
_PACKAGES = sysconfig.get_paths()["purelib"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a thread is doing with the model.

    Attributes:
        thread: that trains.
        graphs: outputs or losses whose backward has not come.
        running: it is in the midst of a forward, a backward or an optimizer's step now.
    """

    thread: threading.Thread
    graphs: tuple[Tensor, ...]
    running: bool


def step_on_another_thread(model: nn.Module, optimizer: object = None) -> Found | None:
    """The thread beside this one that holds a graph of the model in training mode or runs the optimizer, if there is one."""
    threads = {thread.ident: thread for thread in threading.enumerate()}
    if len(threads) == 1:
        return None
    if optimizer is not None:
        for ident, frame in _others().items():
            if ident in threads and any(each.f_locals.get("self") is optimizer for each in _frames(frame)):
                return Found(threads[ident], (), running=True)
    if not model.training or not _has_graph(model):
        return None
    ours = {id(parameter) for parameter in model.parameters()}
    for ident, frame in _others().items():
        if ident not in threads:
            continue
        stack = list(_frames(frame))
        if any(_runs(each, model) for each in stack):  # its graph is not looked at: a backward may be freeing it
            return Found(threads[ident], (), running=True)
        held = {id(tensor): tensor for each in stack for tensor in _locals(each) if tensor.grad_fn is not None}
        graphs = [tensor for tensor in held.values() if _leads_to(tensor, ours)]
        if graphs:
            return Found(threads[ident], tuple(graph for graph in graphs if not _is_spent(graph)), running=False)
    return None


def is_used_beside(*things: object) -> bool:
    """Whether code that another thread is in names one of these: as a variable of its own, or as a global one."""
    if threading.active_count() == 1:
        return False
    return any(_names(each, things) for frame in _others().values() for each in _frames(frame))


def _others() -> dict[int, FrameType]:
    """The top frames of the other threads. A variable that held its own frame would keep what all its callers hold."""
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    return frames


def _names(frame: FrameType, things: tuple[object, ...]) -> bool:
    if _is_library(frame):
        return False
    used = [*frame.f_locals.values(), *(frame.f_globals.get(name) for name in frame.f_code.co_names)]
    return any(value is thing for value in used for thing in things)


def _is_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith(_LIBRARY) and not path.startswith(_PACKAGES)


def _has_graph(model: nn.Module) -> bool:
    """Whether a graph is alive that reaches the parameters: their node of the graph outlives a look at it."""
    trained = [p for p in model.parameters() if p.requires_grad and p.is_leaf and not is_lazy(p)]
    with torch.inference_mode(False):
        return any(_is_in_a_graph(parameter) for parameter in trained[:: max(1, len(trained) // _PROBED)])


def _is_in_a_graph(parameter: Tensor) -> bool:
    # The node lives as long as a graph has it: marked, let go and asked for again, a new one has no mark.
    _notes(parameter)[_MARK] = True
    return _notes(parameter).pop(_MARK, False) is True


def _notes(parameter: Tensor) -> dict[str, Any]:
    node: Any = get_gradient_edge(parameter).node
    return node.metadata  # type: ignore[no-any-return]


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _runs(frame: FrameType, model: nn.Module) -> bool:
    name = frame.f_code.co_name
    return name == "_engine_run_backward" or (name == "_call_impl" and frame.f_locals.get("self") is model)


def _locals(frame: FrameType) -> Iterator[Tensor]:
    if _is_library(frame):
        return  # waits, sleeps, queues
    for value in list(frame.f_locals.values()):
        if not isinstance(value, (tuple, list, dict)) or len(value) <= _FEW:
            yield from tensors_in(value)


def _leads_to(tensor: Tensor, parameters: set[int]) -> bool:
    return any(id(getattr(node, "variable", None)) in parameters for node in _nodes(tensor))


def _is_spent(tensor: Tensor) -> bool:
    """Whether no backward can go through the graph: what its functions had saved is freed, or a step has written to it."""
    kept = False
    for node in itertools.islice(_nodes(tensor), _LOOKED_AT):
        for saved in _saved(node):
            try:
                # A hook may run a forward again; where it is there, so is what it unpacks.
                there = saved.unpack_hook is not None or saved.unpack() is not None
            except RuntimeError:
                return True
            kept = kept or there
    return not kept


def _saved(node: Node) -> Iterator[Any]:
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            found = getattr(node, name)
            yield from found if isinstance(found, tuple) else (found,)


def _nodes(tensor: Tensor) -> Iterator[Node]:
    """The functions of a graph, from its end to the parameters."""
    if tensor.grad_fn is None:
        return
    seen, left = {tensor.grad_fn}, [tensor.grad_fn]
    while left:
        node = left.pop()
        yield node
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                left.append(before)
