"""What a tree of 50,000 tensors and a map of 5,000 cost in the browser: keystrokes in the filter, frames of a scroll, sorting.

    python benchmarks/overview.py [--tensors 50000] [--map 5000]

A live JupyterLab in headless Chromium. Keystrokes: from the input event to the frame after it is drawn, best, median and worst of
eight. Scroll: the longest time between two frames over 120 frames of 120 pixels each (one notch of a wheel a frame), and how
many tasks of the page took over 50 ms meanwhile. Beside it the longest time between two frames while nothing moves: without a
GPU the browser paints on the same two cores, and misses frames by itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Locator

from tests.browser.live import Widget
from tests.browser.look import live

MODEL = """
import time, torch, weightlab as wl
from torch import nn
torch.set_num_threads(1)
class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        for part in ("gate", "up", "down", "norm", "bias"):
            setattr(self, part, nn.Parameter(torch.randn(4, 3)))
model = nn.Sequential(*[nn.ModuleList(Expert() for _ in range(10)) for _ in range({tensors} // 50)])
lab = wl.Lab(model, auto_check=False)
"""

HELLO = """
import json
from weightlab.jupyter.protocol import Session
begun = time.perf_counter()
reply, _ = Session(lab).handle({"v": 1, "id": "b", "op": "hello"})
took = round(1000 * (time.perf_counter() - begun))
size = len(json.dumps(reply))
"""

FRAMES = """async count => {
  const times = [];
  await new Promise(resolve => {
    let before = performance.now();
    const step = now => { times.push(now - before); before = now; times.length < count ? requestAnimationFrame(step) : resolve(); };
    requestAnimationFrame(step);
  });
  return Math.max(...times.slice(1));
}"""

SCROLL = """async (element, count) => {
  const times = [];
  let long = 0;
  const observer = new PerformanceObserver(list => { long += list.getEntries().length; });
  observer.observe({type: 'longtask'});
  await new Promise(resolve => {
    let before = performance.now();
    const step = now => {
      times.push(now - before); before = now;
      element.scrollTop += 120;
      times.length < count ? requestAnimationFrame(step) : resolve();
    };
    requestAnimationFrame(step);
  });
  long += observer.takeRecords().length;
  observer.disconnect();
  return [times.slice(1), long];
}"""

TYPE = """async (input, text) => {
  const begun = performance.now();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, text);
  input.dispatchEvent(new InputEvent('input', {bubbles: true}));
  await new Promise(resolve => requestAnimationFrame(() => { const channel = new MessageChannel();
    channel.port1.onmessage = resolve; channel.port2.postMessage(0); }));
  return performance.now() - begun;
}"""


def tree(widget: Widget, rows: list[tuple[str, str]]) -> None:
    """Filter, scroll and sort."""
    box = widget.root.get_by_role("textbox", name="Filter parameters")
    times = [box.evaluate(TYPE, text) for text in ("9", "99", "99.", "99.u", "99.up", "g*te", "down", "")]
    rows.append(("filter keystroke, ms (best / median / worst)", spread(times)))
    box.fill("gate")
    widget.page.wait_for_timeout(1000)  # the keystroke was measured above
    rows.append(
        ("scroll: longest frame, ms (median); long tasks", scroll(widget.root.locator('[data-wl="tree"]'), 120))
    )
    rows.append(("bare page: longest frame, ms", f"{widget.page.evaluate(FRAMES, 120):.0f}"))
    box.fill("")
    begun = widget.page.evaluate("() => performance.now()")
    widget.root.get_by_role("combobox", name="Sort parameters").select_option("std")
    widget.root.locator('[data-wl="tree"] [aria-level="1"][data-kind="parameter"]').first.wait_for()
    rows.append(
        ("sort by std, all numbers read, s", f"{(widget.page.evaluate('() => performance.now()') - begun) / 1000:.1f}")
    )


def model_map(widget: Widget, rows: list[tuple[str, str]]) -> None:
    """Open and scroll."""
    begun = widget.page.evaluate("() => performance.now()")
    widget.button("Map").click()
    tiles = widget.root.get_by_role("listbox", name="Map of the model")
    widget.page.wait_for_function(
        "host => (host.dataset.painted || '').startsWith('picture@')", arg=tiles.element_handle()
    )
    rows.append(
        (
            "map: to all visible tiles drawn, s",
            f"{(widget.page.evaluate('() => performance.now()') - begun) / 1000:.2f}",
        )
    )
    rows.append(("map scroll: longest frame, ms (median); long tasks", scroll(tiles, 60)))


def scroll(element: Locator, frames: int) -> str:
    """Longest and median time between two frames; tasks over 50 ms."""
    times, long = element.evaluate(SCROLL, frames)
    return f"{max(times):.0f} ({statistics.median(times):.0f}); {long}"


def spread(times: list[float]) -> str:
    """Best, median and worst."""
    return f"{min(times):.0f} / {statistics.median(times):.0f} / {max(times):.0f}"


def measure(tensors: int, what: Any) -> list[tuple[str, str]]:
    """One model in one notebook."""
    rows: list[tuple[str, str]] = []
    with live([MODEL.replace("{tensors}", str(tensors)), "lab"]) as notebook:
        widget = notebook.widget()
        widget.root.get_by_role("combobox", name="Sort parameters").wait_for()
        notebook.page.wait_for_timeout(1500)
        notebook.kernel(HELLO)
        took, size = notebook.value("[took, size]")
        rows.append((f"{tensors} tensors: hello, ms and MB", f"{took} and {size / 1e6:.1f}"))
        what(widget, rows)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tensors", type=int, default=50_000)
    parser.add_argument("--map", type=int, default=5_000)
    arguments = parser.parse_args()
    for name, value in measure(arguments.tensors, tree) + measure(arguments.map, model_map):
        print(f"{name:<52}{value}")


if __name__ == "__main__":
    main()
