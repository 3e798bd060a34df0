"""Forgetting: the bytes of a blob go, a tombstone stays, and no event is touched, so every chain stays valid.

The tombstone is the one event of the stream `content/<digest>`. It is written first: if the daemon is killed before the
bytes are gone, they are removed at its next start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentos_jupyter.errors import ContentForgotten, ContentNotFound
from agentos_jupyter.records import Event, NewEvent

if TYPE_CHECKING:
    from agentos_jupyter.log.log import Log

PREFIX = "content/"


async def forget(log: Log, digest: str, reason: str, by: str) -> tuple[Event, bool]:
    """Remove a blob for good; its tombstone, and whether it was written now (bytes that were put again go again).

    Raises `ContentNotFound` for what is not stored and was never forgotten.
    """
    try:
        size = await asyncio.to_thread(log.blobs.size, digest)
    except ContentNotFound:
        if (known := await tombstone(log, digest)) is None:
            raise
        return known, False
    data = {"digest": digest, "bytes": size, "reason": reason, "by": by}
    [event] = await log.append(PREFIX + digest, "any", [NewEvent("content.forgotten", data, "person")])
    await asyncio.to_thread(_remove, log, event)
    return event, True


def _remove(log: Log, event: Event) -> None:
    log.blobs.remove(event.data["digest"], float("inf"))


async def tombstone(log: Log, digest: str) -> Event | None:
    """The last time that these bytes were forgotten."""
    events = await log.tail(PREFIX + digest, 1)
    return events[0] if events else None


async def refuse_forgotten(log: Log, digest: str) -> None:
    """Raise `ContentForgotten` when these bytes are gone because a person said so."""
    event = await tombstone(log, digest)
    if event is None:
        return
    reason = f": {event.data['reason']}" if event.data["reason"] else ", without a reason"
    raise ContentForgotten(
        f"The content {digest} was forgotten at {event.time.isoformat(timespec='seconds')} by {event.data['by']}{reason}. "
        "Its bytes are gone from this workspace; backups that were made before may still hold them.",
        digest=digest,
        time=event.time.isoformat(),
        reason=event.data["reason"],
    )


async def carry_out(log: Log) -> None:
    """Remove what was forgotten and is still there: the daemon was killed in between. What was put later stays."""
    for stream in log.streams(PREFIX):
        event = await tombstone(log, stream.removeprefix(PREFIX))
        if event is not None:
            await asyncio.to_thread(log.blobs.remove, event.data["digest"], event.time.timestamp())
