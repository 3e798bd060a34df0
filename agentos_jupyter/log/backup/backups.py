"""Backups of one workspace in one folder: what each holds, which are whole, and which may go.

A *set* is `FOLDER/NAME-1a2b3c4d`, the backups of one workspace. In it `pool/` has bytes by their digest, shared by all
backups, and each backup is a folder such as `2026-01-31T12-00-00Z`, whole as soon as it has this name:
`manifest.json` says what it is and the digests of its files, `contents.json` names the blobs and files to be found in
the pool, `log.duckdb` (and `log.duckdb.wal`) are the log up to the event `position`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from agentos_jupyter.errors import BackupDamaged, BackupNotFound, BackupRefused
from agentos_jupyter.log.backup.copying import Pool
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.paths import CONFIG_NAME, STATE_NAME

FORMAT = 1
MANIFEST = "manifest.json"
CONTENTS = "contents.json"
MAKING = "making-"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a backup: its digest and size."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. `made` is UTC, of the moment when its log ends; `position` and `head` are the last event's,
    `missing` are blobs that were damaged, and files that could not be read, when it was made."""

    format: int
    agentos: str
    schema: str
    workspace: str
    made: str
    position: int
    head: str
    parts: Mapping[str, Part]
    blobs: int
    files: int
    bytes: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file, folder (`digest` None) or link (`link`) of the state folder, by its path in there."""

    path: str
    mode: int
    digest: str | None = None
    size: int = 0
    mtime: int = 0
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup finds in the pool: blobs (digest → size) and files."""

    blobs: Mapping[str, int]
    files: tuple[File, ...]

    @property
    def digests(self) -> set[str]:
        return set(self.blobs) | {file.digest for file in self.files if file.digest}


def set_folder(target: Path, workspace: Path) -> Path:
    """Where the backups of a workspace lie in a folder that may hold those of several."""
    mark = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:8]
    return target / f"{workspace.name}-{mark}"


def refuse_target(target: Path, workspace: Path) -> None:
    """Raise `BackupRefused` for a folder that is missing, or that an agent may reach: in this workspace, or another."""
    if not target.is_dir():
        raise BackupRefused(f"The folder for backups {target} is not there: make it, or mount its disk.")
    real = Path(os.path.realpath(target))
    for folder in (real, *real.parents):
        if folder == workspace or (folder / STATE_NAME).is_dir() or (folder / CONFIG_NAME).is_file():
            raise BackupRefused(
                f"{target} lies in the workspace {folder}, where an agent may read and change it, and it would be lost "
                "with it: name a folder elsewhere, best on another disk."
            )


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, last of all, with a digest over itself."""
    data = asdict(manifest)
    _write_synced(folder / MANIFEST, json.dumps({**data, "digest": _digest(data)}, indent=1).encode())


def write_contents(folder: Path, contents: Contents) -> Part:
    data = {"blobs": dict(contents.blobs), "files": [asdict(file) for file in contents.files]}
    raw = json.dumps(data).encode()
    _write_synced(folder / CONTENTS, raw)
    return Part("sha256:" + hashlib.sha256(raw).hexdigest(), len(raw))


def _write_synced(path: Path, raw: bytes) -> None:
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Manifest:
    """The manifest of a backup. Raises `BackupDamaged`, or `BackupNotFound` where there is none."""
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
        claimed = data.pop("digest")
        if data["format"] > FORMAT:
            raise BackupRefused(
                f"The backup {folder} was made by AgentOS {data['agentos']} in the format {data['format']}, this version "
                f"reads up to {FORMAT}: upgrade AgentOS (pip install -U agentos-jupyter)."
            )
        if claimed != _digest(data):
            raise ValueError("its digest is wrong")
        parts = {name: Part(**part) for name, part in data.pop("parts").items()}
        return Manifest(**{**data, "parts": parts, "missing": tuple(data["missing"])})
    except FileNotFoundError:
        raise BackupNotFound(f"{folder} is no whole backup: it has no {MANIFEST}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, MANIFEST, str(error)) from None


def read_contents(folder: Path, manifest: Manifest) -> Contents:
    """What the backup finds in the pool. Raises `BackupDamaged`."""
    try:
        raw = (folder / CONTENTS).read_bytes()
        if "sha256:" + hashlib.sha256(raw).hexdigest() != manifest.parts[CONTENTS].digest:
            raise ValueError("its digest is wrong")
        data = json.loads(raw)
        files = tuple(File(**each) for each in data["files"])
        for file in files:
            _check_path(file.path)
        for digest in (*data["blobs"], *(file.digest for file in files if file.digest is not None)):
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"it names the digest {digest!r}")
        return Contents(data["blobs"], files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(folder, CONTENTS, str(error)) from None


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"it names the path {path!r}")


def damaged(folder: Path, name: str, why: str) -> BackupDamaged:
    return BackupDamaged(
        f"The backup {folder} is damaged: {name} is not what was written ({why[:200]}). Nothing was changed; use another "
        "backup (agentos backup --list)."
    )


def whole(folder: Path) -> list[Path]:
    """The backups in a set, oldest first: those that have a manifest."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name[:1].isdigit() and (path / MANIFEST).is_file())


def newest(folder: Path) -> tuple[Path, Manifest] | None:
    """The newest backup of a set whose manifest can be read."""
    for path in reversed(whole(folder)):
        try:
            return path, read(path)
        except (BackupDamaged, BackupRefused):
            continue
    return None


def new_name(folder: Path, now: datetime) -> str:
    """A name for a backup made now, after those that are there."""
    name = now.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    number = 1
    while (folder / (candidate := name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return candidate


def prune(folder: Path, keep: int, pool: Pool) -> tuple[list[str], int]:
    """Remove all but the newest `keep` backups; their names, and the bytes of the pool that became free.

    The pool is left alone when one of those that stay cannot be read, because nobody knows what it needs.
    """
    every = whole(folder)
    going = every[: max(0, len(every) - keep)]
    for path in going:
        (path / MANIFEST).unlink()  # from here on it is no backup any more
        shutil.rmtree(path)
    sync_folder(folder)
    needed: set[str] = set()
    for path in whole(folder):
        try:
            needed |= read_contents(path, read(path)).digests
        except (BackupDamaged, BackupRefused):
            return [each.name for each in going], 0
    return [each.name for each in going], pool.keep_only(needed) if going else 0
