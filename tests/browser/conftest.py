"""A live JupyterLab and a headless Chromium, shared by the browser tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser import chromium
from tests.browser.live import LiveNotebook, write_notebook
from tests.browser.server import JupyterServer

ARTIFACTS = Path(__file__).parent / "artifacts"
Open = Callable[..., LiveNotebook]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


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


@pytest.fixture
def open_notebook(browser: Browser, jupyter: JupyterServer, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a notebook made of the given cells. At the end: no page error, and no request left the machine (P7)."""
    opened: list[LiveNotebook] = []

    def open_cells(*cells: str, server: JupyterServer = jupyter) -> LiveNotebook:
        name = f"{request.node.name.replace('[', '-').replace(']', '')}-{len(opened)}.ipynb"
        write_notebook(server.notebooks / name, cells)
        notebook = LiveNotebook(browser, server, name)
        opened.append(notebook)
        return notebook

    yield open_cells
    for notebook in opened:
        ARTIFACTS.mkdir(exist_ok=True)
        notebook.page.screenshot(path=ARTIFACTS / f"{request.node.name}.png")
        notebook.close()
    for notebook in opened:
        assert notebook.page_errors == []
        assert notebook.left_the_machine == []


def pytest_report_header() -> str:
    return f"browser tests: {chromium.find()}, screenshots in {os.path.relpath(ARTIFACTS)}"
