"""Exports: the events and every view as files that other programs read, all of one moment.

DuckDB may write into `exports/` of the state folder alone; there an export gets its name when it is whole.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import duckdb

from agentos_jupyter.log.blobs import sync_folder

Format = Literal["parquet", "jsonl"]
MAKING = "making-"
"""How the folder of an export begins until it is whole."""

_OPTIONS = {"parquet": "format parquet, compression zstd, row_group_size 20480", "jsonl": "format json"}


@dataclass(frozen=True, slots=True)
class Exported:
    """One file: its path, rows and bytes."""

    path: Path
    rows: int
    bytes: int


def export(cursor: duckdb.DuckDBPyConnection, exports: Path, kind: Format) -> list[Exported]:
    """Write the table `events` and each view into a new folder beneath `exports`, a file each."""
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    number = 1
    while (final := exports / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    making = exports / f"{MAKING}{final.name}"
    making.mkdir(mode=0o700)
    try:
        rows = _write(cursor, making, kind)
        making.rename(final)
        sync_folder(exports)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    paths = {table: final / f"{table}.{kind}" for table in rows}
    return [Exported(path, rows[table], path.stat().st_size) for table, path in paths.items()]


def _write(cursor: duckdb.DuckDBPyConnection, folder: Path, kind: Format) -> dict[str, int]:
    cursor.execute("begin transaction read only")
    views = cursor.execute("select view_name from duckdb_views() where not internal order by 1").fetchall()
    rows = {}
    for table in ("events", *(row[0] for row in views)):
        path = str(folder / f"{table}.{kind}").replace("'", "''")
        quoted = '"' + table.replace('"', '""') + '"'
        [(rows[table],)] = cursor.execute(f"copy (from {quoted}) to '{path}' ({_OPTIONS[kind]})").fetchall()
    cursor.execute("rollback")
    return rows
