"""`agentos steer` and `agentos attach`: a dispatch of a notebook, heard and seen from a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jupyter.conftest import Notebook

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agentos(workspace: Path) -> Run:
    def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        return subprocess.run(command, cwd=workspace, input=text, capture_output=True, text=True, timeout=50)

    return run


@pytest.fixture
def notebook(configure: Callable[..., Path], script: Callable[..., str], workspace: Path) -> Iterator[Notebook]:
    """A notebook whose agent works for as long as `go` does not exist, then asks for a further turn."""
    wait = "echo begun; until [ -e go ]; do sleep 0.05; done; echo gone"
    rules: list[dict[str, Any]] = [
        {"when": {"role": "user", "match": "^also (.+)"}, "say": "I do **{1}**, too."},
        {"when": {"role": "tool"}, "say": "Done."},
        {"calls": [{"bash": {"command": wait}}]},
    ]
    configure(model=script(rules))
    opened = Notebook(workspace, {**os.environ, "AGENTOS_WORKSPACE": str(workspace)})
    yield opened
    opened.close()


def _id(agentos: Run) -> str:
    found = re.search(r"d-\w+-\d+", agentos("runs").stdout)
    assert found is not None
    return found[0]


def test_a_terminal_steers_and_follows_a_dispatch(notebook: Notebook, agentos: Run, workspace: Path) -> None:
    request = notebook.begin("work")
    notebook.wait_for(request, "begun")
    dispatch = _id(agentos)
    following = subprocess.Popen(
        [sys.executable, "-u", "-m", "agentos_jupyter.cli", "attach", dispatch[:-2]],
        cwd=workspace,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = agentos("steer", dispatch, "-", text="also sweep\n")
    assert said.stdout == f"{dispatch} hears it before its next turn.\n", said.stderr
    (workspace / "go").touch()
    cell = notebook.end(request)
    assert "You: also sweep" in cell.text
    assert cell.answer.startswith("I do **sweep**, too.")
    shown, _ = following.communicate(timeout=20)
    assert following.returncode == 0
    assert [each in shown for each in ("work", "gone", "also sweep", "2 turns", "I do **sweep**, too.")] == [True] * 5
    again = agentos("attach", dispatch)
    assert "also sweep" in again.stdout
    late = agentos("steer", dispatch, "hello", "again")
    assert (late.returncode, "write it as a prompt" in late.stderr) == (1, True)


def test_what_was_lost_is_continued_not_steered(notebook: Notebook, agentos: Run) -> None:
    request = notebook.begin("work")
    notebook.wait_for(request, "begun")
    dispatch = _id(agentos)
    os.kill(notebook.manager.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
    deadline = time.monotonic() + 20
    while "lost" not in agentos("runs").stdout and time.monotonic() < deadline:
        time.sleep(0.2)
    refused = agentos("steer", dispatch, "hello")
    assert refused.returncode == 1
    assert f"%dispatch run {dispatch}" in refused.stderr


def test_nothing_to_say_and_nobody_to_hear_are_said(notebook: Notebook, agentos: Run) -> None:
    assert "nothing to say" in agentos("steer", "d-x", "-", text=" \n").stderr
    unknown = agentos("steer", "d-x", "hello")
    assert (unknown.returncode, "`%runs` lists" in unknown.stderr) == (1, True)
    assert agentos("attach", "d-x").returncode == 1
