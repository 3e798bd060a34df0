"""What `?name`, Shift-Tab and `agentos help NAME` say: of commands and options from their table, of limits and errors from
the reference's own pages, of models, agents and skills from the daemon."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cache
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import BY_CODE, CommandError, closest
from agentos_jupyter.jupyter.lines import pairs
from agentos_jupyter.jupyter.table import ASKING, COMMANDS, LIMITS, overview

Call = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Any]]

_ROW = re.compile(r"^\| `([\w.]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


@cache
def limits() -> Mapping[str, tuple[str, str]]:
    """Each limit's default and meaning."""
    page = _page("configuration.md").partition("## Limits")[2].partition("\n## ")[0]
    return {name: (default, bounds) for name, default, bounds in _rows(page)}


@cache
def errors() -> Mapping[str, str]:
    """When each error comes, and its cure."""
    return {code: when for code, _, when in _rows(_page("errors.md")) if code in BY_CODE}


def _page(name: str) -> str:
    return (paths.reference_dir() / name).read_text(encoding="utf-8")


def _rows(page: str) -> Iterator[tuple[str, str, str]]:
    return (found.groups() for found in _ROW.finditer(page))  # type: ignore[misc]


def topic(name: str) -> str | None:
    """The manual of a command, limit, option or error code; None for another name."""
    if name in COMMANDS:
        return COMMANDS[name].help()
    if name in limits():
        return _limit(name)
    for option in ASKING:
        if option.name == name:
            return f"%%agent {option.written}\n\n{option.does[0].upper()}{option.does[1:]}."
    if name in errors():
        when = errors()[name]
        return f"{name}, an error ({BY_CODE[name].__name__})\n\n{when[0].upper()}{when[1:]}."
    return None


def _limit(name: str) -> str:
    default, bounds = limits()[name]
    where = [f"limits: {{{name}: VALUE}} in agentos.yaml"]
    if name in LIMITS:
        where += [f"%%agent {name}=VALUE for one prompt", f"%budget {name}=VALUE for this notebook's session"]
    return f"{name}, a limit\n\n{bounds}\nIt is {default} unless you say otherwise:\n  " + "\n  ".join(where)


async def looked_up(name: str, call: Call) -> str:
    """The manual of anything that has a name. Raises `CommandError` with the nearest."""
    if not name:
        return overview()
    if (text := topic(name)) is not None:
        return text
    known: list[str] = [*COMMANDS, *limits(), *(option.name for option in ASKING), *errors()]
    for kind, method, rows in _KINDS:
        for each in (await call(method, {}))[rows]:
            known.append(each["name"])
            if each["name"] == name:
                return _facts(kind, each)
    raise CommandError(
        f"Nothing is named {name!r}{closest(name, known) or ':'} %help lists the commands, %model list, %agent list and "
        "%skill list the rest. The manual of a Python object: ?NAME inside a %%python cell."
    )


_KINDS = (
    ("agent", "agent.list", "agents"),
    ("skill", "skill.list", "skills"),
    ("model", "model.list", "models"),
)


def _facts(kind: str, found: Mapping[str, Any]) -> str:
    """What the daemon says of an agent, a skill or a model."""
    shown = [(key, str(value)) for key, value in found.items() if value not in (None, "", {}, []) and key != "name"]
    return pairs([(kind, found["name"]), *shown])


def at(code: str, position: int) -> str | None:
    """The manual of what the cursor is in, an option before its command; None in a prompt."""
    end = code.find("\n", position)
    upto = code if end < 0 else code[:end]
    line = upto.rpartition("\n")[2]
    for text in (line.strip(), code.strip().partition("\n")[0].strip()):
        if text.startswith("!"):
            return COMMANDS["bash"].help()
        if text[:1] in ("%", "?"):
            return _of_line(text, _word(line, position - (len(upto) - len(line))))
    return None


def _of_line(line: str, word: str) -> str:
    found = re.match(r"[%?]*([\w.-]*)", line)
    name = found[1] if found else ""
    entry = COMMANDS.get(name)
    key = word.partition("=")[0].lstrip("%?")
    options = {option.name for option in entry.options} if entry else set()
    if key in options:
        return _option(key) or overview()
    return (entry.help() if entry else topic(name)) or overview()


def _option(name: str) -> str | None:
    """An option's manual, where a command has the same name."""
    for option in ASKING:
        if option.name == name and name not in limits():
            return f"%%agent {option.written}\n\n{option.does[0].upper()}{option.does[1:]}."
    return topic(name)


def _word(line: str, position: int) -> str:
    """The word around a position of a line."""
    before, after = line[: max(0, position)], line[max(0, position) :]
    return re.split(r"\s", before)[-1] + re.split(r"\s", after)[0]
