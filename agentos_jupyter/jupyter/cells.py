"""What a cell is: its first non-blank character decides, and nothing else is guessed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentos_jupyter.errors import CommandError, nearest
from agentos_jupyter.jupyter import samples
from agentos_jupyter.jupyter.table import COMMANDS, LATER


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text for the agent; `{{name}}` is still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Asking:
    """`%%agent`: a prompt with options, checked by name; its answer is bound to `name`, when there is one."""

    text: str
    options: Mapping[str, str]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Bash:
    """A command for the agent's sandbox, given by the person. `strict`: its failure is the cell's (`%%bash`)."""

    command: str
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Python:
    code: str


@dataclass(frozen=True, slots=True)
class Sql:
    """A question to the log; its rows are bound to `name`, when there is one."""

    query: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Parameters:
    yaml: str


@dataclass(frozen=True, slots=True)
class Help:
    """`?name`; an empty name asks for the overview."""

    name: str


@dataclass(frozen=True, slots=True)
class Command:
    """`%name args`."""

    name: str
    args: str

    def names(self, dispatch: str) -> bool:
        """Whether it speaks of this dispatch, by its whole id."""
        return self.name in ("attach", "steer") and self.args.split(" ")[0].strip() == dispatch


Cell = Prompt | Asking | Bash | Python | Sql | Parameters | Help | Command

_LINE = re.compile(r"(%%?)([^\W\d][\w.-]*)?[ \t]*(.*)", re.DOTALL)
_BINDING = re.compile(r"(\w+)[ \t]*<<[ \t]*(.*)", re.DOTALL)
_IPYTHON = frozenset({"In", "Out", "aos", "exit", "get_ipython", "open", "quit"})
_FIELD = re.compile(r"\\?\{\{[ \t]*([^\W\d]\w*)[ \t]*\}\}")


def classify(code: str) -> tuple[Cell, ...]:
    """What the cell asks for, in order: nothing for an empty cell, several things only for several command lines.

    Raises `CommandError` for a command nobody knows or one that is written wrongly.
    """
    text = code.strip()
    if not text:
        return ()
    if text.startswith("\\%"):
        return (Prompt(text[1:]),)
    if text[0] not in "%!?":
        return (Prompt(text),)
    if text.startswith("%%"):
        return (_cell_command(code.lstrip()),)
    return tuple(_line_command(line) for line in _lines(text))


def _cell_command(text: str) -> Cell:
    line, _, body = text.partition("\n")
    name, rest = _named(line)
    entry = COMMANDS[name]
    if entry.mark == "%":
        raise CommandError(f"%{name} takes no body: write %{name}, with one % (?{name} shows its manual).")
    if name == "sql":
        binding = _BINDING.fullmatch(rest)
        query = f"{binding[2] if binding else rest}\n{body}".strip()
        return Sql(_filled(query, name), binding[1] if binding else None)
    if name == "agent":
        return _asking(rest, body)
    if rest:
        raise CommandError(f"%%{name} takes nothing after its name: put {rest!r} on the next line.")
    match name:
        case "bash":
            return Bash(_filled(body, name), strict=True)
        case "python":
            return Python(body)
        case _:
            return Parameters(body)


def _asking(rest: str, body: str) -> Cell:
    binding = _BINDING.fullmatch(rest)
    given = options("agent", binding[2] if binding else rest)
    text = _filled(body, "agent").strip()
    if "--bash" in given:
        return Bash(text, strict=True)
    return Asking(text, given, binding[1] if binding else None)


def options(name: str, words: str) -> dict[str, str]:
    """The `name=value` words and flags of a command, by the table. Raises `CommandError` with the nearest name."""
    known = {option.name: option for option in COMMANDS[name].options}
    found: dict[str, str] = {}
    for word in _split(name, words):
        key, equals, value = word.partition("=")
        if key not in known:
            raise CommandError(nearest("option", key, known) + f" ?{name} shows what each does.")
        if bool(known[key].value) != bool(equals) or (equals and not value):
            raise CommandError(f"The option {key} is written {known[key].written}.")
        if key in found:
            raise CommandError(f"The option {key} is given twice.")
        found[key] = value
    return found


def _split(name: str, words: str) -> list[str]:
    try:
        return shlex.split(words)
    except ValueError as error:
        raise CommandError(f"%{name}: {str(error).lower()} in {words!r}.") from None


def _filled(body: str, name: str) -> str:
    if not body.strip():
        raise CommandError(f"%%{name} has nothing beneath it (?{name} shows its manual).")
    return body


def _lines(text: str) -> list[str]:
    """The command lines of a cell; a line that ends in a backslash goes on."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and lines[-1].endswith("\\"):
            lines[-1] += "\n" + line
        elif line.strip():
            lines.append(line.strip())
    for number, line in enumerate(lines, 1):
        if line[0] not in "%!?" or line.startswith("%%"):
            cure = "%%bash takes several lines" if text.startswith("!") else "put it into a cell of its own"
            raise CommandError(f"Line {number} of this cell is no command, although the first one is: {cure}.")
    return lines


def _line_command(line: str) -> Cell:
    if line[0] == "!":
        if not line.strip("! \t"):
            raise CommandError("! has no command behind it: write !ls, or %%bash and the commands beneath it.")
        return Bash(line[1:].strip())
    if line[0] == "?":
        return Help(line.strip("? \t").lstrip("%!").partition(" ")[0])

    name, rest = _named(line)
    if COMMANDS[name].mark == "%%" and name != "agent":
        raise CommandError(f"%{name} needs a body: write %%{name}, with two %, and the rest on the next lines.")
    return Command(name, rest)


def _named(line: str) -> tuple[str, str]:
    match = _LINE.fullmatch(line.strip())
    name = (match and match[2]) or ""
    if match is None or not name:
        raise CommandError(
            f"A command is {line[:2].rstrip()!r} and a name, without a space between; %help lists them. \\% begins a prompt with a %."
        )
    if name in LATER:
        raise CommandError(f"{match[1]}{name} is for {LATER[name]}, and is not in this version.", command=name)
    if name not in COMMANDS:
        raise CommandError(
            nearest("command", name, COMMANDS) + " IPython's own magics go into a %%python cell.", command=name
        )
    return name, match[3].strip()


def fill(text: str, variables: Mapping[str, Any]) -> str:
    """The prompt with each `{{name}}` replaced by the variable; `\\{{name}}` stays as written. Raises `CommandError`."""

    def value(match: re.Match[str]) -> str:
        if match[0].startswith("\\"):
            return match[0][1:]
        if match[1] not in variables:
            raise CommandError(
                nearest("variable", match[1], names(variables)[:200])
                + " Set it in a %%parameters or %%python cell, or write \\{{…}} for the braces."
            )
        return shown(variables[match[1]])

    return _FIELD.sub(value, text)


def names(variables: Mapping[str, Any]) -> list[str]:
    """The variables a person has set: neither private ones nor those that every IPython shell begins with."""
    return sorted(name for name in variables if not name.startswith("_") and name not in _IPYTHON)


def shown(value: Any) -> str:
    """A variable as a prompt says it: text as it is, a table by schema and sample, the rest as JSON where it can be."""
    if isinstance(value, str):
        return value
    table = samples.table(value)
    return table if table is not None else samples.other(value)
