"""Following the log: every event once, in order, whatever else is written meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from agentos_jupyter.rpc.link import Link


async def test_a_subscriber_of_one_stream_misses_nothing_while_others_are_busy(open_desk: Any) -> None:
    desk = open_desk([{"say": "hi"}])
    names = [desk.session() for _ in range(2)]
    link = await Link.open(desk.workspace)
    heard: list[int] = []
    following = asyncio.create_task(
        link.call(
            "event.subscribe",
            {"prefix": f"session/{names[0]}"},
            lambda data: heard.extend(each["version"] for each in data["events"]),
        )
    )

    async def update(session: str, number: int) -> None:
        await link.call("session.update", {"session": session, "name": f"n{number}"})

    for number in range(150):
        await asyncio.gather(update(names[0], number), *(update(names[1], number) for _ in range(3)))
    async with asyncio.timeout(10):
        while len(heard) < 151:
            await asyncio.sleep(0.02)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await link.aclose()
    assert heard == list(range(1, 152))
