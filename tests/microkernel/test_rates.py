"""A provider's rate holds for all sessions of a workspace."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.servers.openai_server import Exchange, FakeOpenAI, say

SESSIONS = 6


async def test_sessions_take_turns_at_a_provider_and_are_told_that_they_wait(open_desk: Any, remote: Any) -> None:
    running = most = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        await say("ok")(exchange)

    async with FakeOpenAI(slow) as server:
        settings = remote(server.base_url)
        settings["providers"]["here"]["rate"] = {"concurrent": 2}
        desk = await asyncio.to_thread(open_desk, **settings)
        notes: list[dict[str, Any]] = []

        async def ask() -> str:
            session = await asyncio.to_thread(desk.session)
            began = await asyncio.to_thread(desk.begin, session)
            handle = {"dispatch": began["dispatch"], "epoch": began["epoch"], "turn": 1}
            call = desk.kernel.link().call("compute.complete", handle, notes.append)
            reply = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, desk.kernel._loop))
            await asyncio.to_thread(desk.end, began)
            return str(reply["text"])

        assert await asyncio.gather(*(ask() for _ in range(SESSIONS))) == ["ok"] * SESSIONS
        await asyncio.to_thread(desk.close)
    assert most == 2
    assert {note["kind"] for note in notes if "waiting for here" in note["text"]} == {"note"}
