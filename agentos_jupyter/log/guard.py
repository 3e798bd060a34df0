"""What a query may be: one SELECT or EXPLAIN, over tables, views and functions that touch no file.

Some functions must be refused by name although external access is off: DuckDB always allows the paths of its own
database, and a `read_blob` of the open log would close the file, which drops DuckDB's lock on it (POSIX record locks
belong to the process), after which a second process could write. So table functions are taken from a list.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from agentos_jupyter.errors import SqlRefused

MAX_SQL = 100_000
TABLE_FUNCTIONS = frozenset({
    "duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_dependencies", "duckdb_extensions",
    "duckdb_functions", "duckdb_indexes", "duckdb_keywords", "duckdb_memory", "duckdb_optimizers", "duckdb_schemas",
    "duckdb_sequences", "duckdb_settings", "duckdb_tables", "duckdb_temporary_files", "duckdb_types",
    "duckdb_variables", "duckdb_views", "generate_series", "histogram", "histogram_values", "icu_calendar_names",
    "json_each", "json_tree", "pg_timezone_names", "pragma_collations", "pragma_database_size", "pragma_show",
    "pragma_storage_info", "pragma_table_info", "pragma_version", "range", "repeat", "repeat_row", "summary",
    "unnest",
})  # fmt: skip
_EXPLAIN = re.compile(r"\s*explain\b(?:\s+analy[sz]e\b)?(?:\s*\([^()]*\))?", re.IGNORECASE)


def one_statement(cursor: duckdb.DuckDBPyConnection, sql: str, exports: Path) -> Any:
    """The single SELECT or EXPLAIN in `sql`. Raises `SqlRefused` with the reason; DuckDB's parser errors pass."""
    if len(sql) > MAX_SQL:
        raise SqlRefused(f"A query has at most {MAX_SQL} characters, this one {len(sql)}.")
    if any("\ud800" <= char <= "\udfff" for char in sql):
        raise SqlRefused("The query is not valid Unicode: it has a lone surrogate.")
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise SqlRefused(f"One statement at a time, this is {len(statements)}: ask with a single SELECT.")
    statement = statements[0]
    kind = _kind(statement)
    if kind not in ("SELECT", "EXPLAIN"):
        raise SqlRefused(f"Only SELECT and EXPLAIN are answered, this is {kind}: the log is changed by events alone.")
    query = _EXPLAIN.sub("", statement.query, count=1) if kind == "EXPLAIN" else statement.query
    _check_sources(cursor, query, exports)
    return statement


def _kind(statement: Any) -> str:
    try:
        return str(statement.type).rsplit(".", 1)[-1]
    except ValueError:  # DuckDB has statements that its Python module has no name for
        return "another statement"


def _check_sources(cursor: duckdb.DuckDBPyConnection, query: str, exports: Path) -> None:
    try:
        tree = json.loads(cursor.execute("select json_serialize_sql(?)", [query]).fetchall()[0][0])
        if tree["error"]:
            raise SqlRefused(
                f"Only a plain SELECT, or EXPLAIN of one, can be checked ({tree.get('error_message', 'not one')}): "
                "this would write, or is written in another form (PIVOT: use aggregates with filter)."
            )
        for node in _nodes(tree):
            _check_node(node, exports)
    except RecursionError:
        raise SqlRefused("The query is nested too deeply: simplify it.") from None


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _check_node(node: dict[str, Any], exports: Path) -> None:
    if node.get("type") == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise SqlRefused(
                f"The table function {name!r} is not answered here: a query reads the log's tables and views. "
                f"An exported file is read by its name: select … from '{exports}/name.parquet'."
            )
    elif node.get("type") == "BASE_TABLE":
        name = str(node.get("table_name", ""))
        folder = os.path.normpath(os.path.dirname(name))
        if name.startswith("log.duckdb") or ("/" in name and Path(folder) != exports):
            raise SqlRefused(f"A query reads no file outside {exports}.")
