"""The project's habits are checked by what checks them: the hooks run, and the workflow runs what a contributor runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("message", "good"),
    [
        ("feat(log): it grows\n", True),
        ("docs: say why\n\nBecause.\n", True),
        ("Fixed things\n", False),
        ("feet: x\n", False),
    ],
)
def test_the_commit_hook_knows_a_conventional_commit(tmp_path: Path, message: str, good: bool) -> None:
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "message").write_text(message)
    hook = [sys.executable, "-m", "pre_commit", "run", "conventional-commit", "--hook-stage", "commit-msg"]
    done = subprocess.run([*hook, "--commit-msg-filename", "message"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode == 0) is good, done.stdout + done.stderr


def test_the_workflow_runs_what_a_contributor_runs() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/quality.yml").read_text())
    [job] = flow["jobs"].values()
    assert {"3.11", "3.12", "3.13"} == set(job["strategy"]["matrix"]["python"])
    assert any(step.get("run") == "bash .ci/run" for step in job["steps"])
    assert flow["permissions"] == {"contents": "read"}
    assert "secrets." not in (ROOT / ".github/workflows/quality.yml").read_text()
