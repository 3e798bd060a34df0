"""Read-only SQL for people: one SELECT or EXPLAIN, in a read-only transaction, with caps on rows, bytes and time.

The statement's type alone is no guard (a CTE may insert), a read-only transaction alone neither (it lets COPY and SET
through), `guard` keeps file readers out, and all rest on the database having been opened with external access off and
its configuration locked.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from agentos_jupyter.errors import LogDamaged, SqlRefused
from agentos_jupyter.log.failure import CURE, first_line
from agentos_jupyter.log.guard import one_statement
from agentos_jupyter.records import Json

_FETCH = 256
_INSIST = 0.1


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows as JSON values, with the SQL type of each column; `truncated` says why rows are missing, else None."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[list[Json]]
    truncated: str | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """Most rows, most bytes of JSON, most seconds."""

    rows: int
    bytes: int
    seconds: float


class Query:
    """One query on a cursor of its own; `stop` may be called from any thread."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, caps: Caps, exports: Path) -> None:
        self._cursor = cursor
        self._sql = sql
        self._caps = caps
        self._exports = exports
        self._names: list[str] = []
        self._types: list[str] = []
        self._why = ""
        self._done = False
        self._lock = threading.Lock()

    def run(self) -> QueryResult:
        """Blocking; closes the cursor. Raises `SqlRefused`, `LogDamaged`."""
        late = f"it took longer than {self._caps.seconds:g} s: ask for less, or add a where or limit"
        timer = threading.Timer(self._caps.seconds, self.stop, [late])
        timer.daemon = True
        timer.start()
        try:
            return self._read()
        except duckdb.Error as error:
            raise self._explain(error) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise SqlRefused(f"This answer cannot be shown ({error}): cast the column, e.g. ::varchar.") from error
        finally:
            timer.cancel()
            with self._lock:
                self._done = True
                self._cursor.close()

    def stop(self, why: str) -> None:
        """End the query at once; asked again until it has ended, because DuckDB forgets an interrupt that comes just
        before a statement starts."""
        with self._lock:
            if self._done:
                return
            self._why = self._why or why
            self._cursor.interrupt()
        again = threading.Timer(_INSIST, self.stop, [why])
        again.daemon = True
        again.start()

    def _read(self) -> QueryResult:
        statement = one_statement(self._cursor, self._sql, self._exports)
        self._cursor.execute("begin transaction read only")
        try:
            self._start(statement)
            return self._fetch()
        finally:
            if not self._why:
                self._cursor.execute("rollback")

    def _start(self, statement: Any) -> None:
        self._check()
        self._cursor.execute(statement)
        self._names = [str(column[0]) for column in self._cursor.description or ()]
        self._types = [str(column[1]) for column in self._cursor.description or ()]

    def _fetch(self) -> QueryResult:
        rows: list[list[Json]] = []
        size = 0
        truncated = None
        while truncated is None and (chunk := self._cursor.fetchmany(min(_FETCH, self._caps.rows + 1))):
            self._check()
            for raw in chunk:
                if len(rows) >= self._caps.rows:
                    truncated = f"only the first {self._caps.rows} rows are shown"
                    break
                row = self._row(raw)
                size += len(json.dumps(row)) if row is not None else self._caps.bytes
                if row is None or size > self._caps.bytes:
                    truncated = f"only the first {len(rows)} rows are shown, more would pass {self._caps.bytes} bytes"
                    break
                rows.append(row)
        return QueryResult(tuple(self._names), tuple(self._types), rows, truncated)

    def _row(self, raw: tuple[Any, ...]) -> list[Json] | None:
        """The row as JSON values; None when one value alone passes the cap, which is not worth encoding."""
        if any(isinstance(cell, str | bytes) and len(cell) > self._caps.bytes for cell in raw):
            return None
        return [json_value(value) for value in raw]

    def _check(self) -> None:
        if self._why:
            raise duckdb.InterruptException("stopped")

    def _explain(self, error: duckdb.Error) -> Exception:
        if self._why:
            return SqlRefused(f"The query was stopped: {self._why}.")
        text = str(error).strip()
        low = text.lower()
        if isinstance(error, duckdb.OutOfMemoryException):
            return SqlRefused(
                "The query needs more memory than it may have: select fewer columns or rows, or aggregate."
            )
        if ("corrupt" in low or "checksum" in low) and not isinstance(error, duckdb.ProgrammingError):
            return LogDamaged(f"The log is damaged: {first_line(text).rstrip('.')}. {CURE}")
        if "read-only" in low or "read only" in low:
            return SqlRefused(f"This would write, and the log is only read by SQL: use SELECT. ({text[:200]})")
        if isinstance(error, duckdb.PermissionException):
            return SqlRefused(f"A query reads the log's tables and views, no files and no network. ({text[:200]})")
        return SqlRefused(text[:2000])


def json_value(value: Any) -> Json:
    """A value of DuckDB as JSON: times ISO 8601 (with a zone: UTC), decimals and huge integers strings, blobs hexadecimal, nested kept."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 1 << 63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(json_value(key)): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(item) for item in value]
    return str(value)
