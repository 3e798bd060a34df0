"""What Tab offers and Shift-Tab shows for commands; Python beneath `%%python` is IPython's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.cells import names
from agentos_jupyter.jupyter.desk import Desk
from agentos_jupyter.jupyter.known import files
from agentos_jupyter.jupyter.table import COMMANDS, DISPATCH, FILE, LIMITS, VARIABLE, Entry

_PYTHON = re.compile(r"\s*%%python[ \t]*\n")
_FIELD = re.compile(r"\{\{[ \t]*(\w*)$")
_COMMAND = re.compile(r"(\?{0,2})(%{1,2})?([\w.-]*)$")

_SHELL_WORD = re.compile(r"(?:\\.|[^\s'\"=;|&<>()`$\\])*$")
_ESCAPED = re.compile(r"\\(.)")
_SPECIAL = re.compile(r"[\s'\"\\$`&|;<>()*?\[\]{}#!~]")
_SPACE = re.compile(r"\s")


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
    if field and not _is_bash(code):
        return position - len(field[1]), _beginning(field[1], names(variables))
    line = before.rpartition("\n")[2].lstrip()
    if _is_bash(code) and (line.startswith("!") or not line.startswith("%%")):
        return _file(line.removeprefix("!"), position, desk)
    first = code.lstrip()[:1]
    if first not in ("%", "?") or line[:1] not in ("%", "?"):
        return position, []

    match = _COMMAND.match(line)
    if match and match.end() == len(line):
        return position - len(line), _commands(match[1], match[2] or "", match[3])
    return await _words(line, position, desk, variables)


def _is_bash(code: str) -> bool:
    """Whether the cell holds commands for the sandbox."""
    first = code.lstrip().partition("\n")[0]
    return first.startswith("!") or bool(re.match(r"%%bash\b|%%agent\b.* --bash\b", first))


def _beginning(start: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name.startswith(start)]


def _files(desk: Desk, start: str) -> list[str]:
    try:
        return files(desk.root(), start)
    except AgentOSError:  # no workspace here: the first cell that needs one says so
        return []


def _file(line: str, position: int, desk: Desk) -> tuple[int, list[str]]:
    """A file name in a shell command, written as the shell reads it."""
    word = _SHELL_WORD.search(line)
    written = word[0] if word else ""
    found = _files(desk, _ESCAPED.sub(r"\1", written))
    return position - len(written), [_SPECIAL.sub(r"\\\g<0>", name) for name in found]


def _commands(question: str, mark: str, beginning: str) -> list[str]:
    """Names with the mark they are written with; behind a `?` any of them."""
    if question:
        return [question + mark + name for name in _beginning(beginning, COMMANDS)]
    forms = [form for entry in COMMANDS.values() for form in _forms(entry)]
    return [form for form in forms if form.startswith(mark) and form.lstrip("%").startswith(beginning)]


def _forms(entry: Entry) -> list[str]:
    """How a command begins: `%agent`, `%%agent`."""
    written = [usage.split()[0] for usage in entry.usage if usage.startswith("%")]
    return list(dict.fromkeys([entry.written, *(each for each in written if each.lstrip("%") == entry.name)]))


async def _words(line: str, position: int, desk: Desk, variables: Mapping[str, Any]) -> tuple[int, list[str]]:
    given = line.lstrip("%?").split(" ")
    entry, last = COMMANDS.get(given[0]), given[-1]
    if entry is None:
        return position, []
    earlier = [word for word in given[1:-1] if word]
    options = {option.name: option for option in entry.options} if _takes_options(line, entry) else {}
    name, equals, value = last.partition("=")
    if equals and name in options:
        start = value.rpartition(",")[2] if options[name].value == FILE else value
        return position - len(start), await _of_kind(options[name].value, start, desk, variables)

    used = {word.partition("=")[0] for word in earlier}
    written = [f"{each.name}=" if each.value else each.name for each in options.values() if each.name not in used]
    words = [] if line.startswith("%%") else _expected(entry.words, earlier)
    if entry.name == "help" and not earlier:
        written = [*COMMANDS, *LIMITS]
    found = [*_beginning(last, [word for word in words if word.islower()]), *_beginning(last, written)]
    for kind in (word for word in words if word.isupper()):
        found += await _of_kind(kind, last, desk, variables)
    return position - len(last), found


def _takes_options(line: str, entry: Entry) -> bool:
    """`%agent` chooses one and takes none; `%%agent` does."""
    return line.startswith(entry.mark) or entry.mark == "%"


async def _of_kind(kind: str, start: str, desk: Desk, variables: Mapping[str, Any]) -> list[str]:
    if kind == FILE:
        return _files(desk, start)
    if kind == VARIABLE:
        return _beginning(start, names(variables))
    known = await desk.known.names(kind)
    here = [desk.running] if kind == DISPATCH and desk.running else []
    found = _beginning(start, dict.fromkeys([*here, *known]))
    return [name for name in found if not _SPACE.search(name)]


def _expected(words: tuple[str, ...], earlier: list[str]) -> tuple[str, ...]:
    """Which words may come now; one that is looked up may follow `run` or `resume`."""
    if not earlier:
        return words if "run" not in words else ("run",)
    if earlier in (["resume"], ["run"]) and earlier[0] in words:
        return tuple(word for word in words if word.isupper())
    return ()
