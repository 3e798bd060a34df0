"""What names the running dispatch is carried out beside it; everything else waits for its turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from .conftest import Cell, Notebook

WAIT = "echo begun; until [ -e go ]; do sleep 0.1; done; echo ended"


@pytest.fixture
def working(configure: Callable[..., Path], script: Callable[..., str], notebook: Notebook) -> tuple[str, str]:
    """The request of a running prompt, and its dispatch."""
    rules: list[dict[str, Any]] = [
        {"when": {"role": "user", "match": "^also (.+)"}, "say": "I do {1}, too."},
        {"when": {"role": "tool"}, "say": "Done."},
        {"when": "work", "calls": [{"bash": {"command": WAIT}}]},
        {"say": "yes"},
    ]
    configure(model=script(rules))
    notebook.run("hello")
    request = notebook.begin("work")
    notebook.wait_for(request, "begun")
    offered = notebook.reply(notebook.client.complete("%attach ", 8))["content"]["matches"]
    [dispatch] = [each for each in offered if each.endswith("-0002")]
    return request, dispatch


def answers(notebook: Notebook, requests: list[str]) -> dict[str, Cell]:
    """The cells, by request, in the order in which they ended."""
    messages: dict[str, list[Any]] = {request: [] for request in requests}
    ended: list[str] = []
    while len(ended) < len(requests):
        message = notebook.client.get_iopub_msg(timeout=30)
        request = message["parent_header"].get("msg_id")
        if request not in messages:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            ended.append(request)
        messages[request].append(message)
    replies: dict[str, Any] = {}
    while not set(requests) <= set(replies):
        reply = notebook.client.get_shell_msg(timeout=30)
        replies[reply["parent_header"]["msg_id"]] = reply
    kept = ("display_data", "update_display_data", "execute_result", "error", "clear_output", "stream")
    return {
        request: Cell(replies[request], [each for each in messages[request] if each["msg_type"] in kept])
        for request in ended
    }


def test_attach_and_steer_by_the_whole_id_do_not_wait(
    notebook: Notebook, working: tuple[str, str], workspace: Path
) -> None:
    request, dispatch = working
    waits = notebook.begin("%%python\n'after'")
    attached = notebook.begin(f"%attach {dispatch}")
    notebook.wait_for(attached, "begun")
    steered = notebook.begin(f"%steer {dispatch} also sweep")
    notebook.wait_for(steered, "hears it before its next turn")
    (workspace / "go").touch()
    found = answers(notebook, [request, attached, waits])
    assert list(found).index(request) < list(found).index(waits)
    for each in (request, attached):
        assert found[each].answer.startswith("I do sweep, too.")
        assert "ended" in found[each].text
    assert found[waits].answer == "'after'"
    assert notebook.run("%%python\nOut[2][:4], Out[3][:4], Out[5]").answer == "('I do', 'I do', 'after')"
    assert notebook.run("%%python\n1").answer == "1"


def test_whatever_else_waits_for_its_turn(notebook: Notebook, working: tuple[str, str], workspace: Path) -> None:
    request, dispatch = working
    others = [notebook.begin(code) for code in (f"%attach {dispatch[:-1]}", f"%attach {dispatch}\n%cost", "%status")]
    (workspace / "go").touch()
    assert list(answers(notebook, [request, *others])) == [request, *others]


def test_the_kernel_stays_busy_whatever_it_answers_beside(
    notebook: Notebook, working: tuple[str, str], workspace: Path
) -> None:
    request, _ = working
    client = notebook.client
    for ask in (lambda: client.complete("%att", 4), lambda: client.comm_info(), lambda: _control(notebook)):
        ask()
        assert _last_state(notebook) == "busy"
    (workspace / "go").touch()
    notebook.end(request)
    _control(notebook)
    assert _last_state(notebook) == "idle"


def _control(notebook: Notebook) -> None:
    """What JupyterLab asks for each widget."""
    client = notebook.client
    client.control_channel.send(client.session.msg("create_subshell_request", {}))


def _last_state(notebook: Notebook) -> str:
    """The state a front end has heard last, when nothing comes any more."""
    state = ""
    while True:
        try:
            message = notebook.client.get_iopub_msg(timeout=1)
        except Empty:
            return state
        if message["msg_type"] == "status":
            state = message["content"]["execution_state"]


@pytest.mark.parametrize("how", ["message", "signal"])
def test_an_interrupt_ends_both(notebook: Notebook, working: tuple[str, str], how: str) -> None:
    request, dispatch = working
    attached = notebook.begin(f"%attach {dispatch}")
    notebook.wait_for(attached, "begun")
    if how == "message":
        notebook.manager.interrupt_kernel()
    else:
        notebook.manager.signal_kernel(2)
    found = answers(notebook, [request, attached])
    assert {cell.reply["status"] for cell in found.values()} == {"error"}
    assert notebook.run("%%python\n1").answer == "1"
    second = notebook.begin("work")
    notebook.wait_for(second, "begun")
    notebook.manager.signal_kernel(2)
    assert notebook.end(second).error[0] == "Interrupted"
