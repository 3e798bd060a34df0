"""The same notebook in every front end, and the habits of those that cannot be started here."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from .conftest import Notebook

Configure = Callable[..., Path]
Script = Callable[..., str]
Open = Callable[..., Notebook]

CELLS = {
    "prompt": "find the number",
    "command": "!echo from the $((2-1)) sandbox",
    "long": "!seq 100000",
    "error": "%nonsense",
}
MODEL = [
    {"when": "find the number", "say": "I look.", "calls": [{"bash": {"command": "echo $((6*7))"}}]},
    {"when": {"role": "tool", "match": "42"}, "say": "It is **42**."},
    {"when": "", "say": "ok"},
]


@pytest.fixture
def project(workspace: Path, configure: Configure, script: Script) -> Path:
    """A workspace with the notebook; its last cell fails, and may."""
    configure(model=script(MODEL))
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}
    made.cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    made.cells[-1].metadata.tags = ["raises-exception"]
    nbformat.write(made, workspace / "notebook.ipynb")
    return workspace


BATCH = {
    "jupyter execute": ["jupyter", "execute", "--output=executed", "notebook.ipynb"],
    "nbconvert": ["jupyter", "nbconvert", "--execute", "--to", "notebook", "--output", "executed", "notebook.ipynb"],
    "papermill": ["papermill", "-k", "agentos", "notebook.ipynb", "executed.ipynb"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BATCH))
def test_a_notebook_runs_in_batch(name: str, project: Path) -> None:
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(project)}
    done = subprocess.run(BATCH[name], cwd=project, env=environ, capture_output=True, text=True)
    assert (done.returncode == 0) == (name != "papermill"), done.stderr  # papermill minds every error
    _check(nbformat.read(project / "executed.ipynb", 4))


def test_a_notebook_runs_in_nbclient(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("AGENTOS_WORKSPACE", str(project))
    notebook = nbformat.read(project / "notebook.ipynb", 4)
    NotebookClient(notebook, resources={"metadata": {"path": str(project)}}).execute()
    _check(notebook)


def _check(notebook: Any) -> None:
    cells = {cell.source: cell for cell in notebook.cells if cell.source in CELLS.values()}
    prompt, command, long, error = (cells[source] for source in CELLS.values())
    result = next(output for output in prompt.outputs if output.output_type == "execute_result")
    assert "It is **42**." in result.data["text/markdown"]
    assert set(result.metadata["agentos"]) == {"session", "dispatch", "from", "to", "harness"}
    assert any("$ echo $((6*7))" in output.data["text/plain"] for output in prompt.outputs)
    assert any("from the 1 sandbox" in output.data["text/plain"] for output in command.outputs)
    shown = "\n".join(output.data["text/plain"] for output in long.outputs)
    assert "100000" in shown
    assert len(shown) < 20_000
    failed = [output for output in error.outputs if output.output_type == "error"]
    assert [output.ename for output in failed] == ["command.invalid"]
    assert nbformat.validate(notebook) is None


@pytest.mark.slow
def test_the_cells_run_in_a_console(project: Path) -> None:
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(project), "TERM": "dumb"}
    command = ["console", "--kernel", "agentos", "--simple-prompt"]
    console = pexpect.spawn("jupyter", command, env=environ, cwd=str(project), encoding="utf-8", timeout=30)
    try:
        for name, expected in {
            "prompt": "It is .*42",
            "command": "from the 1 sandbox",
            "long": "\n100000",
            "error": "command.invalid",
        }.items():
            console.expect(re.compile(r"In \[\d+\]: "))
            console.sendline(CELLS[name])
            console.expect(expected)
        console.expect(re.compile(r"In \[\d+\]: "))
        console.sendeof()
        console.expect([pexpect.EOF, r"\(y/\[n\]\)|exit"])
    finally:
        console.close(force=True)


# -- what VS Code does, and other front ends that cannot be started here


def test_silent_probes_between_cells_see_python_and_change_nothing(project: Path, notebook: Notebook) -> None:
    """VS Code asks for variables by silent Python with `user_expressions`, after every cell."""
    assert notebook.run("find the number").answer.startswith("It is")
    probe = (
        "import builtins as _vscode\ndef _vscode_names(): return sorted(k for k in globals() if not k.startswith('_'))"
    )
    asked = notebook.run(probe, silent=True, store_history=False, user_expressions={"names": "_vscode_names()"})
    assert "'aos'" in asked.reply["user_expressions"]["names"]["data"]["text/plain"]
    assert asked.messages == []
    assert notebook.run("%%python\n1").of("execute_result")[0]["execution_count"] == 2
    probe = notebook.run("x =", silent=True, user_expressions={})
    assert probe.reply["status"] == "error"
    assert notebook.run("find the number").answer.startswith("It is")


def test_expressions_of_a_cell_are_answered_with_it(project: Path, notebook: Notebook) -> None:
    cell = notebook.run("find the number", user_expressions={"last": "aos.last", "bad": "1 / 0"})
    expressions = cell.reply["user_expressions"]
    assert expressions["last"]["data"]["text/plain"] == "'It is **42**.'"
    assert expressions["bad"]["status"] == "error"


def test_an_execute_without_history_counts_nothing_and_runs(project: Path, notebook: Notebook) -> None:
    cell = notebook.run("find the number", store_history=False)
    assert cell.answer.startswith("It is")
    assert cell.reply["execution_count"] == 1
    assert notebook.run("%status").reply["execution_count"] == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [("find the number", "complete"), ("!ls", "complete"), ("%%bash", "incomplete"), ("%%agent\nx\n", "complete")],
)
def test_a_console_asks_whether_a_cell_is_complete(notebook: Notebook, code: str, status: str) -> None:
    assert notebook.reply(notebook.client.is_complete(code))["content"]["status"] == status


@pytest.mark.parametrize("how", ["message", "signal"])
def test_a_running_prompt_is_interrupted(how: str, configure: Configure, script: Script, notebook: Notebook) -> None:
    rules = [{"when": "run", "say": "", "calls": [{"bash": {"command": "echo be''gun; sleep 60"}}]}]
    configure(model=script([*rules, {"when": "", "say": "ok"}]))
    request = notebook.begin("run")
    notebook.wait_for(request, "begun")
    started = time.monotonic()
    if how == "message":
        notebook.client.control_channel.send(notebook.client.session.msg("interrupt_request", {}))
    else:
        notebook.manager.signal_kernel(2)
    assert notebook.end(request).error[0] == "Interrupted"
    assert time.monotonic() - started < 5


def test_a_kernel_restarted_under_its_client_answers_and_resumes(project: Path, notebook: Notebook) -> None:
    session = notebook.run("find the number").of("execute_result")[0]["metadata"]["agentos"]["session"]
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=30)
    assert notebook.run("%status").reply["execution_count"] == 1
    assert "Going on" in notebook.run(f"%session resume {session}").text
    assert notebook.run("find the number").answer.startswith("It is")


def test_two_clients_of_one_kernel_share_its_session(project: Path, notebook: Notebook) -> None:
    first = notebook.run("find the number").of("execute_result")[0]["metadata"]["agentos"]
    other = BlockingKernelClient(connection_file=notebook.manager.connection_file)  # as `--existing` does
    other.load_connection_file()
    other.start_channels()
    try:
        other.wait_for_ready(timeout=30)
        reply = other.execute("find the number", reply=True, timeout=30, user_expressions={"session": "aos.session"})
        said = reply["content"]["user_expressions"]["session"]["data"]["text/plain"]
        assert said == repr(first["session"])
        assert reply["content"]["execution_count"] == 2
    finally:
        other.stop_channels()
    assert notebook.run("%status").reply["execution_count"] == 3
