"""sql: questions to the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Query(Shape):
    """One SELECT or EXPLAIN."""

    sql: str


class Rows(Shape):
    """A result; `truncated` is the sentence that says which cap (limits.sql_*) cut it, or null."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: str | None


async def query(kernel: Microkernel, caller: Caller, params: Query) -> Rows:
    """Read-only SQL over the views sessions, history, tool_calls, dispatches, costs and the table events.

    Raises `sql.refused` for anything that is not one SELECT or EXPLAIN, or that takes longer than limits.sql_seconds.
    """
    limits = kernel.limits()
    found = await kernel.log.query(
        params.sql, max_rows=limits.sql_rows, max_bytes=limits.sql_bytes, seconds=limits.sql_seconds
    )
    return Rows(
        columns=list(found.columns),
        types=list(found.types),
        rows=[list(row) for row in found.rows],
        truncated=found.truncated,
    )


CALLS = namespace("sql", reads=(query,))
