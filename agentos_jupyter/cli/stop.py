"""Stop the daemon of this workspace and wait until it has let go of the log."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import time
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import ConnectionLost, DaemonUnavailable
from agentos_jupyter.rpc.sync import SyncLink

PATIENCE = 20.0
"""Seconds a daemon gets to finish its last commit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    workspace = paths.workspace()
    stopped, place = stop(workspace), visible(str(workspace))
    print(f"The daemon of {place} has stopped." if stopped else f"No daemon runs for {place}.")
    return 0


def stop(workspace: Path) -> bool:
    """Whether a daemon ran. Returns when it has released its lock; raises `DaemonUnavailable` when it does not."""
    try:
        link = SyncLink(workspace, start=False)
    except DaemonUnavailable:
        return False

    with link, contextlib.suppress(ConnectionLost):  # it may close the channel before it answers
        link.call("system.shutdown")
    _wait_released(workspace)
    return True


def _wait_released(workspace: Path) -> None:
    """Ownership is the lock, so its release is the end: a process id may stay for a while as a zombie."""
    deadline = time.monotonic() + PATIENCE
    while not _free(paths.state_dir(workspace) / "lock"):
        if time.monotonic() > deadline:
            raise DaemonUnavailable(
                f"The daemon of {workspace} was told to stop {PATIENCE:.0f} s ago and still holds its lock: "
                "`agentos status` names its process."
            )
        time.sleep(0.02)


def _free(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
