"""Rows for people: as HTML and as plain text, both escaped and bounded."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from agentos_jupyter.jupyter.safe import escape, one_line

SHOWN = 200
WIDEST = 200
NARROW = 24
"""Characters that are never broken: an id, a time."""

_LEFT = "text-align:left"


def html(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """An HTML table of the first rows."""
    head = "".join(f'<th style="{_LEFT}">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(map(_datum, row))}</tr>" for row in rows[:SHOWN])
    last = f"<p>{escape(line)}</p>" if (line := _note(rows, note)) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{last}"


def _datum(value: Any) -> str:
    """A cell of the HTML: words to the left, numbers where the front end has them; what is short stays on its line."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"<td>{value}</td>"
    shown = _cell(value)
    return f'<td style="{_LEFT}{";white-space:nowrap" if len(shown) <= NARROW else ""}">{escape(shown)}</td>'


def text(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """The same rows in columns of plain text."""
    lines = [[one_line(name) for name in columns], *([_cell(value) for value in row] for row in rows[:SHOWN])]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    shown = [_line(line, widths) for line in lines]
    shown.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join([*shown, *filter(None, [_note(rows, note)])])


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in text)


def _cell(value: Any) -> str:
    return "" if value is None else one_line(str(value), WIDEST)


def _note(rows: Sequence[Sequence[Any]], note: str) -> str:
    more = f"{len(rows) - SHOWN} more rows are not shown; `%%sql NAME <<` binds them all." if len(rows) > SHOWN else ""
    return " ".join(filter(None, [more, note]))
