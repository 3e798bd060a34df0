"""What of the state folder goes into a backup, beside the log: every blob, and every file that is state."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from agentos_jupyter.errors import AgentOSError, BackupRefused
from agentos_jupyter.log.backup import backups
from agentos_jupyter.log.backup.backups import Contents, File
from agentos_jupyter.log.backup.copying import Pool, opened

LEFT_OUT = ("lock", "head", "daemon.log", "exports", "blobs", "salvage", "services", "upkeep.json", ".gitignore")
LEFT_OUT_PREFIXES = ("log.duckdb", "daemon.log.", "service-", "damaged-", "before-restore-", "restoring-")
"""What is no state, or is copied in a way of its own; whatever else lies in the state folder is in the backup."""


def known_files(folder: Path) -> dict[str, File]:
    """The files of the newest backup: what has not changed since need not be read again."""
    found = backups.newest(folder)
    if found is None:
        return {}
    with contextlib.suppress(AgentOSError):
        return {file.path: file for file in backups.read_contents(*found).files}
    return {}


def expect_space(state: Path, folder: Path, pool: Pool, known: dict[str, File]) -> None:
    """Raise `BackupRefused` when the set's disk has no room for what is new."""
    need = sum(path.stat().st_size for path in state.glob("log.duckdb*") if path.is_file())
    for path in (state / "blobs").glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            size = path.stat().st_size
            need += 0 if pool.has("sha256:" + path.name, size) else size
    changed = (file for _, file in _walk(state, []) if stat.S_ISREG(file.mode) and not _unchanged(file, known))
    need += sum(file.size for file in changed)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise BackupRefused(
            f"The backup needs {need / 1e6:.1f} MB at most and {free / 1e6:.1f} MB are free in {folder}: free some space, "
            "name another folder, or keep fewer backups (--keep N)."
        )


def _unchanged(file: File, known: dict[str, File]) -> bool:
    before = known.get(file.path)
    return before is not None and (before.size, before.mtime) == (file.size, file.mtime) and before.digest is not None


def gather(state: Path, pool: Pool, known: dict[str, File]) -> tuple[Contents, list[str]]:
    """Put into the pool what it has not yet; what is in the backup, and the blobs that were damaged."""
    blobs, missing = _copy_blobs(state / "blobs", pool)
    files = [_stored(folder, file, pool, known, missing) for folder, file in _walk(state, missing)]
    return Contents(blobs, tuple(file for file in files if file is not None)), missing


def _copy_blobs(folder: Path, pool: Pool) -> tuple[dict[str, int], list[str]]:
    """Every blob by digest; those whose bytes are not what their name says are told, and left out."""
    blobs: dict[str, int] = {}
    damaged = []
    for path in sorted(folder.glob("??/*")):
        digest = "sha256:" + path.name
        try:
            descriptor = opened(path)
        except FileNotFoundError:
            continue  # forgotten at this moment
        try:
            size = os.fstat(descriptor).st_size
            found = (digest, size) if pool.has(digest, size) else pool.add(descriptor)
        finally:
            os.close(descriptor)
        if found[0] == digest:
            blobs[digest] = found[1]
        else:
            damaged.append(digest)
    return blobs, damaged


def _walk(state: Path, unread: list[str]) -> Iterator[tuple[int, File]]:
    """Whatever else is state, each with a descriptor of its folder: nothing is reached through a link."""

    for where, folders, names, descriptor in os.fwalk(state, follow_symlinks=False):
        at = os.path.relpath(where, state)
        if at == ".":
            folders[:] = [name for name in folders if not _left_out(name)]
            names = [name for name in names if not _left_out(name)]
        for name in sorted([*folders, *names]):
            path = name if at == "." else f"{at}/{name}"
            with contextlib.suppress(FileNotFoundError):
                entry = _entry(path, name, descriptor)
                if entry is not None:
                    yield descriptor, entry
                    if stat.S_ISDIR(entry.mode) and not os.access(name, os.R_OK | os.X_OK, dir_fd=descriptor):
                        unread.append(f"{path} (Permission denied)")


def _left_out(name: str) -> bool:
    return name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)


def _entry(path: str, name: str, folder: int) -> File | None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        return File(path, found.st_mode, link=os.readlink(name, dir_fd=folder))
    if stat.S_ISDIR(found.st_mode):
        return File(path, found.st_mode)
    if stat.S_ISREG(found.st_mode):
        return File(path, found.st_mode, size=found.st_size, mtime=found.st_mtime_ns)
    return None  # a pipe or socket: nobody listens to it after a restore


def _stored(folder: int, file: File, pool: Pool, known: dict[str, File], unread: list[str]) -> File | None:
    """The entry with the digest of its bytes, which are in the pool."""
    if not stat.S_ISREG(file.mode):
        return file
    before = known.get(file.path)
    if before is not None and before.digest and _unchanged(file, known) and pool.has(before.digest, file.size):
        return File(file.path, file.mode, before.digest, file.size, file.mtime)
    name = file.path.rpartition("/")[2]
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None  # removed at this moment
    except OSError as error:
        unread.append(f"{file.path} ({error.strerror})")
        return None
    try:
        digest, size = pool.add(descriptor)
    finally:
        os.close(descriptor)
    return File(file.path, file.mode, digest, size, file.mtime)
