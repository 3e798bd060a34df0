"""`agentos demo`: the main job as a newcomer sees it, and how it says that it did not work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Demo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def demo(workspace: Path) -> Demo:
    """Runs `agentos demo` in an empty folder."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentos_jupyter.cli", "demo", *arguments]
        environment = {**os.environ, **environ}
        return subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=150)

    return run


def figures(output: str) -> dict[str, str]:
    """The lines `name   value` of the summary."""
    return {
        line[:14].strip(): line[15:].strip() for line in output.splitlines() if line[14:15] == " " and line[:1].strip()
    }


def outputs(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text())["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_agent_repairs_the_project_and_the_summary_says_how(demo: Demo, workspace: Path) -> None:
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    shown = figures(done.stdout)
    folder = workspace / "out" / "demo-1"
    assert "all 8 tests pass" in done.stdout
    assert shown["tests"] == "pass"
    assert int(shown["turns"]) > int(shown["commands"]) > 2
    assert int(shown["events"]) > 20
    assert shown["files changed"] == "textkit/measure.py"
    assert shown["sandbox"] == "namespaces"
    assert "(scripted)" in shown["model"]
    assert shown["notebook"] == str(folder / "01-fix-a-bug.ipynb")
    assert "all 8 tests pass" in Path(shown["html"]).read_text()
    assert "[middle - 1]" in (folder / "textkit" / "measure.py").read_text()

    answers = [output for output in outputs(folder / "01-fix-a-bug.ipynb") if output["output_type"] == "execute_result"]
    assert "scripted model" in "".join(answers[0]["data"]["text/markdown"])
    assert answers[0]["metadata"]["agentos"]["dispatch"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_tests_that_still_fail_are_an_exit_status_and_a_sentence(
    demo: Demo, workspace: Path, script: Callable[..., str]
) -> None:
    idle = script([{"say": "I would rather not."}])
    done = demo(AGENTOS_MODEL=idle)
    assert done.returncode == 1
    assert "The tests do not pass" in done.stderr
    assert figures(done.stdout)["files changed"] == "none"
    assert figures(done.stdout)["tests"] == "fail"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_cell_that_fails_is_named_and_the_notebook_is_kept(demo: Demo, workspace: Path) -> None:
    done = demo(AGENTOS_MODEL="openai/gpt-5.2")
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1
    assert any(
        output["output_type"] == "error" for output in outputs(workspace / "out" / "demo-1" / "01-fix-a-bug.ipynb")
    )


def test_each_demo_has_a_folder_of_its_own(demo: Demo, workspace: Path) -> None:
    for number in (1, 2):
        done = demo("--no-run", "--out", "runs")
        folder = workspace / "runs" / f"demo-{number}"
        assert f"Open {folder}" in done.stdout
        assert (folder / "01-fix-a-bug.ipynb").is_file()
        assert "[middle + 1]" in (folder / "textkit" / "measure.py").read_text()
