"""What a workspace, a model's name or a query brings never steers the terminal of who looks at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter import paths
from agentos_jupyter.errors import WorkspaceRefused

ESCAPES = ("\x1b", "\x07", "\x9b", "\u202e")


@pytest.mark.parametrize(
    "verb", [("start",), ("status",), ("doctor",), ("sql", 'select 1 as "\x1b]0;evil\x07"'), ("stop",)]
)
def test_no_verb_prints_control_characters(workspace: Path, verb: tuple[str, ...]) -> None:
    """Tried: a folder named by an escape sequence, and `model:` with one in its agentos.yaml."""
    folder = workspace / "a\n\x1b]0;evil\x07\u202e\x9b"
    folder.mkdir()
    (folder / "agentos.yaml").write_text('model: "scripted:\\e]0;evil\\a\\u202e"\n')

    command = [sys.executable, "-m", "agentos_jupyter.cli", "-C", str(folder), *verb]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout
    assert [sign for sign in ESCAPES if sign in done.stdout + done.stderr] == []


def test_an_error_prints_no_control_characters(workspace: Path) -> None:
    command = [sys.executable, "-m", "agentos_jupyter.cli", "-C", str(workspace / "gone\x1b]0;evil\x07"), "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "evil" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_folder_whose_name_is_no_text_is_refused_with_a_sentence(workspace: Path) -> None:
    folder = os.fsencode(workspace) + b"/caf\xe9"
    os.mkdir(folder)

    with pytest.raises(WorkspaceRefused, match="not UTF-8"):
        paths.workspace(Path(os.fsdecode(folder)))
