"""Rows for people: as HTML and as plain text, both escaped and bounded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentos_jupyter.jupyter.safe import escape, one_line

SHOWN = 200
WIDEST = 200
NARROW = 24
"""Characters that are never broken: an id, a time."""

_LEFT = "text-align:left"
_CODE = re.compile(r"`([^`]+)`")


def html(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """An HTML table of the first rows."""
    head = "".join(f'<th style="{_LEFT}">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(map(_datum, row))}</tr>" for row in rows[:SHOWN])
    said = _CODE.sub(r"<code>\1</code>", escape(_note(rows, note)))
    last = f"<p>{said}</p>" if said else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{last}"


def _datum(value: Any) -> str:
    """A cell of the HTML: words to the left, numbers where the front end has them; what is short stays on its line."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"<td>{value}</td>"
    shown = _cell(value)
    return f'<td style="{_LEFT}{";white-space:nowrap" if len(shown) <= NARROW else ""}">{escape(shown)}</td>'


def text(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """The same rows in columns of plain text."""
    shown = aligned([one_line(name) for name in columns], rows[:SHOWN], _cell)
    return "\n".join([shown, *filter(None, [_note(rows, note)])])


def aligned(names: Sequence[str], rows: Sequence[Sequence[Any]], cell: Callable[[Any], str]) -> str:
    """Columns of plain text, numbers to the right; `cell` makes a value safe to show, and short enough."""
    numbers = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(names))]
    lines = [list(names), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["─" * width for width in widths])
    return "\n".join(_line(line, widths, numbers) for line in lines)


def _line(cells: Iterable[str], widths: Iterable[int], numbers: Iterable[bool]) -> str:
    placed = zip(cells, widths, numbers, strict=True)
    return "  ".join(_placed(cell, " " * (width - _width(cell)), right) for cell, width, right in placed).rstrip()


def _placed(cell: str, space: str, right: bool) -> str:
    return space + cell if right else cell + space


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in text)


def _cell(value: Any) -> str:
    return "" if value is None else one_line(str(value), WIDEST)


def _note(rows: Sequence[Sequence[Any]], note: str) -> str:
    more = f"{len(rows) - SHOWN} more rows are not shown; `%%sql NAME <<` binds them all." if len(rows) > SHOWN else ""
    return " ".join(filter(None, [more, note]))
