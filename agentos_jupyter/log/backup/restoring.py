"""Laying a backup out again: every byte is checked on its way, and the log is opened and its chains are followed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from agentos_jupyter.errors import BackupDamaged, BackupNotFound
from agentos_jupyter.log.backup import backups
from agentos_jupyter.log.backup.backups import CONTENTS, File, Manifest
from agentos_jupyter.log.backup.copying import Pool, copied
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.log.log import Log
from agentos_jupyter.log.opening import MARK, prepare


def found(named: Path, workspace: Path) -> Path:
    """The backup that a person named: its folder, or the newest in a set, or of this workspace in a folder of sets."""
    if (named / backups.MANIFEST).exists():
        return named
    for folder in (named, backups.set_folder(named, workspace)):
        if every := backups.whole(folder):
            return every[-1]
    sets = [path for path in sorted(named.glob("*/")) if backups.whole(path)]
    if len(sets) == 1:
        return backups.whole(sets[0])[-1]
    hint = f": name one of {', '.join(str(path) for path in sets)}" if sets else ""
    raise BackupNotFound(f"{named} is no backup and holds none of {workspace}{hint}.")


def lay_out(backup: Path, target: Path) -> Manifest:
    """Write what a backup holds into the new folder `target`. Raises `BackupDamaged` where a byte is wrong."""
    manifest = backups.read(backup)
    contents = backups.read_contents(backup, manifest)
    target.mkdir(mode=0o700)
    prepare(target)
    for name, part in manifest.parts.items():
        if name != CONTENTS:
            _check_name(backup, name)
            _take(backup, name, backup / name, target / name, part.digest)
    pool = Pool(backup.parent / "pool")
    for digest in contents.blobs:
        path = target / "blobs" / pool.path(digest).relative_to(pool.folder)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _take(backup, f"blob {digest}", pool.path(digest), path, digest)
    _files(backup, pool, contents.files, target)
    (target / MARK).write_text(json.dumps({"position": manifest.position, "digest": manifest.head}))
    _settle(target)
    return manifest


def _check_name(backup: Path, name: str) -> None:
    if "/" in name or not name.startswith("log.duckdb"):
        raise backups.damaged(backup, backups.MANIFEST, f"it names {name!r}")


def _take(backup: Path, name: str, source: Path, target: Path, digest: str) -> None:
    try:
        found, _ = copied(source, target)
    except FileNotFoundError as error:
        raise backups.damaged(backup, name, f"{error.filename} is missing") from None
    if found != digest:
        raise backups.damaged(backup, name, f"{source} has the digest {found}")


def _files(backup: Path, pool: Pool, files: tuple[File, ...], target: Path) -> None:
    """Folders, then files, then links: nothing is ever written through a link. Rights come last."""
    folders = [file for file in files if stat.S_ISDIR(file.mode)]
    for file in folders:
        (target / file.path).mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in files:
        if file.digest is not None:
            path = target / file.path
            _take(backup, file.path, pool.path(file.digest), path, file.digest)
            path.chmod(stat.S_IMODE(file.mode) & 0o777)
            os.utime(path, ns=(file.mtime, file.mtime))
    for file in files:
        if file.link is not None:
            path = target / file.path
            if path.parent.resolve() != target.resolve() / Path(file.path).parent:
                raise backups.damaged(backup, file.path, "it lies behind a link")
            path.symlink_to(file.link)
    for file in reversed(folders):
        (target / file.path).chmod(stat.S_IMODE(file.mode) & 0o777)


def _settle(target: Path) -> None:
    """Make the names durable, of all folders: what is in them was fsynced when it was copied."""
    for where, _, _ in os.walk(target):
        sync_folder(Path(where))


async def verify(target: Path, manifest: Manifest) -> int:
    """Open the log that was laid out, follow the chain of each stream; the number of streams.

    Raises `BackupDamaged`, `LogDamaged`, `LogTooNew`.
    """
    async with await Log.open(target) as log:
        if log.position != manifest.position:
            raise BackupDamaged(f"The backup's log ends at event {log.position}, not {manifest.position}.")
        streams = log.streams()
        for stream in streams:
            await log.verify(stream)
        return len(streams)
