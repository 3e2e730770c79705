"""Who may import whom, and what the library never does (docs/design.md, sections 2 and 5)."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "weightlab").rglob("*.py"))

NO_TENSORS = {"evidence.data"}  # fields that happen to have the name

WITHOUT_JUPYTER = """
import sys

class Blocked:
    names = {"anywidget", "ipywidgets", "traitlets", "IPython", "ipykernel", "jupyter_client", "comm", "matplotlib"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())

import torch
import weightlab

model = torch.nn.Linear(3, 2)
before = model.weight.detach().numpy().tobytes()
lab = weightlab.Lab(model)
lab["weight"][1].zero_()
assert model.weight[1].tolist() == [0, 0, 0]
assert model.weight.detach().numpy().tobytes() != before
lab.undo()
assert model.weight.detach().numpy().tobytes() == before
print("edited and undone")
"""


def test_the_layers_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_library_edits_and_undoes_without_jupyter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JUPYTER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "edited and undone\n", done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_tensor_data_and_nothing_evaluated(path: Path) -> None:
    """J4: `.data` goes around autograd's version counter. P2: nothing from the wire is evaluated or unpickled."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "data" and ast.unparse(node) not in NO_TENSORS:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"eval", "exec", "compile", "__import__"}:
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}(...)")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"line {node.lineno}: imports {name}"
                for name in names
                if name in {"pickle", "marshal", "shelve", "dill"}
            ]
    assert found == []


def test_jupyter_packages_are_imported_in_one_folder() -> None:
    """import-linter's contract, once more by reading: it cannot see an import inside a string of code or a lazy one."""
    jupyter = {"anywidget", "ipywidgets", "traitlets", "IPython", "ipykernel", "comm"}
    found = []
    for path in SOURCES:
        if (ROOT / "weightlab" / "jupyter") in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}:{node.lineno} {name}" for name in names if name.partition(".")[0] in jupyter]
    assert found == []
