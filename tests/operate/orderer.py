"""Appends without rest, and orders the rows again and again; what was acknowledged is written down, until it is killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from agentos_jupyter.log import Log, ordering
from agentos_jupyter.records import NewEvent


async def appender(log: Log, name: int) -> None:
    stream = f"session/{name}"
    while True:
        version = log.head(stream)
        [event] = await log.append(stream, version, [NewEvent("x", {"n": version, "text": "x" * 700})])
        os.write(1, f'["{stream}", {event.version}, "{event.digest}", {event.position}]\n'.encode())


async def main(folder: Path) -> None:
    ordering.PIECE = 500  # many pieces of a small log
    log = await Log.open(folder)
    os.write(1, b"[]\n")
    tasks = [asyncio.create_task(appender(log, name)) for name in range(4)]
    while True:
        await log.order()
        os.write(2, b"ordered\n")
        assert not any(task.done() for task in tasks)


asyncio.run(main(Path(sys.argv[1])))
