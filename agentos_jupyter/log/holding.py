"""Holding the database still while it is copied: appends go on into the write-ahead log, and no checkpoint is made.

DuckDB changes its database file at checkpoints alone, and makes none while another transaction may write. So a
transaction that changes nothing is kept open; the file, and the write-ahead log up to the length it has now, are then
one consistent log, as of a moment between two commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from agentos_jupyter.log.mark import Mark
from agentos_jupyter.log.opening import WAL


@dataclass(frozen=True, slots=True)
class Held:
    """What may be copied: the database file whole, `wal` bytes of its write-ahead log; it ends at `last`."""

    wal: int
    last: Mark


class Holding:
    """Begun and ended on the writer's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def begin(self, con: duckdb.DuckDBPyConnection, last: Mark) -> Held:
        self._cursor = con.cursor()
        self._cursor.execute("begin transaction")
        self._cursor.execute("update migrations set name = name where false")
        try:
            wal = (self._folder / WAL).stat().st_size
        except FileNotFoundError:
            wal = 0
        return Held(wal, last)

    def end(self) -> None:
        if self._cursor is not None:
            self._cursor.close()  # rolls back
            self._cursor = None
