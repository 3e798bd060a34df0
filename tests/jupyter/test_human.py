"""You are the model: a real kernel asks, a front end answers, and an interrupt ends the question."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest


@pytest.fixture
def notebook(open_notebook: Callable[..., Any]) -> Any:
    """A notebook whose model is the person."""
    return open_notebook(AGENTOS_MODEL="human")


def asked(notebook: Any) -> str:
    """Wait for a question; what it says."""
    message = notebook.client.get_stdin_msg(timeout=20)
    assert message["msg_type"] == "input_request"
    return str(message["content"]["prompt"])


def test_what_a_person_writes_runs_and_ends_the_dispatch(notebook: Any) -> None:
    cell = notebook.begin("what is here?")
    assert "You are the model" in asked(notebook)
    notebook.client.input("! echo by hand")
    notebook.wait_for(cell, "by hand")
    asked(notebook)
    notebook.client.input('{"tool": "bash", "arguments": {"command": "echo by a call"}}')
    notebook.wait_for(cell, "by a call")
    asked(notebook)
    notebook.client.input("  ")  # nothing: asked again
    asked(notebook)
    notebook.client.input("Nothing, really.")
    done = notebook.end(cell)
    assert done.answer == "Nothing, really."
    assert "human" in done.text
    assert "2 commands" in done.text


def test_completion_is_answered_while_a_person_is_asked(notebook: Any) -> None:
    cell = notebook.begin("go")
    asked(notebook)
    request = notebook.client.complete("%sess", 5)
    assert "%session" in str(notebook.reply(request)["content"]["matches"])
    notebook.client.input("done")
    assert notebook.end(cell).answer == "done"


@pytest.mark.parametrize("by", ["message", "signal"])
def test_an_interrupt_ends_the_question_and_a_late_answer_answers_nothing(notebook: Any, by: str) -> None:
    cell = notebook.begin("go")
    asked(notebook)
    if by == "signal":
        os.kill(notebook.manager.provisioner.pid, signal.SIGINT)
    else:
        notebook.client.control_channel.send(notebook.client.session.msg("interrupt_request", {}))
    done = notebook.end(cell, timeout=5)
    assert done.error[0] == "Interrupted"
    notebook.client.input("too late")
    again = notebook.begin("go again")
    asked(notebook)
    notebook.client.input("in time")
    assert notebook.end(again).answer == "in time"


def test_where_nobody_can_be_asked_one_error_says_so(notebook: Any) -> None:
    name, sentence = notebook.run("go", allow_stdin=False).error
    assert name == "model.asks_person"
    assert "%model" in sentence


def test_the_console_asks_too(workspace: Path) -> None:
    environ = {**os.environ, "TERM": "dumb", "PYTHONWARNINGS": "ignore", "AGENTOS_MODEL": "human"}
    command = ["-m", "jupyter", "console", "--kernel", "agentos", "--simple-prompt"]
    console = pexpect.spawn(
        sys.executable, command, env=environ, cwd=str(workspace), encoding="utf-8", timeout=30, dimensions=(50, 200)
    )
    try:
        console.expect(r"In \[1\]:")
        console.sendline("go")
        console.expect("You are the model")
        console.expect("> ")
        console.sendline("$ echo $((6 * 7))")
        console.expect("42")
        console.expect("You are the model")
        console.sendline("It is 42 indeed.")
        console.expect("It is 42 indeed.")
        console.expect(r"In \[2\]:")
        console.sendeof()
        console.expect("Do you really want to exit")
        console.sendline("y")
        console.expect(pexpect.EOF)
    finally:
        console.close(force=True)
