"""What every test stands on: an environment of its own, a workspace with a short path, and no daemon left behind.

Unix socket paths are short, so workspaces lie in a short temporary folder and not in pytest's own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

KEPT = {"PATH", "LANG", "LC_ALL", "TZ", "TERM", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "REQUESTS_CA_BUNDLE"}
KEPT_PREFIXES = ("PYTEST", "PYTHON", "COV", "PIP_", "SSL_", "PLAYWRIGHT", "HTTP", "http", "NO_PROXY", "no_proxy")


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """The folder in which everything of this test process lies; a daemon left in it at the end is an error."""
    folder = Path(tempfile.mkdtemp(prefix="aos-"))
    yield folder
    left = _end_daemons(folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"a daemon was left behind in {', '.join(left)}"


@pytest.fixture(scope="session", autouse=True)
def environment(base: Path) -> Iterator[None]:
    """A home, configuration and runtime folder of the tests' own, and none of the person's settings or keys."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name not in KEPT and not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    for name, folder in {"HOME": "h", "XDG_CONFIG_HOME": "c", "XDG_RUNTIME_DIR": "r"}.items():
        (base / folder).mkdir(mode=0o700)
        os.environ[name] = str(base / folder)
    # `make test` does not activate the environment; programs such as `jupyter` are meant to be its own.
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def workspace(base: Path) -> Iterator[Path]:
    """An empty workspace; the daemon a test started in it, or beneath it, is stopped at the test's end."""
    folder = Path(tempfile.mkdtemp(prefix="w", dir=base))
    yield folder
    left = _end_daemons(folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"a daemon did not stop when it was told to, and was killed: {', '.join(left)}"


@pytest.fixture
def configure(workspace: Path) -> Callable[..., Path]:
    """Writes `agentos.yaml` of the workspace: `configure(model="scripted:model.yaml")`."""

    def write(**settings: Any) -> Path:
        path = workspace / "agentos.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return path

    return write


@pytest.fixture
def script(workspace: Path) -> Callable[..., str]:
    """Writes rules for the scripted model and returns its name: `script([{"when": "…", "text": "…"}])`."""

    def write(rules: list[dict[str, Any]], name: str = "model.yaml") -> str:
        path = workspace / name
        path.write_text(yaml.safe_dump({"rules": rules}, sort_keys=False))
        return f"scripted:{path}"

    return write


def _end_daemons(folder: Path) -> list[str]:
    """Tell every daemon beneath `folder` to stop; returns the workspaces whose daemon had to be killed."""
    locks = list(folder.rglob(".agentos/lock"))
    if not locks:
        return []

    from agentos_jupyter.cli.stop import stop
    from agentos_jupyter.errors import AgentOSError

    killed = []
    for lock in locks:
        workspace = lock.parent.parent
        try:
            stop(workspace)
        except AgentOSError:
            _kill(lock)
            killed.append(str(workspace))
    return killed


def _kill(lock: Path) -> None:
    """End the process that the lock names, if the lock is held: otherwise the name is of one long gone."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.kill(int(json.load(file)["pid"]), signal.SIGKILL)
