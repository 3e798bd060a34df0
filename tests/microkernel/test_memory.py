"""What the daemon keeps in memory stays bounded, and what was let go comes back from the log as it was."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import agentos_jupyter
from agentos_jupyter.microkernel import kernel, memory
from agentos_jupyter.microkernel.inprocess import Workspace


def _sessions(opened: Workspace, number: int) -> list[str]:
    return [opened.call("session.create", {"key": secrets.token_hex(8)})["id"] for _ in range(number)]


def test_idle_sessions_leave_memory_and_come_back(
    workspace: Path, configure: Callable[..., Path], script: Callable[..., str]
) -> None:
    configure(model=script([{"say": "Yes."}]))
    with agentos_jupyter.open(workspace) as opened:
        made = _sessions(opened, kernel.IDLE_SESSIONS + 10)
        info = opened.call("system.info", {})
        assert (info["sessions"], info["loaded"]) == (len(made), kernel.IDLE_SESSIONS)
        assert [opened.call("session.get", {"session": each})["id"] for each in made] == made
        assert opened.call("system.info", {})["loaded"] == kernel.IDLE_SESSIONS


def test_a_key_makes_one_session_however_many_came_after_it(workspace: Path) -> None:
    with agentos_jupyter.open(workspace) as opened:
        key = secrets.token_hex(8)
        first = opened.call("session.create", {"key": key})["id"]
        _sessions(opened, 20)
        assert opened.call("session.create", {"key": key})["id"] == first


def test_giving_back_lowers_what_is_resident_and_everything_goes_on(workspace: Path) -> None:
    with agentos_jupyter.open(workspace) as opened:
        _sessions(opened, 2)
        before = _resident()
        memory.give_back()
        assert _resident() < before - 10
        assert opened.call("system.info", {})["sessions"] == 2


def _resident() -> float:
    """Megabytes of this process."""
    [line] = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
