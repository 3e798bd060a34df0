"""Two versions in one workspace: a newer client takes an idle older daemon's place, and everybody else is told the cure."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import agentos_jupyter
from agentos_jupyter import __version__
from agentos_jupyter.rpc.sync import SyncLink

PACKAGE = Path(agentos_jupyter.__file__).parent
CALL = """
import sys, json
from agentos_jupyter.rpc.sync import SyncLink
from agentos_jupyter.errors import AgentOSError
try:
    with SyncLink() as link:
        print(json.dumps(link.call("system.info")))
except AgentOSError as error:
    print(json.dumps({"error": error.message}))
"""
HOLD = """
import asyncio, secrets, sys
from pathlib import Path
from agentos_jupyter.rpc.link import Link
async def main():
    link = await Link.open(Path(sys.argv[1]))
    session = (await link.call("session.create", {"key": secrets.token_hex(8)}))["id"]
    await link.call("dispatch.begin", {"session": session, "prompt": "work", "key": secrets.token_hex(8)})
    print("held", flush=True)
    await asyncio.sleep(30)
asyncio.run(main())
"""

Other = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def other(tmp_path: Path, workspace: Path) -> Other:
    """Runs Python with the package as another version: the same code, which says that it is older or newer."""

    def run(code: str, version: str, protocol: int | None = None) -> subprocess.Popen[str]:
        folder = tmp_path / version
        if not folder.exists():
            shutil.copytree(PACKAGE, folder / "agentos_jupyter", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copytree(PACKAGE.parent / "skills", folder / "skills")
            start = folder / "agentos_jupyter" / "__init__.py"
            start.write_text(start.read_text().replace(f'"{__version__}"', f'"{version}"'))
            if protocol is not None:
                wire = folder / "agentos_jupyter" / "rpc" / "wire.py"
                wire.write_text(
                    re.sub(r"^PROTOCOL = \d+", f"PROTOCOL = {protocol}", wire.read_text(), flags=re.MULTILINE)
                )
        environ = {**os.environ, "PYTHONPATH": str(folder), "AGENTOS_WORKSPACE": str(workspace)}
        return subprocess.Popen(
            [sys.executable, "-c", code, str(workspace)], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )

    return run


def said(process: subprocess.Popen[str]) -> dict[str, str]:
    output, _ = process.communicate(timeout=30)
    return json.loads(output)  # type: ignore[no-any-return]


@pytest.mark.parametrize("protocol", [None, 99])
def test_a_newer_client_takes_the_place_of_an_idle_older_daemon(
    other: Other, workspace: Path, protocol: int | None
) -> None:
    older = said(other(CALL, "0.0.1", protocol))
    assert older["version"] == "0.0.1"
    with SyncLink(workspace) as link:
        info = link.call("system.info")
    assert (info["version"], info["pid"] != older["pid"]) == (__version__, True)


def test_an_older_daemon_at_work_goes_on_serving(other: Other, workspace: Path) -> None:
    holding = other(HOLD, "0.0.1")
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    try:
        with SyncLink(workspace) as link:
            assert link.info["version"] == "0.0.1"
    finally:
        holding.kill()
        holding.communicate()


def test_an_older_daemon_at_work_with_another_protocol_is_one_sentence(other: Other, workspace: Path) -> None:
    holding = other(HOLD, "0.0.1", 99)
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            agentos_jupyter.errors.VersionMismatch, match=r"AgentOS 0\.0\.1 \(protocol 99\).*it is at work"
        ):
            SyncLink(workspace)
    finally:
        holding.kill()
        holding.communicate()
        stop = "from agentos_jupyter.cli.main import main; main(['stop'])"
        other(stop, "0.0.1").communicate(timeout=30)


def test_an_older_client_leaves_a_newer_daemon_alone(other: Other, workspace: Path) -> None:
    newer = said(other(CALL, "99.0.0"))
    with SyncLink(workspace) as link:
        assert link.info["version"] == newer["version"] == "99.0.0"


def test_an_older_client_of_another_protocol_is_told_what_to_install(other: Other, workspace: Path) -> None:
    said(other(CALL, "99.0.0", 99))
    with pytest.raises(agentos_jupyter.errors.VersionMismatch, match="install that version here"):
        SyncLink(workspace)
    stop = "from agentos_jupyter.cli.main import main; main(['stop'])"
    other(stop, "99.0.0").communicate(timeout=30)
