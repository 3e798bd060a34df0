"""session: conversations, durable."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agentos_jupyter.errors import InvalidParams
from agentos_jupyter.microkernel import dispatches, inbox, recording
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.shapes import PAGE, DispatchInfo, Events, SessionInfo, UsageInfo, first_page
from agentos_jupyter.microkernel.table import Shape, namespace
from agentos_jupyter.records import NewEvent

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Create(Shape):
    """A new session; `key` makes a repeat harmless."""

    name: str = Field("", max_length=200)
    notebook: str | None = None
    model: str | None = None
    agent: str | None = None
    key: str = Field(min_length=8, max_length=100)


class Update(Shape):
    """What to change; absent fields stay. `limits` are the session's own, whole, and count from its next dispatch."""

    session: str
    name: str | None = Field(None, min_length=1, max_length=200)
    model: str | None = None
    limits: dict[str, Any] | None = None


class Steer(Shape):
    """Words for a session at work; `key` makes a repeat harmless."""

    session: str
    text: str = Field(min_length=1, max_length=100_000)
    key: str = Field(min_length=8, max_length=100)


class Steered(Shape):
    """What was put into the inbox: its version there, and the dispatch that will hear it before its next turn. Nobody
    runs that dispatch now unless it is `held`: it hears it when it is continued."""

    inbox: int
    dispatch: str
    held: bool = True


class Which(Shape):
    """A session by id, unique beginning of an id, or name (the newest of that name)."""

    session: str


class Listing(Shape):
    limit: int = Field(50, ge=1, le=1000)


class Sessions(Shape):
    sessions: list[SessionInfo]


class History(Shape):
    session: str
    after: int = Field(0, ge=0)
    limit: int = Field(500, ge=1, le=10_000)


class InForce(Shape):
    """Every limit by its name, in its unit."""

    limits: dict[str, Any]


class Verified(Shape):
    """A digest chain that holds, and how many events it has."""

    events: int


class Record(Shape):
    """A session to record, and from which line on; `until` is the last event of its history to look at (of a first page)."""

    session: str
    line: int = Field(0, ge=0)
    until: int | None = Field(None, ge=0)


class RecordingPage(Shape):
    """Lines of a recording; `next` is the first line of the next page, null on the last."""

    lines: list[dict[str, Any]]
    next: int | None
    until: int


class Interrupted(Shape):
    """The dispatch that was stopped, or null."""

    dispatch: DispatchInfo | None


async def create(kernel: Microkernel, caller: Caller, params: Create) -> SessionInfo:
    """Open a new session on the workspace. Without a name it is named after the workspace."""
    if params.model is not None:
        kernel.models.resolve(params.model)
    if params.agent is not None:
        kernel.refresh()
        kernel.agent(params.agent)
    data = {
        "name": params.name or kernel.workspace.name,
        "workspace": os.fspath(kernel.workspace),
        "root": os.fspath(kernel.workspace),
    }
    more = {"model": params.model, "notebook": params.notebook, "agent": params.agent}
    session = await kernel.create_session(params.key, {**data, **{k: v for k, v in more.items() if v is not None}})
    return session.info()


async def update(kernel: Microkernel, caller: Caller, params: Update) -> SessionInfo:
    """Rename a session, give it another model, or limits of its own."""
    session = await kernel.session(params.session)
    if params.model is not None:
        kernel.models.resolve(params.model)
    kernel.limits(params.limits)
    given = {"name": params.name, "model": params.model, "limits": params.limits}
    changes = {k: v for k, v in given.items() if v is not None}
    if not changes:
        raise InvalidParams("session.update needs a name, a model or limits.")
    async with session.writing:
        await kernel.record(session, [NewEvent("session.updated", changes, "person")])
        return session.info()


async def interrupt(kernel: Microkernel, caller: Caller, params: Which) -> Interrupted:
    """Stop what the session is doing, wherever it runs; harmless when it does nothing."""
    session = await kernel.session(params.session)
    dispatch = await dispatches.interrupt(kernel, session, caller)
    return Interrupted(dispatch=dispatch.info() if dispatch is not None else None)


async def steer(kernel: Microkernel, caller: Caller, params: Steer) -> Steered:
    """Say something to a session at work: the model reads it before its next turn. Raises `dispatch.ended`."""
    session = await kernel.session(params.session)
    event = await inbox.steer(kernel, session, caller, params.text, params.key)
    held = session.lease is not None and session.lease.holder is not None
    return Steered(inbox=event.version, dispatch=event.dispatch or "", held=held)


async def get(kernel: Microkernel, caller: Caller, params: Which) -> SessionInfo:
    """One session."""
    return (await kernel.session(params.session)).info()


async def list_(kernel: Microkernel, caller: Caller, params: Listing) -> Sessions:
    """The newest sessions first."""
    bounds = kernel.limits()
    found = await kernel.log.query(
        _LISTED.format(limit=params.limit),
        max_rows=params.limit,
        max_bytes=bounds.sql_bytes,
        seconds=bounds.sql_seconds,
    )
    live = {session.id: session for session in kernel.live()}
    return Sessions(sessions=[live[row[0]].info() if row[0] in live else _stored(row) for row in found.rows])


_LISTED = """
with listed as (select * from sessions order by session desc limit {limit}),
chosen as (select substr(stream, 9) as session, arg_max(data->>'$.model', position) as choice,
                  any_value(data->>'$.agent') as agent, arg_max(data->'$.limits', position) as limits
           from events where type in ('session.created', 'session.updated') group by stream),
used as (select session, sum(input) as input, sum(output) as output, sum(cached) as cached, sum(usd) as usd
         from costs where session in (select session from listed) group by session)
select session, name, root, phase, choice, created, turns, dispatches, dispatch, agent, limits, input, output, cached, used.usd
from listed join chosen using (session) left join used using (session) order by session desc
"""


def _stored(row: Sequence[Any]) -> SessionInfo:
    """A session that is not in memory, as the view tells it; nobody can hold it."""
    session, name, root, phase, model, created, turns, dispatches, dispatch, agent, limits, *used = row
    read, written, cached, usd = used
    return SessionInfo(
        id=session,
        name=name,
        root=root,
        phase=phase,
        model=model,
        created=f"{created}+00:00",
        turns=turns,
        dispatches=dispatches,
        unfinished=dispatch if phase == "dispatched" else None,
        agent=agent,
        limits=json.loads(limits) if isinstance(limits, str) else limits or {},
        usage=UsageInfo(input=read or 0, output=written or 0, cached=cached or 0, usd=usd),
    )


async def limits(kernel: Microkernel, caller: Caller, params: Which) -> InForce:
    """The limits that a dispatch of this session would have now."""
    kernel.refresh()
    session = await kernel.session(params.session)
    return InForce(limits=asdict(kernel.limits(kernel.agent(session.agent).limits, session.limits)))


async def history(kernel: Microkernel, caller: Caller, params: History) -> Events:
    """The session's events, oldest first."""
    session = await kernel.session(params.session)
    return first_page(await kernel.log.read(session.stream, params.after, params.limit))


async def verify(kernel: Microkernel, caller: Caller, params: Which) -> Verified:
    """Recompute the digest chain of the session's events. Raises `log.damaged` at the first wrong one."""
    session = await kernel.session(params.session)
    return Verified(events=await kernel.log.verify(session.stream))


async def record(kernel: Microkernel, caller: Caller, params: Record) -> RecordingPage:
    """The session as a recording that `replay:` plays: what the model was asked, what it answered, what calls came to."""
    session = await kernel.session(params.session)
    until = session.version if params.until is None else params.until
    events = [event for event in await kernel.log.read(session.stream) if event.version <= until]
    lines = await asyncio.to_thread(recording.lines, session.name, events)
    page = _within(lines[params.line :])
    after = params.line + len(page)
    return RecordingPage(lines=page, next=after if after < len(lines) else None, until=until)


def _within(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many lines as one answer holds, at least one."""
    size = 0
    for number, line in enumerate(lines):
        size += len(json.dumps(line))
        if size > PAGE and number:
            return lines[:number]
    return lines


CALLS = namespace(
    "session", writes=(create, update, interrupt, steer), reads=(get, list_, limits, history, verify, record)
)
