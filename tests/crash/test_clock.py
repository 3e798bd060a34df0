"""The system's clock jumps while an agent works: durations are measured by a clock that nobody sets, order is position."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.rpc.sync import SyncLink
from tests.crash.clock import Clock
from tests.jupyter.conftest import Notebook

pytestmark = pytest.mark.timeout(120)
DAYS = {"forward": 3, "back": -3}


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def jump(clock: Clock) -> Callable[[int], None]:
    """Sets the clock of whatever was started with `clocked` so many days off the true time."""
    return clock.jump


@pytest.fixture
def clocked(open_notebook: Callable[..., Notebook], clock: Clock) -> Callable[..., Notebook]:
    """Opens a notebook whose clock, and that of the daemon it starts, can jump."""
    return clock.opening(open_notebook)


RULES = [
    {"when": {"match": "^look$"}, "say": "I look.", "calls": [{"bash": {"command": "sleep 2; date +%s"}}]},
    {"when": {"role": "tool"}, "say": "Seen."},
    {"when": {"match": "say (.+)"}, "say": "{1}"},
]


@pytest.mark.parametrize("way", DAYS)
def test_a_jump_in_mid_work_uses_up_no_limit_and_changes_no_order(
    clocked: Callable[[], Notebook], jump: Callable[[int], None], workspace: Path, configure: Callable[..., Path],
    script: Callable[..., str], way: str,
) -> None:  # fmt: skip
    configure(model=script(RULES), limits={"wall": "30s", "lease": "5s", "daemon_idle": "20s"})
    notebook = clocked()
    assert notebook.run("say before").answer.startswith("before")
    with SyncLink(workspace) as link:
        daemon = link.info["pid"]
    started = time.monotonic()
    request = notebook.begin("look")
    notebook.wait_for(request, "sleep 2")
    jump(DAYS[way])
    cell = notebook.end(request)
    took = time.monotonic() - started
    assert cell.reply["status"] == "ok" and cell.answer.startswith("Seen."), cell.error
    assert notebook.run("say after").answer.startswith("after")
    assert notebook.run("%session new").reply["status"] == "ok"
    assert notebook.run("say later").answer.startswith("later")

    with SyncLink(workspace) as link:
        assert link.info["pid"] == daemon, "the daemon neither thought itself idle nor died"
        sql = "select stream, epoch(time)::bigint from events order by position"
        times = [row[1] for row in link.call("sql.query", {"sql": sql})["rows"]]
        dispatches = link.call("dispatch.list", {})["dispatches"]
        sessions = link.call("session.list", {})["sessions"]
    assert abs(times[-1] - times[0]) > 2 * 86400, "the clock did jump"
    assert [each["answer"] for each in dispatches] == ["later", "after", "Seen.", "before"]
    assert [each["status"] for each in dispatches] == ["ok"] * 4
    assert all(0 <= each["seconds"] <= took + 1 for each in dispatches), [each["seconds"] for each in dispatches]
    assert sessions[0]["id"] > sessions[1]["id"] and sessions[0]["id"] == dispatches[0]["session"]


@pytest.mark.parametrize("way", DAYS)
def test_a_log_written_under_another_clock_goes_on(
    clocked: Callable[[], Notebook], jump: Callable[[int], None], workspace: Path, configure: Callable[..., Path],
    script: Callable[..., str], way: str,
) -> None:  # fmt: skip
    configure(model=script(RULES))
    jump(DAYS[way])
    first = clocked()
    assert first.run("say one").answer.startswith("one")
    old = first.run("%session").text
    jump(0)
    with SyncLink(workspace) as link:
        link.call("system.shutdown")
    second = clocked()
    assert second.run("say two").answer.startswith("two")
    with SyncLink(workspace) as link:
        newest = link.call("session.list", {})["sessions"][0]
        answers = [each["answer"] for each in link.call("dispatch.list", {})["dispatches"]]
    assert newest["id"] not in old and answers == ["two", "one"]
    assert first.run("say three").answer.startswith("three")


def test_the_wall_limit_is_still_one(
    clocked: Callable[[], Notebook],
    jump: Callable[[int], None],
    configure: Callable[..., Path],
    script: Callable[..., str],
) -> None:
    configure(model=script(RULES), limits={"wall": "1s"})
    notebook = clocked()
    request = notebook.begin("look")
    notebook.wait_for(request, "sleep 2")
    jump(-3)
    name, sentence = notebook.end(request).error
    assert name == "budget.exceeded" and "limits.wall" in sentence
