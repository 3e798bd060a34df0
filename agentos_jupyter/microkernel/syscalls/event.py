"""event: the log as it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic import Field

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.shapes import EventInfo, Events, first_page, pages
from agentos_jupyter.microkernel.table import Empty, Shape, Sink, namespace
from agentos_jupyter.records import Event

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel

BATCH = 500


class Read(Shape):
    """A page of one stream, by version."""

    stream: str
    after: int = Field(0, ge=0)
    limit: int = Field(BATCH, ge=1, le=10_000)


class Subscribe(Shape):
    """Everything after a position, in global order, of streams that begin with `prefix`."""

    after: int = Field(0, ge=0)
    prefix: str = ""


async def read(kernel: Microkernel, caller: Caller, params: Read) -> Events:
    """Events of one stream, oldest first."""
    return first_page(await kernel.log.read(params.stream, params.after, params.limit))


async def subscribe(kernel: Microkernel, caller: Caller, params: Subscribe, stream: Sink) -> Empty:
    """Stream events as they are committed, from any position on, until cancelled.

    Each delta is `{"kind": "events", "events": […], "next": {"after": …}}`; the log is the buffer, so a slow reader loses
    nothing, and a repeat with the parameters of `next` goes on.
    """
    news = asyncio.Event()

    def committed(events: list[Event]) -> None:
        news.set()

    position = params.after
    unsubscribe = kernel.log.subscribe(committed)
    kernel.stopping.wakes.add(news)
    try:
        while not kernel.stopping.is_set():
            news.clear()
            seen = kernel.log.position  # before the question: what is committed while it is answered comes next time
            events = await kernel.log.since(position, BATCH, params.prefix)
            if not events:
                position = max(position, seen)
                await news.wait()
                continue
            for page in pages(events):
                await stream.caught_up()
                told = [EventInfo.of(each).model_dump() for each in page]
                stream.send({"kind": "events", "events": told, "next": {"after": page[-1].position}})
            position = events[-1].position
    finally:
        kernel.stopping.wakes.discard(news)
        unsubscribe()
    return Empty()


CALLS = namespace("event", reads=(read, subscribe))
