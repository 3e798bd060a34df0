"""Operating the system from the terminal: keys, live checks, the log, several workspaces, uninstalling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.common import server

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agentos(workspace: Path, tmp_path: Path) -> Run:
    def run(*arguments: str, cwd: Path = workspace, text: str | None = None, **environ: str) -> Any:
        command = [sys.executable, "-m", "agentos_jupyter.cli", *arguments]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), **environ}
        return subprocess.run(command, cwd=cwd, env=environment, input=text, capture_output=True, text=True, timeout=50)

    return run


def test_init_writes_a_file_once_and_every_line_of_it_is_valid(agentos: Run, workspace: Path) -> None:
    assert agentos("init").returncode == 0
    text = (workspace / "agentos.yaml").read_text()
    assert agentos("doctor", "--json").returncode == 0
    second = agentos("init")
    assert second.returncode == 1
    assert "stays as it is" in second.stderr
    lines = [
        line[1:] if line.startswith("#") and (line[1:2].islower() or line[1:3] == "  ") else line
        for line in text.splitlines()
    ]
    (workspace / "agentos.yaml").write_text("\n".join(lines))
    done = agentos("doctor", "--json", AGENTOS_TRUST="1")
    assert done.returncode == 0, done.stdout


def test_a_key_is_kept_listed_used_and_forgotten_and_never_shown(agentos: Run, workspace: Path) -> None:
    secret = "sk-or-v1-" + "0123456789abcdef" * 2
    assert agentos("key", "list").stdout.startswith("No key is known")
    done = agentos("key", "set", "openrouter", text=secret + "\n")
    assert done.returncode == 0, done.stderr
    listed = agentos("key", "list").stdout
    assert "OPENROUTER_API_KEY" in listed and "…cdef" in listed
    assert secret not in done.stdout + done.stderr + listed
    assert "openrouter/auto" in agentos("doctor").stdout
    assert agentos("key", "remove", "openrouter").returncode == 0
    gone = agentos("key", "remove", "openrouter")
    assert gone.returncode == 1 and "is not kept" in gone.stderr
    assert "needs a provider" in agentos("key", "set").stderr


def test_a_running_daemon_learns_a_key_with_the_next_question(agentos: Run, workspace: Path) -> None:
    agentos("start")
    agentos("key", "set", "openrouter", text="sk-or-v1-0123456789abcdef0123456789\n")
    with server() as asked:
        (workspace / "agentos.yaml").write_text("model: openai/x\n")
        agentos("key", "set", "OPENAI_API_KEY", text="sk-test-0123456789abcdef0123456789\n")
        done = agentos("doctor", "--live", OPENAI_BASE_URL=asked.base_url("live", 1))
    assert "openai/x answered in" in done.stdout, done.stdout


def test_a_provider_that_does_not_answer_is_one_sentence(agentos: Run) -> None:
    done = agentos("key", "test", "ollama", OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "nothing answers at 127.0.0.1:9" in done.stdout


def test_the_doctor_goes_on_in_a_folder_that_is_no_workspace(agentos: Run) -> None:
    done = agentos("doctor", cwd=Path("/"), AGENTOS_WORKSPACE="/")
    assert done.returncode == 1
    assert "cannot be a workspace" in done.stdout
    assert "kernel" in done.stdout and "sandbox" in done.stdout


def test_every_daemon_of_mine_is_listed(agentos: Run, workspace: Path) -> None:
    other = workspace / "other"
    other.mkdir()
    agentos("start")
    agentos("start", AGENTOS_WORKSPACE=str(other))
    found = {each["workspace"] for each in json.loads(agentos("status", "--all", "--json").stdout)}
    assert {str(workspace), str(other)} <= found
    assert str(other) in agentos("status", "--all").stdout
    agentos("stop", AGENTOS_WORKSPACE=str(other))


def test_the_log_is_shown_for_people_and_for_programs(agentos: Run, workspace: Path) -> None:
    _session(workspace, "a \x1b[31mred\x1b[0m name")
    done = agentos("log")
    assert "session.created" in done.stdout and "\x1b" not in done.stdout
    [event] = [json.loads(line) for line in agentos("log", "--json", "-n", "1").stdout.splitlines()]
    assert event["type"] == "session.created"
    assert agentos("log", "--type", "tool.call").stdout == ""
    assert "no id or type" in agentos("log", "--type", "x' or 1=1").stderr
    assert "ready: workspace" in agentos("log", "--daemon").stdout
    lines = (workspace / ".agentos" / "daemon.log").read_text().splitlines()
    assert {"time", "level", "logger", "pid", "message"} <= set(json.loads(lines[0]))


def _session(workspace: Path, name: str) -> None:
    """A session made by a process of its own, as a notebook would."""
    code = """
import secrets, sys, agentos_jupyter
link = agentos_jupyter.connect(sys.argv[1])
link.client.session.create(key=secrets.token_hex(8), name=sys.argv[2])
link.close()
"""
    subprocess.run([sys.executable, "-c", code, str(workspace), name], check=True)


@pytest.fixture
def following(workspace: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "agentos_jupyter.cli", "log", "--follow", "-n", "0", "--json"]
    process = subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, text=True)
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)


def test_a_follower_misses_and_repeats_nothing_and_revives_nobody(
    agentos: Run, workspace: Path, following: subprocess.Popen[str]
) -> None:
    assert following.stdout is not None
    time.sleep(1.5)
    names = [f"n{number}" for number in range(6)]
    for number, name in enumerate(names):
        _session(workspace, name)
        if number == 1:
            os.kill(int(json.loads((workspace / ".agentos" / "lock").read_text())["pid"]), signal.SIGKILL)
        if number == 3:
            agentos("stop")
            time.sleep(1)
            assert agentos("status").returncode == 3
    heard = [json.loads(following.stdout.readline())["data"]["name"] for _ in names]
    assert heard == names


def test_uninstalling_says_what_goes_and_leaves_the_history(agentos: Run, workspace: Path, tmp_path: Path) -> None:
    runtime = workspace / "r"
    runtime.mkdir(mode=0o700)
    mine = {"XDG_RUNTIME_DIR": str(runtime)}
    agentos("key", "set", "openrouter", text="sk-or-v1-0123456789abcdef0123456789\n")
    agentos("start", **mine)
    asked = agentos("uninstall", text="", **mine)
    assert asked.returncode == 1 and "--yes" in asked.stderr
    assert "keys.env" in asked.stdout
    done = agentos("uninstall", "--yes", **mine)
    assert done.returncode == 0, done.stderr
    assert "pip uninstall agentos-jupyter" in done.stdout
    assert agentos("status", **mine).returncode == 3
    assert not (tmp_path / "agentos").exists()
    assert (workspace / ".agentos" / "log.duckdb").exists()
