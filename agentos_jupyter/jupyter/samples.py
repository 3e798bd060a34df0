"""Python's data in words: the schema and a sample of a table, or JSON, never more than a prompt can bear.

Tables are known by what they can do, so that no library of them is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

ROWS, COLUMNS, WIDEST = 5, 60, 60
"""Rows and columns of a sample, and characters of one of its cells."""

LONGEST = 20_000
"""Characters of anything that is filled in from a variable that is no text."""


def table(value: Any) -> str | None:
    """The schema and first rows of a DataFrame, Series, array or Arrow table; None for anything else."""
    if hasattr(value, "to_frame") and not hasattr(value, "columns"):  # a Series of pandas or polars
        value = value.to_frame()
    if hasattr(value, "schema") and hasattr(value, "column_names"):  # pyarrow
        return _told(value.num_rows, _arrow(value), value.slice(0, ROWS).to_pylist())
    if hasattr(value, "columns") and hasattr(value, "head") and hasattr(value, "dtypes"):
        head = value.head(ROWS)
        rows = head.to_dicts() if hasattr(head, "to_dicts") else head.to_dict("records")
        return _told(len(value), list(_columns(value)), rows)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"array of shape {tuple(value.shape)}, {value.dtype}:\n{_bounded(str(value))}"
    return None


def _columns(frame: Any) -> Iterator[tuple[str, str]]:
    """Each column of a pandas or polars frame: its name, and its type with the number of missing values."""
    missing = frame.isna().sum() if hasattr(frame, "isna") else frame.null_count().row(0)
    counts = list(missing)
    for name, kind, empty in islice(zip(frame.columns, list(frame.dtypes), counts, strict=True), COLUMNS):
        yield str(name), f"{kind}{f', {empty} missing' if empty else ''}"


def _arrow(value: Any) -> list[tuple[str, str]]:
    columns = zip(value.schema, value.columns, strict=True)
    return [
        (field.name, f"{field.type}{f', {column.null_count} missing' if column.null_count else ''}")
        for field, column in islice(columns, COLUMNS)
    ]


def _told(count: int, columns: list[tuple[str, str]], rows: list[Mapping[Any, Any]]) -> str:
    names = [name for name, _ in columns]
    schema = "\n".join(f"- {name}: {kind}" for name, kind in columns)
    lines = [" | ".join(names), *(" | ".join(_cell(row, name) for name in names) for row in rows)]
    return _bounded(f"table of {count} rows; columns:\n{schema}\nfirst {len(rows)} rows:\n" + "\n".join(lines))


def _cell(row: Mapping[Any, Any], name: str) -> str:
    value = next((each for key, each in row.items() if str(key) == name), "")
    text = " ".join(str(value).split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def other(value: Any) -> str:
    """JSON where it can be, else what Python says of the value; bounded."""
    try:
        return _bounded(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return _bounded(str(value))


def _bounded(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n[… {len(text) - LONGEST} characters left out; aos.give(…) puts the whole into a file …]"
