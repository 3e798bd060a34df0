"""A workspace, a folder for its backups, and the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where backups go."""
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder


@pytest.fixture
def agentos(workspace: Path, tmp_path: Path) -> Run:
    """Runs `agentos …` in the workspace, with a configuration folder of the test's own."""

    def run(*arguments: str, cwd: Path = workspace, text: str | None = None, **environ: str) -> Any:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), **environ}
        return subprocess.run(command, cwd=cwd, env=environment, input=text, capture_output=True, text=True, timeout=50)

    return run
