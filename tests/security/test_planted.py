"""Python files that an agent leaves in the workspace are never imported by a process outside the sandbox."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

from tests.jupyter.conftest import Notebook, open_notebook

__all__ = ["open_notebook"]

ABSENT = ("agentos_jupyter", "aos_sdk", "sitecustomize", "usercustomize", "pandas", "polars", "jedi", "debugpy", "yaml")
"""Ours, and names that something tries to import and may not find."""


def plant(workspace: Path) -> Path:
    """A module of every name that a kernel could look for; each leaves a mark when it is imported."""
    marks = workspace / "marks"
    marks.mkdir()
    for name in {*(name for name in sys.stdlib_module_names if name != "__main__"), *ABSENT}:
        folder = workspace / name
        folder.mkdir()
        (folder / "__init__.py").write_text(f"open({str(marks / name)!r}, 'w')\nraise ImportError('planted')\n")
    return marks


def test_a_kernel_imports_nothing_from_the_folder_it_starts_in(
    workspace: Path, open_notebook: Callable[..., Notebook]
) -> None:
    """Tried: every standard module and our own packages planted in the workspace. Stopped by `python -P`."""
    marks = plant(workspace)
    assert "-P" in KernelSpecManager().get_kernel_spec("agentos").argv

    notebook = open_notebook()
    for cell in ("hello", "!true", "%status", "%%sql\nselect 1", "%%sql rows <<\nselect 1", "%%parameters\na: 1"):
        assert notebook.run(cell).reply["status"] == "ok"

    assert list(marks.iterdir()) == []


def test_a_python_cell_imports_from_its_folder_and_shadows_nothing(
    workspace: Path, open_notebook: Callable[..., Notebook]
) -> None:
    """The person's own Python works as in any notebook, but the standard library and what is installed come first."""
    (workspace / "helper.py").write_text("answer = 42\n")
    (workspace / "json.py").write_text("raise ImportError('planted')\n")
    (workspace / "yaml.py").write_text("raise ImportError('planted')\n")

    notebook = open_notebook()

    assert notebook.run("%%python\nimport json, yaml, helper\nhelper.answer").answer == "42"
    assert notebook.run("%%python\nimport sys\n'' in sys.path").answer == "True"
    assert notebook.run("!true").reply["status"] == "ok"
