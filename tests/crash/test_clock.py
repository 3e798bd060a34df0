"""The system's clock jumps while an agent works: durations are measured by a clock that nobody sets, order is position.

A few lines of C stand between the processes and the wall clock, and add what a file says; the monotonic clock stays
true, as when a clock is set.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos_jupyter.rpc.sync import SyncLink
from tests.jupyter.conftest import Notebook

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to make the clock with"),
    pytest.mark.timeout(120),
]
DAYS = {"forward": 3, "back": -3}
CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = {0};
    int file = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) { if (read(file, text, 31) < 0) text[0] = 0; close(file); }
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec; now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *where) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (where) *where = precise.tv_sec;
    return precise.tv_sec;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clock, as a library to be preloaded."""
    source = tmp_path_factory.mktemp("clock") / "clock.c"
    source.write_text(CLOCK)
    made = source.with_suffix(".so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source], check=True, timeout=50)
    return made


@pytest.fixture
def jump(tmp_path: Path) -> Callable[[int], None]:
    """Sets the clock of whatever was started with `clocked` so many days off the true time."""

    def now(days: int) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(str(days * 86400))
        fresh.rename(tmp_path / "clock")

    now(0)
    return now


@pytest.fixture
def clocked(
    open_notebook: Callable[..., Notebook], tmp_path: Path, library: Path, jump: Callable[[int], None]
) -> Callable[[], Notebook]:
    """Opens a notebook whose clock, and that of the daemon it starts, can jump."""
    return lambda: open_notebook(LD_PRELOAD=str(library), CLOCK_FILE=str(tmp_path / "clock"))


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
