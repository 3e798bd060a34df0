"""Ownership of a workspace: an flock on `.agentos/lock`, held for life. What stands in the file is for messages only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import LogUnwritable, WorkspaceBusy, WorkspaceRefused


class Lock:
    """The lock of one workspace, as a context manager. Raises `WorkspaceBusy` naming the owner, and
    `WorkspaceRefused` for a state folder that was prepared by somebody to lead us elsewhere."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._descriptor = -1

    def __enter__(self) -> Lock:
        folder = paths.state_dir(self._workspace)
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _refuse_prepared(folder)
            _refuse_network(folder)
            if not (folder / ".gitignore").exists():
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
        try:
            self._refuse_another_machine()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._write(_me())
        return self

    def __exit__(self, *_: object) -> None:
        self._write({})  # let go of in order: nobody needs to wonder about this machine
        os.close(self._descriptor)  # releases the lock

    def _write(self, owner: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)

    def _refuse_another_machine(self) -> None:
        """A lock that another machine did not let go of is never taken over: it may work on the same folder, over a network
        whose locks are its own. A container of this machine has another host name and the same boot."""
        owner = self.owner()
        if owner.get("host") in (None, socket.gethostname()) or owner.get("boot") in (None, "", _boot_id()):
            return
        raise WorkspaceBusy(
            f"The workspace {self._workspace} belongs to process {owner.get('pid', '?')} on the machine {owner['host']}: work there. "
            f"If nothing runs there any more, delete {paths.state_dir(self._workspace) / 'lock'} and try again.",
            **owner,
            elsewhere=True,
        )

    def owner(self) -> dict[str, Any]:
        try:
            found = json.loads(os.pread(self._descriptor, 4096, 0) or b"{}")
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _refuse_prepared(folder: Path) -> None:
    """A workspace may come from anywhere, its state folder included: a link in it would have us write, and a pipe
    wait, where its sender likes."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.getuid(), folder.parent.stat().st_uid):
        raise WorkspaceRefused(f"{folder} is not a folder of yours: move it away, and a new one is made.")
    for below in (folder, folder / "blobs"):
        with contextlib.suppress(FileNotFoundError), os.scandir(below) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
                    raise WorkspaceRefused(
                        f"{entry.path} is a link or no regular file, which AgentOS never makes: "
                        f"see where {folder} comes from, and move it away."
                    )


NETWORK = frozenset({"afs", "cifs", "fuse.rclone", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
"""File systems that several machines may mount, whose locks one machine cannot rely on."""


def _refuse_network(folder: Path) -> None:
    with contextlib.suppress(OSError):
        kind = file_system(os.path.realpath(folder), Path("/proc/self/mountinfo").read_text())
        if kind in NETWORK:
            raise WorkspaceRefused(
                f"{folder} lies on a network file system ({kind}), where two machines could write one log and damage it: "
                "put the workspace on a local disk."
            )


def file_system(path: str, mounts: str) -> str:
    """The type of the file system that holds `path`, out of the text of /proc/self/mountinfo (see proc(5))."""
    found, longest = "", -1
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].encode().decode("unicode_escape")
        beneath = path == point or path.startswith(point.rstrip("/") + "/")
        if beneath and len(point) >= longest:
            found, longest = rest.split()[0], len(point)
    return found


def _me() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot_id()}


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
