"""A JupyterLab of its own for tests and screenshots: own settings, own port, nothing that asks the network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


class JupyterServer:
    """JupyterLab serving `root / "notebooks"`; a context manager.

    Args:
        root: a folder for its settings, data, log and notebooks.
        comms_over_subshells: JupyterLab's setting of that name; None leaves its default.
    """

    def __init__(self, root: Path, comms_over_subshells: str | None = None) -> None:
        self.notebooks = root / "notebooks"
        self.log = root / "jupyter.log"
        config = root / "config"
        self.notebooks.mkdir(parents=True)
        settings: dict[str, dict[str, object]] = {
            "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
            "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
            # Every cell in the page at once, so that a test finds what it looks for.
            "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
        }
        if comms_over_subshells is not None:
            kernels = "@jupyterlab/apputils-extension:kernels-settings"
            settings[kernels] = {"commsOverSubshells": comms_over_subshells}
        (config / "labconfig").mkdir(parents=True)
        (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(settings))

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--allow-root",
            "--no-browser",
            "--expose-app-in-browser",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=",
            "--ServerApp.disable_check_xsrf=True",
            "--LabApp.news_url=None",
            f"--ServerApp.root_dir={self.notebooks}",
        ]
        folders = {
            "JUPYTER_CONFIG_DIR": config,
            "JUPYTER_DATA_DIR": root / "data",
            "JUPYTER_RUNTIME_DIR": root / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": root / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": root / "workspaces",
            "IPYTHONDIR": root / "ipython",
        }
        environment = {**os.environ, **{key: str(path) for key, path in folders.items()}}
        # The checkout under test, wherever the kernel starts.
        checkout = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> JupyterServer:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status", timeout=2):
                    return self
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()[-4000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
