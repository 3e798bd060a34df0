"""Rows ordered by stream: events stay the same, each in its position; only where they lie in the file changes.

Sessions that work at once leave their events mixed, and to read one is then to read all. Here the table is built anew
beside itself, in pieces of the size of DuckDB's row groups: within a piece the rows are ordered by stream and version,
the pieces follow each other by position. So a session lies together, and a span of positions does too. Appends go on
meanwhile; at the end the new table takes the name of the old one in a single transaction. Killed at any moment, the log
is the old one or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from agentos_jupyter.errors import LogError

PIECE = 122_880
"""Rows of one of DuckDB's row groups."""

PIECE_BYTES = 64 << 20
"""Data of a piece at most: it is sorted in memory."""

_NEW = "ordered"
_SAME = "count(*), bit_xor(hash(position, stream, version, time, type, actor, dispatch, data, digest))"


def left_over(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether an ordering that was cut off left its table."""
    return bool(con.execute("select 1 from duckdb_tables() where table_name = ?", [_NEW]).fetchall())


def drop(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(f"drop table if exists {_NEW}")


def build(cursor: duckdb.DuckDBPyConnection, upto: int, stopped: Callable[[], bool]) -> bool:
    """Build the new table up to a position, each piece in a transaction of its own; False when it was stopped.

    Raises `LogError` when a piece does not come out the same.
    """
    drop(cursor)
    [(made,)] = cursor.execute("select sql from duckdb_tables() where table_name = 'events'").fetchall()
    cursor.execute(made.replace("events", _NEW, 1))
    for first, last in _pieces(cursor, upto):
        if stopped():
            drop(cursor)
            return False
        _piece(cursor, first, last)
    return True


def _pieces(cursor: duckdb.DuckDBPyConnection, upto: int) -> Iterator[tuple[int, int]]:
    """Spans of positions, from and to, each of one piece."""
    first = 1
    while first <= upto:
        last = min(first + PIECE - 1, upto)
        while last > first and _bytes(cursor, first, last) > PIECE_BYTES:
            last = first + (last - first) // 2
        yield first, last
        first = last + 1


def _bytes(cursor: duckdb.DuckDBPyConnection, first: int, last: int) -> int:
    sql = "select coalesce(sum(strlen(data)), 0) from events where position between ? and ?"
    return int(cursor.execute(sql, [first, last]).fetchall()[0][0])


def _piece(cursor: duckdb.DuckDBPyConnection, first: int, last: int) -> None:
    span = "where position between ? and ?"
    cursor.execute("begin transaction")
    try:
        cursor.execute(f"insert into {_NEW} select * from events {span} order by stream, version", [first, last])
        _compare(cursor, span, [first, last])
    except BaseException:
        cursor.execute("rollback")
        raise
    cursor.execute("commit")


def _compare(con: duckdb.DuckDBPyConnection, span: str, values: list[Any]) -> None:
    old, new = (con.execute(f"select {_SAME} from {table} {span}", values).fetchall()[0] for table in ("events", _NEW))
    if old != new:
        raise LogError(f"Rows {span} {values} did not come out the same when they were ordered: nothing was changed.")


def take_over(con: duckdb.DuckDBPyConnection, upto: int) -> None:
    """On the writer's thread: add what came since, and give the new table the name of the old one, all or nothing."""
    con.execute("begin transaction")
    try:
        con.execute(f"insert into {_NEW} select * from events where position > ? order by stream, version", [upto])
        _compare(con, "where position > ?", [upto])
        old, new = (con.execute(f"select count(*) from {table}").fetchall()[0] for table in ("events", _NEW))
        if old != new:
            raise LogError(f"{new[0]} of {old[0]} events were ordered: nothing was changed.")
        con.execute("drop table events")
        con.execute(f"alter table {_NEW} rename to events")
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")
