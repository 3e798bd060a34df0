"""`agentos VERB …`: one table of verbs; the module of a verb is imported when it is called.

A verb's module has `add_arguments(parser)` and `run(args) -> int`, the exit status:
0 done, 1 not done (one sentence on stderr says why), 2 wrong usage, 3 no daemon runs (`status` alone).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentos_jupyter import __version__
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import AgentOSError, nearest


@dataclass(frozen=True, slots=True)
class Verb:
    """A row of the table: the module under `agentos_jupyter.cli` and what it is for."""

    module: str
    help: str


VERBS = {
    "attach": Verb("attach", "show a dispatch from the log, and follow it while it runs"),
    "backup": Verb("backup", "make a backup of this workspace while it works, or list them"),
    "demo": Verb("demo", "run the main job: an agent repairs a small project, in a notebook"),
    "doctor": Verb("doctor", "check every part, and say how to mend what is broken"),
    "export": Verb("export", "write the events and every view as Parquet or JSON lines"),
    "forget": Verb("forget", "remove content for good, and leave a tombstone that says why"),
    "gc": Verb("gc", "remove what nobody can miss: unnamed content, leftovers, dead sockets"),
    "help": Verb("help", "explain a verb, command, option, limit, error code, agent, model or skill"),
    "init": Verb("init", "make this folder a workspace: write an agentos.yaml to choose from"),
    "key": Verb("key", "keep, list, test and remove the keys of model providers"),
    "log": Verb("log", "show what happened in this workspace, and what happens (--follow)"),
    "maintain": Verb("maintain", "put the log in order and remove what is past its time; no event"),
    "record": Verb("record", "write what a session's model was asked and answered, to be replayed"),
    "restore": Verb("restore", "put a backup in the place of this workspace's state"),
    "runs": Verb("runs", "list the latest dispatches of this workspace"),
    "salvage": Verb("salvage", "mend a damaged log: go on with what is whole, and say what is lost"),
    "sql": Verb("sql", "ask the log a read-only question in SQL"),
    "start": Verb("start", "start the daemon of this workspace (any client does so by itself)"),
    "status": Verb("status", "show the workspace, its daemon, model and sandbox"),
    "steer": Verb("steer", "say something to a dispatch at work"),
    "stop": Verb("stop", "stop the daemon of this workspace"),
    "uninstall": Verb("uninstall", "take back what AgentOS put outside of workspaces"),
    "verify": Verb("verify", "compare what a saved notebook shows with the log, cell by cell"),
    "version": Verb("version", "print the version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status."""
    try:
        return _dispatch(_parser().parse_args(argv))
    except AgentOSError as error:
        sentence = "\n".join(map(visible, error.message.split("\n")))  # what SQL is wrong is shown with a mark beneath
        print(f"agentos: {sentence}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit complains again
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="agentos",
        description="An operating system for AI agents that lives in notebooks.",
        epilog=f"verbs:\n{listing}\n\n`agentos VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentos {__version__}")
    parser.add_argument(
        "-C", "--workspace", metavar="FOLDER", type=Path, help="act on this workspace (default: found from here)"
    )
    parser.add_argument("verb", metavar="VERB", nargs="?", help="one of the verbs below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _dispatch(args: argparse.Namespace) -> int:
    if args.verb is None:
        _parser().print_help()
        return 0

    verb = VERBS.get(args.verb)
    if verb is None:
        print(f"agentos: {nearest('verb', args.verb, VERBS)}", file=sys.stderr)
        return 2

    if args.workspace is not None:
        os.environ["AGENTOS_WORKSPACE"] = os.fspath(args.workspace.expanduser().absolute())
    module = importlib.import_module(f"agentos_jupyter.cli.{verb.module}")
    parser = argparse.ArgumentParser(prog=f"agentos {args.verb}", description=module.__doc__)
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(args.rest))
    return status


if __name__ == "__main__":
    sys.exit(main())
