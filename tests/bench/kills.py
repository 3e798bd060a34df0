"""Random `kill -9` of the daemon under load: real units go on over the restarts, and all they were told is in the log.

What a unit was told is what its observer heard: a committed reply, a committed result. Afterwards each of them must be
in the history exactly once, in order, and every stream's digest chain must hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.errors import AgentOSError, DaemonUnavailable
from agentos_jupyter.log import Log
from agentos_jupyter.records import Event, JudgedCall, Observation, Reply
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.rpc.start import connect
from agentos_jupyter.unit import Unit
from tests.bench.common import private, server, table, workspace

UNITS = 3
EARLY, LONG = 0.4, 2.5
"""Seconds a daemon lives at most: one in four is killed while it starts, counted from its lock, the others at work, counted from
its first answer (a log that was never closed takes a while to open, and who is always killed meanwhile serves nobody)."""


@dataclass
class Told:
    """What one unit was told: `facts` are (session, dispatch, kind, turn or call, text)."""

    session: str = ""
    dispatch: str = ""
    facts: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def began(self, began: Any) -> None:
        self.dispatch = began["dispatch"]
        self.facts.append((self.session, self.dispatch, "dispatch.started", str(began["epoch"]), ""))

    def replied(self, reply: Reply) -> None:
        self.facts.append((self.session, self.dispatch, "assistant.message", str(reply.turn), reply.text))

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        self.facts.append((self.session, self.dispatch, "tool.result", judged.call.id, observation.text))


@dataclass
class Found:
    """What the kills came to."""

    kills: int
    told: int
    events: int
    sentences: list[str]
    errors: list[str]


async def _work(folder: Path, told: Told) -> None:
    link = Link(folder)  # its calls are repeated while a daemon is killed in its start
    told.session = (await link.client.session.create(key=secrets.token_hex(8)))["id"]
    unit = Unit(link, told, {"name": "load"})  # type: ignore[arg-type]
    try:
        while True:
            try:
                outcome = await unit.prompt(told.session, "Work.")
                told.errors += [f"{outcome.error.code}: {outcome.error.message}"] if outcome.error else []
            except AgentOSError as error:
                told.errors.append(f"{error.code}: {error.message}")
                await asyncio.sleep(0.1)
    finally:
        await unit.aclose()
        await link.aclose()


async def _kill(folder: Path, times: int, chance: random.Random, loads: list[asyncio.Task[None]]) -> None:
    last = 0
    for _ in range(times):
        while (pid := owner(folder)) in (0, last):
            await asyncio.sleep(0.005)
            if any(load.done() for load in loads):
                return
        if chance.random() < 0.25:
            await asyncio.sleep(chance.uniform(0, EARLY))
        else:
            await _answers(folder, pid)
            await asyncio.sleep(chance.uniform(0, LONG))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        last = pid


async def _answers(folder: Path, pid: int) -> None:
    """Wait until the daemon takes connections, or is another one."""
    while owner(folder) == pid:
        with contextlib.suppress(DaemonUnavailable):
            connect(folder).close()
            return
        await asyncio.sleep(0.02)


def owner(folder: Path) -> int:
    """The process the lock names; 0 while nobody wrote itself into it."""
    try:
        return int(json.loads((folder / ".agentos" / "lock").read_bytes())["pid"])
    except (OSError, ValueError, KeyError):
        return 0


async def kill_at_random(folder: Path, times: int, seed: int) -> Found:
    """Kill the daemon of `folder` `times` times while units work in it, then look for everything they were told."""
    everything = [Told() for _ in range(UNITS)]
    loads = [asyncio.ensure_future(_work(folder, told)) for told in everything]
    await _kill(folder, times, random.Random(seed), loads)
    await asyncio.sleep(1)
    for load in loads:
        load.cancel()
    for outcome in await asyncio.gather(*loads, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    await asyncio.to_thread(stop, folder)
    return await _check(folder, times, everything)


async def _check(folder: Path, times: int, everything: list[Told]) -> Found:
    sentences: list[str] = []
    async with await Log.open(folder / ".agentos") as log:
        sentences += log.notes
        for stream in log.streams():
            await log.verify(stream)
        events = {told.session: await log.read(f"session/{told.session}") for told in everything}
        total = log.position
    for told in everything:
        sentences += _missing(told, events[told.session])
        sentences += torn(events[told.session])
    facts = sum(len(told.facts) for told in everything)
    return Found(times, facts, total, sentences, [error for told in everything for error in told.errors])


def fact(event: Event) -> tuple[str, str, str, str]:
    data = event.data
    name = data.get("epoch") or data.get("turn") if event.type != "tool.result" else data["id"]
    text = "" if event.type == "dispatch.started" else str(data.get("text", ""))
    return event.dispatch or "", event.type, str(name), text


def _missing(told: Told, events: list[Event]) -> list[str]:
    kinds = ("dispatch.started", "assistant.message", "tool.result")
    kept = Counter(fact(event) for event in events if event.type in kinds)
    return [f"told once, kept {kept[fact[1:]]} times: {fact}" for fact in told.facts if kept[fact[1:]] != 1]


def torn(events: list[Event]) -> list[str]:
    """One commit holds a reply and all its calls; every result answers a call, at most once."""
    sentences: list[str] = []
    calls = Counter(event.data["id"] for event in events if event.type == "tool.call")
    replies = [event for event in events if event.type == "assistant.message"]
    asked = Counter(call["id"] for reply in replies for call in reply.data["calls"])
    results = Counter(event.data["id"] for event in events if event.type == "tool.result")
    if asked != calls:
        sentences.append("a reply and its calls are not together")
    sentences += [f"{name} has {number} results" for name, number in results.items() if number > 1]
    sentences += [f"{name} is a result without a call" for name in results if name not in calls]
    if [event.version for event in events] != list(range(1, len(events) + 1)):
        sentences.append("versions have gaps")
    return sentences


def measure(times: int = 55) -> str:
    began = time.perf_counter()
    with private() as base, server() as asked, workspace(base, asked.base_url("k", 1 << 30)) as folder:
        found = asyncio.run(kill_at_random(folder, times, seed=1))
    rows = [
        ["kills", found.kills],
        ["events in the log", found.events],
        ["facts a unit was told", found.told],
        ["**lost, doubled or torn**", len(found.sentences)],
        ["dispatches that ended with an error", len(found.errors)],
        ["seconds", time.perf_counter() - began],
    ]
    sentences = [f"\n{sentence}" for sentence in [*found.sentences, *sorted(set(found.errors))][:10]]
    return "\n".join([table("`kill -9` of the daemon under load", ["", ""], rows), *sentences])
