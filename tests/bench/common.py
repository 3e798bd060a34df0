"""What every measure uses: a private environment, the server, a workspace with its daemon, medians, tables."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentos_jupyter.cli.stop import stop

REPOSITORY = Path(__file__).parent.parent.parent
LIMITS = "limits: {turns: 10k, wall: 2h, window: 10M, daemon_idle: 5m}\n"
"""Only what would end a measure early; everything else is as shipped."""

COMMAND = "echo ok"
"""What the model asks for in every turn."""


@contextlib.contextmanager
def private() -> Iterator[Path]:
    """A folder with a short path, in which home, settings and sockets are this measure's own."""
    before = dict(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="aosb-"))
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL")) or "AGENTOS" in name]:
        del os.environ[name]
    for name, part in {"HOME": "h", "XDG_CONFIG_HOME": "c", "XDG_RUNTIME_DIR": "r"}.items():
        (folder / part).mkdir(mode=0o700)
        os.environ[name] = str(folder / part)
    os.environ["PYTHONPATH"] = str(REPOSITORY)
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


class Asked:
    """The running server: where it is, and what it noted."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def base_url(self, run: str, turns: int | str) -> str:
        return f"{self._url}/{run}/{turns}/v1"

    def times(self, run: str) -> list[tuple[float, float, int]]:
        with urllib.request.urlopen(f"{self._url}/{run}") as answer:
            return [tuple(each) for each in json.load(answer)]

    def overhead(self, run: str) -> list[float]:
        """Milliseconds between an answer and the next question; item 0 is turn 1."""
        times = self.times(run)
        return [1000 * (later[0] - earlier[1]) for earlier, later in itertools.pairwise(times)]


@contextlib.contextmanager
def server(command: str = COMMAND) -> Iterator[Asked]:
    """The model that answers at once, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.server", command], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    assert process.stdout is not None
    try:
        yield Asked(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def workspace(base: Path, model_url: str | None = None) -> Iterator[Path]:
    """A workspace whose model is the server; its daemon is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="w", dir=base))
    (folder / "agentos.yaml").write_text(LIMITS)
    if model_url is not None:
        os.environ.update(AGENTOS_MODEL="openai/bench", OPENAI_BASE_URL=model_url)
    try:
        yield folder
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def run(*argv: str, timeout: float = 1800) -> str:
    """A Python module or file in a process of its own: `run("-m", "tests.bench.drive", …)`; its standard output."""
    return subprocess.run(
        [sys.executable, *argv], cwd=REPOSITORY, check=True, text=True, stdout=subprocess.PIPE, timeout=timeout
    ).stdout


def around(values: Sequence[float], turn: int, width: int = 10) -> float:
    """The median of the turns around `turn`."""
    first = max(0, turn - 1 - width // 2)
    return statistics.median(values[first : first + width])


def memory(pid: int) -> dict[str, float]:
    """RSS and PSS of a process in MB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.lower()] = int(rest.split()[0]) / 1024
    return found


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [f"\n### {title}\n", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return "–" if value is None else str(value)
