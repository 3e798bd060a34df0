"""Small things a person stumbles over in the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agentos_jupyter.jupyter.tables import aligned


def agentos(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentos_jupyter.cli", *words], cwd=workspace, capture_output=True, text=True
    )


def test_a_wrong_number_names_the_option(workspace: Path) -> None:
    for wrong in ("0", "-3", "x", "1001"):
        done = agentos(workspace, "runs", f"--limit={wrong}")
        assert done.returncode == 2
        assert f"argument -n/--limit: a number from 1 to 1000, not '{wrong}'" in done.stderr


def test_nothing_is_counted_in_the_wrong_number(workspace: Path) -> None:
    agentos(workspace, "start")
    assert "no dispatch running" in agentos(workspace, "status").stdout


def test_wide_characters_take_two_columns() -> None:
    assert aligned(["name", "n"], [["日本", 1], ["a", 20]], str).splitlines() == [
        "name   n",
        "────  ──",
        "日本   1",
        "a     20",
    ]
