"""Run the main job: an agent finds and repairs the bug of a small project, in a notebook that papermill executes.

The project is copied to a new folder out/demo-N, which is the workspace; executed notebook and HTML are left in it.
Without a configured model the model is scripted, and only the model: bash, sandbox, daemon and log are real.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter.cli import text
from agentos_jupyter.cli.status import sandbox
from agentos_jupyter.cli.stop import stop
from agentos_jupyter.errors import CommandError
from agentos_jupyter.rpc.sync import SyncLink

NOTEBOOK = "01-fix-a-bug.ipynb"
PROJECT = "demo-project"


@dataclass(frozen=True, slots=True)
class Made:
    """What a demo leaves: its folder (the workspace), the executed notebook and the page made of it."""

    folder: Path
    notebook: Path
    page: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="FOLDER", help="where demo-N is made (default: out)"
    )
    parser.add_argument(
        "--no-run", action="store_true", help="only make demo-N, with the notebook in it, to run by hand"
    )


def run(args: argparse.Namespace) -> int:
    made = prepare(args.out)
    if args.no_run:
        shutil.copy(notebooks() / NOTEBOOK, made.notebook)
        print(f"Open {made.notebook} with the AgentOS kernel, in `jupyter lab` started here, and run its cells.")
        return 0

    if importlib.util.find_spec("pytest") is None:
        raise CommandError(
            f"The demo project is tested with pytest: run `{sys.executable} -m pip install pytest` first."
        )
    os.environ["AGENTOS_WORKSPACE"] = str(made.folder)
    try:
        problem = execute(made)
        publish(made)
        with SyncLink(made.folder) as link:
            facts = gather(link)
    finally:
        stop(made.folder)
    if facts is not None:
        print(summary(facts, made))
        problem = problem or _tests_problem(facts)
    if problem is not None:
        print(f"agentos: {problem} The notebook is {made.notebook}.", file=sys.stderr)
        return 1
    return 0


def notebooks() -> Path:
    """The shipped notebooks: inside the installed package, or at the top of a source checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "_notebooks"
    return packaged if packaged.is_dir() else package.parent / "notebooks"


def prepare(out: Path) -> Made:
    """A fresh copy of the project in the first free demo-N beneath `out`."""
    out.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name[5:]) for path in out.glob("demo-*") if path.name[5:].isdigit()]
    folder = out.resolve() / f"demo-{max(taken, default=0) + 1}"
    shutil.copytree(notebooks() / PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return Made(folder, folder / NOTEBOOK, folder / Path(NOTEBOOK).with_suffix(".html").name)


def execute(made: Made) -> str | None:
    """Run the notebook by papermill with the agentos kernel; the sentence of a cell that failed, if one did."""
    import papermill
    from traitlets.config import Config

    print(f"Running {NOTEBOOK} in {made.folder}", flush=True)
    try:
        papermill.execute_notebook(
            notebooks() / NOTEBOOK,
            made.notebook,
            kernel_name="agentos",
            cwd=str(made.folder),
            progress_bar=sys.stderr.isatty(),
            config=Config(KernelManager={"transport_encryption": "auto"}),
            autosave_cell_every=0,  # a save in mid-cell would be listed among the files changed meanwhile
        )
    except papermill.PapermillExecutionError as error:
        return f"Cell [{error.exec_count}] failed: {text.visible(str(error.evalue)).strip()}"
    return None


def publish(made: Made) -> None:
    """The executed notebook as a page for any browser."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(made.notebook))  # type: ignore[no-untyped-call]
    made.page.write_text(page, encoding="utf-8")


def gather(link: SyncLink) -> dict[str, Any] | None:
    """What the log knows of the run: the agent's dispatch, and how the tests that ran after it ended.

    None when no agent was asked.
    """
    dispatches = sorted(link.call("dispatch.list", {})["dispatches"], key=lambda dispatch: str(dispatch["started"]))
    prompts = [dispatch for dispatch in dispatches if dispatch["kind"] == "prompt"]
    if not prompts:
        return None

    info = link.call("system.info")
    return {
        "agent": prompts[-1],
        "tests": _last_command(link),
        "events": info["position"],
        "sandbox": sandbox(),
    }


def _last_command(link: SyncLink) -> int | None:
    """The exit code of the last command of a person's cell: the notebook's own run of the tests."""
    sql = "select exit_code from tool_calls where actor = 'person' order by position desc limit 1"
    rows = link.call("sql.query", {"sql": sql})["rows"]
    return rows[0][0] if rows else None


def summary(facts: dict[str, Any], made: Made) -> str:
    agent, tier = facts["agent"], facts["sandbox"]
    changed = agent["changed"] or {}
    files = [
        *changed.get("created", ()),
        *changed.get("modified", ()),
        *(f"{name} (deleted)" for name in changed.get("deleted", ())),
    ]
    lines = {
        "turns": agent["turns"],
        "commands": agent["calls"],
        "seconds": f"{agent['seconds']:.1f}",
        "events": facts["events"],
        "sandbox": tier["tier"],
        "model": f"{agent['model']} (scripted)" if agent["scripted"] else agent["model"],
        "files changed": ", ".join(map(text.visible, files)) or "none",
        "tests": "pass" if facts["tests"] == 0 else "fail" if facts["tests"] else "did not run",
        "notebook": made.notebook,
        "html": made.page,
    }
    answer = "\n".join(text.visible(line) for line in (agent["answer"] or "(none)").splitlines())
    return "\n".join(
        [
            "\nThe agent's answer:\n",
            textwrap.indent(answer, "  "),
            "",
            *(f"{name:<14} {value}" for name, value in lines.items()),
        ]
    )


def _tests_problem(facts: dict[str, Any]) -> str | None:
    return None if facts["tests"] == 0 else "The tests do not pass after the agent's work."
