"""Put a backup in the place of this workspace's state; what was there is moved aside and can be gone back to.

BACKUP is a backup, or a folder that was given to `agentos backup`: then the newest is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shutil
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import BackupNotFound, BackupRefused, CommandError
from agentos_jupyter.log.backup import restoring
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.microkernel.lock import Lock

ASIDE = "before-restore-"
LAYING = "restoring-"
SWAPPING = ".agentos-restored"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", nargs="?", type=Path, help="a backup, or the folder that backups were made into")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="another workspace (made when missing)")
    parser.add_argument("--undo", action="store_true", help="go back to what the last restore moved aside")


def run(args: argparse.Namespace) -> int:
    if args.undo == (args.backup is not None):
        raise CommandError("agentos restore is written: BACKUP [--into FOLDER], or --undo.")
    workspace = _workspace(args.into)
    _finish_swap(workspace)
    with Lock(workspace):
        return _undo(workspace) if args.undo else _restore(workspace, args.backup.expanduser().resolve())


def _workspace(into: Path | None) -> Path:
    if into is None:
        return paths.workspace()
    into = into.expanduser().absolute()
    into.mkdir(exist_ok=True)
    return paths.workspace(into)


def _restore(workspace: Path, named: Path) -> int:
    backup = restoring.found(named, workspace)
    state = paths.state_dir(workspace)
    for left in state.glob(f"{LAYING}*"):
        shutil.rmtree(left)
    laid = state / f"{LAYING}{secrets.token_hex(4)}"
    try:
        manifest = restoring.lay_out(backup, laid)
        streams = asyncio.run(restoring.verify(laid, manifest))
    except BaseException:
        shutil.rmtree(laid, ignore_errors=True)
        raise
    aside = swap(workspace, laid)
    print(f"Restored {visible(str(backup))} into {visible(str(workspace))}:")
    print(f"  {manifest.position} events in {streams} streams, every chain and the digest of every file checked,")
    print(f"  {manifest.blobs} blobs and {manifest.files} other files, as of {manifest.made}.")
    for each in manifest.missing:
        print(f"  not in it, because it was damaged or unreadable when the backup was made: {visible(each)}")
    if aside is not None:
        print(f"What was there is in {visible(str(aside))}; `agentos restore --undo` goes back to it.")
    return 0


def _undo(workspace: Path) -> int:
    state = paths.state_dir(workspace)
    kept = sorted(state.glob(f"{ASIDE}*"), key=_number)
    if not kept:
        raise BackupNotFound(f"Nothing was moved aside in {state}: there is nothing to go back to.")
    aside = swap(workspace, kept[-1])
    print(f"Back to what was there before the restore; the restored state is in {visible(str(aside))}.")
    return 0


def swap(workspace: Path, incoming: Path) -> Path | None:
    """Make `incoming`, a folder in the state folder, the state folder; where what was there is now, if it held a log.

    What is kept stays inside the state folder, because an agent's sandbox does not see that.
    """
    state = paths.state_dir(workspace)
    kept = [path for path in state.glob(f"{ASIDE}*") if path != incoming]
    number = max([_number(path) for path in (*kept, incoming)], default=0) + 1
    for path in kept:
        path.rename(incoming / path.name)
    had_log = any(state.glob("log.duckdb*"))
    outside = workspace / SWAPPING
    incoming.rename(outside)
    aside = outside / f"{ASIDE}{number}"
    state.rename(aside)
    outside.rename(state)
    sync_folder(workspace)
    if not had_log:
        shutil.rmtree(state / aside.name)  # the lock and the empty folders that we made ourselves
        return None
    return state / aside.name


def _finish_swap(workspace: Path) -> None:
    """A restore that was killed between its renames left everything under one other name."""
    outside, state = workspace / SWAPPING, paths.state_dir(workspace)
    if not outside.is_dir():
        return
    if any(state.glob("log.duckdb*")):
        raise BackupRefused(
            f"A restore was cut off in {outside}, and work went on in {state} since: keep the one you need under that name."
        )
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(state)
    outside.rename(state)


def _number(path: Path) -> int:
    tail = path.name.removeprefix(ASIDE)
    return int(tail) if tail.isdecimal() else 0


__all__ = ["add_arguments", "run", "swap"]
