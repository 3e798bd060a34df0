"""The main job on real input: a published package, a bug planted in it, found and repaired through the sandbox.

The package comes as source from the package index and is not kept here. Only the model is scripted: it reads
the failing test in what the tests print, from it the function, from its source the line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from agentos_jupyter.rpc.sync import SyncLink

PACKAGE = "more-itertools==11.2.1"
SOURCE = "more_itertools/recipes.py"
RIGHT, WRONG = "return list(islice(iterable, n))", "return list(islice(iterable, n + 1))"

RULES = [
    {
        "when": {"role": "user", "match": "bug"},
        "say": "I run the tests of the recipes.",
        "calls": [
            {
                "bash": {
                    "command": "export PYTHONDONTWRITEBYTECODE=1; "
                    "python -m unittest -q tests.test_recipes 2>&1 | grep -A 8 '^FAIL: .*tests'"
                }
            }
        ],
    },
    {
        "when": {
            "role": "tool",
            "arguments": "tests.test_recipes",
            "match": r"(?s).*FAIL: (?P<test>\w+) \(tests\.(?P<file>\w+)\.(?P<case>\w+)\.",
        },
        "say": "The test {test} of {case} fails. I read it.",
        "calls": [{"bash": {"command": "grep -n -A 8 'class {case}' tests/{file}.py"}}],
    },
    {
        "when": {"role": "tool", "arguments": "^grep -n -A 8", "match": r"(?s)mi\.(?P<function>\w+)\("},
        "say": "It tests {function}.",
        "calls": [{"bash": {"command": "grep -n -A 15 'def {function}(' " + SOURCE}}],
    },
    {
        "when": {
            "role": "tool",
            "arguments": "^grep -n -A 15",
            "match": r"(?P<line>\d+)-\s+return list\(islice\(iterable, n \+ 1\)\)",
        },
        "say": "Line {line} takes one item too many.",
        "calls": [
            {"bash": {"command": "sed -i '{line}s/n + 1/n/' " + SOURCE}},
            {"bash": {"command": "python -m unittest -q 2>&1 | tail -5"}},
        ],
    },
    {"when": {"role": "tool", "arguments": "^sed", "match": "(?s).*"}, "say": "The line is changed."},
    {
        "when": {"role": "tool", "match": r"Ran (?P<count>\d+) tests[\s\S]*\nOK"},
        "say": "Repaired: all {count} tests pass.",
    },
]


@pytest.fixture(scope="session")
def archive(base: Path) -> Path:
    """The package's source distribution, fetched once."""
    folder = base / "sdist"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(command, check=True, timeout=120)
    [found] = folder.glob("*.tar.gz")
    return found


@pytest.fixture
def package(archive: Path, workspace: Path) -> Path:
    """The unpacked package in a workspace."""
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(workspace)], check=True)
    [folder] = [each for each in workspace.iterdir() if each.is_dir()]
    return folder


def failures(package: Path, *tests: str) -> int:
    """How many of the package's own tests fail, run outside the sandbox by this test."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "unittest", "-q", *tests]
    done = subprocess.run(command, cwd=package, env=environ, capture_output=True, text=True, timeout=120)
    return done.stderr.count("\nFAIL:") + done.stderr.count("\nERROR:")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_planted_bug_in_a_published_package_is_found_and_repaired(package: Path) -> None:
    assert failures(package, "tests.test_recipes") == 0
    source = package / SOURCE
    original = source.read_text()
    assert original.count(RIGHT) == 1
    source.write_text(original.replace(RIGHT, WRONG))
    assert failures(package, "tests.test_recipes") > 0
    (package / "model.yaml").write_text(yaml.safe_dump({"rules": RULES}))
    (package / "agentos.yaml").write_text("model: scripted:model.yaml\n")

    prompt = nbformat.v4.new_code_cell("One of this package's tests fails. Find the bug and repair it.")
    notebook = nbformat.v4.new_notebook(cells=[prompt])
    NotebookClient(
        notebook, kernel_name="agentos", timeout=180, resources={"metadata": {"path": str(package)}}
    ).execute()

    [answer] = [each for each in prompt.outputs if each.output_type == "execute_result"]
    assert "all 929 tests pass" in answer.data["text/plain"]
    assert source.read_text() == original
    assert failures(package, "tests.test_recipes") == 0
    with SyncLink(package) as link:
        [dispatch] = link.client.dispatch.list()["dispatches"]
        assert dispatch["status"] == "ok"
        assert dispatch["changed"] is not None
        assert dispatch["changed"]["modified"] == [SOURCE]
        assert dispatch["scripted"]
