"""What is whole in a damaged log: read from a copy of it, and believed as far as its chains reach.

DuckDB replays a write-ahead log up to the place where it is cut, and refuses one with a wrong checksum. So the longest
beginning of it that is replayed is found by bisection: nothing here knows the file's format.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from agentos_jupyter.errors import LogDamaged
from agentos_jupyter.log import canonical
from agentos_jupyter.log.failure import RESTORE, first_line
from agentos_jupyter.log.mark import Mark
from agentos_jupyter.log.opening import DATABASE, WAL
from agentos_jupyter.log.rows import SELECT

_STEP = 2048
"""Events read at a time; where that fails, they are read one by one."""

Row = tuple[Any, ...]


def readable_copy(folder: Path, work: Path) -> str:
    """Copy the database into `work` with as much of its WAL as can be replayed; returns what is wrong with the rest.

    Raises `LogDamaged` when the database cannot be opened at all.
    """
    database = folder / DATABASE
    if not database.exists():
        raise LogDamaged(f"The log {database} is gone: there is nothing to salvage. {RESTORE}")
    shutil.copy2(database, work / DATABASE)
    wal = (folder / WAL).read_bytes() if (folder / WAL).exists() else b""
    if not _refusal(work, wal):
        return ""
    if refusal := _refusal(work, b""):
        raise LogDamaged(f"Nothing of the log {database} can be read ({refusal}). {RESTORE}")
    good, bad = 0, len(wal)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _refusal(work, wal[:middle]) else (middle, bad)
    (work / WAL).write_bytes(wal[:good])
    return f"the write-ahead log is damaged near byte {good} of {len(wal)}"


def _refusal(work: Path, wal: bytes) -> str:
    """Why DuckDB does not open the copy with this WAL; empty when it does."""
    (work / WAL).write_bytes(wal)
    try:
        duckdb.connect(str(work / DATABASE), read_only=True).close()
    except duckdb.Error as error:
        return first_line(str(error))
    return ""


class Whole:
    """The events of a log in order, in lists of rows, until one is missing, unreadable or changed: `damage` says which.

    `last` is the mark of those that came, and `promised` the digest of the event that was acknowledged last.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, acknowledged: int) -> None:
        self._con, self._acknowledged = con, acknowledged
        self._heads: dict[str, tuple[int, str]] = {}
        self.last = Mark(0, "")
        self.row: Row | None = None
        self.promised = ""
        self.damage = ""

    def __iter__(self) -> Iterator[list[Row]]:
        step = _STEP
        while True:
            first = self.last.position + 1
            try:
                rows = self._con.execute(
                    f"{SELECT} where position >= ? and position < ? order by position", [first, first + step]
                ).fetchall()
            except duckdb.Error as error:
                if step == 1:
                    self.damage = f"event {first} cannot be read ({first_line(str(error))})"
                    return
                step = 1
                continue
            good = [row for row in rows if self._follows(row)]
            if good:
                yield good
            if len(good) < step:
                self._ended(rows)
                return

    def _follows(self, row: Row) -> bool:
        position, stream, version, time, type_, actor, dispatch, data, digest = row
        before, previous = self._heads.get(stream, (0, stream))
        chained = canonical.digest(previous, version, type_, actor, dispatch, time, data) == digest
        if position != self.last.position + 1 or version != before + 1 or not chained:
            return False
        self._heads[stream] = (version, digest)
        self.last, self.row = Mark(position, digest), row
        if position == self._acknowledged:
            self.promised = digest
        return True

    def _ended(self, rows: list[Row]) -> None:
        """Say why nothing more came, unless this was the end."""
        here = self.last.position + 1
        if any(row[0] == here for row in rows):
            self.damage = f"event {here} was changed after it was written"
        elif self._con.execute("select 1 from events where position > ? limit 1", [here]).fetchone():
            self.damage = f"event {here} is missing"
