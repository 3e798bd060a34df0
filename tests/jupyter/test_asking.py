"""`%%agent` and the commands around it, each through a real kernel."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Notebook

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
Rules = Callable[..., None]
ECHO = {"when": {"role": "user", "match": "(?s)(.*)"}, "say": "{1}"}


@pytest.fixture
def rules(configure: Callable[..., Path], script: Callable[..., str]) -> Rules:
    def write(*rules: dict[str, Any], **settings: Any) -> None:
        configure(model=script(list(rules)), **settings)

    return write


def python(notebook: Notebook, code: str) -> str:
    cell = notebook.run(f"%%python\n{code}")
    assert cell.reply["status"] == "ok", cell.reply
    return cell.text.strip()


def test_an_answer_is_bound_as_text(rules: Rules, notebook: Notebook) -> None:
    rules({"say": "Four."})
    notebook.run("%%agent four <<\nhow many?")
    assert python(notebook, "print(four, aos.last, aos.dispatch['status'])") == "Four. Four. ok"


@pytest.mark.parametrize(
    ("schema", "said", "expression", "value"),
    [
        ("json", '{"n": 3}', "found", "{'n': 3}"),
        ("FORM", '{"n": 3}', "found['n']", "3"),
        ("Invoice", '{"n": 3}', "type(found).__name__, found.n", "('Invoice', 3)"),
        ("list[Invoice]", '[{"n": 3}, {"n": 4}]', "[each.n for each in found]", "[3, 4]"),
        (
            "table",
            '[{"a": 1, "b": "x"}, {"a": 2}]',
            "type(found).__name__, found.a.sum()",
            "('DataFrame', np.int64(3))",
        ),
    ],
)
def test_an_answer_is_bound_in_the_form_that_was_asked_for(
    rules: Rules, notebook: Notebook, schema: str, said: str, expression: str, value: str
) -> None:
    rules({"say": said})
    python(
        notebook,
        "from pydantic import BaseModel\nclass Invoice(BaseModel):\n    n: int\n"
        "FORM = {'type': 'object', 'required': ['n']}",
    )
    cell = notebook.run(f"%%agent found << schema={schema}\ncount")
    assert cell.reply["status"] == "ok", cell.reply
    assert python(notebook, f"print(repr(({expression})))") == value


def test_a_wrong_answer_is_corrected_and_the_person_sees_it(rules: Rules, notebook: Notebook) -> None:
    rules({"when": {"match": "does not have the form"}, "say": '{"n": 3}'}, {"say": "three"})
    cell = notebook.run("%%agent found << schema=json\ncount")
    assert "the answer is not JSON" in cell.text
    assert python(notebook, "print(found)") == "{'n': 3}"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("schema=Invoise", "no form or variable named 'Invoise'"),
        ("schema=seven", "no form of an answer"),
        ("images=seven", "is no image"),
        ("images=no.png", "No such file"),
        ("images=notes.md", "no image that models read"),
        ("files=../x", "without \\.\\."),
        ("files=link.md", "cannot be read"),
        ("files=sub", "no regular file"),
        ("turns=0", "must be at least 1"),
        ("model=nope", "no model or role named 'nope'"),
        ("agent=nope", "no agent named 'nope'"),
        ("session=s-nothing", "No session"),
        ("session=a agent=b", "not both"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_nothing_is_sent(
    rules: Rules, notebook: Notebook, workspace: Path, line: str, says: str
) -> None:
    rules(ECHO)
    (workspace / "notes.md").write_text("words")
    (workspace / "link.md").symlink_to("/etc/passwd")
    (workspace / "sub").mkdir()
    python(notebook, "seven = 7")
    cell = notebook.run(f"%%agent {line}\nhi")
    assert re.search(says, cell.error[1])
    assert "user.message" not in notebook.run("%%sql\nselect type from events").text


def test_files_and_images_go_with_a_prompt(rules: Rules, notebook: Notebook, workspace: Path) -> None:
    rules(ECHO)
    (workspace / "notes.md").write_text("# Words\n```\ncode\n```\n")
    (workspace / "data.bin").write_bytes(b"\0\1")
    (workspace / "dot.png").write_bytes(PNG)
    python(notebook, f"import base64\npicture = base64.b64decode({base64.b64encode(PNG).decode()!r})")
    cell = notebook.run("%%agent files=notes.md,data.bin images=dot.png,picture\nwhat is this?")
    assert "File notes.md (21 bytes):" in cell.answer
    assert "data.bin (2 bytes, binary" in cell.answer
    rows = notebook.run(
        "%%sql\nselect json_array_length(data->'$.images') as n from events where type = 'user.message'"
    ).text
    assert rows.split()[-1] == "2"


def test_a_table_enters_by_schema_and_sample(rules: Rules, notebook: Notebook) -> None:
    rules(ECHO)
    python(notebook, "import pandas as pd\ndf = pd.DataFrame({'a': range(1000), 'b': [None, 'x'] * 500})")
    answer = notebook.run("look at {{df}}").answer
    assert "table of 1000 rows" in answer
    assert "- a: int64" in answer
    assert "500 missing" in answer
    assert len(answer) < 1000


def test_what_is_given_is_parquet_that_the_agents_sandbox_reads(
    rules: Rules, notebook: Notebook, workspace: Path
) -> None:
    rules(ECHO)
    python(notebook, "import pandas as pd\nsales = pd.DataFrame({'a': [1, 2]})")
    assert python(notebook, "print(aos.give(sales))") == "data/sales.parquet"
    assert (
        python(notebook, "print(aos.give([{'a': 1}], 'rows'), aos.give('hello', 'x/y.txt'))") == "rows.parquet x/y.txt"
    )
    cell = notebook.run("!python -c \"import duckdb; print(duckdb.read_parquet('data/sales.parquet').fetchall())\"")
    assert "[(1,), (2,)]" in cell.text
    assert (workspace / "x/y.txt").read_text() == "hello"
    (workspace / "out").symlink_to("/tmp")
    refused = notebook.run("%%python\naos.give('x', 'out/y.txt')")
    assert "cannot be written" in refused.reply["evalue"]


def test_agents_have_sessions_of_their_own(rules: Rules, notebook: Notebook, workspace: Path) -> None:
    rules(ECHO, agents="agents")
    (workspace / "agents").mkdir()
    (workspace / "agents" / "reviewer.yaml").write_text("description: reads what others wrote\nsystem: You review.\n")
    assert "reads what others wrote" in notebook.run("%agent list").text
    notebook.run("to the first")
    notebook.run("%%agent agent=reviewer\nto the reviewer")
    notebook.run("to the first again")
    assert "Prompts go to the agent reviewer now" in notebook.run("%agent reviewer").text
    notebook.run("to the reviewer again")
    found = notebook.run("%%sql\nselect session, count(*) as n from dispatches group by 1").text
    assert found.count(" 2") >= 2
    assert "reviewer" in notebook.run("%agent").text


def test_a_session_has_a_budget_of_its_own(rules: Rules, notebook: Notebook) -> None:
    rules(
        {"when": {"role": "user"}, "calls": [{"bash": {"command": "true"}}]}, {"calls": [{"bash": {"command": "true"}}]}
    )
    assert "turns" in notebook.run("%budget").text
    assert re.search(r"turns +2 .*this session's own", notebook.run("%budget turns=2").text)
    assert notebook.run("work").error[0] == "budget.exceeded"
    assert re.search(r"turns +2 +2", notebook.run("%budget").text)
    assert re.search(r"turns +50", notebook.run("%budget reset").text)
    assert "did you mean 'turns'" in notebook.run("%budget turn=2").error[1]
    assert "is in seconds" in notebook.run("%budget wall=soon").error[1]


def test_models_skills_costs_and_context_are_shown(rules: Rules, notebook: Notebook) -> None:
    rules({"say": "Hello."})
    assert "scripted model (model.yaml)" in notebook.run("%model").text
    assert "scripted:demo" in notebook.run("%model list").text
    assert "aos-context" in notebook.run("%skill list").text
    assert "running" in notebook.run("%skill aos-context").text
    assert "did you mean 'aos-context'" in notebook.run("%skill aos-contxt").error[1]
    assert "no session yet" in notebook.run("%cost").text
    notebook.run("hi")
    cost = notebook.run("%cost").text
    assert "this session" in cost
    assert re.search(r"The next prompt sends about \d+ tokens", cost)
    assert re.search(r"user +event \d+", notebook.run("%context").text)
    assert "asks scripted model (demo)" in notebook.run("%model scripted:demo").text
    assert "scripted model (demo)" in notebook.run("%model").text
    assert "scripted model (demo)" in notebook.run("%status").text


def test_another_notebook_steers_a_dispatch_at_work(rules: Rules, open_notebook: Callable[..., Notebook]) -> None:
    rules(
        {"when": {"match": "^also sweep"}, "say": "I sweep."},
        {"when": {"role": "tool"}, "say": "Done."},
        {"calls": [{"bash": {"command": "echo begun; sleep 2"}}]},
    )
    first, second = open_notebook(), open_notebook()
    assert "Nothing is at work" in second.run("%steer hello").error[1]
    request = first.begin("work")
    first.wait_for(request, "begun")
    assert "hears it before its next turn" in second.run("%steer also sweep the floor").text
    cell = first.end(request)
    assert "You: also sweep the floor" in cell.text
    assert cell.answer.startswith("I sweep.")
    found = re.search(r"d-\w+-\d+", second.run("%runs").text)
    assert found is not None
    assert "You: also sweep the floor" in second.run(f"%attach {found[0]}").text
