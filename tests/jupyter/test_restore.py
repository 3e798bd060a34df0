"""A session goes on in a notebook of the workspace that a backup was restored into."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .conftest import Notebook


def agentos(workspace: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agentos_jupyter.cli", *arguments], cwd=workspace, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_session_is_resumed_in_a_restored_workspace(
    open_notebook: Callable[..., Notebook],
    workspace: Path,
    tmp_path: Path,
    configure: Callable[..., Path],
    script: Callable[..., str],
) -> None:
    rules = [
        {"when": {"role": "tool"}, "say": "Done."},
        {"say": "I do.", "calls": [{"bash": {"command": "pwd; seq 1 20000"}}]},
    ]
    script(rules)
    configure(model="scripted:model.yaml")
    first = open_notebook()
    begun = first.run("count to 20000").text
    session = re.search(r"\((s-\S+)\)", begun)
    assert session is not None
    made = json.loads(agentos(workspace, "backup", str(tmp_path), "--json"))
    assert made["blobs"] == 1, "the whole output of the command"
    other = workspace / "elsewhere"
    assert "every chain" in agentos(workspace, "restore", made["backup"], "--into", str(other))
    for name in ("agentos.yaml", "model.yaml"):
        shutil.copy(workspace / name, other)
    second = open_notebook(folder=other, AGENTOS_WORKSPACE=os.fspath(other))
    assert "2 turns so far" in second.run(f"%session resume {session[1]}").text
    assert "count to 20000" in second.run("%runs").text
    assert str(other) in second.run("!pwd").text, "it works where it lies now"
    assert second.run("go on, count").answer.startswith("Done.")
