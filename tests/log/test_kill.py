"""`kill -9` in the middle of appends: nothing acknowledged is lost, nothing is torn."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from agentos_jupyter.log import Log

WRITER = """
import asyncio, os, pathlib, sys
from agentos_jupyter.log import Log, Storage
from agentos_jupyter.records import NewEvent

async def appender(log, name):
    stream = f"session/{name}"
    while True:
        version = log.head(stream)
        events = await log.append(stream, version, [NewEvent("x", {"n": version + k, "text": "x" * 700}) for k in range(2)])
        digest = await log.blobs.put(os.urandom(100)) if events[0].position % 7 == 0 else None
        os.write(1, f'["{stream}", {events[-1].version}, "{events[-1].digest}", {events[-1].position}]\\n'.encode())

async def main():
    log = await Log.open(pathlib.Path(sys.argv[1]), Storage(checkpoint=sys.argv[2]))
    os.write(1, b"[]\\n")
    await asyncio.gather(*(appender(log, name) for name in range(4)))

asyncio.run(main())
"""


async def kill_one(folder: Path, checkpoint: str, delay: float) -> list[list[object]]:
    """What the writer acknowledged until it was killed `delay` seconds after its log was open."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(folder), checkpoint, stdout=asyncio.subprocess.PIPE
    )
    assert writer.stdout is not None
    assert await writer.stdout.readline() == b"[]\n"
    reading = asyncio.ensure_future(writer.stdout.read())
    await asyncio.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    lines = (await reading).decode().split("\n")
    await writer.wait()
    return [json.loads(line) for line in lines[:-1]]


async def check(folder: Path, acknowledged: list[list[object]]) -> None:
    async with await Log.open(folder) as log:
        assert log.notes == ()
        streams = {stream: await log.read(stream) for stream in log.streams()}
        for stream, version, digest, position in acknowledged:
            event = streams[str(stream)][int(str(version)) - 1]
            assert (event.version, event.digest, event.position) == (version, digest, position)
        for stream, events in streams.items():
            assert [event.data["n"] for event in events] == list(range(len(events)))
            assert len(events) % 2 == 0, "two events were appended at once"
            assert await log.verify(stream) == len(events)
        positions = sorted(event.position for events in streams.values() for event in events)
        assert positions == list(range(1, log.position + 1))


async def kills(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    total = 0
    for _ in range(times):
        acknowledged = await kill_one(folder, chance.choice(["200kB", "1MB", "32MB"]), chance.uniform(0.02, 0.4))
        await check(folder, acknowledged)
        total += len(acknowledged)
    assert total > 10 * times


async def test_three_kills_lose_nothing(folder: Path) -> None:
    await kills(folder, 3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_kills_lose_nothing(folder: Path) -> None:
    await kills(folder, 20, seed=2)
