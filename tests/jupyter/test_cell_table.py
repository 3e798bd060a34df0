"""The cell language as a table: what is written, and what a person sees. One real kernel runs all rows, in order."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.jupyter.table import COMMANDS, LATER

from .conftest import Cell, Notebook

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MODEL: list[dict[str, Any]] = [
    {"when": {"role": "user", "match": "^for ever"}, "say": "again", "calls": [{"bash": {"command": "true"}}]},
    {"when": {"role": "user", "match": "^sleep"}, "say": "I sleep.", "calls": [{"bash": {"command": "sleep 5"}}]},
    {"when": {"role": "user", "match": "^think"}, "say": "a thought that takes its time", "delay": 1.0},
    {"when": {"role": "user", "match": "^number"}, "say": '{"n": 3}'},
    {"when": {"role": "user", "match": "^rows"}, "say": '[{"n": 3}, {"n": 4}]'},
    {"when": {"role": "user", "match": "^shapeless"}, "say": "no JSON at all"},
    {"when": {"role": "user", "match": "(?s)^(.*)"}, "say": "You said: {1}"},
    {"when": {"role": "tool", "match": "^.no output"}, "say": "again", "calls": [{"bash": {"command": "true"}}]},
    {"say": "Done."},
]


@dataclass(frozen=True)
class Row:
    """A cell, the cells before it, and what is shown: texts, or an error's code and a part of its sentence.

    `$FOLDER` is the workspace, `$DISPATCH` the last dispatch of the notebook, `$SESSION` its session.
    """

    code: str
    shows: tuple[str, ...] = ()
    error: tuple[str, str] | None = None
    before: tuple[str, ...] = ()
    after: str = ""


DF = "%%python\nimport pandas\ndf = pandas.DataFrame({'a': [1, 2]})"
FORM = "%%python\nFORM = {'type': 'object', 'required': ['n']}"
NUMBER = "%%python\nfrom pydantic import BaseModel\nclass Number(BaseModel):\n    n: int"
SIDE = "aos.call('session.get', {'session': aos.dispatch['session']})['name']"
IMAGE = """aos.sql("select data->>'$.images[0].name' from events where type = 'user.message' order by position desc limit 1")"""

PROMPTS = (
    Row("hello there", ("You said: hello there", "scripted model (model.yaml)", "1 turn")),
    Row("are you there?", ("You said: are you there?",)),
    Row("\\% of what?", ("You said: % of what?",)),
    Row("go to {{city}}", ("You said: go to Bonn",)),
    Row("go to \\{{city}}", ("You said: go to {{city}}",)),
    Row("see {{df}}", ("table of 2 rows", "- a: int64", "first 2 rows")),
    Row("go to {{citi}}", error=("command.invalid", "did you mean 'city'?")),
    Row("   \n", ()),
)  # fmt: skip

AGENT = (
    Row("%%agent\nhello", ("You said: hello",)),
    Row("%%agent four <<\nhow many?", before=(), after="four", shows=("'You said: how many?'",)),
    Row("%%agent agent=reviewer\nhello", ("I review.",)),
    Row("%%agent model=scripted:$FOLDER/other.yaml\nhello", ("I am another.", "scripted model (other.yaml)")),
    Row("%%agent session=side\nhello", before=("%session new side", "%session new main"), after=SIDE, shows=("'side'",)),
    Row("%%agent found << schema=json\nnumber", after="found", shows=("{'n': 3}",)),
    Row("%%agent found << schema=FORM\nnumber", after="found['n']", shows=("3",)),
    Row("%%agent found << schema=table\nrows", after="type(found).__name__, int(found.n.sum())", shows=("('DataFrame', 7)",)),
    Row("%%agent found << schema=Number\nnumber", after="found", shows=("Number(n=3)",)),
    Row("%%agent found << schema=list[Number]\nrows", after="found[1].n", shows=("4",)),
    Row("%%agent images=dot.png\nlook", after=IMAGE, shows=("dot.png",)),
    Row("%%agent files=notes.txt\nread this", ("File notes.txt (12 bytes)", "remember me")),
    Row("%%agent turns=2\nfor ever", error=("budget.exceeded", "2 turns")),
    Row("%%agent wall=1\nsleep", error=("budget.exceeded", "limits.wall")),
    Row("%%agent tokens=1\nfor ever", error=("budget.exceeded", "limits.tokens")),
    Row("%%agent usd=0\nfor ever", error=("budget.exceeded", "limits.usd")),
    Row("%%agent corrections=1 schema=json\nshapeless", error=("answer.invalid", "JSON")),
    Row("%%agent command=1\nsleep", ("timed out", "Done.")),
    Row("%%agent compute=1 turns=1\nthink", error=("model.unavailable", "1 s")),
    Row("%%agent --bash\necho mine", ("mine",)),
    Row("%%agent trns=2\nhello", error=("command.invalid", "did you mean 'turns'?")),
    Row("%%agent", error=("command.invalid", "nothing beneath")),
    Row("%agent", ("agent", "the workspace's")),
    Row("%agent reviewer", ("Prompts go to the agent reviewer now",)),
    Row("%agent list", before=("%session main",), shows=("reviewer", "reads what others wrote")),
)  # fmt: skip

OWN = (
    Row("!echo $((6*7))", ("42",)),
    Row("!exit 3", ("[exit code 3]",)),
    Row("!echo one\n!echo two", ("one\ntwo",)),
    Row("%%bash\ncd /tmp\npwd", ("/tmp",)),
    Row("%%bash\nexit 3", error=("command.failed", "exit code 3")),
    Row("%%python\n6 * 7", ("42",)),
    Row("%%python\naos.last", ("You said: hello",), before=("hello",)),
    Row("%%python\naos.give(df)", ("data/df.parquet",)),
    Row("!cd $FOLDER; head -c 4 data/df.parquet", ("PAR1",)),
    Row("%%sql\nselect 6 * 7 as answer", ("answer", "42")),
    Row("%%sql rows <<\nselect 6 * 7 as answer", after="int(rows.answer[0])", shows=("42",)),
    Row("%%sql\ndrop table events", error=("sql.refused", "SELECT")),
    Row("%%parameters\nplace: Rome\nn: 3", after="place, n", shows=("('Rome', 3)",)),
)  # fmt: skip

COMMAND_ROWS = (
    Row("%session", ("session", "main", "idle"), before=("%session main",)),
    Row("%session main", ("Going on with session main",)),
    Row("%session new third", ("New session third (s-",)),
    Row("%session list", ("main", "%session resume ID")),
    Row("%session resume main", ("Going on with session main",)),
    Row("%model", ("scripted model (model.yaml)",)),
    Row("%model scripted:$FOLDER/other.yaml", ("This session asks scripted model (other.yaml)",), before=("%session new modelled",)),
    Row("%model list", ("scripted:", "ready"), before=("%session main",)),
    Row("%skill list", ("aos-context", "aos-budget")),
    Row("%skill aos-context", ("description", "folder", "digest")),
    Row("%hook list", ("tool.before", "session.assemble", "aos-context")),
    Row("%hook tool.before", ("admission", "A tool call is about to be allowed")),
    Row("%budget", ("turns", "a dispatch may use")),
    Row("%budget turns=7", ("7", "this session's own")),
    Row("%budget reset", ("turns",)),
    Row("%cost", ("this session", "other sessions", "The next prompt sends about"), before=("hello",)),
    Row("%context", ("system", "user", "tokens")),
    Row("%steer more, please", error=("dispatch.ended", "Nothing is at work")),
    Row("%steer $DISPATCH more, please", error=("dispatch.ended", "")),
    Row("%runs", ("hello", "ok", "%attach ID")),
    Row("%runs 1", ("hello",)),
    Row("%attach $DISPATCH", ("$DISPATCH: hello", "You said: hello")),
    Row("%dispatch run $DISPATCH", ("for ever",), ("budget.exceeded", "turns"), before=("%budget turns=1", "for ever")),
    Row("%verify", error=("command.invalid", "%verify FILE")),
    Row("%verify empty.ipynb", ("No cell of this notebook asked an agent.",)),
    Row("%status", ("workspace", "daemon", "sandbox", "log")),
    Row("%help", ("%%agent", "%session", "!COMMAND")),
    Row("%help turns", ("turns, a limit",)),
    Row("?session", ("%session resume ID",)),
    Row("?", ("%%agent", "!COMMAND")),
    Row("%status\n%model", ("workspace", "scripted model")),
    Row("%sesion", error=("command.invalid", "did you mean 'session'?")),
    Row("%timeit 1", error=("command.invalid", "%%python")),
    Row("%%session\nx", error=("command.invalid", "with one %")),
    *(Row(f"%{name}", error=("command.invalid", "is not in this version")) for name in LATER),
)  # fmt: skip

ROWS = (*PROMPTS, *AGENT, *OWN, *COMMAND_ROWS)


@pytest.fixture(scope="module")
def table(base: Path) -> Iterator[Notebook]:
    """A workspace with all that the rows speak of, and its notebook."""
    folder = Path(tempfile.mkdtemp(prefix="w", dir=base))
    (folder / "model.yaml").write_text(yaml.safe_dump({"rules": MODEL}))
    (folder / "other.yaml").write_text(yaml.safe_dump({"rules": [{"say": "I am another."}]}))
    (folder / "review.yaml").write_text(yaml.safe_dump({"rules": [{"say": "I review."}]}))
    (folder / "agents").mkdir()
    reviewer = {"description": "reads what others wrote", "model": f"scripted:{folder}/review.yaml"}
    (folder / "agents" / "reviewer.yaml").write_text(yaml.safe_dump(reviewer))
    (folder / "agentos.yaml").write_text(yaml.safe_dump({"model": f"scripted:{folder}/model.yaml", "agents": "agents"}))
    (folder / "notes.txt").write_text("remember me\n")
    (folder / "dot.png").write_bytes(PNG)
    nbformat.write(nbformat.v4.new_notebook(), folder / "empty.ipynb")
    notebook = Notebook(folder, {**os.environ, "AGENTOS_WORKSPACE": str(folder)})
    for code in (DF, FORM, NUMBER, "%%python\naos.give(df)", "%%python\ncity = 'Bonn'"):
        assert notebook.run(code).reply["status"] == "ok"
    notebook.run("%session new main")
    notebook.run("hello")
    yield notebook
    notebook.close()
    stop(folder)


def run(notebook: Notebook, code: str) -> Cell:
    if "$" in code:
        facts = notebook.run("%%python\nprint((aos.dispatch or {}).get('id'), aos.session, aos.root)").text.split()
        for name, value in zip(("$DISPATCH", "$SESSION", "$FOLDER"), facts, strict=True):
            code = code.replace(name, value)
    return notebook.run(code)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code.replace("\n", "⏎")[:60])
def test_row(table: Notebook, row: Row) -> None:
    for code in row.before:
        assert run(table, code).reply["status"] in ("ok", "error")
    cell = run(table, row.code)
    if row.error is not None:
        code, part = row.error
        assert cell.error[0] == code, cell.error
        assert part in cell.error[1]
    else:
        assert cell.reply["status"] == "ok", cell.reply
    seen = table.run(f"%%python\n{row.after}").text if row.after else cell.text
    for text in row.shows:
        facts = re.escape(text).replace(re.escape("$DISPATCH"), r"d-\w+-\d+")
        assert re.search(facts, seen), seen


def test_a_silent_execute_is_python(table: Notebook) -> None:
    assert table.run("silent = 3", silent=True).messages == []
    assert table.run("%%python\nsilent").answer == "3"
    assert table.run("please do it", silent=True).reply["ename"] == "SyntaxError"


def test_tab_and_shift_tab(table: Notebook) -> None:
    offered = table.reply(table.client.complete("%session re", 11))["content"]
    assert offered["matches"] == ["resume"]
    shown = table.reply(table.client.inspect("%session re", 4))["content"]
    assert "%session resume ID" in shown["data"]["text/plain"]


def test_every_command_form_and_option_has_a_row() -> None:
    written = [line.strip() for row in ROWS for line in row.code.splitlines()]
    for entry in COMMANDS.values():
        for usage in (usage for usage in entry.usage if usage[0] in "%!?"):
            first, *rest = usage.split()
            words = [re.escape(word) for word in rest if word.islower() and word.isalpha()]
            bound = [r"\w+[ \t]+<<"] if "NAME << " in usage + " " and "[" not in usage else []
            mark = re.escape(first.rstrip("ACDEMNO")) + ("." if first[0] in "!?" and first[1:] else "")
            start = re.compile(r"[ \t]+".join([mark, *bound, *words]))
            assert any(start.match(line) for line in written), usage
        for option in entry.options if entry.name == "agent" else ():
            assert any(re.search(rf"\s{option.name}(=|$)", line) for line in written), option.name
