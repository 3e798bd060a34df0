"""A log with many sessions in it, written before a daemon opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.log import Log
from agentos_jupyter.records import NewEvent


async def fill(workspace: Path, sessions: int) -> None:
    """Write so many sessions with two turns of one dispatch each."""
    parts: list[Any] = []
    for number in range(sessions):
        session, dispatch = f"s-{number:012d}", f"d-{number:012d}-0001"
        text = "words " * 100
        begin = {"kind": "prompt", "prompt": text, "key": f"key-{number}", "epoch": 1, "limits": {}, "tools": []}
        spoken = {
            "turn": 1,
            "text": text,
            "calls": [],
            "model": "m",
            "scripted": True,
            "usage": {"input": 1, "output": 2},
        }
        events = [
            NewEvent("session.created", {"name": f"name {number}", "root": "/", "key": f"made-{number}"}, "person"),
            NewEvent("dispatch.started", begin, "person", dispatch),
            NewEvent("user.message", {"text": text, "from": "prompt"}, "person", dispatch),
            NewEvent("assistant.message", spoken, "model:m", dispatch),
            NewEvent("assistant.message", {**spoken, "turn": 2}, "model:m", dispatch),
            NewEvent("dispatch.ended", {"status": "ok", "answer": text, "seconds": 1.0}, "system", dispatch),
        ]
        parts.append((f"session/{session}", "new", events))
    async with await Log.open(paths.state_dir(workspace)) as log:
        await log.append_many(parts)
