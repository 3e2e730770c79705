"""Every kind of cause and finding on the page: who does not know the answer sees it one click after the change (G3, G4, G7).

Where an edit of the page can make the fault, it does, and the check after it shows the cause by itself; the click opens its
evidence. What only code can do is one line of the next cell, and the click is "Diagnose".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Open
from tests.browser.live import LiveNotebook, Widget

MODEL = """
import collections, torch, weightlab
import torch.nn.functional as F
from torch import nn
torch.set_num_threads(1)

class Tap(nn.Module):
    "What a forward may do between two layers."
    do = staticmethod(lambda h: h)
    def forward(self, h):
        return self.do(h)

class Net(nn.Module):
    def __init__(self, act, tap, width=12):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 16, bias=False), act, nn.Linear(16, 12)
        self.norm, self.tap, self.head, self.side = nn.LayerNorm(12), tap, nn.Linear(width, 3), True
    def forward(self, x):
        h = self.fc2(self.act(self.fc1(x)))
        return self.head(self.tap(self.norm(h) if self.side else h))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, 3)
    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))

def tap(do):
    made = Tap()
    made.do = do
    return made

def plain(tap, width=12):
    "Without a norm."
    net = Net(nn.Tanh(), tap, width)
    net.side = False
    del net.norm
    return net

def deep(act):
    layers = [module for _ in range(20) for module in (nn.Linear(6, 6), act())]
    return nn.Sequential(*layers, nn.Linear(6, 3))

def normed():
    return nn.Sequential(collections.OrderedDict(
        fc=nn.Linear(6, 8), bn=nn.BatchNorm1d(8), act=nn.ReLU(), head=nn.Linear(8, 3)))

torch.manual_seed(0)
x, y = torch.randn(32, 6), torch.arange(32) % 3
tokens = torch.randint(5, (32, 4))
make = lambda: Net(nn.ReLU(), nn.Identity())
inputs, trained = x, False
"""

SHOW = """
torch.manual_seed(0)
model = make()
opt = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9) if trained else None
lab = weightlab.Lab(model, batch=(inputs, y), loss=F.cross_entropy, optimizer=opt)
lab
"""

RELU = "make = lambda: Net(nn.ReLU(), nn.Identity())"
Fault = Callable[[Widget], None]


class Case(NamedTuple):
    """A fault, and what has to be on screen: `names` are the parameter, the module, and what its text must speak of."""

    kind: str
    names: tuple[str, ...]
    make: str
    fault: str | Fault


def fill(name: str, value: str, region: str = "") -> Fault:
    def act(widget: Widget) -> None:
        widget.open(name)
        if region:
            widget.select(region)
        widget.changes(lambda: widget.dialog("Fill…", Value=value))

    return act


def scale(name: str, factor: str) -> Fault:
    def act(widget: Widget) -> None:
        widget.open(name)
        widget.changes(lambda: widget.dialog("Scale…", Factor=factor))

    return act


def zero(name: str) -> Fault:
    def act(widget: Widget) -> None:
        widget.open(name)
        widget.press("Zero")

    return act


BY_EDIT = [
    Case("dead_relu", ("fc1.bias", "act"), "make = lambda: nn.Sequential(collections.OrderedDict("
         "fc1=nn.Linear(6, 16), act=nn.ReLU(), head=nn.Linear(16, 3)))", fill("fc1.bias", "-50")),
    Case("saturated", ("fc1.bias", "act"), "make = lambda: nn.Sequential(collections.OrderedDict("
         "fc1=nn.Linear(6, 16), act=nn.Sigmoid(), head=nn.Linear(16, 3)))", fill("fc1.bias", "60")),
    Case("zero_weight", ("fc1.weight",), RELU, zero("fc1.weight")),
    Case("nonfinite_weight", ("fc2.weight",), RELU, fill("fc2.weight", "nan", "[3, 1:2]")),
    Case("nonfinite_activation", ("tap",), "make = lambda: plain(tap(lambda h: (h + 3).log()))", fill("fc2.bias", "-50")),
    Case("nonfinite_gradient", ("tap",), "make = lambda: plain(tap(lambda h: (h * (h > 9)).sqrt() + h))",
         scale("fc2.weight", "0.5")),
]  # fmt: skip

BY_EDIT_DIAGNOSED = [
    Case("symmetric_units", ("fc2.weight",), RELU, fill("fc2.weight", "0.05")),
    Case("scale_low", ("fc2.weight",), "make = lambda: plain(nn.Identity())", scale("fc2.weight", "0.001")),
    Case("scale_high", ("fc2.weight",), "make = lambda: plain(nn.Identity())", scale("fc2.weight", "80")),
    Case("zero_norm_scale", ("norm.weight",), RELU, zero("norm.weight")),
]

BY_CODE = [
    Case("unreached", ("fc2.weight",), RELU, "model.forward = lambda x: model.head(model.act(model.fc1(x))[:, :12])"),
    Case("detached", ("tap",), "make = lambda: plain(tap(lambda h: h))", "model.tap.do = lambda h: h.detach()"),
    Case("zero_path", ("tap",), "make = lambda: Net(nn.ReLU(), nn.Dropout(0.1))", "model.tap.p = 1.0"),
    Case("vanishing", ("7",), "make = lambda: deep(nn.Tanh)",
         "for at in range(1, 40, 2): model[at] = nn.Sigmoid()"),
    Case("exploding", ("fc2.bias",), "make = lambda: plain(tap(lambda h: h))",
         "model.tap.do = lambda h: h.detach() + (h - h.detach()) * 1e10"),
    Case("unused_rows", ("embed.weight",), "make, inputs = Words, tokens", ""),
    Case("invariant", ("fc.bias",), "make = normed", ""),
    Case("duplicate_units", ("fc2.weight",), RELU, 'lab["fc2.weight"][3].copy_(lab["fc2.weight"][1].value)'),
    Case("rank_collapse", ("fc2.weight",), RELU,
         'lab["fc2.weight"].copy_(torch.outer(torch.randn(12), torch.randn(16)) / 4)'),
    Case("not_a_parameter", ("fc2.bias",), RELU, "del model.fc2.bias; model.fc2.bias = torch.zeros(12)"),
    Case("shape_broken", ("fc2.weight",), RELU, "model.fc2.weight.data = torch.randn(12, 9)"),
    Case("optimizer_stale", ("fc2.weight",), f"{RELU}; trained = True",
         "model.fc2.weight = nn.Parameter(torch.randn(12, 16) / 4)"),
    Case("optimizer_missing", ("head.bias",), f"{RELU}; trained = True", 'opt.param_groups[0]["params"].pop()'),
]  # fmt: skip

IN_SIGHT = """element => {
    const box = element.getBoundingClientRect();
    if (box.height === 0 || box.top < 0 || box.bottom > innerHeight) return false;
    const over = document.elementFromPoint(box.left + 4, box.top + box.height / 2);
    if (!element.contains(over) && !over?.contains(element)) return false;
    for (let host = element.parentElement; host && !host.matches('[data-wl="lab"]'); host = host.parentElement) {
        if (getComputedStyle(host).overflowY === 'visible') continue;
        const {top, bottom} = host.getBoundingClientRect();
        if (box.top < top - 1 || box.bottom > bottom + 1) return false;
    }
    return true;
}"""


@pytest.fixture
def notebook(open_notebook: Open) -> LiveNotebook:
    live = open_notebook(MODEL, SHOW)
    live.run_cell(0)
    return live


def show(notebook: LiveNotebook, case: Case) -> Widget:
    """A healthy model of this case, on the page."""
    notebook.kernel(f"inputs, trained = x, False; {case.make}")
    notebook.run_cell(1)
    return notebook.widget()


def wait_for_first_check(widget: Widget) -> None:
    """Nobody asks for it: a Lab with a batch is checked behind its first picture."""
    expect(widget.root.locator('[data-wl="gradients"] [data-status]').first).to_be_visible()


def tells(card: Locator, case: Case) -> None:
    """The card says kind, place and evidence, all of it in sight."""
    words, text = card.locator(".wl-kind-words"), card.locator(".wl-finding-body > p").first
    expect(words).to_have_text(case.kind.replace("_", " "))
    evidence = card.locator(".wl-evidence li").first
    expect(evidence).to_be_visible()
    # The notebook may have to be scrolled to the widget, the panel in it not.
    card.evaluate("card => card.closest('[data-wl=\"lab\"]').scrollIntoView({block: 'start'})")
    said = card.inner_text()
    assert any(re.search(rf"(?<![\\w.]){re.escape(name)}(?![\\w])", said) for name in case.names), said
    for part in (words, text, evidence):
        in_sight(part)


def in_sight(part: Locator) -> None:
    """No list has to be scrolled to see it, and nothing lies on it."""
    part.page.wait_for_function(IN_SIGHT, arg=part.element_handle(), timeout=10_000)


def test_an_edit_of_the_page_shows_its_cause_at_once_and_a_click_its_evidence(notebook: LiveNotebook) -> None:
    """G3, G4."""
    for case in BY_EDIT:
        widget = show(notebook, case)
        wait_for_first_check(widget)
        assert callable(case.fault)
        case.fault(widget)
        card = widget.root.locator(f'.wl-last-change [data-kind="{case.kind}"]')
        # Kind and sentence stand there by themselves, and what is another since the model was shown.
        expect(widget.root.locator(".wl-moved")).to_contain_text(re.compile("→|loss"))
        expect(card).to_contain_text(case.kind.replace("_", " "))
        in_sight(card.locator(".wl-brief"))
        card.get_by_role("button").first.click()
        tells(card, case)


@pytest.mark.parametrize("cases", [BY_EDIT_DIAGNOSED, BY_CODE[:6], BY_CODE[6:]], ids=["edits", "causes", "findings"])
def test_one_click_names_what_an_edit_or_a_line_of_code_broke(notebook: LiveNotebook, cases: list[Case]) -> None:
    """G4, G7."""
    for case in cases:
        widget = show(notebook, case)
        if callable(case.fault):
            case.fault(widget)
        else:
            notebook.kernel(case.fault)
        widget.button("Diagnose").click()
        card = widget.root.locator(f'[data-wl="findings"] [data-kind="{case.kind}"]').first
        expect(card).to_be_visible()
        tells(card, case)


def test_in_a_narrow_cell_the_evidence_is_one_click_away_and_what_can_be_done_is_in_reach(
    notebook: LiveNotebook,
) -> None:
    """G3, G4: the panel lies under the picture, and is a quarter as high."""
    for width, case in ((860, BY_EDIT[0]), (860, BY_EDIT[2]), (560, BY_EDIT[0])):
        widget = show(notebook, case)
        wait_for_first_check(widget)
        assert callable(case.fault)
        case.fault(widget)
        card = widget.root.locator(f'.wl-last-change [data-kind="{case.kind}"]')
        expect(card).to_be_visible()
        widget.root.evaluate("(root, width) => { root.parentElement.style.width = `${width}px`; }", width)
        expect(widget.root).to_have_class(re.compile("wl-narrow" if width > 600 else "wl-slim"))
        card.get_by_role("button").first.click()
        tells(card, case)
        in_sight(card.get_by_role("button", name="Repair", exact=True))
        card.get_by_role("button", name="Explain").click()
        in_sight(card.locator(".wl-explained"))


def test_the_cases_are_every_kind() -> None:
    """G4, G7."""
    from weightlab.check.explanations import EXPLANATIONS

    cases = (*BY_EDIT, *BY_EDIT_DIAGNOSED, *BY_CODE)
    # A frozen parameter is told too, and is no fault.
    assert {case.kind for case in cases} == set(EXPLANATIONS) - {"frozen"}
