"""A unit as a front end has one: over a link to a real daemon, with a real sandbox, watched."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.records import JudgedCall, Observation, Reply
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.unit import Unit


class Watcher:
    """Remembers what a front end would show."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.outputs = b""
        self._news = asyncio.Event()

    def _note(self, kind: str, what: Any) -> None:
        self.seen.append((kind, what))
        self._news.set()

    def began(self, began: Any) -> None:
        self._note("began", began)

    def delta(self, kind: str, text: str) -> None:
        self._note(kind, text)

    def replied(self, reply: Reply) -> None:
        self._note("replied", reply.text)

    def call(self, judged: JudgedCall) -> None:
        self._note("call", judged.call.arguments)

    def output(self, judged: JudgedCall, data: bytes) -> None:
        self.outputs += data
        self._note("output", data)

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        self._note("result", observation)

    def kinds(self) -> list[str]:
        """What was seen, runs of one kind once."""
        kinds = [kind for kind, _ in self.seen]
        return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]

    def results(self) -> list[Observation]:
        return [what for kind, what in self.seen if kind == "result"]

    async def until(self, kind: str, count: int = 1) -> None:
        """Return when so many of a kind were seen."""
        async with asyncio.timeout(20):
            while sum(each == kind for each, _ in self.seen) < count:
                self._news.clear()
                await self._news.wait()


class Desk:
    """A link, a unit on it, and what is known afterwards."""

    def __init__(self, link: Link) -> None:
        self.link, self.watch = link, Watcher()
        self.unit = Unit(link, self.watch, {"name": "test", "pid": os.getpid()})
        link.on_notice = self.unit.interrupted

    async def session(self, **more: Any) -> str:
        return str((await self.link.call("session.create", {"key": secrets.token_hex(8), **more}))["id"])

    async def events(self, session: str, type: str = "") -> list[dict[str, Any]]:
        found = (await self.link.call("session.history", {"session": session, "limit": 10_000}))["events"]
        return [each for each in found if each["type"].startswith(type)]

    async def types(self, session: str) -> list[str]:
        return [each["type"] for each in await self.events(session)]

    async def phase(self, session: str) -> str:
        return str((await self.link.call("session.get", {"session": session}))["phase"])

    async def aclose(self) -> None:
        await self.unit.aclose()
        await self.link.aclose()


@pytest.fixture
async def open_desk(
    workspace: Path, configure: Callable[..., Path], script: Callable[..., str]
) -> AsyncIterator[Callable[..., Awaitable[Desk]]]:
    """`await open_desk([rules], limits={…})`; without rules the workspace stays as it is."""
    opened: list[Desk] = []

    async def now(rules: list[dict[str, Any]] | None = None, **settings: Any) -> Desk:
        if rules is not None:
            configure(model=script(rules), **settings)
        opened.append(Desk(await Link.open(workspace)))
        return opened[-1]

    yield now
    for desk in opened:
        await desk.aclose()


@pytest.fixture
def kill(workspace: Path) -> Callable[[], int]:
    """Ends the daemon with -9."""

    def now() -> int:
        pid = int(json.loads((workspace / ".agentos" / "lock").read_text())["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    return now
