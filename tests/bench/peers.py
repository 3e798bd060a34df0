"""The environment of the peers, made once beside the project's own: `.venv-bench/`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.common import REPOSITORY

MINI = ("mini-swe-agent>=2.4,<2.5", "litellm[mcp]==1.106.2")
"""litellm needs its `mcp` extra as soon as a call has tools."""


def python() -> Path:
    """The interpreter with mini-swe-agent in it."""
    folder = REPOSITORY / ".venv-bench"
    interpreter, stamp = folder / "bin" / "python", folder / ".installed"
    if not stamp.exists():
        print("installing mini-swe-agent into .venv-bench …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (folder / ".gitignore").write_text("*\n")
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *MINI], check=True)
        stamp.touch()
    return interpreter
