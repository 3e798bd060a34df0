"""A damaged log, from the cell that says so to the notebook that goes on: real daemon, terminal and notebook kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.rpc.sync import SyncLink
from tests.jupyter.conftest import Notebook
from tests.log.damages import DAMAGES

Agentos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agentos(workspace: Path) -> Agentos:
    """Runs one verb in the workspace."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        return subprocess.run(command, cwd=workspace, capture_output=True, text=True, timeout=50)

    return run


@pytest.fixture
def notebook(
    open_notebook: Callable[..., Notebook], configure: Callable[..., Path], script: Callable[..., str]
) -> Notebook:
    # With its end a dispatch loses its mark of being over: it is kept for its unit, here for a second.
    configure(model=script([{"when": {"match": "say (.+)"}, "say": "{1}"}]), limits={"lease": "1s"})
    return open_notebook()


def kill_daemon(workspace: Path) -> None:
    """Kill -9, and wait until the kernel has let go of its lock."""
    pid = int(json.loads((workspace / ".agentos" / "lock").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]:
        time.sleep(0.01)


def spoken(workspace: Path) -> list[str]:
    """Every answer that the log holds, in order."""
    with SyncLink(workspace) as link:
        rows = link.call(
            "sql.query", {"sql": "select text from history where type = 'assistant.message' order by position"}
        )
    return [row[0] for row in rows["rows"]]


@pytest.mark.parametrize(
    "damage", ["wal cut in half", "wal with zeroed tail", "wal with a flipped byte", "wal removed"]
)
def test_a_damaged_log_is_said_salvaged_and_gone_on_with(
    notebook: Notebook, workspace: Path, agentos: Agentos, damage: str
) -> None:
    told = [f"word-{number}-{'x' * 5000}" for number in range(8)]
    for word in told:
        assert notebook.run(f"say {word}").answer.startswith(word)
    kill_daemon(workspace)
    DAMAGES[damage](workspace / ".agentos")

    name, sentence = notebook.run("say more").error
    assert name == "log.damaged" and "`agentos salvage`" in sentence and "damaged-1" in sentence
    checked = agentos("salvage", "--check")
    assert checked.returncode == 1 and "are lost" in checked.stdout and "Nothing was changed" in checked.stdout
    assert notebook.run("say more").error[0] == "log.damaged"

    done = agentos("salvage")
    assert done.returncode == 0 and "are lost" in done.stdout and "damaged-1" in done.stdout, done.stderr
    kept = spoken(workspace)
    assert kept == told[: len(kept)]
    assert bool(kept) == (damage != "wal removed")
    again = notebook.run("say again")
    if again.reply["status"] == "error" and again.error[0] == "session.busy":
        time.sleep(1.2)
        again = notebook.run("say again")
    if not kept or again.reply["status"] == "error":  # this notebook's session is among what was lost
        assert again.error[0] == "session.not_found" and "salvage" in again.error[1]
        assert notebook.run("%session new").reply["status"] == "ok"
        again = notebook.run("say again")
    assert again.answer.startswith("again")
    status = notebook.run("%status").text
    assert "salvaged" in status and "are lost" in status and "damaged-1" in status
    assert "are lost" in agentos("status").stdout
    assert "are lost" in agentos("doctor").stdout


def test_a_database_that_is_gone_is_left_for_a_backup(notebook: Notebook, workspace: Path, agentos: Agentos) -> None:
    assert notebook.run("say hello").answer.startswith("hello")
    kill_daemon(workspace)
    DAMAGES["database removed"](workspace / ".agentos")
    name, sentence = notebook.run("say more").error
    assert name == "log.damaged" and "`agentos restore`" in sentence
    done = agentos("salvage")
    assert done.returncode == 1 and "there is nothing to salvage" in done.stderr and "`agentos restore`" in done.stderr


def test_a_log_that_is_whole_is_only_verified(notebook: Notebook, agentos: Agentos) -> None:
    assert notebook.run("say hello").answer.startswith("hello")
    busy = agentos("salvage")
    assert busy.returncode == 1 and "`agentos stop`" in busy.stderr
    agentos("stop")
    done = agentos("salvage")
    assert done.returncode == 0 and done.stdout.startswith("The log is whole: ")
    assert notebook.run("say again").answer.startswith("again")


def test_a_workspace_without_a_log_has_nothing_to_salvage(workspace: Path, agentos: Agentos) -> None:
    done = agentos("salvage")
    assert done.returncode == 1 and "no log yet" in done.stderr
    assert not (workspace / ".agentos").exists()
