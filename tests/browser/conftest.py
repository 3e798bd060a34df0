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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
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
def write(project: Made) -> Callable[..., Path]:
    """Writes a notebook with these cells, and the rules its model follows."""

    def written(rules: list[dict[str, Any]], *cells: str) -> Path:
        (project.folder / "model.yaml").write_text(json.dumps({"rules": rules}))
        (project.folder / "agentos.yaml").write_text(json.dumps({"model": "scripted:model.yaml"}))
        spec = {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        path = project.folder / "written.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": spec}), path)
        return path

    return written


@pytest.fixture
def lab(project: Made, tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab server in the project's folder."""
    with serving("jupyterlab", project.folder, tmp_path) as address:
        yield address


@pytest.fixture
def classic(project: Made, tmp_path: Path) -> Iterator[str]:
    """The address of a server of Notebook 7."""
    with serving("notebook", project.folder, tmp_path) as address:
        yield address


@contextmanager
def serving(module: str, folder: Path, config: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"ServerApp": {"token": "", "password": "", "open_browser": False, "allow_root": True}}
    settings["LabApp"] = {"news_url": None, "check_for_updates_class": "jupyterlab.NeverCheckForUpdate"}
    (config / "jupyter_server_config.json").write_text(json.dumps(settings))
    environ = {**os.environ, "JUPYTER_CONFIG_DIR": str(config), "AGENTOS_WORKSPACE": str(folder)}
    command = [sys.executable, "-m", module, "--port", str(port), "--ServerApp.port_retries=0"]
    with open(config / "server.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api", server, config / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def set_theme(config: Path, theme: str) -> None:
    """Which theme (`JupyterLab Light`, `JupyterLab Dark`) a server with this configuration shows."""
    themes = config / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    themes.mkdir(parents=True)
    (themes / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))


def picture(page: Page, name: str) -> None:
    """A picture of what a person sees, where a folder for pictures is given."""
    if folder := os.environ.get("PYTEST_SCREENSHOTS"):
        page.add_style_tag(content=".Toastify, .jp-toastContainer { display: none }")
        page.screenshot(path=Path(folder) / f"{name}.png")


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
