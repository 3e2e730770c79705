"""Finds a Chromium for the browser tests, and installs one where there is none.

`python -m tests.browser.chromium` installs and prints the path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Software WebGL, no shared memory, no root sandbox, and nothing that asks the network by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def find() -> str | None:
    """Path of a Chromium: $CHROMIUM, the machine's, or playwright's own."""
    chosen = os.environ.get("CHROMIUM")
    if chosen:
        return chosen
    for name in NAMES:
        path = shutil.which(name)
        if path and _works(path, "--version"):  # some systems have a chromium that only says where to get one
            return path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> str:
    """Install Chromium: the system's package where we may, else playwright's build.

    Raises:
        SystemExit: neither worked.
    """
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = not rights or _works("sudo", "-n", "true")
    if may and shutil.which("apt-get"):
        print("Installing Chromium with apt ...", flush=True)
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(
                [*rights, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *arguments],
                stdout=subprocess.DEVNULL,
                check=False,
            )
    if find() is None:
        print("Installing playwright's Chromium ...", flush=True)
        with_system_libraries = ["--with-deps"] if may else []
        subprocess.run([sys.executable, "-m", "playwright", "install", *with_system_libraries, "chromium"], check=False)
    found = find()
    if found is None:
        raise SystemExit("No Chromium for the browser tests. Install one and set CHROMIUM to its path.")
    return found


if __name__ == "__main__":
    print(f"Browser tests use {find() or install()}")
