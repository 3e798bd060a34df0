"""A saved notebook against the log: what happened is `ok`, and every edit is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import nbformat
import pytest

from agentos_jupyter import paths
from agentos_jupyter.cli.stop import stop

from .conftest import Cell, Notebook
from .test_extension import PythonNotebook

MODEL: list[dict[str, Any]] = [
    {
        "when": {"role": "user", "match": "look"},
        "say": "I look.\nClosely.",
        "calls": [{"bash": {"command": "echo found $((6*7)); exit 3"}}],
    },
    {"when": {"role": "tool", "match": "found 42"}, "say": "It is **42** <b>now</b>."},
    {"when": "many", "calls": [{"bash": {"command": f"echo step {n}"}} for n in range(60)]},
    {"when": {"role": "tool", "match": "step"}, "say": "All sixty."},
    {"when": "for ever", "say": "again", "calls": [{"bash": {"command": "true"}}]},
    {"when": "does not have the form", "say": '{"n": "3"}'},
    {"when": "a number", "say": "no JSON"},
    {"when": "shapeless", "say": "no JSON"},
    {"when": "slow", "calls": [{"bash": {"command": "echo begun; sleep 60"}}]},
    {"when": {"role": "tool"}, "say": "again", "calls": [{"bash": {"command": "true"}}]},
    {"say": "yes"},
]


class Book:
    """A notebook as a front end shows and saves it."""

    def __init__(self, path: Path, kernel: Notebook, language: str = "agentos") -> None:
        self.path, self.kernel = path, kernel
        self.made = nbformat.v4.new_notebook()
        self.made.metadata.kernelspec = {"name": language, "display_name": language, "language": language}

    def run(self, source: str, timeout: float = 60) -> Cell:
        cell = nbformat.v4.new_code_cell(source)
        self.made.cells.append(cell)
        return self.again(cell, timeout)

    def again(self, cell: Any, timeout: float = 60) -> Cell:
        return self.keep(cell, self.kernel.run(cell.source, timeout, cell_id=cell.id))

    def keep(self, cell: Any, done: Cell) -> Cell:
        cell.execution_count = done.reply.get("execution_count")
        cell.outputs = [
            *(nbformat.v4.new_output("display_data", each["data"], metadata=each["metadata"]) for each in done.shown),
            *(
                nbformat.v4.new_output(
                    "execute_result", each["data"], metadata=each["metadata"], execution_count=each["execution_count"]
                )
                for each in done.of("execute_result")
            ),
            *(nbformat.v4.new_output("error", **each) for each in done.of("error")),
        ]
        return done

    def verdicts(self) -> list[str]:
        """Save it, and verify it in the terminal."""
        self.save()
        rows = agentos(self.path.parent, "verify", "--json", str(self.path))
        return [json.loads(row)["verdict"] for row in rows.stdout.splitlines()]

    def save(self) -> None:
        nbformat.write(self.made, self.path)


def agentos(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(workspace)}
    command = [sys.executable, "-m", "agentos_jupyter.cli", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=workspace)


@pytest.fixture
def book(
    configure: Callable[..., Path], script: Callable[..., str], workspace: Path, open_notebook: Callable[..., Notebook]
) -> Book:
    configure(model=script(MODEL), limits={"turns": 4, "calls": 100})
    path = workspace / "report's.ipynb"
    return Book(path, open_notebook(JPY_SESSION_NAME=str(path)))


def test_what_happened_is_ok(book: Book) -> None:
    book.run("%%parameters\nwhere: the drawer")
    book.run("please look into {{where}}")
    book.run("many, please")
    book.run("for ever")
    book.run("%%agent found << schema=json\na number")
    book.run("%%python\nFORM = {'type': 'object', 'properties': {'n': {'type': 'integer'}}}")
    book.run("%%agent found << schema=FORM\na number")
    book.run("!printf 'a \\x1b[31mred\\x1b[0m <b>$x</b>\\n'; echo straße")
    book.run("!true")
    book.run("!echo one\n!echo two\n%status\n!exit 2")
    book.run("%%bash\necho out\nexit 3")
    book.run("%%agent turns=1\nlook again")
    book.run("%attach " + book.made.cells[1].outputs[-1].metadata.agentos.dispatch)
    book.run("%%python\n1 + 1")
    slow = nbformat.v4.new_code_cell("slow, please")
    book.made.cells.append(slow)
    request = book.kernel.begin(slow.source, cell_id=slow.id)
    book.kernel.wait_for(request, "begun")
    book.kernel.manager.interrupt_kernel()
    book.keep(slow, book.kernel.end(request))
    book.run("{{nobody}} knows")
    book.made.cells.append(nbformat.v4.new_code_cell("never asked"))
    book.save()
    shown = book.kernel.run("%verify")
    assert book.verdicts() == [*["ok"] * 12, "no dispatch", "not run"], shown.text
    assert "14 cells: 12 ok, 1 no dispatch, 1 not run." in shown.text
    assert "The digests of 1 session (" in shown.text
    assert "earlier steps" in book.made.cells[2].outputs[0].data["text/plain"]


def test_words_on_the_way_and_a_retry_are_ok(book: Book) -> None:
    cell = nbformat.v4.new_code_cell("slow, but I say something")
    book.made.cells.append(cell)
    request = book.kernel.begin(cell.source, cell_id=cell.id)
    book.kernel.wait_for(request, "begun")
    told = agentos(book.path.parent, "steer", agentos(book.path.parent, "runs", "--json").stdout.split('"')[3], "look")
    assert told.returncode == 0, told.stderr
    agentos(book.path.parent, "sql", "select 1")
    book.kernel.manager.interrupt_kernel()
    book.keep(cell, book.kernel.end(request))
    assert book.verdicts() == ["ok"]


def test_a_server_that_was_down_is_ok(configure: Any, open_notebook: Any, workspace: Path) -> None:
    configure(
        model="local/m",
        providers={"local": {"base_url": "http://127.0.0.1:9/v1"}},
        limits={"attempts": 3, "backoff": "10ms", "backoff_max": "20ms"},
    )
    book = Book(workspace / "down.ipynb", open_notebook(AGENTOS_TRUST="1"))
    assert book.run("hello").error[0] == "model.unavailable"
    assert "times)" in str(book.made.cells[0].outputs)
    assert book.verdicts() == ["ok"]


def _edited_answer(book: Book) -> None:
    book.made.cells[0].outputs[-1].data["text/markdown"] = "It is **43**."


def _edited_output(book: Book) -> None:
    display = next(each for each in book.made.cells[0].outputs if "found 42" in each.data["text/plain"])
    display.data["text/html"] = display.data["text/html"].replace("exit 3", "")


def _removed_output(book: Book) -> None:
    book.made.cells[0].outputs = [each for each in book.made.cells[0].outputs if "found 42" not in str(each)]


def _added_output(book: Book) -> None:
    book.made.cells[0].outputs.append(nbformat.v4.new_output("stream", name="stdout", text="all tests pass"))


def _added_picture(book: Book) -> None:
    book.made.cells[0].outputs[1].data["image/png"] = "iVBORw0KGgo="


def _edited_greeting(book: Book) -> None:
    data = next(each for each in book.made.cells[0].outputs if each.data["text/plain"].startswith("New session ")).data
    data["text/html"] += "<p>all tests pass</p>"


def _edited_prompt(book: Book) -> None:
    book.made.cells[0].source = "look, and change nothing"


def _swapped(book: Book) -> None:
    one, two = book.made.cells[:2]
    one.outputs, two.outputs = two.outputs, one.outputs


def _foreign(book: Book) -> None:
    for output in book.made.cells[0].outputs[1:]:
        output.metadata["agentos"]["dispatch"] = output.metadata["agentos"]["dispatch"][:-5]


def _unmarked(book: Book) -> None:
    for output in book.made.cells[0].outputs:
        output.metadata.pop("agentos", None)


def _other_harness(book: Book) -> None:
    for output in book.made.cells[0].outputs[1:]:
        output.metadata["agentos"]["harness"] = "0" * 16


def _other_error(book: Book) -> None:
    book.made.cells[2].outputs[-1].traceback = ["budget.exceeded: all tests pass"]


def _cleared(book: Book) -> None:
    book.made.cells[0].outputs = []


def _cut(book: Book) -> None:
    book.made.cells[0].outputs = book.made.cells[0].outputs[:2]
    book.made.cells[0].outputs[1].metadata["agentos"].pop("to", None)


@pytest.mark.parametrize(
    ("edit", "verdicts", "code"),
    [
        (lambda book: None, ["ok", "ok", "ok"], 0),
        (_edited_answer, ["answer differs", "ok", "ok"], 1),
        (_edited_output, ["output differs", "ok", "ok"], 1),
        (_removed_output, ["output differs", "ok", "ok"], 1),
        (_added_output, ["output differs", "ok", "ok"], 1),
        (_added_picture, ["output differs", "ok", "ok"], 1),
        (_edited_greeting, ["output differs", "ok", "ok"], 1),
        (_edited_prompt, ["cell text differs", "ok", "ok"], 1),
        (_swapped, ["cell text differs", "cell text differs", "ok"], 1),
        (_foreign, ["dispatch not in this log", "ok", "ok"], 1),
        (_unmarked, ["outputs without a dispatch", "ok", "ok"], 1),
        (_other_harness, ["metadata differs", "ok", "ok"], 1),
        (_other_error, ["ok", "ok", "answer differs"], 1),
        (_cleared, ["no outputs", "ok", "ok"], 0),
        (_cut, ["not ended", "ok", "ok"], 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_edit_is_found(edited: Book, edit: Callable[[Book], None], verdicts: list[str], code: int) -> None:
    edit(edited)
    assert edited.verdicts() == verdicts
    assert agentos(edited.path.parent, "verify", str(edited.path)).returncode == code


@pytest.fixture(scope="module")
def ran(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three cells that ran once, for all edits."""
    import tempfile

    import yaml

    folder = Path(tempfile.mkdtemp(prefix="w", dir=base))
    (folder / "model.yaml").write_text(yaml.safe_dump({"rules": MODEL}))
    (folder / "agentos.yaml").write_text(yaml.safe_dump({"model": f"scripted:{folder}/model.yaml"}))
    kernel = Notebook(folder, {**os.environ, "AGENTOS_WORKSPACE": str(folder)})
    book = Book(folder / "ran.ipynb", kernel)
    for cell in ("please look", "!echo mine", "%%agent turns=2\nfor ever"):
        book.run(cell)
    kernel.close()
    yield book
    stop(folder)


@pytest.fixture
def edited(ran: Book) -> Book:
    book = Book(ran.path, ran.kernel)
    book.made = nbformat.from_dict(json.loads(json.dumps(ran.made)))
    return book


def test_a_cell_run_again_is_ok_when_it_was_saved(book: Book) -> None:
    book.run("please look")
    book.save()
    book.kernel.run("please look", cell_id=book.made.cells[0].id)
    assert book.verdicts() == ["not saved"]
    book.again(book.made.cells[0])
    assert book.verdicts() == ["ok"]


def test_another_workspaces_log_knows_none_of_it(book: Book, base: Path, workspace: Path) -> None:
    book.run("please look")
    book.save()
    other = workspace / "other"
    other.mkdir()
    shutil.copy(book.path, other / "copy.ipynb")
    done = agentos(other, "verify", "copy.ipynb")
    assert (done.returncode, "dispatch not in this log" in done.stdout) == (1, True)


def test_a_log_that_was_edited_is_found(book: Book, workspace: Path) -> None:
    book.run("please look")
    book.save()
    book.kernel.close()
    stop(workspace)
    [database] = [path for path in paths.state_dir(workspace).iterdir() if path.suffix == ".duckdb"]
    with duckdb.connect(database) as con:
        con.execute(
            "update events set data = replace(data::varchar, '42', '43') where type like '%.ended' or type like '%.message'"
        )
    done = agentos(workspace, "verify", str(book.path))
    assert done.returncode == 1
    assert "answer differs" in done.stdout
    assert "log damaged" in done.stdout


@pytest.mark.slow
def test_a_notebook_that_papermill_ran(configure: Any, script: Any, workspace: Path) -> None:
    configure(model=script(MODEL))
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in ("please look", "!echo mine")])
    made.metadata.kernelspec = {"name": "agentos", "display_name": "AgentOS", "language": "agentos"}
    nbformat.write(made, workspace / "in.ipynb")
    environ = {**os.environ, "AGENTOS_WORKSPACE": str(workspace)}
    subprocess.run(["papermill", "in.ipynb", "out.ipynb"], cwd=workspace, env=environ, check=True, capture_output=True)
    done = agentos(workspace, "verify", "out.ipynb")
    assert (done.returncode, "2 cells: 2 ok." in done.stdout) == (0, True), done.stdout
    assert "2 not run" in agentos(workspace, "verify", "in.ipynb").stdout


def test_a_python_notebook(configure: Any, script: Any, workspace: Path) -> None:
    configure(model=script(MODEL))
    path = workspace / "python.ipynb"
    kernel = PythonNotebook(workspace, {**os.environ, "AGENTOS_WORKSPACE": str(workspace)})
    book = Book(path, kernel, "python")
    try:
        for cell in ("%load_ext agentos_jupyter", "%%agent\nplease look", "%%agent --bash\nexit 2", "1 + 1"):
            book.run(cell)
        book.run(f"x = 1\n%attach {book.made.cells[1].outputs[-1].metadata.agentos.dispatch}")
        assert book.verdicts() == ["ok", "ok", "ok"]
        book.made.cells[1].source += ", harder"
        assert book.verdicts() == ["cell text differs", "ok", "ok"]
    finally:
        kernel.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no notebook"),
        ("[" * 100_000, "no notebook"),
        ('{"nbformat": 3, "cells": []}', "no notebook of format 4"),
        ('{"nbformat": 4, "cells": {}}', "no notebook of format 4"),
        ('{"nbformat": 4, "cells": [1, null, {"cell_type": "code"}, {"cell_type": []}]}', "No cell of this notebook"),
        ('{"nbformat": 4, "metadata": 3, "cells": [{"cell_type": "code", "source": ["a", 1], "outputs": [[]]}]}', "1 "),
    ],
)
def test_a_file_that_is_no_notebook_is_said(workspace: Path, content: str, says: str) -> None:
    (workspace / "x.ipynb").write_text(content)
    done = agentos(workspace, "verify", "x.ipynb")
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_no_link_is_followed_to_a_notebook(workspace: Path, tmp_path: Path, notebook: Notebook) -> None:
    (tmp_path / "x.ipynb").write_text('{"nbformat": 4, "cells": []}')
    (workspace / "x.ipynb").symlink_to(tmp_path / "x.ipynb")
    assert notebook.run("%verify x.ipynb").error[0] == "command.invalid"
    assert "does not tell where the notebook is" in notebook.run("%verify").error[1]
    os.mkfifo(workspace / "pipe.ipynb")
    assert "no regular file" in notebook.run("%verify pipe.ipynb").error[1]
