"""Help: `?name`, Shift-Tab and `agentos help`, through a real kernel and a real terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.errors import BY_CODE
from agentos_jupyter.jupyter import manual
from agentos_jupyter.jupyter.table import ASKING, COMMANDS, LIMITS
from agentos_jupyter.limits import Limits

from .conftest import Notebook


@pytest.mark.parametrize("name", [*COMMANDS, *Limits.__dataclass_fields__, *BY_CODE, *(each.name for each in ASKING)])
def test_everything_with_a_name_has_a_manual(name: str) -> None:
    text = manual.topic(name)
    assert text is not None and len(text.splitlines()) > 1


def test_a_limit_tells_its_default_and_where_it_is_set() -> None:
    text = manual.topic("turns") or ""
    assert "Model calls in one dispatch." in text
    assert "It is 50 unless" in text
    assert all(part in text for part in ("%budget turns=", "%%agent turns=", "agentos.yaml"))
    assert "%budget" not in (manual.topic("lease") or "")
    assert set(LIMITS) <= set(manual.limits())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%session resu|me x", "%session resume ID"),
        ("%%agent sche|ma=city", "%%agent schema=VARIABLE"),
        ("%%agent mod|el=x", "%%agent model=MODEL"),
        ("%%agent |model=x", "%%agent model=MODEL"),
        ("%%agent turns=|5", "Model calls in one dispatch."),
        ("%budget turn|s=5", "Model calls in one dispatch."),
        ("%%agent x\nbo|dy", "Write a prompt with options"),
        ("!ls |", "%%bash"),
        ("?tur|ns", "Model calls in one dispatch."),
        ("?budget.exce|eded", "BudgetExceeded"),
        ("%nonsense|", "%session"),
        ("a pro|mpt", None),
    ],
)
def test_shift_tab(code: str, expected: str | None) -> None:
    text = manual.at(code.replace("|", ""), code.index("|"))
    assert text is None if expected is None else expected in (text or "")


def test_names_are_explained_and_unknown_ones_named_nearest(
    notebook: Notebook, workspace: Path, configure: Callable[..., Path], script: Callable[..., str]
) -> None:
    (workspace / "agents").mkdir()
    (workspace / "agents" / "reviewer.yaml").write_text("description: reads with care\n")
    model = script([{"say": "ok"}])
    configure(model=model, agents="agents")
    assert "reads with care" in notebook.run("?reviewer").text
    assert "folder" in notebook.run("%help aos-budget").text
    assert "scripted" in notebook.run(f"?{model}").text
    assert "BudgetExceeded" in notebook.run("?budget.exceeded").text
    for wrong, near in (("?revewer", "reviewer"), ("?turn", "turns"), ("?budget.exeeded", "budget.exceeded")):
        assert f"did you mean '{near}'?" in notebook.run(wrong).error[1]
    assert "did you mean 'reviewer'?" in notebook.run("%agent revewer").error[1]
    assert "did you mean 'turns'?" in notebook.run("%budget trns=3").error[1]
    asked = notebook.reply(notebook.client.inspect("%%agent turns=5", 10))["content"]
    assert "Model calls in one dispatch." in asked["data"]["text/plain"]


def test_the_terminal_explains_the_same(workspace: Path) -> None:
    def agentos(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agentos_jupyter.cli", *words], cwd=workspace, capture_output=True, text=True
        )

    assert "usage: agentos runs" in agentos("help", "runs").stdout
    assert "verbs:" in agentos("help").stdout
    assert "Model calls in one dispatch." in agentos("help", "turns").stdout
    assert "%session resume ID" in agentos("help", "%session").stdout
    assert "folder" in agentos("help", "aos-context").stdout
    wrong = agentos("help", "turn")
    assert (wrong.returncode, "did you mean 'turns'?" in wrong.stderr) == (1, True)
