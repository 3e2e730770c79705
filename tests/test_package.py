"""What is shipped: the built page is in the wheel and the sdist, and the wheel works outside this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = {f"weightlab/jupyter/static/{name}" for name in ("widget.js", "extra.js", "widget.css")}

USE = """
import pathlib, torch, weightlab
from weightlab import jupyter
lab = weightlab.Lab(torch.nn.Linear(2, 2))
lab["bias"].zero_()
assert lab.undo() is not None
static = pathlib.Path(jupyter.__file__).parent / "static"
assert (static / "widget.js").stat().st_size > 1000
print(weightlab.__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist), the wheel made from the sdist, as installers do it."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        # No isolation: hatchling is among the development tools, and nothing is to be downloaded here.
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_built_page(built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert shipped >= PAGE
    assert {name.partition("/")[0] for name in shipped} == {"weightlab", wheel.name.rsplit("-py3", 1)[0] + ".dist-info"}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= PAGE | {"js/page.py", "js/hatch_build.py", "js/package-lock.json", "LICENSE"}
    assert not any("node_modules" in name for name in names)


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, _ = built
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    # pip of this environment installs into that one; torch and the others come from here, by path and not by copy.
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(site),
            str(wheel),
        ],
        check=True,
    )
    # Not the plain path: site would then run the .pth files of this environment too, and find the checkout.
    (site / "dependencies.pth").write_text(f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
