"""`agentos VERB` as a person runs it: a process in a workspace, with a real daemon."""

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

from agentos_jupyter import __version__
from agentos_jupyter.cli.main import VERBS

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agentos(workspace: Path) -> Run:
    """Runs one verb in the workspace."""

    def run(
        *arguments: str, cwd: Path = workspace, text: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        return subprocess.run(
            command, cwd=cwd, env={**os.environ, **environ}, input=text, capture_output=True, text=True, timeout=50
        )

    return run


def test_version(agentos: Run) -> None:
    for spelling in ("version", "--version"):
        assert agentos(spelling).stdout == f"agentos {__version__}\n"


def test_help_names_every_verb(agentos: Run) -> None:
    shown = agentos().stdout
    assert [verb for verb in VERBS if f"  {verb}" not in shown] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(agentos: Run, verb: str) -> None:
    done = agentos(verb, "--help")
    assert done.returncode == 0
    assert f"usage: agentos {verb}" in done.stdout


def test_an_unknown_verb_is_answered_with_the_nearest_one(agentos: Run) -> None:
    done = agentos("statsu")
    assert done.returncode == 2
    assert "did you mean 'status'?" in done.stderr


def test_wrong_usage_is_2(agentos: Run) -> None:
    assert agentos("sql").returncode == 2
    assert agentos("status", "--nonsense").returncode == 2


def test_start_status_stop(agentos: Run, workspace: Path) -> None:
    before = agentos("status")
    assert (before.returncode, "not running" in before.stdout) == (3, True)

    started = agentos("start")
    assert started.returncode == 0, started.stderr
    assert f"runs for {workspace}" in started.stdout
    assert "already runs" in agentos("start").stdout

    facts = json.loads(agentos("status", "--json").stdout)
    assert facts["workspace"] == str(workspace)
    assert facts["daemon"]["version"] == __version__
    assert facts["storage"]["log"] > 0
    shown = agentos("status")
    assert shown.returncode == 0
    assert f"pid {facts['daemon']['pid']}" in shown.stdout
    assert "(scripted)" in shown.stdout

    assert "has stopped" in agentos("stop").stdout
    again = agentos("stop")
    assert (again.returncode, "No daemon runs" in again.stdout) == (0, True)
    assert agentos("status").returncode == 3


def test_the_same_daemon_is_found_from_a_folder_below_and_by_name(agentos: Run, workspace: Path) -> None:
    agentos("start")
    below = workspace / "a" / "b"
    below.mkdir(parents=True)
    pid = json.loads(agentos("status", "--json").stdout)["daemon"]["pid"]
    assert json.loads(agentos("status", "--json", cwd=below).stdout)["daemon"]["pid"] == pid
    assert json.loads(agentos("-C", str(workspace), "status", "--json", cwd=Path("/")).stdout)["daemon"]["pid"] == pid


@pytest.mark.parametrize("folder", ["home", "/", "missing"])
def test_a_folder_that_cannot_be_a_workspace_is_one_sentence(agentos: Run, folder: str) -> None:
    place = {"home": os.environ["HOME"]}.get(folder, folder)
    done = agentos("-C", place, "status")
    assert done.returncode == 1
    assert done.stderr.startswith("agentos: ")
    assert done.stderr.count("\n") == 1


def test_sql_answers_with_a_table_or_with_json(agentos: Run) -> None:
    shown = agentos("sql", "select 41 + 1 as answer, 'é' as text")
    assert shown.stdout.splitlines() == ["answer  text", "──────  ────", "    42  é"]
    assert json.loads(agentos("sql", "--json", "-", text="select 42 as answer").stdout) == {"answer": 42}


def test_sql_that_would_write_is_refused(agentos: Run) -> None:
    done = agentos("sql", "delete from events")
    assert done.returncode == 1
    assert done.stderr.startswith("agentos: ")


def test_what_is_wrong_in_sql_is_marked_beneath_it(agentos: Run) -> None:
    done = agentos("sql", "select * fro events")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == ["LINE 1: select * fro events", " " * 21 + "^" * 6]


def test_runs_of_a_new_workspace(agentos: Run) -> None:
    assert "No dispatch yet" in agentos("runs").stdout
    assert agentos("runs", "--json").stdout == ""


def test_doctor_is_content_and_leaves_things_as_they_were(agentos: Run) -> None:
    done = agentos("doctor")
    assert done.returncode == 0, done.stdout
    assert [line[2:].split()[0] for line in done.stdout.splitlines() if line.startswith(("✓", "✗", "!"))] == [
        "python", "sandbox", "keys", "disk", "backup", "daemon", "log", "services", "model", "kernel",
    ]  # fmt: skip
    assert agentos("status").returncode == 3


def test_doctor_keeps_a_daemon_that_was_there(agentos: Run) -> None:
    agentos("start")
    report = json.loads(agentos("doctor", "--json").stdout)
    assert report["ok"]
    assert agentos("status").returncode == 0


def test_doctor_names_the_missing_key(agentos: Run) -> None:
    report = json.loads(agentos("doctor", "--json", AGENTOS_MODEL="openai/gpt-5.2").stdout)
    [model] = [check for check in report["checks"] if check["name"] == "model"]
    assert report["ok"]
    assert not model["ok"]
    assert "OPENAI_API_KEY" in model["found"] + model["cure"]


def test_doctor_fails_where_the_daemon_cannot_start(agentos: Run, workspace: Path) -> None:
    (workspace / "agentos.yaml").write_text("model: [\n")
    done = agentos("doctor")
    assert done.returncode == 1
    assert "agentos.yaml:" in done.stdout
    assert "daemon.log" not in done.stdout, "the sentence has the cure"


def test_a_reader_that_goes_away_is_no_traceback(workspace: Path) -> None:
    command = f"{sys.executable} -m agentos_jupyter.cli sql 'select range from range(9000)' | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=workspace, capture_output=True, text=True, timeout=50)
    assert "Traceback" not in done.stderr


def test_an_interrupt_ends_without_a_traceback(workspace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agentos_jupyter.cli", "sql", "-"],
        cwd=workspace,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_session_that_does_not_exist_cannot_be_recorded(agentos: Run, workspace: Path) -> None:
    done = agentos("record", "nobody", "-o", "x.jsonl")
    assert (done.returncode, "No session 'nobody'" in done.stderr) == (1, True)
    assert not list(workspace.glob("*x.jsonl*"))
