"""Rules G1, G2, G5 and G6: no trace, the numbers of a plain backward, one gradient at a time."""

import random
import weakref
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from weightlab.check import GradientReport, Probe, check_gradients
from weightlab.errors import ProbeFailed, UnknownName
from weightlab.model.tree import ParameterTree


def check(model, *args, thorough=True, **kwargs):
    """A check that measures at once; with `thorough` False as a Lab's first one, which does so only where needed."""
    probe = Probe(model, *args, **kwargs)
    probe.thorough = thorough
    return check_gradients(ParameterTree(model), probe)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.drop(F.relu(self.bn(self.conv(x)), inplace=True).mean((2, 3))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        h = self.first(x)
        h = checkpoint(lambda v: torch.tanh(self.second(v)), h, use_reentrant=self.reentrant)
        return self.last(h)


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.b(torch.relu(self.a(x))))


class Stateful(nn.Module):
    """Keeps references and counters of its own, and writes to a parameter and a buffer in its forward."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4, max_norm=0.5)
        self.inner = nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)
        self.mine = [self.inner.weight]
        deep = {"weights": [self.inner.bias]}
        self.deep = lambda: deep["weights"][0]
        self.register_buffer("ema", torch.zeros(4))
        self.calls = 0
        self.seen = []
        self.plain = torch.zeros(3)
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, tokens):
        self.calls += 1
        self.seen.append(tokens.shape)
        self.plain += 1
        with torch.no_grad():
            self.inner.weight.clamp_(-0.2, 0.2)
        h = self.embed(tokens).mean(1)
        self.ema.mul_(0.9).add_(h.detach().mean(0))
        h = h + 0.01 * torch.randn(h.shape, generator=self.generator)
        return self.last(torch.relu(h @ self.mine[0].t() + self.deep()))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.2)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def pruned():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    prune.random_unstructured(model[0], "weight", 0.3)
    return model


def old_weight_norm():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3))


def frozen():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    return model


X, TOKENS, LABELS = torch.Size((7, 4)), torch.Size((7, 5)), 3
KINDS = {
    "cnn": (Cnn, lambda: torch.randn(7, 2, 6, 6)),
    "tied": (Tied, lambda: torch.randint(11, TOKENS)),
    "lstm": (Lstm, lambda: torch.randn(7, 5, 4)),
    "two names": (TwoNames, lambda: torch.randn(X)),
    "checkpoint": (lambda: Checkpointed(False), lambda: torch.randn(X)),
    "reentrant": (lambda: Checkpointed(True), lambda: torch.randn(X)),
    "stateful": (Stateful, lambda: torch.randint(11, TOKENS)),
    "weight_norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)),
        lambda: torch.randn(X),
    ),
    "old weight_norm": (old_weight_norm, lambda: torch.randn(X)),
    "spectral_norm": (
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3)),
        lambda: torch.randn(X),
    ),
    "pruned": (pruned, lambda: torch.randn(X)),
    "frozen": (frozen, lambda: torch.randn(X)),
    "in place on the input": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)),
        lambda: torch.randn(X),
    ),
    "bf16": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).bfloat16(),
        lambda: torch.randn(X).bfloat16(),
    ),
    "sparse": (
        lambda: nn.Sequential(nn.Embedding(11, 4, sparse=True), nn.Flatten(), nn.Linear(20, 3)),
        lambda: torch.randint(11, TOKENS),
    ),
}  # fmt: skip


def make(kind, seed=0):
    torch.manual_seed(seed)
    build, make_input = KINDS[kind]
    model, x = build(), make_input()
    targets = torch.randint(LABELS if kind != "tied" else 11, (7,))
    return model, (x, targets)


def loss(output, target):
    return F.cross_entropy(output.float(), target)


def raw(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


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


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_a_plain_backward(kind, thorough):
    """G2: an independent forward and backward on a model built alike."""
    model, batch = make(kind)
    report = check(model, batch, loss, thorough=thorough)
    plain, batch = make(kind)
    tree = ParameterTree(plain)
    torch.manual_seed(0)  # the seed of a check: dropout draws the same masks
    value = loss(plain(batch[0].clone()), batch[1])
    value.backward()
    assert report.loss == pytest.approx(value.item(), rel=1e-6)
    for row in report.rows:
        parameter = tree.tensor(row.name)
        if row.status == "frozen":
            assert parameter.grad is None
            continue
        grad = parameter.grad.to_dense().double()
        assert row.norm == pytest.approx(grad.norm().item(), rel=1e-6 if parameter.dtype == torch.float32 else 1e-3)
        assert row.zero_units == int((grad.reshape(grad.shape[0], -1) == 0).all(1).sum())
        assert row.units == grad.shape[0]


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


def test_at_most_one_gradient_is_alive():
    """G5: gradients of parameters, counted when the next one is measured."""
    from weightlab.check import backward

    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(6)])
    alive, most = [], []
    measured = backward.Gradient

    class Counting(measured):
        __slots__ = ()

        def __init__(self, gradient, axis, order):
            alive.append(weakref.ref(gradient))
            most.append(sum(ref() is not None for ref in alive))
            super().__init__(gradient, axis, order)

    backward.Gradient = Counting
    try:
        check(model, (torch.randn(4, 8), torch.randn(4, 8)), F.mse_loss)
    finally:
        backward.Gradient = measured
    assert len(most) == 6
    assert max(most) == 1


def test_frozen_is_what_the_parameter_says_now():
    """G2: the flag may be set after the tree was read, either way."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    model[2].bias.requires_grad_(False)
    tree, probe = ParameterTree(model), Probe(model, (torch.randn(X), torch.tensor([0, 1, 2] * 2 + [0])), loss)
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(True)
    report = check_gradients(tree, probe)
    assert {row.name: row.status for row in report.rows} == {
        "0.weight": "frozen", "0.bias": "frozen", "2.weight": "flowing", "2.bias": "flowing"
    }  # fmt: skip
    assert report.causes == ()


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


def test_changes_between_two_reports():
    model, batch = make("cnn")
    before = check(model, batch, loss)
    with torch.no_grad():
        model.conv.weight[2].zero_()
    after = check(model, batch, loss)
    changes = after.changes_since(before)
    assert changes["bn.weight"].was == "flowing"
    assert changes["bn.weight"].status == "partial"
    assert {change.name for change in changes.status} >= {"bn.weight"}
    assert changes["fc.weight"].ratio == pytest.approx(after["fc.weight"].norm / before["fc.weight"].norm)
    assert changes.loss_delta == pytest.approx(after.loss - before.loss)
    assert "bn.weight: flowing → partial" in str(changes)
    assert before.changes_since(before).status == ()


def test_a_tied_tensor_is_one_row_under_all_its_names():
    model, batch = make("tied")
    report = check(model, batch, loss)
    assert report["head.weight"] is report["embed.weight"]
    assert report["head.weight"].aliases == ("head.weight",)
    with pytest.raises(UnknownName, match="nothing"):
        report["nothing"]


def test_scalar_empty_and_complex_parameters_have_a_row():
    model = nn.Linear(3, 2, dtype=torch.complex64)
    model.scale, model.empty = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0, 2))
    probe = lambda m: (m(torch.ones(4, 3, dtype=torch.complex64)).abs().square().sum() * m.scale) + m.empty.sum()  # noqa: E731
    report = check(model, probe=probe)
    assert {row.status for row in report.rows} == {"flowing"}
    assert (report["scale"].units, report["empty"].units) == (1, 0)


def test_a_transposed_convolution_counts_its_output_channels():
    """G2: its weight is [in, out, *kernel]."""
    model = nn.Sequential(nn.ConvTranspose2d(2, 5, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:, 3] = 0
    row = check(model, (torch.randn(6, 2, 4, 4), torch.randn(6, 5, 6, 6)), F.mse_loss)["0.weight"]
    assert (row.status, row.zero_units, row.units) == ("partial", 1, 5)


def test_text_page_and_plot_of_a_report():
    model, batch = make("cnn")
    report = check(model, batch, loss)
    assert isinstance(report, GradientReport)
    assert "bn.weight" in str(report)
    assert "bn.weight" in report._repr_html_()
    figure = report.plot()
    assert figure.axes[0].get_yscale() == "log"
    evil = nn.Module()
    evil.add_module("<script>", nn.Linear(2, 2))
    evil.forward = lambda x: getattr(evil, "<script>")(x)
    assert "<script>" not in check(evil, (torch.randn(3, 2), torch.randn(3, 2)))._repr_html_()


def deep_residual():
    blocks = []
    for _ in range(5):
        inner = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        blocks.append(Residual(inner))
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Scaled(nn.Module):
    """A ConvNeXt-like block with LayerScale 1e-6."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.gamma = nn.Parameter(1e-6 * torch.ones(6, 1, 1))

    def forward(self, x):
        return x + self.gamma * F.gelu(self.conv(x))


HEALTHY = {
    "residual cnn": deep_residual,
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3),
    "lstm": lambda: nn.LSTM(5, 8, num_layers=3),
    "deep mlp": lambda: nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(16, 16), nn.ReLU())]),
    "layer scale": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Scaled(), Scaled(), nn.Flatten(2)),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_initialisation_gives_nothing_above_info(kind, seed):
    """G8, and that `weak` does not fire on what is merely deep."""
    torch.manual_seed(seed)
    report = check(HEALTHY[kind]())
    assert [cause for cause in report.causes if cause.severity != "info"] == []
    if kind != "layer scale":
        assert [row for row in report.rows if row.status in ("weak", "zero", "unreached")] == []
