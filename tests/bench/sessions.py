"""100 sessions at once in one process: `agentos_jupyter.open()`, real units, each with a sandbox of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import time

import agentos_jupyter
from agentos_jupyter.microkernel.inprocess import Workspace
from agentos_jupyter.unit import Unit
from tests.bench.common import memory, private, server, table, workspace
from tests.bench.drive import Silent

SESSIONS, TURNS = 100, 20
PATIENCE = 300


async def _one(workspace: Workspace, begun: asyncio.Event) -> float:
    link = workspace.link()
    unit = Unit(link, Silent(), {"name": "bench"})
    session = await link.client.session.create(key=secrets.token_hex(8))
    await begun.wait()
    outcome = await unit.prompt(session["id"], "Work.")
    ended = time.perf_counter()
    assert outcome.info["status"] == "ok" and outcome.info["turns"] == TURNS + 1, outcome
    await unit.aclose()
    await link.aclose()
    return ended


async def _all(workspace: Workspace) -> float:
    begun = asyncio.Event()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        work = [group.create_task(_one(workspace, begun)) for _ in range(SESSIONS)]
        await asyncio.sleep(1)
        began = time.perf_counter()
        begun.set()
    return max(each.result() for each in work) - began


def measure() -> str:
    with private() as base, server() as asked, workspace(base, asked.base_url("s", f"each{TURNS}")) as folder:
        with agentos_jupyter.open(folder) as opened:
            seconds = opened.run(_all(opened))
            size = memory(os.getpid())
        times = sorted(asked.times("s"))
    turns = SESSIONS * TURNS
    middle = times[len(times) // 4 : 3 * len(times) // 4]
    rows = [
        ["turns a second, all in all (with the start of as many sandboxes)", turns / seconds],
        ["turns a second, middle half", len(middle) / (middle[-1][0] - middle[0][0])],
        ["RSS of the process, MB", size["rss"]],
    ]
    return table(f"{SESSIONS} sessions at once in one process, {TURNS} turns each", ["", ""], rows)
