"""`python -m agentos_jupyter.log.backup.making`: the process that makes one backup, spoken to in lines of JSON.

A process of its own, because the daemon must not open its database's file a second time, and because copying and
hashing gigabytes is not the daemon's work. It gets a `Job`, checks the target and says `ready`; is told what is held;
copies the log and says `copied`; is told that it was held all the while; copies the rest and says `done`. When its
parent ends, it ends, and what it made so far never counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from agentos_jupyter import __version__
from agentos_jupyter.errors import AgentOSError, BackupRefused
from agentos_jupyter.log.backup import backups, gathering
from agentos_jupyter.log.backup.backups import CONTENTS, MAKING, Contents, Manifest, Part
from agentos_jupyter.log.backup.copying import Pool, copied
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.log.failure import explain
from agentos_jupyter.log.mark import Mark
from agentos_jupyter.log.opening import DATABASE, WAL


@dataclass(frozen=True, slots=True)
class Job:
    """A backup to make: of which state folder, into which set; `keep` backups are kept, all when it is 0."""

    state: str
    workspace: str
    set: str
    schema: str
    keep: int = 0


def main() -> int:
    os.umask(0o077)
    os.nice(5)
    try:
        job = Job(**_hear())
        with _alone(Path(job.set)):
            _say({"done": make(job)})
    except AgentOSError as error:
        _say({"error": {"code": error.code, "message": error.message}})
        return 1
    except OSError as error:
        said = f"The backup could not be made ({error.strerror or error}: {error.filename}). What it had written does not count."
        _say({"error": {"code": BackupRefused.code, "message": said}})
        return 1
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        raise BackupRefused("The daemon ended before the backup was whole: what it had written does not count.")
    found: dict[str, Any] = json.loads(line)
    return found


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else makes a backup in this set; where the file system cannot lock, that is trusted."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BackupRefused(f"Another backup is being made in {folder}: wait until it is whole.") from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def make(job: Job) -> dict[str, Any]:
    """Make the backup and return what it came to."""
    started = time.monotonic()
    state, folder = Path(job.state), Path(job.set)
    pool = Pool(folder / "pool")
    _sweep(folder, pool)
    known = gathering.known_files(folder)
    gathering.expect_space(state, folder, pool, known)
    making = folder / f"{MAKING}{os.getpid()}"
    making.mkdir(mode=0o700)
    try:
        _say({"ready": True})
        held, now = _hear(), datetime.now(UTC)
        last = Mark(held["position"], held["digest"])
        parts = _copy_log(state, making, held["wal"])
        _say({"copied": True})
        _hear()
        _check_copy(making, last)
        contents, missing = gathering.gather(state, pool, known)
        parts[CONTENTS] = backups.write_contents(making, contents)
        pool.sync()
        manifest = _manifest(job, now, last, parts, contents, missing)
        backups.write(making, manifest)
        sync_folder(making)
        name = backups.new_name(folder, now)
        making.rename(folder / name)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    pruned, freed = backups.prune(folder, job.keep, pool) if job.keep else ([], 0)
    seconds = round(time.monotonic() - started, 3)
    return {"backup": str(folder / name), "seconds": seconds, "pruned": pruned, "freed": freed, **asdict(manifest)}


def _sweep(folder: Path, pool: Pool) -> None:
    """Remove what backups that were cut off left."""
    for path in folder.glob(f"{MAKING}*"):
        shutil.rmtree(path)
    for path in folder.iterdir():
        if path.name[:1].isdigit() and path.is_dir() and not (path / backups.MANIFEST).exists():
            shutil.rmtree(path)
    pool.sweep()


def _copy_log(state: Path, making: Path, wal: int) -> dict[str, Part]:
    parts = {DATABASE: Part(*copied(state / DATABASE, making / DATABASE))}
    if wal:
        parts[WAL] = Part(*copied(state / WAL, making / WAL, wal))
    return parts


def _check_copy(making: Path, last: Mark) -> None:
    """Read every row of the copy: a damaged block shows itself when it is read."""
    hashed = "bit_xor(hash(position, stream, version, time, type, actor, dispatch, data, digest))"
    try:
        with duckdb.connect(str(making / DATABASE), read_only=True) as con:
            con.execute("set threads = 1")
            count, top, _ = con.execute(f"select count(*), max(position), {hashed} from events").fetchall()[0]
            rows = con.execute("select digest from events where position = ?", [last.position]).fetchall()
    except duckdb.Error as error:
        if "set lock on file" in str(error).lower():
            return  # a network file system without locks; a restore looks at the copy on a local disk
        raise explain(error, making / DATABASE) from error
    if (count, top or 0) != (last.position, last.position) or (rows and rows[0][0] != last.digest):
        raise BackupRefused(f"The copy of the log holds {count} events, not {last.position}: try again.")


def _manifest(
    job: Job, now: datetime, last: Mark, parts: dict[str, Part], contents: Contents, missing: list[str]
) -> Manifest:
    pooled = sum(contents.blobs.values()) + sum(file.size for file in contents.files)
    return Manifest(
        format=backups.FORMAT,
        agentos=__version__,
        schema=job.schema,
        workspace=job.workspace,
        made=now.isoformat(timespec="seconds"),
        position=last.position,
        head=last.digest,
        parts=parts,
        blobs=len(contents.blobs),
        files=len(contents.files),
        bytes=pooled + sum(part.size for part in parts.values()),
        missing=tuple(missing),
    )


if __name__ == "__main__":
    sys.exit(main())
