"""Lets `pip install` and `python -m build` build the page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Hatchling loads this file by its path, so its neighbour is on no import path.
sys.path.insert(0, str(Path(__file__).parent))
import page


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds weightlab/jupyter/static before it is packed, for wheels, sdists and editable installs alike."""

    def dependencies(self) -> list[str]:
        """Node as a Python package, where it is needed and the machine has none."""
        return [page.NODE_PACKAGE] if self._must_build() and page.system_node() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page unless it is there."""
        if self._must_build():
            page.build()

    def _must_build(self) -> bool:
        # An sdist (it has a PKG-INFO) brings the built page along, and times of unpacked files mean nothing.
        unpacked_sdist = (Path(self.root) / "PKG-INFO").exists() and all(path.exists() for path in page.BUILT)
        return not unpacked_sdist and not page.is_current()
