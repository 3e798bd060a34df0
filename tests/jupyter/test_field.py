"""The field in a running cell, as a front end with widgets sees it: comms, a view, and nothing left at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cell, Notebook

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def rules(configure: Callable[..., Path], script: Callable[..., str]) -> None:
    """An agent at work until a file is there."""
    wait = "echo begun; until [ -e go ]; do sleep 0.05; done; rm go"
    configure(
        model=script(
            [
                {"when": {"role": "user", "match": "^also (.+)"}, "say": "I do {1}, too."},
                {"when": {"role": "tool"}, "say": "Done."},
                {"calls": [{"bash": {"command": wait}}]},
            ]
        )
    )


def messages(notebook: Notebook, until: Callable[[dict[str, Any]], bool], timeout: float = 20) -> list[dict[str, Any]]:
    """What comes on iopub up to the first message of this kind."""
    found, deadline = [], time.monotonic() + timeout
    while time.monotonic() < deadline:
        message = notebook.client.get_iopub_msg(timeout=deadline - time.monotonic())
        found.append(message)
        if until(message):
            return found
    raise AssertionError("it did not come")


def opened(found: list[dict[str, Any]]) -> dict[str, str]:
    """The ids of the widgets' comms by the name of their models."""
    comms = [each["content"] for each in found if each["msg_type"] == "comm_open"]
    return {each["data"]["state"]["_model_name"]: each["comm_id"] for each in comms}


def say(notebook: Notebook, comm: str, **data: Any) -> None:
    message = notebook.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
    notebook.client.shell_channel.send(message)


def is_view(message: dict[str, Any]) -> bool:
    return VIEW in message["content"].get("data", {})


def test_words_in_the_field_are_read_before_the_next_turn(notebook: Notebook, workspace: Path) -> None:
    request = notebook.begin("work")
    before = messages(notebook, is_view)
    comms = opened(before)
    say(notebook, comms["TextModel"], method="update", state={"value": "also sweep"}, buffer_paths=[])
    say(notebook, comms["TextModel"], method="custom", content={"event": "submit"})
    waiting = messages(notebook, lambda each: "waits for the next turn" in str(each["content"].get("data")))
    assert "You: also sweep" in str(waiting[-1]["content"]["data"])
    (workspace / "go").touch()
    after = messages(
        notebook,
        lambda each: (
            each["content"].get("execution_state") == "idle" and each["parent_header"].get("msg_id") == request
        ),
    )
    own = [each for each in (*before, *waiting, *after) if each["parent_header"].get("msg_id") == request]
    cell = Cell(notebook.reply(request), own)
    assert cell.answer.startswith("I do sweep, too.")
    assert "You: also sweep · read before turn 2" in cell.text
    assert not any(VIEW in each["data"] for each in cell.shown)
    closed = {each["content"]["comm_id"] for each in after if each["msg_type"] == "comm_close"}
    assert closed >= set(comms.values())
    assert "2 turns" in cell.text


def test_an_interrupt_takes_the_field_away(notebook: Notebook) -> None:
    request = notebook.begin("work")
    messages(notebook, is_view)
    notebook.manager.interrupt_kernel()
    cell = notebook.end(request)
    assert cell.error[0] == "Interrupted"
    assert cell.of("clear_output")
    assert not any(VIEW in each["data"] for each in cell.shown)
    assert "$ echo begun" in cell.text


@pytest.mark.parametrize("options", [{"allow_stdin": False}, {"cell_id": None}])
def test_nobody_is_shown_a_field_in_batch_or_in_a_console(
    notebook: Notebook, workspace: Path, options: dict[str, Any]
) -> None:
    request = notebook.begin("work", **options)
    time.sleep(3)
    (workspace / "go").touch()
    cell = notebook.end(request)
    assert cell.answer.startswith("Done.")
    assert not [each for each in cell.messages if each["msg_type"].startswith("comm_") or is_view(each)]


def test_a_short_dispatch_imports_no_widgets(notebook: Notebook, workspace: Path) -> None:
    (workspace / "go").touch()
    assert notebook.run("work").answer.startswith("Done.")
    assert notebook.run("%%python\n'ipywidgets' in __import__('sys').modules").answer == "False"


def test_the_open_step_tells_turn_tokens_and_seconds(notebook: Notebook, workspace: Path) -> None:
    request = notebook.begin("work")
    told = re.compile(r"running … · turn 1 · \d+ tokens · \d+ s$")
    messages(notebook, lambda each: bool(told.search(each["content"].get("data", {}).get("text/plain", ""))))
    (workspace / "go").touch()
    assert "running" not in notebook.end(request).shown[-1]["data"]["text/plain"]
