"""JupyterLab in a real Chromium, in the folder that `agentos demo --no-run` makes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from agentos_jupyter.cli.demo import NOTEBOOK, Made, notebooks, prepare

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def project(workspace: Path) -> Made:
    """What `agentos demo --no-run` makes."""
    made = prepare(workspace / "out")
    shutil.copy(notebooks() / NOTEBOOK, made.notebook)
    return made


@pytest.fixture
def lab(project: Made, tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab server in the project's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"ServerApp": {"token": "", "password": "", "open_browser": False, "allow_root": True}}
    settings["LabApp"] = {"news_url": None, "check_for_updates_class": "jupyterlab.NeverCheckForUpdate"}
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(settings))
    environ = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "AGENTOS_WORKSPACE": str(project.folder)}
    command = [sys.executable, "-m", "jupyterlab", "--port", str(port), "--ServerApp.port_retries=0"]
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=project.folder, env=environ, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", server, tmp_path / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1060, "height": 1000})
        browser.close()
