"""What restart, Run All, a second open and a pinned name do, as docs/how-to/sessions.md says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Notebook

Open = Callable[..., Notebook]


@pytest.fixture
def echo(configure: Callable[..., Path], script: Callable[..., str]) -> None:
    configure(model=script([{"when": {"role": "user", "match": "(?s)(.*)"}, "say": "{1}"}]))


def sessions(notebook: Notebook) -> list[dict[str, Any]]:
    notebook.run("%%python\nfound = aos.sql('select session, name, dispatches from sessions order by session')")
    text = notebook.run(
        "%%python\nimport json; print(json.dumps([[str(v) for v in each.values()] for each in found]))"
    ).text
    import json

    return [dict(zip(("id", "name", "dispatches"), each, strict=True)) for each in json.loads(text)]


def test_a_restart_begins_a_new_session_and_names_the_one_before(echo: None, open_notebook: Open) -> None:
    named = {"JPY_SESSION_NAME": "/somewhere/report.ipynb"}
    first = open_notebook(**named)
    assert "New session report (s-" in first.run("one").text
    first.manager.restart_kernel(now=True)
    first.client.wait_for_ready(timeout=30)
    banner = first.run("two").text
    [before, after] = sessions(first)
    assert f"%session resume {before['id']} goes on with the one before" in banner
    assert (before["name"], after["name"]) == ("report", "report")


def test_run_all_appends_in_one_kernel(echo: None, open_notebook: Open) -> None:
    notebook = open_notebook()
    for _ in range(2):
        for cell in ("one", "two"):
            notebook.run(cell)
    assert [each["dispatches"] for each in sessions(notebook)] == ["4"]


def test_a_second_open_has_a_session_of_its_own_and_a_pinned_name_is_shared(echo: None, open_notebook: Open) -> None:
    named = {"JPY_SESSION_NAME": "report.ipynb"}
    first, second = open_notebook(**named), open_notebook(**named)
    first.run("one")
    second.run("two")
    assert len(sessions(first)) == 2
    for notebook in (first, second):
        notebook.run("%session review")
        notebook.run("three")
    assert [(each["name"], each["dispatches"]) for each in sessions(first)][-1] == ("review", "2")


def test_what_a_killed_kernel_was_doing_is_continued(
    configure: Callable[..., Path], script: Callable[..., str], open_notebook: Open
) -> None:
    configure(
        model=script(
            [{"when": {"role": "tool"}, "say": "Done."}, {"calls": [{"bash": {"command": "echo begun; sleep 30"}}]}]
        )
    )
    first = open_notebook()
    first.wait_for(first.begin("work"), "begun")
    first.manager.kill_kernel() if hasattr(first.manager, "kill_kernel") else first.manager.shutdown_kernel(now=True)
    second = open_notebook()
    [session] = sessions(second)
    import time

    for _ in range(100):
        text = second.run(f"%session resume {session['id'][:-1]}").text
        found = re.search(r"%dispatch run (d-\S+?)`", text)
        if found and "did not end" in text:
            break
        time.sleep(0.1)
    assert found is not None
    assert second.run(f"%dispatch run {found[1]}").answer.startswith("Done.")
