"""The demonstration repairs the demo project, driven by what bash prints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter import config
from agentos_jupyter.models import Models, Request, complete
from tests.models.conftest import message

PROJECT = Path(__file__).parents[2] / "notebooks" / "demo-project"
PROMPT = "One of the tests fails. Find the bug, fix it, and prove it."


@pytest.fixture
def project(workspace: Path) -> Path:
    return Path(shutil.copytree(PROJECT, workspace / "project"))


def bash(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    environ = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}" + (f"\n[exit code {done.returncode}]" if done.returncode else "")


async def talk(folder: Path, prompt: str) -> tuple[str, list[str]]:
    """The final answer and the commands, with bash run for real (the sandbox has tests of its own)."""
    settings = config.load(folder, {})
    limits = config.limits(settings)
    models = Models(settings, {}, limits)
    context = [message("user", prompt)]
    commands: list[str] = []
    for number in range(12):
        done = await complete(models.resolve(), Request(context), limits)
        assert done.scripted and done.model == "scripted:demo"
        if not done.calls:
            return done.text, commands
        call = done.calls[0]
        asked = {
            "id": f"call-{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        commands.append(json.loads(call.arguments)["command"])
        output = bash(commands[-1], folder)
        context += [message("assistant", done.text, tool_calls=[asked])]
        context += [message("tool", output, tool_call_id=f"call-{number}")]
    raise AssertionError(f"no end after {commands}")


def outcome(folder: Path) -> str:
    return bash("python -m pytest -q", folder).splitlines()[-1]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_the_demo_project_fails_one_test_and_is_repaired(project: Path) -> None:
    assert "1 failed, 7 passed" in bash("python -m pytest -q", project)
    before = files(project)
    answer, commands = await talk(project, PROMPT)
    after = files(project)
    assert "8 passed" in outcome(project)
    assert [name for name in after if after[name] != before.get(name)] == ["textkit/measure.py"]
    assert set(after) == set(before)
    assert "textkit/measure.py`, line 22" in answer and "all 8 tests pass" in answer
    assert len(commands) == 5


async def test_the_repair_follows_the_line_where_the_bug_is(project: Path) -> None:
    moved = project / "textkit" / "numbers.py"
    (project / "textkit" / "measure.py").rename(moved)
    moved.write_text("# moved\n\n\n" + moved.read_text())
    package = project / "textkit" / "__init__.py"
    package.write_text(package.read_text().replace("textkit.measure", "textkit.numbers"))
    answer, _ = await talk(project, PROMPT)
    assert "textkit/numbers.py`, line 25" in answer
    assert "8 passed" in outcome(project)


async def test_a_repaired_project_is_left_alone(project: Path) -> None:
    await talk(project, PROMPT)
    before = files(project)
    answer, _ = await talk(project, PROMPT)
    assert answer == "All 8 tests pass, so there is nothing to repair."
    assert files(project) == before


async def test_another_bug_is_not_pretended_to_be_repaired(project: Path) -> None:
    measure = project / "textkit" / "measure.py"
    measure.write_text(measure.read_text().replace("[middle + 1]) / 2", "[middle - 1]) / 3"))
    answer, _ = await talk(project, PROMPT)
    assert "knows only one bug, and it is not this one" in answer


async def test_a_folder_without_tests_is_said(workspace: Path) -> None:
    answer, _ = await talk(workspace, PROMPT)
    assert "I see no tests here" in answer


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("List the files.", "pyproject.toml"),
        ("How many lines of Python are here?", "The Python files here have 93 lines together."),
        ("What is this project?", "This is **textkit**."),
        ("Tell me a joke", "I am the scripted demonstration model"),
    ],
)
async def test_simple_questions_are_answered_from_what_bash_printed(project: Path, prompt: str, expected: str) -> None:
    answer, _ = await talk(project, prompt)
    assert expected in answer
