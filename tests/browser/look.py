"""Screenshots of the live lab.

    python -m tests.browser.look notebooks/01_tour.ipynb out.png [--dark] [--width 1400] [--index 0]
    python -m tests.browser.look script.py out.png

A script is one cell per block between `# %%` lines. The picture shows the widget, or the whole page with --page.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

from tests.browser import chromium
from tests.browser.live import LiveNotebook, write_notebook
from tests.browser.server import JupyterServer


def cells_of(path: Path) -> list[str]:
    """The code cells of a notebook or of a script."""
    if path.suffix == ".ipynb":
        return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [cell.strip() for cell in re.split(r"^# %%.*$", path.read_text(), flags=re.MULTILINE) if cell.strip()]


@contextmanager
def live(cells: list[str], *, dark: bool = False, width: int = 1400, height: int = 1000) -> Iterator[LiveNotebook]:
    """A JupyterLab with these cells run."""
    with tempfile.TemporaryDirectory() as root, JupyterServer(Path(root)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        write_notebook(server.notebooks / "look.ipynb", cells)
        notebook = LiveNotebook(browser, server, "look.ipynb", width=width, height=height)
        # The widget and not JupyterLab is what is to be seen.
        notebook.command("application:toggle-left-area")
        if dark:
            notebook.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
        try:
            notebook.run_all()
            yield notebook
        finally:
            notebook.close()
            browser.close()


def main() -> None:
    """Take one picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--page", action="store_true", help="the whole page and not the widget alone")
    parser.add_argument("--open", help="name of the tensor to show")
    parser.add_argument("--index", type=int, default=0, help="which widget")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1000)
    arguments = parser.parse_args()
    with live(
        cells_of(arguments.source), dark=arguments.dark, width=arguments.width, height=arguments.height
    ) as notebook:
        widget = notebook.widget(arguments.index)
        try:
            if arguments.open:
                widget.open(arguments.open)
        finally:
            (notebook.page if arguments.page else widget.root).screenshot(path=arguments.out)
            for error in (*notebook.page_errors, *notebook.console_errors):
                print(error)


if __name__ == "__main__":
    main()
