"""Ownership of a workspace: an flock on `.agentos/lock`, held for life. What stands in the file is for messages only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import LogUnwritable, WorkspaceBusy


class Lock:
    """The lock of one workspace, as a context manager. Raises `WorkspaceBusy` naming the owner."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._descriptor = -1

    def __enter__(self) -> Lock:
        folder = paths.state_dir(self._workspace)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
            self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LogUnwritable(
                f"The state folder {folder} cannot be written ({error.strerror}): free space or rights there, or work elsewhere."
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = self.owner()
            os.close(self._descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise LogUnwritable(
                    f"The file system of {folder} cannot lock files ({error.strerror}): use a local disk for the workspace."
                ) from None
            raise WorkspaceBusy(
                f"The workspace {self._workspace} belongs to process {owner.get('pid', '?')} on {owner.get('host', 'this machine')}: "
                "use agentos_jupyter.connect() to share it, or `agentos stop` to end that daemon.",
                **owner,
            ) from None
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_me()).encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)  # releases the lock

    def owner(self) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(self._descriptor, 4096, 0) or b"{}")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot_id()}


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
