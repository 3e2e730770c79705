"""Drives a notebook and the widget in it, by the roles, names and data attributes that docs/design.md fixes (P5)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.server import JupyterServer

PATIENCE = 30_000  # milliseconds; two cores are shared by a server, a kernel and a browser
KERNEL_IS_IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"

RUN_IN_KERNEL = """async code => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code, store_history: false, stop_on_error: false});
  let text = '', error = null;
  future.onIOPub = message => {
    if (message.header.msg_type === 'stream') text += message.content.text;
    if (message.header.msg_type === 'error') error = message.content.traceback.join('\\n');
  };
  await future.done;
  return {text, error};
}"""


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook of code cells. Without a kernelspec JupyterLab would ask for one in a dialog."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)


class LiveNotebook:
    """A notebook open in JupyterLab, with everything that went wrong on the page on record."""

    def __init__(
        self, browser: Browser, server: JupyterServer, path: str, *, width: int = 1400, height: int = 1000
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page_errors: list[str] = []
        self.console_errors: list[str] = []
        self.left_the_machine: list[str] = []
        self.page.on("pageerror", lambda error: self._note_error(f"{error}\n{error.stack}"))
        self.page.on("console", lambda said: self.console_errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))
        self.page.goto(f"{server.url}/lab/tree/{path}?reset")
        self.page.wait_for_function(KERNEL_IS_IDLE)

    def _note_error(self, text: str) -> None:
        """Keep a page error, but for one of JupyterLab's own.

        Its React now and then removes a node twice when the theme changes: all frames of that stack are in its bundle.
        """
        frames = [line for line in text.splitlines() if line.strip().startswith("at ")]
        if "removeChild" in text and frames and all("/static/lab/jlab_core" in frame for frame in frames):
            return
        self.page_errors.append(text)

    def _note(self, url: str) -> None:
        parts = urlparse(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.left_the_machine.append(url)

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.context.close()

    def forget(self) -> None:
        """Clear what cells put out and what is on record, for the next test."""
        self.page.bring_to_front()
        self.command("notebook:clear-all-cell-outputs")
        for record in (self.page_errors, self.console_errors, self.left_the_machine):
            record.clear()

    # ---- the kernel

    def run_all(self) -> None:
        """Run all cells to their end.

        Raises:
            AssertionError: a cell raised.
        """
        self.command("notebook:run-all-cells")
        errors = self.page.evaluate(
            """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
                .flatMap(cell => cell.outputs ? cell.outputs.toJSON() : [])
                .filter(output => output.output_type === 'error')
                .map(output => output.traceback.join('\\n'))"""
        )
        assert not errors, "\n".join(errors)

    def run_cell(self, index: int) -> None:
        """Run one cell to its end."""
        self.page.evaluate(
            """index => {
                window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                return window.jupyterapp.commands.execute('notebook:run-cell').then(() => null);
            }""",
            index,
        )

    def start_all(self) -> None:
        """Run all cells, and do not wait for their end."""
        self.page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def wait_busy(self) -> None:
        """Wait until a cell runs."""
        self.page.wait_for_function(KERNEL_IS_IDLE.replace("idle", "busy"))

    def start_cell(self, index: int) -> None:
        """Run one cell, and do not wait for its end."""
        self.page.evaluate(
            """index => {
                window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                void window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Execute one of JupyterLab's commands and wait for it."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments or {}]
        )

    def kernel(self, code: str) -> str:
        """What the code prints in the notebook's kernel.

        Raises:
            AssertionError: it raised.
        """
        answer = self.page.evaluate(RUN_IN_KERNEL, code)
        assert answer["error"] is None, answer["error"]
        return str(answer["text"])

    def start_kernel(self, code: str) -> None:
        """Run code in the notebook's kernel, and do not wait for its end."""
        self.page.evaluate(f"code => void ({RUN_IN_KERNEL})(code)", code)

    def value(self, expression: str) -> Any:
        """An expression's value in the kernel, by way of JSON."""
        return json.loads(self.kernel(f"import json as _json; print(_json.dumps({expression}))"))

    def cell_count(self) -> int:
        """Number of cells in the notebook."""
        count: int = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length")
        return count

    def widget(self, index: int = 0) -> Widget:
        """The widget, or one of several, once it has heard from the kernel."""
        root = self.page.locator('[data-wl="lab"]').nth(index)
        root.wait_for()
        root.scroll_into_view_if_needed()
        expect(root).to_have_attribute("data-revision", re.compile(r"^\d+$"))
        return Widget(self.page, root)


class Widget:
    """One view of a Lab."""

    def __init__(self, page: Page, root: Locator) -> None:
        self.page = page
        self.root = root
        self.heatmap = root.locator('[data-wl="heatmap"]')
        self.readout = root.locator('[data-wl="readout"]')
        self.history = root.locator('[data-wl="history"]')
        self.code = root.locator('[data-wl="code"]')
        self.status = root.locator('[data-wl="status"]')
        self.alert = root.get_by_role("alert")
        self.region = root.get_by_role("textbox", name="Region")

    @property
    def revision(self) -> int:
        """The revision that the page shows."""
        return int(self.root.get_attribute("data-revision") or -1)

    def button(self, name: str) -> Locator:
        """A button by its name."""
        return self.root.get_by_role("button", name=name, exact=True)

    def tree_row(self, name: str) -> Locator:
        """The tree's row of a tensor or module."""
        return self.root.locator(f'[data-wl="tree"] [data-name="{name}"]')

    def gradient_row(self, name: str) -> Locator:
        """The gradient panel's row of a parameter."""
        return self.root.locator(f'[data-wl="gradients"] [data-name="{name}"]')

    def open(self, name: str) -> None:
        """Select a tensor in the tree, by way of the filter, and wait for its picture."""
        box = self.root.get_by_role("textbox", name="Filter parameters")
        box.fill(name)
        self.tree_row(name).click()
        self.painted(name)
        box.fill("")

    def painted(self, name: str) -> None:
        """Wait until every visible tile of the present revision is drawn, and the picture keeps its place for three frames.

        What stands beside it (chips of axes, profiles) may arrive a moment after the tiles, and takes room.
        """
        self.page.wait_for_function(
            """([root, name]) => {
                const stage = root.querySelector('[data-wl="heatmap"]');
                if (stage?.dataset.painted !== `${name}@${root.dataset.revision}`) return false;
                const {x, y, width, height} = stage.getBoundingClientRect();
                const place = [stage.dataset.painted, x, y, width, height].join();
                stage.__wl_calm = stage.__wl_place === place ? stage.__wl_calm + 1 : 0;
                stage.__wl_place = place;
                return stage.__wl_calm >= 3;
            }""",
            arg=[self.root.element_handle(), name],
        )

    def select(self, text: str) -> None:
        """Type an index expression into "Region"."""
        self.region.fill(text)
        self.region.press("Enter")

    def changes(self, act: Callable[[], object], steps: int = 1) -> None:
        """Do something that makes revisions and wait until the page shows them."""
        before = self.revision
        act()
        expect(self.root).to_have_attribute("data-revision", str(before + steps))

    def press(self, name: str) -> None:
        """Press a button that changes the model, and wait for the change."""
        self.changes(self.button(name).click)

    def dialog(self, button: str, **fields: str) -> None:
        """Open an edit's dialog, fill its fields and press "Apply". Field names are written with _ for a space."""
        self.button(button).click()
        for label, text in fields.items():
            self.root.get_by_role("textbox", name=label.replace("_", " "), exact=True).fill(text)
        self.button("Apply").click()

    def choose(self, menu: str, item: str) -> None:
        """An item of one of the menus of the edit bar."""
        self.button(menu).click()
        self.root.get_by_role("menuitem", name=item, exact=True).click()

    def window(self, name: str) -> Locator:
        """A dialog, by its name."""
        return self.root.get_by_role("dialog", name=name, exact=True)

    def drag(self, name: str, begin: Sequence[int], end: Sequence[int]) -> None:
        """From one cell of the picture to another."""
        mouse = self.page.mouse
        mouse.move(*self.point_of(name, begin))
        mouse.down()
        mouse.move(*self.point_of(name, end), steps=4)
        mouse.up()

    def _drawn(self, name: str, index: Sequence[int]) -> dict[str, Any]:
        self.painted(name)
        drawn: dict[str, Any] | None = self.heatmap.evaluate(
            "(stage, index) => stage.__wl_value(...index)", list(index)
        )
        assert drawn is not None, f"{name}{list(index)} is not on screen"
        return drawn

    def drawn_value(self, name: str, index: Sequence[int]) -> float:
        """The number that the picture draws for a cell, by the heatmap's hook for tests."""
        return float(self._drawn(name, index)["value"])

    def draws(self, name: str, index: Sequence[int], value: float, tolerance: float) -> None:
        """Wait until the picture draws this number for a cell."""
        end = time.monotonic() + PATIENCE / 1000
        while abs((drawn := self.drawn_value(name, index)) - value) > tolerance:
            assert time.monotonic() < end, f"{name}{list(index)} is drawn as {drawn}, expected {value}"
            self.page.wait_for_timeout(50)

    def drawn_colour(self, name: str, index: Sequence[int]) -> list[int]:
        """Red, green and blue of a cell, read back from the canvas."""
        return list(self._drawn(name, index)["color"])[:3]

    def point_of(self, name: str, index: Sequence[int]) -> tuple[float, float]:
        """Where on the page a cell is drawn."""
        drawn = self._drawn(name, index)
        return drawn["x"], drawn["y"]

    def reads(self, name: str, index: Sequence[int], text: str) -> None:
        """Point at a cell until the line below the picture says this.

        The mouse moves again where the picture has moved under it: what is drawn beside it arrives later, and takes room.
        """
        line = self.root.locator(".wl-read")
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            self.page.mouse.move(*self.point_of(name, index))
            try:
                expect(line).to_contain_text(text, timeout=500)
            except AssertionError:
                continue
            return
        expect(line).to_contain_text(text)

    def label_of_filter(self, name: str, number: int) -> tuple[float, float]:
        """Where the label of a convolution's filter stands: left of its row, or above it in a contact sheet."""
        x, y = self.point_of(name, (number, 0, 0, 0))
        _, below = self.point_of(name, (number, 0, 1, 0))
        first, second = self.point_of(name, (0, 0, 0, 0)), self.point_of(name, (1, 0, 0, 0))
        if first[0] == second[0]:
            return first[0] - 20, below
        return x, y - (below - y) / 2 - 8
