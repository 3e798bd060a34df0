"""Two versions in one workspace: a newer client takes an idle older daemon's place, and everybody else is told the cure."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import agentos_jupyter
from agentos_jupyter import __version__
from agentos_jupyter.rpc.sync import SyncLink
from tests.rpc.versions import CALL, HOLD, Other


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
