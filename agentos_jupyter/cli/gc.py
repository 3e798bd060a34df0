"""Remove what nobody can miss: content that no event names, leftovers of what was cut off, sockets of dead daemons."""

from __future__ import annotations

import argparse
import contextlib
import socket
import time
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli import maintain
from agentos_jupyter.rpc.start import START_SECONDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    maintain.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    status = maintain.upkept("storage.collect", args)
    dead = [path for path in sorted(paths.runtime_dir().glob("*.sock")) if _dead(path)]
    for path in dead:
        if not args.json:
            print(f"{'would remove' if args.dry_run else 'removed'} the socket of a daemon that is gone: {path}")
        if not args.dry_run:
            path.unlink(missing_ok=True)
    return status


def _dead(path: Path) -> bool:
    """Whether nobody listens, and nobody is about to."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        if time.time() - path.stat().st_mtime < START_SECONDS:
            return False
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False
