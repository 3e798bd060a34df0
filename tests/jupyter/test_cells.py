"""The first non-blank character decides."""

from __future__ import annotations

import pytest

from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter import reference
from agentos_jupyter.jupyter.cells import Asking, Bash, Command, Help, Parameters, Prompt, Python, Sql, classify, fill
from agentos_jupyter.jupyter.table import COMMANDS, overview


@pytest.mark.parametrize(
    ("code", "cells"),
    [
        ("", ()),
        (" \n\t\n", ()),
        ("fix the bug", (Prompt("fix the bug"),)),
        ("  what is this?  ", (Prompt("what is this?"),)),
        ("why?", (Prompt("why?"),)),
        ("\\%timeit is slow", (Prompt("%timeit is slow"),)),
        ("\\!x", (Prompt("\\!x"),)),
        ("use\n%%python\nx", (Prompt("use\n%%python\nx"),)),
        ("!ls -la", (Bash("ls -la"),)),
        ("\n\n  !ls", (Bash("ls"),)),
        ("!ls\n\n!pwd", (Bash("ls"), Bash("pwd"))),
        ("!echo a \\\n  b", (Bash("echo a \\\n  b"),)),
        ("%%bash\ncat <<EOF\n%x\nEOF", (Bash("cat <<EOF\n%x\nEOF", strict=True),)),
        ("%%python\n  x = 1\n", (Python("  x = 1\n"),)),
        ("%%python", (Python(""),)),
        ("%%sql\nselect 1", (Sql("select 1"),)),
        ("%%sql df <<\nselect 1", (Sql("select 1", "df"),)),
        ("%%sql df << select 1", (Sql("select 1", "df"),)),
        ("%%sql select 1", (Sql("select 1"),)),
        ("%%parameters\na: 1", (Parameters("a: 1"),)),
        ("%session", (Command("session", ""),)),
        ("%session resume s-1", (Command("session", "resume s-1"),)),
        ("%session a\n!ls\n?runs", (Command("session", "a"), Bash("ls"), Help("runs"))),
        ("?", (Help(""),)),
        ("?session", (Help("session"),)),
        ("?%session", (Help("session"),)),
        ("??%%sql", (Help("sql"),)),
    ],
)
def test_classify(code: str, cells: tuple[object, ...]) -> None:
    assert classify(code) == cells


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%sesion", "did you mean 'session'?"),
        ("%%pyton\nx", "did you mean 'python'?"),
        ("%modl gpt", "did you mean 'model'?"),
        ("%%agent modl=x\nhi", "no option named 'modl'; did you mean 'model'?"),
        ("%%agent model\nhi", "is written model=MODEL"),
        ("%%agent model=a model=b\nhi", "given twice"),
        ("%%agent 'x\nhi", "no closing quotation"),
        ("%pip install x", "IPython's own magics go into a %%python cell"),
        ("%%agent", "nothing beneath it"),
        ("%", "A command is '%' and a name"),
        ("% session", "without a space"),
        ("%%\nx", "A command is '%%' and a name"),
        ("%python x", "write %%python"),
        ("%sql select 1", "write %%sql"),
        ("%%session a", "write %session"),
        ("%%python x=1\ny", "put 'x=1' on the next line"),
        ("%%sql", "nothing beneath it"),
        ("!", "no command behind it"),
        ("!cat <<EOF\nhello\nEOF", "Line 2 of this cell is no command, although the first one is: %%bash takes"),
        ("%status\nfix the bug", "put it into a cell of its own"),
        ("%status\n%%python\nx", "Line 2"),
    ],
)
def test_a_wrong_command_says_what_is_right(code: str, says: str) -> None:
    with pytest.raises(CommandError) as caught:
        classify(code)
    assert says in caught.value.message


def test_options_of_a_prompt_are_words_by_name() -> None:
    assert classify("%%agent\n go") == (Asking("go", {}),)
    asked = Asking("go on", {"model": "a/b c", "turns": "8"}, "answer")
    assert classify("%%agent answer << model='a/b c' turns=8\ngo on") == (asked,)
    assert classify("%%agent --bash\nls") == (Bash("ls", strict=True),)
    assert classify("%agent reviewer") == (Command("agent", "reviewer"),)


def test_fields_are_filled_once() -> None:
    variables = {"name": "{{other}} %x", "n": 3, "flag": True, "nothing": None, "items": ["ä", 1]}
    assert fill("{{name}} {{ n }} {{flag}} {{nothing}} {{items}}", variables) == '{{other}} %x 3 true null ["ä", 1]'
    assert fill("\\{{name}} {{ a.b }} {{}} {x}", variables) == "{{name}} {{ a.b }} {{}} {x}"
    with pytest.raises(CommandError, match=r"no variable named 'nam'; did you mean 'name'\?"):
        fill("{{nam}}", variables)
    with pytest.raises(CommandError, match=r"no variable named 'nope'\. Known: limit\."):
        fill("{{nope}}", {"In": [], "Out": {}, "open": open, "exit": 0, "_": 1, "limit": 3})


def test_a_filled_prompt_is_never_classed_again() -> None:
    (cell,) = classify("{{cmd}} please")
    assert isinstance(cell, Prompt)
    assert fill(cell.text, {"cmd": "!rm -rf x"}) == "!rm -rf x please"


def test_the_overview_lists_every_command() -> None:
    assert all(entry.written in overview() for entry in COMMANDS.values())


def test_the_reference_page_is_what_the_table_says() -> None:
    assert reference.page(reference.PAGE.read_text()) == reference.PAGE.read_text(), (
        "run python -m agentos_jupyter.jupyter.reference"
    )
