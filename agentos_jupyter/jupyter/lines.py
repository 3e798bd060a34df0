"""What the commands share: their words, and facts for people in lines."""

from __future__ import annotations

import shlex

from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter.safe import one_line, plain
from agentos_jupyter.jupyter.table import COMMANDS


def words_of(name: str, args: str, least: int, most: int) -> list[str]:
    """The words behind a command, so many at least and at most. Raises `CommandError` with how it is written."""
    try:
        words = shlex.split(args)
    except ValueError as error:
        raise CommandError(f"%{name}: {str(error).lower()} in {args!r}.") from None
    if not least <= len(words) <= most:
        raise CommandError(f"%{name} is written: {' or '.join(COMMANDS[name].usage)}. ?{name} shows its manual.")
    return words


def pairs(rows: list[tuple[str, str]]) -> str:
    """Names and values, aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {one_line(value, 300)}" for name, value in rows)


def when(iso: str) -> str:
    """A UTC time as people read it in a table."""
    return plain(iso)[:19].replace("T", " ")
