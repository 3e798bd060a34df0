"""A recorded session of 200 turns, replayed in one process: `agentos_jupyter.open()`, a real unit, its commands in a sandbox."""

from __future__ import annotations

import json
import secrets
import time

import agentos_jupyter
from agentos_jupyter.microkernel.inprocess import Workspace
from agentos_jupyter.unit import Asked, Unit
from tests.bench.common import private, server, table, workspace
from tests.bench.drive import Silent

TURNS = 200
FILE = "recording.jsonl"


async def _session(workspace: Workspace, model: str | None = None) -> tuple[str, float]:
    link = workspace.link()
    unit = Unit(link, Silent(), {"name": "bench"})
    session = (await link.client.session.create(key=secrets.token_hex(8)))["id"]
    began = time.perf_counter()
    outcome = await unit.prompt(session, "Work.", Asked(model=model))
    seconds = time.perf_counter() - began
    assert outcome.info["status"] == "ok" and outcome.info["turns"] == TURNS + 1, outcome
    await unit.aclose()
    await link.aclose()
    return session, seconds


def measure() -> str:
    with private() as base, server() as asked, workspace(base, asked.base_url("s", f"each{TURNS}")) as folder:
        with agentos_jupyter.open(folder) as opened:
            session, live = opened.run(_session(opened))
            began = time.perf_counter()
            page = opened.call("session.record", {"session": session})
            recorded = time.perf_counter() - began
            assert page["next"] is None
            (folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in page["lines"]))
            _, again = opened.run(_session(opened, f"replay:{FILE}"))
            _, without = opened.run(_session(opened, f"replay:{FILE}?tools=recorded"))
        size = (folder / FILE).stat().st_size
    rows = [
        ["the session itself, a local server answering at once, s", live],
        ["recording it, s", recorded],
        ["the recording, kB", size / 1000],
        ["replayed, commands run in the sandbox, s", again],
        ["replayed, `?tools=recorded`, s", without],
    ]
    return table(f"A session of {TURNS} turns replayed", ["", ""], rows)
