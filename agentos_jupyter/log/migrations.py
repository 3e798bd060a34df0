"""The schema as a list of named migrations; the list only ever grows at its end.

The views are made anew whenever their text differs from what this database was last given, so code and views agree.
"""

from __future__ import annotations

import hashlib

import duckdb

from agentos_jupyter.errors import LogTooNew
from agentos_jupyter.log.views import VIEWS

MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "0001-events",
        """
        create table events (
            position bigint not null,   -- global order, 1..n without gaps
            stream varchar not null,    -- 'session/<id>', 'agent/<id>', …
            version bigint not null,    -- 1..n within the stream
            time timestamp not null,    -- UTC, for display; order is position
            type varchar not null,
            actor varchar not null,
            dispatch varchar,
            data json not null,         -- canonical text: the digest is over these very bytes
            digest varchar not null     -- hash chain within the stream
        )
        """,
    ),
)
_LEDGER = "create table if not exists migrations (name varchar not null, applied timestamp not null)"
_VIEWS_PREFIX = "views-"


def applied(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of the migrations this database has had, oldest first; empty for a new database."""
    known = con.execute("select 1 from duckdb_tables() where table_name = 'migrations'").fetchone()
    if known is None:
        return []
    return [row[0] for row in con.execute("select name from migrations order by rowid").fetchall()]


def check(names: list[str], where: str, migrations: tuple[tuple[str, str], ...] = MIGRATIONS) -> None:
    """Raise `LogTooNew` when the database has had a migration that this code does not know."""
    known = [name for name, _ in migrations]
    strangers = [name for name in names if name not in known and not name.startswith(_VIEWS_PREFIX)]
    if strangers:
        raise LogTooNew(
            f"The log {where} was written by a newer AgentOS: it has the schema {strangers[-1]!r}, this version knows "
            f"up to {known[-1]!r}. Nothing was changed. Upgrade (pip install -U agentos-jupyter) and open it again.",
            schema=strangers[-1],
            known=known[-1],
        )


def migrate(con: duckdb.DuckDBPyConnection, migrations: tuple[tuple[str, str], ...] = MIGRATIONS) -> None:
    """Bring the database to this code's schema: all in one transaction, so that it is either old or new."""
    names = applied(con)
    views = _VIEWS_PREFIX + hashlib.sha256("\n".join(VIEWS.values()).encode()).hexdigest()[:12]
    missing = [(name, sql) for name, sql in migrations if name not in names]
    stale = bool(missing) or [name for name in names if name.startswith(_VIEWS_PREFIX)][-1:] != [views]
    if not stale:
        return

    con.execute("begin transaction")
    try:
        con.execute(_LEDGER)
        for name, sql in missing:
            con.execute(sql)
            _record(con, name)
        for name, sql in VIEWS.items():
            con.execute(f"create or replace view {name} as {sql}")
        con.execute("delete from migrations where starts_with(name, ?)", [_VIEWS_PREFIX])
        _record(con, views)
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")


def _record(con: duckdb.DuckDBPyConnection, name: str) -> None:
    con.execute("insert into migrations values (?, now()::timestamptz at time zone 'UTC')", [name])
