"""`kill -9` of every process at every event boundary: the run ends or can be continued, and nothing told is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import agentos_jupyter
from agentos_jupyter.cli.stop import stop
from agentos_jupyter.rpc.link import Link

ROOT = Path(__file__).parents[2]
COMMAND = "echo begun >> begun; sleep 0.2; echo done >> done; cat done"
RULES = [
    {
        "when": {"role": "tool", "match": "is unknown whether|not run|killed"},
        "say": "I look.",
        "calls": [{"bash": {"command": "ls"}}],
    },
    {"when": {"role": "tool"}, "say": "Finished."},
    {"say": "I try.", "calls": [{"bash": {"command": COMMAND}}]},
]
BOUNDARIES = [
    "dispatch.started",
    "user.message",
    "context.planned",
    "assistant.message",
    "tool.call",
    "tool.result",
    "dispatch.ended",
]
"""The types of a dispatch's events, in order; those of one commit come at once, and are killed at one after the other."""

PROCESSES = ["daemon", "unit", "sandbox", "service"]
SURVIVES = {"daemon", "sandbox", "service"}
"""Processes whose death the run itself must survive, without a person."""


class Run:
    """One dispatch in a worker process, watched from here; `victim` is killed at the first event of a type."""

    def __init__(self, workspace: Path, link: Link, session: str) -> None:
        self.workspace, self.link, self.session = workspace, link, session
        self.told = workspace.parent / f"told-{secrets.token_hex(4)}"
        self.killed = asyncio.Event()
        self.worker: asyncio.subprocess.Process | None = None

    async def start(self, dispatch: str = "") -> None:
        self.worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.crash.worker", str(self.workspace), self.session, dispatch, str(self.told),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def outcome(self) -> dict[str, Any] | None:
        """What the worker says of the run; None when it died."""
        assert self.worker is not None
        output, _ = await self.worker.communicate()
        found: dict[str, Any] | None = json.loads(output) if output else None
        return found

    def victims(self, process: str) -> list[int]:
        assert self.worker is not None
        daemon = int(json.loads((self.workspace / ".agentos" / "lock").read_text())["pid"])
        match process:
            case "daemon":
                return [daemon]
            case "unit":
                return [self.worker.pid]
            case "sandbox":
                return _children(self.worker.pid, "bwrap")
        return _children(daemon, "aos_sdk")

    def kill(self, process: str) -> None:
        self.killed.set()
        for pid in self.victims(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def at(self, boundary: str, process: str) -> None:
        """Kill the process as soon as an event of this type is committed."""

        def seen(data: Any) -> None:
            types = {event["type"] for event in data["events"] if event["stream"] == f"session/{self.session}"}
            if boundary in types and not self.killed.is_set():
                self.kill(process)

        with contextlib.suppress(asyncio.CancelledError):
            await self.link.call("event.subscribe", {"prefix": f"session/{self.session}"}, seen)


def _children(pid: int, name: str) -> list[int]:
    with contextlib.suppress(OSError):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(each) for each in listed if name in Path(f"/proc/{each}/cmdline").read_text()]
    return []


@pytest.fixture
async def begin(
    workspace: Path, configure: Callable[..., Path], script: Callable[..., str]
) -> AsyncIterator[Callable[[], Any]]:
    links: list[Link] = []
    runs: list[Run] = []

    async def now() -> Run:
        configure(model=script(RULES))
        links.append(await Link.open(workspace))
        created = await links[-1].call("session.create", {"key": secrets.token_hex(8)})
        runs.append(Run(workspace, links[-1], created["id"]))
        return runs[-1]

    yield now
    for run in runs:
        run.told.unlink(missing_ok=True)
    for link in links:
        await link.aclose()


CASES = [
    (process, boundary)
    for process in PROCESSES
    for boundary in BOUNDARIES
    if process != "sandbox"
    or BOUNDARIES.index(boundary) >= BOUNDARIES.index("assistant.message")  # it is there from then on
]


@pytest.mark.parametrize(("process", "boundary"), CASES)
async def test_a_kill_at_a_boundary_loses_nothing(begin: Any, boundary: str, process: str) -> None:
    run = await begin()
    await run.start()
    watching = asyncio.create_task(run.at(boundary, process))
    outcome = await asyncio.wait_for(run.outcome(), 40)
    if process in SURVIVES or outcome is not None:
        assert outcome is not None and outcome["error"] is None, outcome
        assert outcome["info"]["status"] == "ok"
    else:
        await _continued(run)
    await asyncio.wait_for(run.killed.wait(), 10)  # the news of the last event may come after the worker's end
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await run.link.aclose()
    await asyncio.to_thread(_check, run)


async def _continued(run: Run) -> None:
    """The unit is gone: its dispatch is lost, or had ended; another process continues it to its end."""
    async with asyncio.timeout(40):
        while (found := await run.link.call("session.get", {"session": run.session}))["phase"] == "dispatched":
            await asyncio.sleep(0.05)
    newest = (await run.link.call("dispatch.list", {"session": run.session}))["dispatches"]
    if not newest:
        assert found["turns"] == 0  # it died before it had begun
        return
    assert newest[0]["status"] in ("lost", "ok")
    if newest[0]["status"] == "lost":
        await run.start(newest[0]["id"])
        again = await run.outcome()
        assert again is not None and again["error"] is None and again["info"]["status"] == "ok", again


def _check(run: Run) -> None:
    """What the log holds once everybody is gone: a whole chain, an answer for each call, and every fact that was told."""
    stop(run.workspace)
    with agentos_jupyter.open(run.workspace) as opened:
        kernel = opened._kernel
        assert kernel is not None
        assert opened.run(kernel.log.verify(f"session/{run.session}")) > 0
        events = opened.call("session.history", {"session": run.session, "limit": 10_000})["events"]
    assert [each["version"] for each in events] == list(range(1, len(events) + 1))
    asked = [each["data"]["id"] for each in events if each["type"] == "tool.call"]
    answered = [each["data"]["id"] for each in events if each["type"] == "tool.result"]
    assert sorted(asked) == sorted(answered) and len(set(asked)) == len(asked)
    stored = {_fact(each) for each in events}
    told = [tuple(json.loads(line)) for line in run.told.read_text().splitlines()] if run.told.exists() else []
    assert set(told) <= stored
    done = run.workspace / "done"
    ran = [each["data"] for each in events if each["type"] == "tool.result" and each["data"]["id"] == "call-1"]
    if ran and ran[0]["status"] == "ok":
        assert done.read_text() == "done\n"  # once, however often it was asked


def _fact(event: dict[str, Any]) -> tuple[str, str, str]:
    data = event["data"]
    return (
        event["type"],
        str(data.get("turn") if event["type"] == "assistant.message" else data.get("id")),
        data.get("text", ""),
    )
