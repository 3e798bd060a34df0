"""What a running cell sends to its front end, measured on the real iopub channel: bounded, never quadratic."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cell, Notebook

Configure = Callable[..., Path]
Script = Callable[..., str]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORDS = 6_000


def sent(cell: Cell) -> int:
    """The bytes of a cell's messages, with their headers, as a websocket carries them."""
    return sum(len(json.dumps(message, default=str)) for message in cell.messages)


def fastest(cell: Cell) -> int:
    """The most messages within a second."""
    times = sorted(_time(message["header"]["date"]) for message in cell.messages)
    return max(sum(1 for other in times if 0 <= other - time < 1) for time in times)


def _time(date: Any) -> float:
    return float((date if isinstance(date, datetime) else datetime.fromisoformat(date)).timestamp())


def _outputs(cell: Cell) -> int:
    """The most outputs the cell ever had at once."""
    most, now = 0, 0
    for message in cell.messages:
        if message["msg_type"] == "clear_output":
            now = 0
        now += message["msg_type"] in ("display_data", "execute_result", "error", "stream")
        most = max(most, now)
    return most


def test_a_streamed_answer_of_35_kb_sends_half_a_megabyte_at_most(
    configure: Configure, script: Script, notebook: Notebook
) -> None:
    answer = "word " * WORDS + "and that is the whole of it, with a table and a list of the places. " * 80
    configure(model=script([{"when": "", "say": answer, "delay": 0.004}]))
    cell = notebook.run("tell me all", timeout=120)
    assert len(cell.answer) > 35_000
    assert len(cell.of("update_display_data")) > 20, "it streamed"
    assert sent(cell) <= 500_000


def test_300_turns_send_in_proportion_and_keep_to_fifty_outputs(
    configure: Configure, script: Script, notebook: Notebook
) -> None:
    call = [{"bash": {"command": "echo $((N+=1)) of the steps; export N"}}]
    rules = [{"when": "^300 of", "say": "end"}, {"when": "", "say": "I go on.", "calls": call}]
    configure(model=script(rules), limits={"turns": 400, "calls": 400})
    cell = notebook.run("go", timeout=150)
    assert cell.answer.startswith("end")
    assert "301 turns · 300 commands" in cell.text
    assert _outputs(cell) <= 50
    assert fastest(cell) <= 1000
    assert sent(cell) <= 3_000_000, "5 kB for each of 600 steps"


def test_a_command_that_prints_50_mb_sends_its_tail(configure: Configure, script: Script, notebook: Notebook) -> None:
    configure(model=script([{"when": "", "say": "ok"}]), limits={"output_flood": 80_000_000})
    cell = notebook.run(
        "!yes 'a line of the flood that a command prints' | head -c 50000000; echo the end", timeout=150
    )
    assert "the end" in cell.text
    assert fastest(cell) <= 1000
    assert sent(cell) <= 500_000
