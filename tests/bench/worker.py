"""A unit in a process of its own, for a day's work: dispatch after dispatch in many sessions, now and then steered.

A session whose unit was killed is kept for it half a minute by each daemon, so another unit goes on in a new one.

python -m tests.bench.worker WORKSPACE FILE NUMBER     # until FILE has NUMBER ends of dispatches

Each fact it is told is a line of FILE before the unit goes on: session, dispatch, kind, name, digest of the text.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import secrets
import sys
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.records import JudgedCall, Observation, Reply
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.unit import Unit

PER_SESSION, STEERED, RETURNED = 5, 20, 10
"""Dispatches in a session; one in so many is steered; one in so many is in an older session."""

ENDED = "dispatch.ended"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def facts(file: Path) -> list[tuple[str, str, str, str, str]]:
    """What was written down; a line that a kill cut off was told to nobody."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [tuple(json.loads(line)) for line in lines]


class Told:
    """An observer that writes each fact down."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.session = self.dispatch = ""

    def began(self, began: Any) -> None:
        self.dispatch = began["dispatch"]
        self.note("dispatch.started", str(began["epoch"]), "")

    def replied(self, reply: Reply) -> None:
        self.note("assistant.message", str(reply.turn), reply.text)

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        self.note("tool.result", judged.call.id, observation.text)

    def note(self, kind: str, name: str, text: str, dispatch: str | None = None) -> None:
        fact = (self.session, dispatch or self.dispatch, kind, name, digest(text))
        os.write(self._file, json.dumps(fact).encode() + b"\n")

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Worker:
    """Its link, its unit and the sessions it made."""

    def __init__(self, workspace: Path, file: Path) -> None:
        self.link = Link(workspace)
        self.told = Told(file)
        self.unit = Unit(self.link, self.told, {"name": "day"})  # type: ignore[arg-type]
        self.sessions: list[str] = []
        self._chance = random.Random()

    async def dispatch(self, number: int) -> None:
        """One dispatch; its end is a fact, too."""
        await self._choose(number)
        working = asyncio.ensure_future(self.unit.prompt(self.told.session, "Work."))
        if number % STEERED == 0:
            await self._steer(working)
        outcome = await working
        self.told.note(ENDED, str(outcome.info["status"]), str(outcome.info["answer"]))

    async def _choose(self, number: int) -> None:
        if number % RETURNED == 1 and len(self.sessions) > 1:
            self.told.session = self._chance.choice(self.sessions)
        elif number % PER_SESSION == 0 or not self.sessions:
            self.sessions.append((await self.link.client.session.create(key=secrets.token_hex(8)))["id"])
            self.told.session = self.sessions[-1]
        else:
            self.told.session = self.sessions[-1]

    async def _steer(self, working: asyncio.Future[Any]) -> None:
        """Say something while it works; words that come too late are refused, and no fact."""
        await asyncio.wait([working], timeout=0.05)
        words, key = f"Be quick ({secrets.token_hex(4)}).", secrets.token_hex(8)
        with contextlib.suppress(AgentOSError):
            steered = await self.link.client.session.steer(session=self.told.session, text=words, key=key)
            self.told.note("inbox.message", str(steered["inbox"]), words, steered["dispatch"])


async def main(workspace: Path, file: Path, number: int) -> None:
    worker = Worker(workspace, file)
    done = sum(fact[2] == ENDED for fact in facts(file))
    while done < number:
        try:
            await worker.dispatch(done)
            done += 1
        except AgentOSError:  # its daemon or its dispatch was lost: go on in another session, as nobody else will
            worker.sessions.clear()
    await worker.unit.aclose()
    await worker.link.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
