"""Whole notebooks and terminals: papermill, nbclient, nbconvert and the console, as people start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pexpect
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

Configure = Callable[..., Path]
Script = Callable[..., str]
PROMPT = "count the words in {{file}}"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def agent(configure: Configure, script: Script, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace with a text and an agent that counts its words."""
    configure(
        model=script(
            [
                {
                    "when": r"count the words in (?P<file>\S+)",
                    "say": "I count.",
                    "calls": [{"bash": {"command": "wc -w {file!q}"}}],
                },
                {"when": r"^(?P<n>\d+) ", "say": "There are **{n}** words."},
                {"when": "wait", "calls": [{"bash": {"command": "sleep 60"}}]},
                {"when": "", "say": "I do not know."},
            ]
        )
    )
    (workspace / "text.txt").write_text("one two three\n")
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("AGENTOS_WORKSPACE", str(workspace))


def _write(path: Path, *cells: str | Any) -> Path:
    spec = {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}
    made = [cell if not isinstance(cell, str) else new_code_cell(cell) for cell in cells]
    notebook = new_notebook(
        cells=made, metadata={"kernelspec": spec, "language_info": {"name": "agentos", "file_extension": ".aos"}}
    )
    nbformat.write(notebook, path)
    return path


def _defaults(text: str) -> Any:
    return new_code_cell(text, metadata={"tags": ["parameters"]})


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)


def test_papermill_injects_parameters_and_runs(workspace: Path) -> None:
    source = _write(workspace / "in.ipynb", _defaults("%%parameters\nfile: nothing.txt"), PROMPT, "%%python\naos.last")
    done = _run("papermill", "-p", "file", "text.txt", str(source), str(workspace / "out.ipynb"))
    assert done.returncode == 0, done.stderr
    assert "Executing" in done.stderr
    nb = nbformat.read(workspace / "out.ipynb", as_version=4)
    nbformat.validate(nb)
    assert nb.cells[1].source == "%%parameters\n# Parameters\nfile: text.txt\n"
    assert [cell.execution_count for cell in nb.cells] == [1, 2, 3, 4]
    answer = nb.cells[2].outputs[-1]
    assert answer.output_type == "execute_result"
    assert answer.data["text/markdown"].startswith("There are **3** words.")
    assert "scripted model" in answer.data["text/plain"]
    assert answer.metadata["agentos"]["dispatch"]
    shown = [output.data["text/plain"] for output in nb.cells[2].outputs[:-1]]
    assert shown[0] == "I count."
    assert shown[1].startswith("$ wc -w text.txt")
    assert "3 text.txt" in shown[1]
    log = _run("agentos_jupyter.cli", "sql", "--json", "select data from events where type = 'dispatch.started'")
    started = json.loads(json.loads(log.stdout.splitlines()[-1])["data"])
    assert started["prompt"] == "count the words in text.txt"
    assert started["client"]["batch"] is True


def test_papermill_without_defaults_by_kernel_name_and_by_api(workspace: Path) -> None:
    source = _write(workspace / "in.ipynb", PROMPT)
    nb = papermill.execute_notebook(
        str(source),
        str(workspace / "out.ipynb"),
        {"file": "text.txt", "list": [1, None, "yes"]},
        kernel_name="agentos",
        progress_bar=False,
    )
    assert "list: [1, null, 'yes']" in nb.cells[0].source
    assert nb.cells[1].outputs[-1].data["text/plain"].startswith("There are **3** words.")


def test_papermill_lists_parameters(workspace: Path) -> None:
    source = _write(workspace / "in.ipynb", _defaults("%%parameters\nfile: text.txt  # what to count\nn: 3"), PROMPT)
    done = _run("papermill", "--help-notebook", str(source))
    assert "file: str (default text.txt)" in done.stdout
    assert "what to count" in done.stdout
    assert "n: int (default 3)" in done.stdout


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("count {{nothing}}", "command.invalid: no variable named 'nothing'"),
        ("%%python\n1 / 0", "ZeroDivisionError"),
        ("%nonsense", "no command named 'nonsense'"),
        ("%%bash\nexit 4", "exit code 4"),
    ],
)
def test_an_error_fails_the_papermill_run_with_a_readable_traceback(workspace: Path, cell: str, says: str) -> None:
    source = _write(workspace / "in.ipynb", cell, "%%python\nopen('after', 'w')")
    done = _run("papermill", str(source), str(workspace / "out.ipynb"))
    assert done.returncode == 1
    assert says in done.stderr
    assert not (workspace / "after").exists()
    with pytest.raises(PapermillExecutionError, match=r"Exception encountered at \"In \[1\]\""):
        papermill.execute_notebook(str(source), None, progress_bar=False)


def test_widget_state_is_not_stored_by_papermill(workspace: Path) -> None:
    pytest.importorskip("ipywidgets")
    cell = "%%python\nfrom ipywidgets import IntSlider\nIntSlider(3)"
    source = _write(workspace / "in.ipynb", cell)
    nb = papermill.execute_notebook(str(source), str(workspace / "out.ipynb"), progress_bar=False)
    assert "application/vnd.jupyter.widget-view+json" in nb.cells[0].outputs[0].data
    assert "widgets" not in nb.metadata


def test_nbclient_runs_a_notebook_and_times_out_a_cell(workspace: Path) -> None:
    nb = nbformat.read(
        _write(workspace / "in.ipynb", "%%parameters\nfile: text.txt", PROMPT, "!cat text.txt"), as_version=4
    )
    NotebookClient(nb, kernel_name="agentos", resources={"metadata": {"path": str(workspace)}}).execute()
    assert nb.cells[1].outputs[-1].data["text/plain"].startswith("There are **3** words.")
    assert nb.cells[2].outputs[0].data["text/plain"] == "one two three"
    slow = nbformat.read(_write(workspace / "slow.ipynb", "wait", "%%python\nafter = 1"), as_version=4)
    client = NotebookClient(
        slow,
        kernel_name="agentos",
        timeout=3,
        interrupt_on_timeout=True,
        resources={"metadata": {"path": str(workspace)}},
    )
    started = time.monotonic()
    with pytest.raises(CellExecutionError, match="Interrupted"):
        client.execute()
    assert time.monotonic() - started < 15


def test_nbconvert_executes_and_stays_readable_and_safe(workspace: Path) -> None:
    (workspace / "text.txt").write_text("<script>evil()</script>\n")
    source = _write(
        workspace / "in.ipynb",
        "%%parameters\nfile: text.txt",
        PROMPT,
        "!cat text.txt",
        "%%sql\nselect '<script>evil()</script>' as x",
    )
    done = _run("nbconvert", "--to", "html", "--execute", str(source))
    assert done.returncode == 0, done.stderr
    page = (workspace / "in.html").read_text()
    assert "There are <strong>1</strong> words." in page
    assert "<summary>" in page
    assert "evil()" in page
    assert "<script>evil" not in page
    done = _run("nbconvert", "--to", "script", "--execute", str(source))
    assert done.returncode == 0, done.stderr
    assert PROMPT in (workspace / "in.aos").read_text()
    assert _run("nbconvert", "--to", "markdown", "--execute", str(source)).returncode == 0


def test_jupyter_execute(workspace: Path) -> None:
    source = _write(workspace / "in.ipynb", "hello")
    assert _run("jupyter", "execute", "--inplace", str(source)).returncode == 0
    assert "I do not know." in source.read_text()
    assert _run("jupyter", "execute", str(_write(workspace / "bad.ipynb", "%nonsense"))).returncode != 0


def test_the_console(workspace: Path) -> None:
    environ = {**os.environ, "TERM": "dumb", "PYTHONWARNINGS": "ignore"}
    command = ["-m", "jupyter", "console", "--kernel", "agentos", "--simple-prompt"]
    console = pexpect.spawn(
        sys.executable, command, env=environ, cwd=str(workspace), encoding="utf-8", timeout=30, dimensions=(50, 200)
    )
    try:
        console.expect("AgentOS for Jupyter")
        console.expect(r"In \[1\]:")
        console.sendline("count the words in text.txt")
        console.expect(r"\$ wc -w text.txt")
        console.expect("3 text.txt")
        console.expect(r"There are \*\*3\*\* words.")
        console.expect("scripted model")
        console.expect(r"In \[2\]:")
        console.sendline("!echo 'from bash'")
        console.expect("\nfrom bash")
        console.expect(r"In \[3\]:")
        console.sendline("%nonsense")
        console.expect("no command named 'nonsense'")
        console.expect(r"In \[4\]:")
        console.sendline("wait")
        time.sleep(2)
        console.sendintr()
        console.expect("You interrupted this cell")
        console.expect(r"In \[5\]:")
        console.sendline("%status")
        console.expect("workspace")
        console.sendeof()
        console.expect("Do you really want to exit")
        console.sendline("y")
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)
