"""A live JupyterLab and a headless Chromium, shared by the browser tests."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser import chromium
from tests.browser.live import PATIENCE, LiveNotebook, Widget, write_notebook
from tests.browser.server import JupyterServer

ARTIFACTS = Path(__file__).parent / "artifacts"
Open = Callable[..., LiveNotebook]
_NUMBERS = itertools.count()


expect.set_options(timeout=PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            # A server, a kernel and a browser share two cores: what fails is tried once more on a fresh page, and the last
            # line counts it as rerun.
            item.add_marker(pytest.mark.flaky(reruns=1))


# Package scope and not session: playwright's event loop would stand in the way of notebooks that run after these tests.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        yield instance
        instance.close()


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="package")
def jupyter_without_subshells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A host that sends comm messages to the main thread, as some do."""
    with JupyterServer(tmp_path_factory.mktemp("plain"), comms_over_subshells="disabled") as server:
        yield server


@pytest.fixture(scope="package")
def _kept(
    browser: Browser, jupyter: JupyterServer, jupyter_without_subshells: JupyterServer
) -> Iterator[dict[tuple[str, ...], LiveNotebook]]:
    """Notebooks that stay open between tests, by their cells: starting a kernel and importing torch takes seconds."""
    kept: dict[tuple[str, ...], LiveNotebook] = {}
    yield kept
    for notebook in kept.values():
        notebook.close()


@pytest.fixture
def open_notebook(
    browser: Browser,
    jupyter: JupyterServer,
    _kept: dict[tuple[str, ...], LiveNotebook],
    request: pytest.FixtureRequest,
) -> Iterator[Open]:
    """Opens a notebook made of the given cells, none of which has run; its kernel may have served another test.

    At the end: no page error, and no request left the machine (P7).
    """
    opened: list[LiveNotebook] = []

    def open_cells(*cells: str, server: JupyterServer = jupyter) -> LiveNotebook:
        key = (server.url, *cells)
        if getattr(request.node, "execution_count", 1) > 1 and key in _kept and _kept[key] not in opened:
            _kept.pop(key).close()
        if key in _kept:
            _kept[key].forget()
        else:
            name = f"{next(_NUMBERS)}.ipynb"
            write_notebook(server.notebooks / name, cells)
            _kept[key] = LiveNotebook(browser, server, name)
        opened.append(_kept[key])
        return _kept[key]

    yield open_cells
    for notebook in opened:
        ARTIFACTS.mkdir(exist_ok=True)
        name = re.sub(r"[^\w.-]+", "-", request.node.name)
        notebook.page.screenshot(path=ARTIFACTS / f"{name}.png")
        assert notebook.page_errors == []
        assert notebook.left_the_machine == []


def pytest_report_header() -> str:
    return f"browser tests: {chromium.find()}, screenshots in {os.path.relpath(ARTIFACTS)}"


@pytest.fixture
def notebook(open_notebook: Open, request: pytest.FixtureRequest) -> LiveNotebook:
    """The MODEL of the test's file and its Lab, shown."""
    live = open_notebook(request.module.MODEL, "lab")
    live.run_all()
    return live


@pytest.fixture
def widget(notebook: LiveNotebook) -> Widget:
    return notebook.widget()
