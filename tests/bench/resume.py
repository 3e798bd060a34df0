"""Resuming a session of 10 000 events out of a log of one million rows: the first call that needs it, in a real daemon."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from agentos_jupyter.cli.stop import stop
from agentos_jupyter.rpc.start import spawn
from agentos_jupyter.rpc.sync import SyncLink
from tests.bench.common import private, table, workspace

ROWS, OURS, OTHERS = 1_000_000, 10_000, 99
SESSION = "s-00000000000000000000000000"
COLUMNS = "position, stream, version, time, type, actor, dispatch, data, digest"


def history(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(type, actor, data) of one long session, as the daemon writes them."""
    dispatch = f"{SESSION.replace('s-', 'd-', 1)}-1"
    yield (
        "session.created",
        "person",
        {"name": "long", "root": str(folder), "model": None, "notebook": None, "key": "k" * 8},
    )
    started = {"kind": "prompt", "prompt": "Work.", "client": {}, "model": None, "tools": [], "limits": {}, "epoch": 1}
    yield "dispatch.started", "person", {**started, "harness": "", "key": "k" * 9}
    yield "user.message", "person", {"text": "Work.", "from": "prompt"}
    plan = {"add": [{"event": 3}], "append": {"types": ["user.message", "assistant.message", "tool.result"]}}
    yield "context.planned", "skill:aos-context", {"plan": plan, "reason": "start"}
    usage = {"input": 1000, "output": 20, "cached": 0, "usd": None}
    for number in range(1, (OURS - 5) // 3 + 1):
        call = {"id": f"call-{number}", "name": "bash", "arguments": {"command": f"sed -n {number}p notes.txt"}}
        message = {
            "turn": number,
            "text": "I look at the next line.",
            "calls": [call],
            "model": "bench",
            "scripted": False,
        }
        yield "assistant.message", "model:bench", {**message, "usage": usage, "seconds": 0.5, "finish": "tool_calls"}
        yield "tool.call", "agent", {**call, "turn": number, "verdict": "allow", "receipts": []}
        result = {"id": call["id"], "name": "bash", "status": "ok", "exit_code": 0, "seconds": 0.003, "total": 300}
        yield "tool.result", "system", {**result, "text": f"line {number} " + "of the notes, " * 20}
    ended = {"status": "ok", "answer": "Done.", "turns": number, "calls": number, "seconds": 100.0, "usage": usage}
    while True:
        yield "dispatch.ended", "system", {**ended, "key": dispatch}
        yield "session.interrupted", "person", {"by": "person"}


def fill(folder: Path, clustered: bool) -> None:
    """Put the million rows into a log that the daemon made: session by session, or turn by turn in all at once."""
    spawn(folder).close()
    stop(folder)
    state = folder / ".agentos"
    con = duckdb.connect(str(state / "log.duckdb"))
    [(have,)] = con.execute("select count(*) from events").fetchall()
    assert have == 0
    con.execute("create temp table ours (version bigint, type varchar, actor varchar, data varchar)")
    rows = [
        (version, *parts[:2], json.dumps(parts[2]))
        for version, parts in zip(range(1, OURS + 1), history(folder), strict=False)
    ]
    con.execute(
        "insert into ours select unnest(?), unnest(?), unnest(?), unnest(?)", [list(c) for c in zip(*rows, strict=True)]
    )
    order = "stream, version" if clustered else "version, stream"
    con.execute(
        f"""
        insert into events
        with every as (
            select n as number, 's-' || lpad(n::varchar, 26, '0') as session
            from range({OTHERS + 1}) numbers(n)
        )
        select row_number() over (order by {order}), stream, version, timestamp '2026-01-01' + to_seconds(version),
               type, actor, dispatch, data, md5(stream || version) || md5(stream)
        from (
            select 'session/' || session as stream, version, type, actor, 'd-' || substr(session, 3) || '-1' as dispatch,
                   replace(data, '{SESSION[2:]}', substr(session, 3)) as data
            from every, ours
        )
        order by {order}
        """
    )
    [(total,)] = con.execute("select count(*) from events").fetchall()
    assert total == ROWS, total
    con.close()
    (state / "head").unlink()


def _resume(folder: Path, times: int) -> tuple[list[float], list[float], list[float]]:
    opened: list[float] = []
    first: list[float] = []
    again: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        link = SyncLink(folder)
        opened.append(1000 * (time.perf_counter() - began))
        time.sleep(1.5)  # until it has imported what it imports in the background
        for found in (first, again):
            began = time.perf_counter()
            session = link.call("session.get", {"session": SESSION})
            found.append(1000 * (time.perf_counter() - began))
        assert session["turns"] > 3000, session
        link.close()
        stop(folder)
    return opened, first, again


def measure(times: int = 5) -> str:
    rows = []
    for name in ("clustered", "interleaved", "interleaved, then `agentos maintain`"):
        with private() as base, workspace(base) as folder:
            fill(folder, name == "clustered")
            if name.endswith("maintain`"):
                with SyncLink(folder, timeout=None) as link:
                    link.call("storage.maintain")
                stop(folder)
            opened, first, again = _resume(folder, times)
            shutil.rmtree(folder / ".agentos")
        rows += [
            [f"**resume, rows {name}**", statistics.median(first), min(first)],
            [f"the same call again, rows {name}", statistics.median(again), min(again)],
            [f"daemon start to its greeting, rows {name}", statistics.median(opened), min(opened)],
        ]
    return table("A session of 10 000 events out of 1 M rows, ms", ["", "median", "fastest"], rows)
