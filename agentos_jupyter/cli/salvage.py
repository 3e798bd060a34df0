"""Mend a damaged log: keep the damaged files aside, go on with every event that is whole, and say what is lost."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict

from agentos_jupyter import paths
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import LogError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="verify every event and say what would be lost; change nothing"
    )


def run(args: argparse.Namespace) -> int:
    from agentos_jupyter.log.salvage import salvage, told
    from agentos_jupyter.microkernel.lock import Lock

    workspace = paths.workspace()
    folder = paths.state_dir(workspace)
    if not (folder / "log.duckdb").exists() and not (folder / "head").exists():
        raise LogError(f"{workspace} has no log yet: there is nothing to salvage.")
    with Lock(workspace):
        found = asyncio.run(salvage(folder, look=args.check))
    if not found.damage:
        print(f"The log is whole: {found.kept} events, each of them verified. Nothing was changed.")
        return 0
    print(visible(told(asdict(found))))
    if args.check:
        print("Nothing was changed: `agentos salvage` goes on with the whole events, `agentos restore` with a backup.")
        return 1
    print(f"The log goes on from there. The damaged files are kept, whole, in {visible(str(folder / found.copy))}.")
    return 0
