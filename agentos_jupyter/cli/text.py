"""Plain text for people: tables, sizes, times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from agentos_jupyter.jupyter.tables import aligned

WIDEST = 60
"""Characters of a cell; what is longer is cut, and `--json` gives it whole."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns aligned, numbers to the right; control characters are made visible, so no cell can steer a terminal."""
    return aligned([visible(name) for name in columns], [list(row) for row in rows], _cell)


def _cell(value: Any) -> str:
    text = "" if value is None else visible(str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def visible(text: str) -> str:
    """The text on one line, with each control or direction-changing character shown as an escape."""
    return _CONTROL.sub(
        lambda match: {"\n": "⏎", "\t": " "}.get(match[0], match[0].encode("unicode_escape").decode()), text
    )


def size(count: int) -> str:
    """Bytes as people read them."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
