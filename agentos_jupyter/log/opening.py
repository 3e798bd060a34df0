"""Opening the log: make the folder, look before writing, keep a copy of what is damaged."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from agentos_jupyter.errors import AgentOSError, LogDamaged
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.log.failure import CURE, RESTORE, explain, unwritable
from agentos_jupyter.log.mark import Mark, read_mark
from agentos_jupyter.log.migrations import applied, check, migrate

DATABASE = "log.duckdb"
WAL = "log.duckdb.wal"
MARK = "head"


@dataclass(frozen=True, slots=True)
class Storage:
    """What the database may use; sizes in DuckDB's words. `checkpoint` is the WAL size that forces a checkpoint."""

    memory: str = "512MB"
    temp: str = "1GB"
    threads: int = 2
    checkpoint: str = "32MB"


@dataclass(frozen=True, slots=True)
class Heads:
    """What is read at open: each stream's version and digest, the last position, and what a person should know."""

    streams: dict[str, tuple[int, str]]
    last: Mark
    notes: tuple[str, ...] = ()


def open_database(folder: Path, storage: Storage) -> tuple[duckdb.DuckDBPyConnection, Heads]:
    """An open, checked, migrated and locked-down database in `folder`.

    Raises `LogDamaged` (a copy is kept in `damaged-<n>/`, nothing is removed), `LogTooNew`, `LogUnwritable`,
    `WorkspaceBusy`.
    """
    database = folder / DATABASE
    con: duckdb.DuckDBPyConnection | None = None
    try:
        prepare(folder)
        _expect_database(folder)
        if (folder / WAL).exists():
            _look(folder)
        con = duckdb.connect(str(database))
        heads = _inspect(con, folder)
        _lock_down(con, folder, storage)
        migrate(con)
        os.chmod(database, 0o600)
        sync_folder(folder)
    except (duckdb.Error, OSError, AgentOSError, ValueError) as error:
        if con is not None:
            con.close()
        named = explain(error, database)
        raise _with_copy(named, folder) if isinstance(named, LogDamaged) else named from error
    except BaseException:
        if con is not None:
            con.close()
        raise
    return con, heads


def prepare(folder: Path) -> None:
    """Make the state folder private and invisible to git. Raises `LogUnwritable`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for name in ("blobs", "exports"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise unwritable(error, folder) from error


def _expect_database(folder: Path) -> None:
    mark = read_mark(folder / MARK)
    if mark and mark.position and not (folder / DATABASE).exists():
        raise LogDamaged(
            f"The log {folder / DATABASE} is gone, but {mark.position} events were acknowledged in it. {RESTORE}"
        )


def _look(folder: Path) -> None:
    """Read a log that was not closed without changing a byte: a write would cut off what DuckDB could not replay."""
    database = str(folder / DATABASE)
    con = duckdb.connect(database, read_only=True)
    try:
        _inspect(con, folder)
    finally:
        con.close()


def _inspect(con: duckdb.DuckDBPyConnection, folder: Path) -> Heads:
    names = applied(con)
    check(names, str(folder / DATABASE))
    mark = read_mark(folder / MARK)
    if not names:
        return _empty(mark, folder)

    rows = con.execute(
        "select stream, max(version), arg_max(digest, version), count(*), max(position) from events group by stream"
    ).fetchall()
    last = max((row[4] for row in rows), default=0)
    if sum(row[3] for row in rows) != last or any(row[1] != row[3] for row in rows):
        raise LogDamaged(
            f"The log {folder / DATABASE} is damaged: its positions or versions have gaps or doubles. {CURE}"
        )
    digests = dict(
        con.execute(
            "select position, digest from events where position in (?, ?)", [last, mark.position if mark else last]
        ).fetchall()
    )
    _compare(mark, last, digests, folder)
    notes = () if mark else (_no_mark(folder),)
    return Heads({row[0]: (row[1], row[2]) for row in rows}, Mark(last, digests.get(last, "")), notes)


def _empty(mark: Mark | None, folder: Path) -> Heads:
    if mark and mark.position:
        raise _lost(mark, 0, folder)
    return Heads({}, Mark(0, ""))


def _compare(mark: Mark | None, last: int, digests: dict[int, str], folder: Path) -> None:
    if mark is None or mark.position == 0:
        return
    if mark.position > last:
        raise _lost(mark, last, folder)
    if digests.get(mark.position) != mark.digest:
        raise LogDamaged(
            f"The log {folder / DATABASE} is not the one that {folder / MARK} describes: "
            f"event {mark.position} has another digest. {CURE}"
        )


def _lost(mark: Mark, last: int, folder: Path) -> LogDamaged:
    return LogDamaged(
        f"The log {folder / DATABASE} is damaged: events {last + 1} to {mark.position} were acknowledged and are not "
        f"in it (its write-ahead log {folder / WAL} is torn, cut or missing). {CURE}",
        acknowledged=mark.position,
        found=last,
    )


def _no_mark(folder: Path) -> str:
    return f"{folder / MARK} is missing or unreadable: whether acknowledged events were lost cannot be told this time."


def _lock_down(con: duckdb.DuckDBPyConnection, folder: Path, storage: Storage) -> None:
    exports = str((folder / "exports").resolve()).replace("'", "''")
    for setting in (
        f"allowed_directories=['{exports}']",
        "enable_external_access=false",
        "python_enable_replacements=false",
        "autoinstall_known_extensions=false",
        "autoload_known_extensions=false",
        "allow_community_extensions=false",
        f"memory_limit='{storage.memory}'",
        f"max_temp_directory_size='{storage.temp}'",
        f"threads={storage.threads}",
        f"wal_autocheckpoint='{storage.checkpoint}'",
        "session enable_optimizer=false",  # this connection only inserts: 0.25 ms less a commit
        "TimeZone='UTC'",
        "lock_configuration=true",
    ):
        con.execute(f"set {setting}")


def _with_copy(damage: LogDamaged, folder: Path) -> LogDamaged:
    """The same condition, with a copy of the files kept aside. Only called while the database is closed:
    opening its file a second time in a process would drop DuckDB's lock."""
    try:
        kept = keep_aside(folder)
    except OSError as error:
        where = f"No copy could be made ({error})."
    else:
        where = f"A copy is kept in {kept}, nothing was removed or changed."
    return LogDamaged(f"{damage.message} {where}", **damage.data)


def keep_aside(folder: Path) -> Path:
    """Copy the database's files into a new `damaged-<n>/`, durably, or name the newest one if it holds the same bytes."""
    files = [path for path in sorted(folder.glob(DATABASE + "*")) if path.is_file()] + [folder / MARK]
    files = [path for path in files if path.exists()]
    numbers = [int(path.name[8:]) for path in folder.glob("damaged-*") if path.name[8:].isdecimal()]
    newest = folder / f"damaged-{max(numbers, default=0)}"
    if numbers and _same(files, newest):
        return newest
    target = folder / f"damaged-{max(numbers, default=0) + 1}"
    target.mkdir(mode=0o700)
    for path in files:
        shutil.copy2(path, target / path.name)
        _sync(target / path.name)
    sync_folder(target)
    sync_folder(folder)
    return target


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _same(files: list[Path], kept: Path) -> bool:
    if sorted(path.name for path in files) != sorted(path.name for path in kept.iterdir()):
        return False
    return all(_bytes_equal(path, kept / path.name) for path in files)


def _bytes_equal(one: Path, two: Path) -> bool:
    if one.stat().st_size != two.stat().st_size:
        return False
    with one.open("rb") as a, two.open("rb") as b:
        while chunk := a.read(1 << 20):
            if chunk != b.read(1 << 20):
                return False
    return True
