"""dispatch: one request to a session, from prompt to final answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from agentos_jupyter.errors import DispatchNotFound, InvalidParams
from agentos_jupyter.microkernel import dispatches, ids, listing
from agentos_jupyter.microkernel.context import shorten
from agentos_jupyter.microkernel.sessions import Caller, Dispatch, Session
from agentos_jupyter.microkernel.shapes import (
    CallInfo,
    Changes,
    ClientInfo,
    DispatchInfo,
    ErrorInfo,
    EventInfo,
    ImageInfo,
    ToolInfo,
)
from agentos_jupyter.microkernel.table import Shape, Sink, namespace
from agentos_jupyter.records import Event

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


LISTED = 1000
"""Bytes of a prompt and of an answer in a list."""


class Begin(Shape):
    """A new dispatch (`session` and `prompt`), or an unfinished one again (`dispatch`).

    `prompt_ref` is the digest of a prompt that was put with content.put; `key` makes a repeat harmless. With `answer_schema`,
    a JSON Schema, the answer must be JSON that is valid by it.
    """

    session: str
    prompt: str = ""
    prompt_ref: str | None = None
    kind: Literal["prompt", "person"] = "prompt"
    tools: list[ToolInfo] = Field(default_factory=list, max_length=256)
    client: ClientInfo = ClientInfo()
    model: str | None = None
    limits: dict[str, Any] = Field(default_factory=dict)
    images: list[ImageInfo] = Field(default_factory=list, max_length=256)
    answer_schema: dict[str, Any] | None = None
    dispatch: str | None = None
    key: str = Field(min_length=8, max_length=100)


class Began(Shape):
    """The handle: `dispatch` and `epoch` give the right to act; `turn` is the last committed one, `earlier` counts
    the session's calls so far, `protected` are the paths that an agent may only read, `news` what the person should be told now."""

    dispatch: str
    session: str
    root: str
    epoch: int
    turn: int
    earlier: int
    protected: list[str]
    harness: str
    limits: dict[str, Any]
    model: str | None
    scripted: bool
    first: int
    news: list[str] = Field(default_factory=list)


class Handle(Shape):
    dispatch: str
    epoch: int


class End(Shape):
    """How a dispatch ended; `changed` are the files, `error` what stopped it."""

    dispatch: str
    epoch: int
    status: Literal["ok", "failed", "interrupted", "limit"]
    changed: Changes | None = None
    error: ErrorInfo | None = None


class Which(Shape):
    dispatch: str


class Follow(Shape):
    """A dispatch, and the version in its session after which its events are told."""

    dispatch: str
    after: int = Field(0, ge=0)


class Listing(Shape):
    """The newest dispatches, of one session or of all."""

    session: str | None = None
    limit: int = Field(20, ge=1, le=1000)


class Dispatches(Shape):
    dispatches: list[DispatchInfo]


async def begin(kernel: Microkernel, caller: Caller, params: Begin) -> Began:
    """Begin a dispatch and take the session's lease. Raises `session.busy` naming who holds it."""
    kernel.refresh()
    await kernel.services_ready()
    session = await kernel.session(params.session)
    if params.kind == "prompt" and params.dispatch is None and not params.prompt.strip() and params.prompt_ref is None:
        raise InvalidParams("A prompt needs text.")
    dispatch = await dispatches.begin(kernel, caller, session, params)
    model = kernel.models.resolve(dispatch.chosen)[0] if dispatch.kind == "prompt" else None
    return Began(
        dispatch=dispatch.id,
        session=session.id,
        root=session.root,
        epoch=dispatch.epoch,
        earlier=session.calls,
        protected=list(kernel.settings.protected),
        turn=dispatch.turns,
        harness=dispatch.harness,
        limits=dict(dispatch.limits),
        model=model.name if model else None,
        scripted=model.scripted if model else False,
        first=dispatch.first,
        news=kernel.upkeep.news(caller),
    )


async def end(kernel: Microkernel, caller: Caller, params: End) -> DispatchInfo:
    """End a dispatch; calls without a result get `not_run`. A repeat returns what was written."""
    session, dispatch = await find(kernel, params.dispatch)
    async with session.writing:
        if not dispatch.running and params.epoch == dispatch.epoch:
            return dispatch.info()
        dispatches.held(session, params.dispatch, params.epoch, caller)
        await dispatches.end(kernel, session, dispatch, params)
        return dispatch.info()


async def get(kernel: Microkernel, caller: Caller, params: Which) -> DispatchInfo:
    """One dispatch, by its id or a beginning of it that no other has."""
    _, dispatch = await listing.named(kernel, params.dispatch)
    return dispatch.info()


async def list_(kernel: Microkernel, caller: Caller, params: Listing) -> Dispatches:
    """The newest dispatches first; a long prompt or answer is shortened (`dispatch.get` has the whole)."""
    if params.session is None:
        return Dispatches(dispatches=[_row(each) for each in await listing.newest(kernel, params.limit)])
    session = await kernel.session(params.session)
    found = sorted(session.dispatches.values(), key=lambda each: each.first, reverse=True)
    return Dispatches(dispatches=[_row(each.info()) for each in found[: params.limit]])


def _row(info: DispatchInfo) -> DispatchInfo:
    return info.model_copy(
        update={"prompt": shorten(info.prompt, LISTED), "answer": shorten(info.answer, LISTED), "value": None}
    )


async def follow(kernel: Microkernel, caller: Caller, params: Follow, stream: Sink) -> DispatchInfo:
    """Stream a dispatch from its first event, or from later on, until it ends.

    Deltas are `{"kind": "event", "event": {…}, "next": {"after": …}}` for facts, and live ones between them:
    `{"kind": "text" | "output" | "reset", …}`; `output` is what the call `id` prints. A client that lost its connection goes
    on with the parameters of `next`.
    """
    session, dispatch = await listing.named(kernel, params.dispatch)
    news = asyncio.Event()

    def committed(events: list[Event]) -> None:
        if any(event.dispatch == dispatch.id for event in events):
            news.set()

    def live(data: dict[str, Any]) -> None:
        if data.get("dispatch") == dispatch.id:
            stream.send(data)

    unsubscribe = kernel.log.subscribe(committed)
    session.listeners.add(live)
    kernel.stopping.wakes.add(news)
    try:
        version, told = max(dispatch.first - 1, params.after), False
        while True:
            news.clear()
            running = dispatch.running
            for event in await kernel.log.read(session.stream, version):
                version = event.version
                if event.dispatch == dispatch.id:
                    await stream.caught_up()
                    fact = EventInfo.of(event).model_dump()
                    stream.send({"kind": "event", "event": fact, "next": {"after": version}})
            if not running or kernel.stopping.is_set():
                return dispatch.info()
            if not told:
                live(_printed(dispatch))
                told = True
            await news.wait()
    finally:
        kernel.stopping.wakes.discard(news)
        session.listeners.discard(live)
        unsubscribe()


def _printed(dispatch: Dispatch) -> dict[str, Any]:
    """What the call that runs now has printed, for one who comes to it in the middle."""
    running = next(iter(dispatch.pending), "")
    return {"dispatch": dispatch.id, "kind": "output", "id": running, "text": dispatch.printed.tail}


async def find(kernel: Microkernel, dispatch_id: str) -> tuple[Session, Dispatch]:
    """The session and dispatch that an id names. Raises `DispatchNotFound`."""
    stream = ids.stream_of(ids.session_of(dispatch_id))
    if kernel.log.head(stream):
        session = await kernel.session(ids.session_of(dispatch_id))
        if dispatch_id in session.dispatches:
            return session, session.dispatches[dispatch_id]
    raise DispatchNotFound(f"No dispatch {dispatch_id!r}: `%runs` lists those there are.")


CALLS = namespace("dispatch", writes=(begin, end), reads=(get, list_, follow))
__all__ = ["CALLS", "CallInfo", "find"]
