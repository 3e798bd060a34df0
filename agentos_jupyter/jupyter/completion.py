"""What Tab offers and Shift-Tab shows for commands; Python beneath `%%python` is IPython's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.cells import names
from agentos_jupyter.jupyter.desk import Desk
from agentos_jupyter.jupyter.table import COMMANDS, DISPATCH, SESSION, overview

PATIENCE = 0.05
"""Seconds that a completion waits for the daemon."""

_PYTHON = re.compile(r"\s*%%python[ \t]*\n")
_FIELD = re.compile(r"\{\{[ \t]*(\w*)$")
_COMMAND = re.compile(r"(\?{0,2})(%{1,2})?([\w.-]*)$")


def python_start(code: str) -> int | None:
    """Where the Python of a cell begins, or None for a cell that is something else."""
    match = _PYTHON.match(code)
    return match.end() if match else None


def shifted(reply: dict[str, Any], start: int) -> dict[str, Any]:
    """A reply about the Python of a cell as one about the whole cell."""
    types = reply["metadata"].get("_jupyter_types_experimental", [])
    moved = [{**each, "start": each["start"] + start, "end": each["end"] + start} for each in types]
    return {
        **reply,
        "cursor_start": reply["cursor_start"] + start,
        "cursor_end": reply["cursor_end"] + start,
        "metadata": {"_jupyter_types_experimental": moved} if moved else {},
    }


async def complete(code: str, position: int, desk: Desk, variables: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Where the completed word begins, and what it could be."""
    before = code[:position]
    field = _FIELD.search(before)
    if field:
        return position - len(field[1]), [name for name in names(variables) if name.startswith(field[1])]
    line = before.rpartition("\n")[2].lstrip()
    first = code.lstrip()[:1]
    if first not in ("%", "?") or line[:1] not in ("%", "?"):
        return position, []

    match = _COMMAND.match(line)
    if match and match.end() == len(line):
        return position - len(line), _commands(match[1], match[2] or "", match[3])
    return await _words(line, position, desk)


def _commands(question: str, mark: str, beginning: str) -> list[str]:
    """Names with the mark they are written with; behind a `?` any of them."""
    if question:
        return [question + mark + name for name in COMMANDS if name.startswith(beginning)]
    return [
        entry.written for entry in COMMANDS.values() if entry.mark.startswith(mark) and entry.name.startswith(beginning)
    ]


async def _words(line: str, position: int, desk: Desk) -> tuple[int, list[str]]:
    given = line.lstrip("%?").split(" ")
    entry, last = COMMANDS.get(given[0]), given[-1]
    if entry is None:
        return position, []
    earlier = [word for word in given[1:-1] if word]
    if entry.name == "help" and not earlier:
        return position - len(last), [name for name in COMMANDS if name.startswith(last)]
    words = _expected(entry.words, earlier)
    plain = [word for word in words if word.islower() and word.startswith(last)]
    known = await _known(words, desk) if any(word.isupper() for word in words) else []
    return position - len(last), [*plain, *(word for word in known if word.startswith(last))]


def _expected(words: tuple[str, ...], earlier: list[str]) -> tuple[str, ...]:
    """Which kinds of words may come now."""
    if not earlier:
        return words if "run" not in words else ("run",)
    if earlier == ["resume"] and SESSION in words:
        return (SESSION,)
    return (DISPATCH,) if earlier == ["run"] and DISPATCH in words else ()


async def _known(words: tuple[str, ...], desk: Desk) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE):
            if SESSION in words:
                sessions = (await desk.call("session.list", {"limit": 50}))["sessions"]
                return list(
                    dict.fromkeys(
                        [each["name"] for each in sessions if " " not in each["name"]]
                        + [each["id"] for each in sessions]
                    )
                )
            return [each["id"] for each in (await desk.call("dispatch.list", {"limit": 50}))["dispatches"]]
    except (TimeoutError, AgentOSError):
        return []


def manual(code: str, position: int) -> str | None:
    """The manual of the command the cursor is in; None in a prompt."""
    line = code[: code.find("\n", position) if "\n" in code[position:] else len(code)].rpartition("\n")[2].strip()
    for text in (line, code.strip().partition("\n")[0].strip()):
        if text.startswith("!"):
            return COMMANDS["bash"].help()
        if text[:1] in ("%", "?"):
            name = re.match(r"[%?]*([\w.-]*)", text)
            entry = COMMANDS.get(name[1]) if name else None
            return entry.help() if entry else overview()
    return None
