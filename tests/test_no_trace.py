"""Rule G1: a check leaves no trace, whatever the model does beside its tensors."""

import random
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.cells import raw
from tests.checked_models import (
    KINDS,
    check,
    loss,
    make,
)
from weightlab.check import Probe, check_gradients
from weightlab.errors import ProbeFailed
from weightlab.model.tree import ParameterTree


def print_of(model, *optimizers):
    """Everything of rule G1 that can be written down."""
    numpy_state = str(np.random.get_state())  # noqa: NPY002 -- the global state is what must not move
    found = {"python": random.getstate(), "numpy": numpy_state, "torch": raw(torch.get_rng_state())}
    for path, module in model.named_modules(remove_duplicate=False):
        for key, value in vars(module).items():
            if isinstance(value, (dict, list, set)):
                content = value.items() if isinstance(value, dict) else enumerate(value)
                found[path, key] = (id(value), [(str(k), id(v)) for k, v in content if not isinstance(v, torch.Size)])
            elif isinstance(value, torch.Tensor):
                found[path, key] = (id(value), raw(value), value._version)
            elif isinstance(value, torch.Generator):
                found[path, key] = raw(value.get_state())
            else:
                found[path, key] = (id(value), repr(value)[:40])
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            grad = tensor.grad if tensor.is_leaf else None
            found[path, name] = (
                id(tensor), raw(tensor), tensor._version, tensor.requires_grad, tensor.data_ptr(), tensor.stride(),
                id(grad), None if grad is None else raw(grad.to_dense()), None if grad is None else grad._version,
                id(tensor._backward_hooks), repr(getattr(tensor, "_post_accumulate_grad_hooks", None)),
            )  # fmt: skip
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                found[number, id(parameter), key] = raw(value) if isinstance(value, torch.Tensor) else value
        found[number, "groups"] = repr([{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])
    return found


def same(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value == after[key], key


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_check_leaves_no_trace(kind, thorough):
    """G1, G6: after real training steps, so that gradients, moments and running statistics are there to be spoilt."""
    model, batch = make(kind)
    trained = [p for p in model.parameters() if p.requires_grad]
    if kind == "sparse":
        optimizers = [torch.optim.SGD(trained, lr=0.1)]
    else:
        half = len(trained) // 2
        optimizers = [
            torch.optim.Adam(trained[:half]) if half else None,
            torch.optim.SGD(trained[half:], 0.1, momentum=0.9),
        ]
        optimizers = [optimizer for optimizer in optimizers if optimizer]
    loss(model(batch[0].clone()), batch[1]).backward()
    for optimizer in optimizers:
        optimizer.step()
    inputs = raw(batch[0])
    tree, probe = ParameterTree(model), Probe(model, batch, loss)
    probe.thorough = thorough
    before = print_of(model, *optimizers)
    first = check_gradients(tree, probe)
    same(before, print_of(model, *optimizers))
    assert raw(batch[0]) == inputs
    second = check_gradients(tree, probe)
    same(before, print_of(model, *optimizers))
    probe.thorough = thorough
    assert check_gradients(tree, probe) == first
    assert [(row.name, row.status, row.norm) for row in first.rows] == [(r.name, r.status, r.norm) for r in second.rows]
    assert all(row.status != "unreached" for row in first.rows), first


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["cnn", "stateful", "reentrant", "old weight_norm"])
def test_an_exception_leaves_no_trace(kind, where, error):
    """G1: whatever is raised, in the forward or in the backward."""
    model, batch = make(kind)
    loss(model(batch[0].clone()), batch[1]).backward()
    before = print_of(model)

    def failing(output, target):
        value = loss(output, target)
        if where == "forward":
            raise error("planted")
        value.register_hook(fail)
        return value * 1.0

    def fail(_):
        raise error("planted")

    with pytest.raises(ProbeFailed if error is RuntimeError else KeyboardInterrupt, match="planted"):
        check(model, batch, failing)
    same(before, print_of(model))


class Cache:
    def __init__(self):
        self.keys, self.count, self.layers = torch.zeros(3), 0, [Slotted()]


class Slotted:
    __slots__ = ("later", "values")

    def __init__(self):
        self.values = torch.zeros(2)


class Keeper(nn.Module):
    """Holds all kinds of things, and moves each of them in its forward."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.array, self.nested = np.zeros(3), {"a": [1, {"b": np.zeros(2)}], "t": ([torch.zeros(2)], 5)}
        self.generators = [np.random.default_rng(0), np.random.RandomState(0), random.Random(0)]
        self.deep, self.pair = [[torch.zeros(2)]], (torch.zeros(2), [1])
        self.cache, self.plain = Cache(), SimpleNamespace(tensor=torch.zeros(2), seen=set())
        self.ordered, self.hidden = OrderedDict(a=1, b=2), [nn.BatchNorm1d(2)]
        self.cycle = [1]
        self.cycle.append(self.cycle)
        self.cache.owner = self
        self.long = [[0]] + [0] * 300_000

    def forward(self, x):
        h = self.hidden[0](self.fc(x))
        self.array += 1
        self.nested["a"].append(2)
        self.nested["a"][1]["b"] -= 1
        self.nested["t"][0][0].add_(1)
        self.generators[0].normal(), self.generators[1].rand(), self.generators[2].random()
        self.deep[0][0].add_(h.sum())
        self.pair[0].add_(1)
        self.pair[1].append(2)
        self.cache.keys[0] = 7
        self.cache.count += 1
        self.cache.layers[0].values.add_(1)
        self.cache.layers[0].later = 1
        self.cache.layers.append(None)
        self.plain.tensor.add_(1)
        self.plain.seen.add(3)
        self.ordered.move_to_end("a")
        self.ordered["c"] = 3
        self.cycle.append(4)
        self.long.pop()
        if not hasattr(self, "added"):
            self.added = nn.Linear(1, 1)
        return h


def inside(value, seen=()):
    """Identity and content of what can be reached from a value."""
    if id(value) in seen:
        return id(value)
    seen = (*seen, id(value))
    if isinstance(value, (torch.Tensor, np.ndarray)):
        flags = (value._version, value.requires_grad, value.grad_fn) if isinstance(value, torch.Tensor) else ()
        return id(value), value.tolist(), *flags
    if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
        state = getattr(value, "getstate", None) or getattr(value, "get_state", None)
        return id(value), repr(state() if state else value.bit_generator.state)
    if isinstance(value, dict):
        return id(value), [(key, inside(item, seen)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return id(value), len(value), [inside(item, seen) for item in value[:9]]
    if isinstance(value, (nn.Module, Cache, Slotted, SimpleNamespace)):
        names = [*getattr(value, "__dict__", ()), *getattr(value, "__slots__", ())]
        return id(value), [(name, inside(getattr(value, name), seen)) for name in names if hasattr(value, name)]
    return repr(value)


def test_what_modules_keep_beside_tensors_is_put_back():
    """G1: arrays, generators, nested containers, objects, modules in lists; each keeps its identity and its content."""
    model, batch = Keeper(), (torch.randn(5, 3), torch.randn(5, 2))
    before = inside(model)
    assert {row.status for row in check(model, batch, F.mse_loss).rows} <= {"flowing", "weak"}
    assert inside(model) == before


def test_the_users_parameter_hooks_do_not_run():
    """G1: an optimizer that steps inside the backward would train; a closure brings the real parameter in."""
    model = nn.Linear(3, 2)
    ran = []
    model.weight.register_post_accumulate_grad_hook(lambda p: ran.append(p))
    hooks = model.weight._post_accumulate_grad_hooks
    weight = model.weight
    report = check(model, probe=lambda m: (m(torch.ones(4, 3)) @ weight).square().sum())
    assert ran == []
    assert model.weight._post_accumulate_grad_hooks is hooks
    assert report["weight"].status == "flowing"
    assert model.weight.grad is None
    model(torch.ones(4, 3)).sum().backward()
    assert len(ran) == 1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_for_callers_without_gradients(mode):
    """G6."""
    model, batch = make("lstm")
    expected = check(model, batch, loss)
    with mode():
        batch = (batch[0].clone(), batch[1].clone())
        assert check(model, batch, loss) == expected
        assert not torch.is_grad_enabled()


def test_it_works_under_autocast_and_leaves_its_cache_alone():
    """G6, J13."""
    model, batch = make("cnn")
    cached = []

    def watched(output, target):
        cached.append(torch.is_autocast_cache_enabled())  # a cast of an alias in it would outlive the check
        return loss(output, target)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = print_of(model)
        report = check(model, batch, watched)
        assert cached == [False]
        assert torch.is_autocast_cache_enabled()
        same(before, print_of(model))
    assert {row.status for row in report.rows} == {"flowing"}


def test_reentrant_checkpoints_of_one_layer_add_up_and_leaves_outside_keep_their_grad():
    """G1, G2: each segment delivers a part of the gradient, and the plain backward reaches other leaves."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            for _ in range(2):
                x = checkpoint(lambda v: torch.tanh(self.inner(v)), x, use_reentrant=True)
            return x

    model, x = Twice(), torch.randn(3, 4, requires_grad=True)
    outside = torch.ones(4, requires_grad=True)
    outside.grad = kept = torch.full((4,), 2.0)
    report = check(model, probe=lambda m: (m(x) * outside).square().sum())
    assert outside.grad is kept
    assert kept.tolist() == [2.0] * 4
    assert x.grad is None
    plain = (torch.tanh(model.inner(torch.tanh(model.inner(x))))).square().sum()
    (grad,) = torch.autograd.grad(plain, [model.inner.weight])
    assert report["inner.weight"].norm == pytest.approx(grad.norm().item(), rel=1e-6)


def test_a_compiled_model_is_checked_as_the_model_itself():
    """G6: names without _orig_mod, the same report."""
    model, batch = make("cnn")
    expected = check(model, batch, loss, thorough=False)
    compiled = torch.compile(model, backend="eager")
    report = check_gradients(ParameterTree(compiled), Probe(compiled, batch, loss))
    assert report == expected


def test_the_model_stays_in_its_mode():
    """G1: eval means no dropout in the check either, and the report says so."""
    model, batch = make("cnn")
    model.eval()
    model.drop.train()
    report = check(model, batch, loss)
    assert not report.training
    assert [m.training for m in model.modules()] == [False, False, False, True, False]


class PerSample(nn.Module):
    """Its forward maps over samples, differentiates, and builds a nested tensor, each in a layer of its own."""

    def __init__(self):
        super().__init__()
        self.mapped, self.slope, self.ragged, self.last = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        h = torch.vmap(lambda row: torch.relu(self.mapped(row)))(x)
        h = h + torch.func.grad(lambda v: self.slope(v).square().sum())(h)
        parts = torch.nested.as_nested_tensor([h[:2], h[2:]], layout=torch.jagged)
        return self.last(self.ragged(parts).values())


def test_a_forward_with_torch_func_and_nested_tensors_is_checked():
    """G6: what cannot be measured is passed over, and the report says so."""
    model, x = PerSample(), torch.randn(5, 4)
    before = print_of(model)
    report = check(model, probe=lambda m: m(x).square().sum())
    same(before, print_of(model))
    value = model(x).square().sum()
    grads = dict(zip(dict(model.named_parameters()), torch.autograd.grad(value, list(model.parameters())), strict=True))
    for row in report.rows:
        assert row.norm == pytest.approx(grads[row.name].norm().item(), rel=1e-5), row.name
    assert "could not be measured" in report.note
    assert "linear" in report.note


def test_an_error_in_our_own_measuring_ends_nobodys_forward(monkeypatch):
    """G6: the gradients are there all the same."""
    model, batch = make("cnn")
    expected = check(model, batch, loss)
    for name in ("extremes", "highest"):
        with monkeypatch.context() as patch:
            patch.setattr(f"weightlab.check.recording.{name}", lambda *_: 1 / 0)
            rows = check(model, batch, loss).rows
            assert [(row.name, row.status, row.norm) for row in rows] == [
                (row.name, row.status, row.norm) for row in expected.rows
            ]
    monkeypatch.setattr("weightlab.check.measures.Scale.of", lambda *_: 1 / 0)
    report = check(model, batch, loss)
    assert {row.name: row.norm for row in report.rows} == {row.name: row.norm for row in expected.rows}
    assert "conv2d" in report.note


def test_a_forward_that_differentiates_is_not_mistaken_for_the_backward():
    """G3: an inner gradient that is zero says nothing about the loss."""

    class Penalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            out = self.fc(x)
            (slope,) = torch.autograd.grad((out * 0).sum(), out, create_graph=True)
            return out.relu() * 0 + slope

    model = Penalised()
    report = check(model, probe=lambda m: m(torch.ones(2, 3)).sum())
    assert report["fc.weight"].status == "zero"
    assert [cause.at for cause in report.causes_of("fc.weight")] == [""]


class Freezing(nn.Module):
    """Freezes one layer and thaws another in its forward, as some schedules do."""

    def __init__(self, frozen, thawed, reentrant):
        super().__init__()
        self.first, self.last, self.reentrant = nn.Linear(3, 4), nn.Linear(4, 2), reentrant
        self.last.requires_grad_(False)
        self.frozen, self.thawed = frozen, thawed

    def forward(self, x):
        self.first.bias.requires_grad_(not self.frozen)
        self.last.bias.requires_grad_(self.thawed)
        if self.reentrant:
            return self.last(checkpoint(self.first, x.requires_grad_(), use_reentrant=True))
        return self.last(self.first(x))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_forward_that_freezes_and_thaws_leaves_the_flags_as_they_were(frozen, reentrant):
    """G1, G2: and what it freezes is frozen in the report."""
    model, batch = Freezing(frozen, thawed=True, reentrant=reentrant), (torch.randn(5, 3), torch.randn(5, 2))
    before = print_of(model)
    report = check(model, batch, nn.functional.mse_loss)
    same(before, print_of(model))
    assert report["first.bias"].status == ("frozen" if frozen else "flowing")
    assert report["first.weight"].status == "flowing"


def test_a_backward_that_raises_is_told_as_it_is_where_the_forward_froze_something():
    class Raising(Freezing):
        def forward(self, x):
            out = super().forward(x)
            out.register_hook(lambda _: 1 / 0)
            return out

    model, batch = Raising(frozen=True, thawed=False, reentrant=False), (torch.randn(5, 3), torch.randn(5, 2))
    before = print_of(model)
    with pytest.raises(ProbeFailed, match="the backward pass raised ZeroDivisionError"):
        check(model, batch, nn.functional.mse_loss)
    same(before, print_of(model))
