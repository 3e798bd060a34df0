"""Take back what AgentOS put outside of workspaces: running daemons, sockets, keys and configuration.

Workspaces keep their `.agentos` folder, because the history in it is yours; the last line says how to remove the package.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli.status import running
from agentos_jupyter.cli.stop import stop
from agentos_jupyter.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    workspaces = [str(each["workspace"]) for each in running()]
    folders = [each for each in (paths.runtime_dir(), paths.user_config_dir()) if each.is_dir()]
    for workspace in workspaces:
        print(f"stop the daemon of {workspace}")
    for folder in folders:
        print(f"remove {folder} ({', '.join(sorted(each.name for each in folder.iterdir())) or 'empty'})")
    if not args.yes and not _agreed():
        print("Nothing was done.")
        return 1

    for workspace in workspaces:
        stop(Path(workspace))
    for folder in folders:
        shutil.rmtree(folder)
    print("Done. The history of a workspace stays in its .agentos folder, which you may delete.")
    print("Now remove the package: pip uninstall agentos-jupyter")
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("Nobody can be asked here: `agentos uninstall --yes` does it without asking.")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
