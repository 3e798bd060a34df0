"""papermill on a one-cell notebook: in process beyond the agent's own time, and the command line over a python3 notebook's."""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.rpc.sync import SyncLink
from tests.bench.common import private, server, table, workspace
from tests.bench.notebooks import offer_kernelspec

CELLS = {"agentos": ("agentos", "Work."), "python3": ("python", "1 + 1")}


def _write(folder: Path, kernel: str) -> Path:
    language, cell = CELLS[kernel]
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    made.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": language}
    made.metadata.language_info = {"name": language}
    path = folder / f"{kernel}.ipynb"
    nbformat.write(made, path)
    return path


def _in_process(folder: Path, kernel: str) -> float:
    import papermill

    path = _write(folder, kernel)
    began = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        papermill.execute_notebook(path, folder / "out.ipynb", cwd=folder, progress_bar=False, kernel_name=kernel)
    return time.perf_counter() - began


def _command_line(folder: Path, kernel: str) -> float:
    path = _write(folder, kernel)
    began = time.perf_counter()
    argv = [sys.executable, "-m", "papermill", "-k", kernel, "--no-progress-bar", str(path), "out.ipynb"]
    subprocess.run(argv, cwd=folder, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _agents_own(folder: Path) -> float:
    """Seconds of the newest dispatch."""
    with SyncLink(folder) as link:
        return float(link.call("dispatch.list", {"limit": 1})["dispatches"][0]["seconds"])


def measure(times: int = 5) -> str:
    found: dict[str, list[float]] = {name: [] for name in ("process", "own", "python", "cli", "cli-python")}
    with private() as base, server() as asked:
        offer_kernelspec(base)
        os.environ["IPYTHONDIR"] = str(base / "h")
        for number in range(times):
            with workspace(base, asked.base_url(f"n{number}", "each1")) as folder:
                found["python"].append(_in_process(folder, "python3"))
                seconds = _in_process(folder, "agentos")
                found["own"].append(_agents_own(folder))
                found["process"].append(seconds)
                stop(folder)
                found["cli"].append(_command_line(folder, "agentos"))
                stop(folder)
                found["cli-python"].append(_command_line(folder, "python3"))
    beyond = [whole - own for whole, own in zip(found["process"], found["own"], strict=True)]
    over = [a - b for a, b in zip(found["cli"], found["cli-python"], strict=True)]
    rows = [
        [name, statistics.median(each), min(each)]
        for name, each in (
            ("in process, agentos", found["process"]),
            ("the agent's own time in it", found["own"]),
            ("**in process, beyond the agent's own time**", beyond),
            ("in process, python3 (the first includes papermill's import)", found["python"]),
            ("command line, agentos", found["cli"]),
            ("command line, python3", found["cli-python"]),
            ("**command line, over python3**", over),
        )
    ]
    return table("papermill, a notebook of one cell, no daemon before, s", ["", "median", "fastest"], rows)
