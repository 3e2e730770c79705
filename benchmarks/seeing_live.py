"""The rows of seeing.py that only a live JupyterLab can answer: from a click to the painted picture, and a long tree."""

from __future__ import annotations

import statistics
from typing import Any

from tests.browser.live import LiveNotebook
from tests.browser.look import live

WEIGHTS = 9

# A widget that echoes, on the same road as ours: what a message and its answer cost here.
PING = """
import anywidget

class Ping(anywidget.AnyWidget):
    _esm = '''
    export default { render({ model, el }) {
      el.textContent = "ping";
      window.bare_ping = () => new Promise(resolve => {
        const begun = performance.now();
        const heard = () => { model.off("msg:custom", heard); resolve(performance.now() - begun); };
        model.on("msg:custom", heard);
        model.send({});
      });
    } };
    '''

ping = Ping()
ping.on_msg(lambda widget, content, buffers: widget.send({}))
if hasattr(ping.comm, "_reply_subshell_for"):
    ping.comm._reply_subshell_for = None
ping
"""

# From the click to the attribute that says: every visible tile of this tensor is drawn.
CLICK = """name => new Promise(resolve => {
  const lab = document.querySelector('[data-wl="lab"]'), stage = lab.querySelector('[data-wl="heatmap"]');
  const begun = performance.now();
  const look = () => {
    if (stage.dataset.painted?.startsWith(`${name}@`)) { watch.disconnect(); resolve(performance.now() - begun); }
  };
  const watch = new MutationObserver(look);
  watch.observe(stage, { attributes: true });
  lab.querySelector(`[data-wl="tree"] [data-name="${name}"]`).click();
})"""

# From a keystroke to the frame after the one that shows it.
KEYSTROKE = """text => new Promise(resolve => {
  const box = document.querySelector('[data-wl="lab"] input[aria-label="Filter parameters"]')
    ?? document.querySelector('[data-wl="lab"] [role="textbox"], [data-wl="lab"] input[type="search"]');
  const begun = performance.now();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(box, text);
  box.dispatchEvent(new InputEvent("input", { bubbles: true }));
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - begun)));
})"""

# In the tree's place a plain list of as many lines: what the browser takes to scroll any text of this size.
PLAIN = """() => {
  const tree = document.querySelector('[data-wl="tree"]'), plain = document.createElement('pre');
  plain.id = 'plain';
  plain.textContent = Array.from({ length: 4000 }, (_, line) => `${line}.weight  2 x 2`).join('\\n');
  Object.assign(plain.style, { height: `${tree.clientHeight}px`, width: `${tree.clientWidth}px`, overflow: 'auto', margin: 0 });
  tree.replaceWith(plain);
}"""

# The longest frame of 60 while a list scrolls by most of a page each.
SCROLL = """name => new Promise(resolve => {
  let box = document.querySelector(name);
  while (box && box.scrollHeight <= box.clientHeight + 10) box = box.parentElement;
  let last = performance.now(), longest = 0, left = 60;
  const step = now => {
    longest = Math.max(longest, now - last);
    last = now;
    if (left-- === 0) return resolve(longest);
    box.scrollTop += box.clientHeight * 0.8;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(now => { last = now; requestAnimationFrame(step); });
})"""


def rows(size: int, count: int) -> list[tuple[str, str, str, bool | None]]:
    """Question, measured, goal, met."""
    made: list[tuple[str, str, str, bool | None]] = []
    weights = f"""
import torch, weightlab as wl
torch.manual_seed(0)
model = torch.nn.ParameterDict({{f"w{{i}}": torch.randn({size}, {size}) for i in range({WEIGHTS})}})
lab = wl.Lab(model, auto_check=False)
lab
"""
    with live([PING, weights]) as notebook:
        notebook.widget().painted("w0")
        pings, clicks = [], []
        page: Any = notebook.page
        for turn in range(1, WEIGHTS):
            pings += [page.evaluate("() => window.bare_ping()") for _ in range(5)]
            clicks.append(page.evaluate(CLICK, f"w{turn}"))
            page.wait_for_timeout(1500)  # the statistics that follow a picture are not part of the next one
        again = [page.evaluate(CLICK, f"w{turn}") for turn in (1, 2, 3, 4, 5)]
    ping, click, back = (statistics.median(each) for each in (pings, clicks, again))
    made.append(
        (
            f"click on a parameter ({size * size / 1e6:.1f} M cells, not seen before) to painted, in JupyterLab",
            f"p50 {click:.0f} ms: {click / ping:.1f} bare pings of {ping:.0f} ms (seen before: {back:.0f} ms)",
            "3 pings",
            click <= 3 * ping,
        )
    )
    long = f"""
import torch, weightlab as wl
model = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range({count // 2}))
lab = wl.Lab(model, auto_check=False)
lab
"""
    with live([long]) as notebook:
        made += _tree(notebook, count)
    return made


def _tree(notebook: LiveNotebook, count: int) -> list[tuple[str, str, str, bool | None]]:
    page: Any = notebook.page
    notebook.widget()
    page.wait_for_selector('[data-wl="tree"] [data-name]')
    frames = [page.evaluate("() => new Promise(r => requestAnimationFrame(a => requestAnimationFrame(b => r(b - a))))")]
    keys = [page.evaluate(KEYSTROKE, text) for text in ("1", "12", "123", "123.", "123.w", "", "w", "we")]
    page.evaluate(KEYSTROKE, "weight")
    page.wait_for_timeout(300)
    longest = page.evaluate(SCROLL, '[data-wl="tree"]')
    page.evaluate(PLAIN)
    plain = page.evaluate(SCROLL, "#plain")
    key = statistics.median(keys)
    return [
        (f"filter keystroke in {count:,} parameters, to the second frame", f"p50 {key:.0f} ms (an idle frame {frames[0]:.0f} ms)",
         "50 ms", key < 50),
        ("scroll of that tree", f"longest frame {longest:.0f} ms (of plain text in its place: {plain:.0f} ms)", "50 ms",
         longest <= 50),
    ]  # fmt: skip
