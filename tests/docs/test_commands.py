"""The commands of the docs run: every block behind `<!-- tested -->`, page by page, where a reader would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"<!-- tested -->\n```bash\n(.*?)```", re.DOTALL)


def commands(page: Path) -> str:
    return "".join(BLOCK.findall(page.read_text()))


TESTED = [page for page in PAGES if commands(page)]


@pytest.fixture
def checkout(workspace: Path) -> Path:
    """What a reader has: the Makefile with its environment already installed, the notebooks, a project to work on."""
    shutil.copy(ROOT / "Makefile", workspace)
    for name in ("pyproject.toml", "agentos_jupyter", "notebooks", "skills"):
        (workspace / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "notebooks" / "demo-project", workspace / "project")
    shutil.copy(ROOT / "notebooks" / "01-fix-a-bug.ipynb", workspace / "notebook.ipynb")
    (workspace / ".venv").mkdir()
    (workspace / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (workspace / ".venv" / ".installed").touch()
    return workspace


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", TESTED, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page: Path, checkout: Path) -> None:
    environ = {**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"}
    script = f"set -euo pipefail\n{commands(page)}"
    done = subprocess.run(["bash", "-c", script], cwd=checkout, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_most_guides_have_tested_commands() -> None:
    assert {"first-agent", "run-with-papermill", "troubleshooting"} <= {page.stem for page in TESTED}
