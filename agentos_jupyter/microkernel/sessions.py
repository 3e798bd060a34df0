"""Sessions and their dispatches as they stand: a fold over the session's events, and the lease that is only memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agentos_jupyter.limits import Limits
from agentos_jupyter.microkernel import answers, ids
from agentos_jupyter.microkernel.context import Context
from agentos_jupyter.microkernel.live import Printed
from agentos_jupyter.microkernel.shapes import Changes, DispatchInfo, ErrorInfo, Phase, SessionInfo, UsageInfo
from agentos_jupyter.records import Event, NewEvent


class Caller:
    """Who is on the other end of a channel: its identity, its process, and how to reach it."""

    def __init__(
        self, identity: str, pid: int = 0, name: str = "", tell: Callable[[str, dict[str, Any]], None] | None = None
    ) -> None:
        self.identity, self.pid, self.name = identity, pid, name
        self._tell = tell

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """A notification to the client, if it listens."""
        if self._tell is not None:
            self._tell(method, params)


@dataclass(slots=True)
class Dispatch:
    """One dispatch, folded from its events; `started` is when it first began, for display alone.

    `since` is when it last began, by a clock that nobody sets: time it worked for before this process is put before it.
    """

    id: str
    session: str
    kind: str
    started: datetime
    prompt: str
    first: int
    epoch: int = 1
    since: float = field(default_factory=time.monotonic)
    worked: float = 0.0
    last: int = 0
    status: str = "running"
    client: Mapping[str, Any] = field(default_factory=dict)
    tools: list[Mapping[str, Any]] = field(default_factory=list)
    limits: Mapping[str, Any] = field(default_factory=dict)
    chosen: str | None = None
    harness: str = ""
    turns: int = 0
    calls: int = 0
    answer: str = ""
    model: str | None = None
    scripted: bool = False
    seconds: float = 0.0
    usage: UsageInfo = field(default_factory=UsageInfo)
    changed: Changes | None = None
    error: ErrorInfo | None = None
    reply: Event | None = None
    pending: dict[str, Event] = field(default_factory=dict)
    results: dict[str, Event] = field(default_factory=dict)
    agent: str = ""
    schema: Mapping[str, Any] | None = None
    corrections: int = 0
    late: set[str] = field(default_factory=set)
    printed: Printed = field(default_factory=Printed)

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def elapsed(self) -> float:
        """Seconds since it last began."""
        return time.monotonic() - self.since

    def carry(self) -> None:
        """The log was read by a new process: what its model and its tools took so far is the least that has passed."""
        self.since = time.monotonic() - self.worked

    @property
    def answered(self) -> bool:
        """Whether the last reply is a final answer: it calls nothing, and nobody asks for more."""
        return self.reply is not None and not self.reply.data["calls"] and not self.reply.data.get("more")

    def apply(self, event: Event) -> None:
        """Fold one event of this dispatch in."""
        self.last = event.version
        data = event.data
        match event.type:
            case "dispatch.started":
                self.epoch, self.tools, self.limits = data["epoch"], data.get("tools", []), data.get("limits", {})
                self.client, self.chosen, self.harness = (
                    data.get("client", {}),
                    data.get("model"),
                    data.get("harness", ""),
                )
                self.agent, self.schema = data.get("agent", ""), data.get("schema")
                self.status, self.error, self.corrections = "running", None, 0
                self.since, self.worked = time.monotonic(), 0.0
            case "user.message":
                self.corrections += data.get("from") == "schema"
            case "assistant.message":
                self.forget_results()  # who ended those of the turn before has heard so
                self.turns, self.reply, self.answer = data["turn"], event, data["text"]
                self.model, self.scripted = data["model"], data["scripted"]
                self.usage = _sum(self.usage, data.get("usage") or {})
                self.worked += data.get("seconds") or 0.0
            case "tool.call":
                self.calls += 1
                self.pending[data["id"]] = event
            case "tool.result":
                self.pending.pop(data["id"], None)
                self.printed = Printed()
                self.results[data["id"]] = event
                self.worked += data.get("seconds") or 0.0
            case "tool.result.late":
                self.late.add(data["id"])
            case "dispatch.ended":
                self.status, self.answer, self.seconds = (
                    data["status"],
                    data.get("answer", self.answer),
                    data.get("seconds", 0.0),
                )
                self.changed = Changes(**data["changed"]) if data.get("changed") else None
                self.error = ErrorInfo(**data["error"]) if data.get("error") else None

    def forget_results(self) -> None:
        """Keep of the results only those that were given up, because the real one may still come."""
        self.results = {name: event for name, event in self.results.items() if event.data["status"] == "unknown"}

    def followed_by(self, newer: Dispatch) -> None:
        """Another dispatch began: nobody repeats a write of this one, and what both have in common is kept once."""
        self.reply = None
        self.forget_results()
        if self.tools == newer.tools:
            newer.tools = self.tools
        if self.limits == newer.limits:
            newer.limits = self.limits

    def info(self) -> DispatchInfo:
        return DispatchInfo(
            id=self.id,
            session=self.session,
            kind=self.kind,
            status=self.status,  # type: ignore[arg-type]  # the log holds only what this class wrote
            started=self.started.isoformat(),
            prompt=self.prompt,
            answer=self.answer,
            model=self.model,
            scripted=self.scripted,
            turns=self.turns,
            calls=self.calls,
            seconds=self.seconds + (self.elapsed if self.running else 0.0),
            usage=self.usage,
            changed=self.changed,
            error=self.error,
            harness=self.harness,
            agent=self.agent,
            limits=dict(self.limits),
            value=self._value(),
            first=self.first,
            last=self.last,
        )

    def _value(self) -> Any:
        if self.schema is None or self.status != "ok":
            return None
        return answers.value(self.answer)


def _sum(total: UsageInfo, more: Mapping[str, Any]) -> UsageInfo:
    usd = None if total.usd is None and more.get("usd") is None else (total.usd or 0.0) + (more.get("usd") or 0.0)
    return UsageInfo(
        input=total.input + (more.get("input") or 0),
        output=total.output + (more.get("output") or 0),
        cached=total.cached + (more.get("cached") or 0),
        usd=usd,
    )


class Lease:
    """Who may write for a running dispatch. It lives in memory only; the epoch in the log outlives it."""

    def __init__(self, holder: Caller | None) -> None:
        self.holder = holder
        self.expiry: asyncio.TimerHandle | None = None
        self.until: float | None = None
        self.computing: asyncio.Task[Any] | None = None
        self.limits: Limits | None = None  # of the dispatch, read from its event once

    async def quiet(self) -> None:
        """Cut the model call that is under way, and return when it writes nothing more."""
        computing = self.computing
        if computing is not None:
            computing.cancel()
            await asyncio.wait([computing])

    def hold(self, caller: Caller) -> None:
        """A call with the current epoch takes the lease (back)."""
        self.holder = caller
        self.until = None
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def expire_in(self, seconds: float, callback: Callable[[], None]) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        loop = asyncio.get_running_loop()
        self.holder, self.until = None, loop.time() + seconds
        self.expiry = loop.call_later(seconds, callback)


class Session:
    """One session, folded from its stream; `lease` is set while a dispatch is running."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.stream = ids.stream_of(session_id)
        self.name = ""
        self.root = ""
        self.home = ""
        self.model: str | None = None
        self.agent: str | None = None
        self.limits: Mapping[str, Any] = {}
        self.usage = UsageInfo()
        self.heard = 0
        self.created: datetime | None = None
        self.context = Context()
        self.version = 0
        self.turns = 0
        self.calls = 0
        self.dispatches: dict[str, Dispatch] = {}
        self.begun: dict[str, str] = {}
        self.called: dict[str, Event] = {}
        self.current: Dispatch | None = None
        self.lease: Lease | None = None
        self.writing = asyncio.Lock()
        self.hearing = asyncio.Lock()
        self.listeners: set[Callable[[dict[str, Any]], None]] = set()

    def apply(self, event: Event) -> None:
        """Fold one event of the session's stream in; one that was folded before is left alone."""
        if event.version <= self.version:
            return
        self.version, before = event.version, self.current
        data = event.data
        match event.type:
            case "session.created":
                self.name, self.root, self.created, self.model = (
                    data["name"],
                    data["root"],
                    event.time,
                    data.get("model"),
                )
                self.agent, self.home = data.get("agent"), data.get("workspace", "")
            case "session.updated":
                self.name, self.model = data.get("name", self.name), data.get("model", self.model)
                self.limits = data.get("limits", self.limits)
            case "user.message":
                self.heard = data.get("inbox", self.heard)
            case "dispatch.started":
                assert event.dispatch is not None
                self.begun[data["key"]] = event.dispatch
                if event.dispatch not in self.dispatches:
                    self.current = Dispatch(
                        event.dispatch,
                        self.id,
                        data["kind"],
                        event.time,
                        data.get("prompt", ""),
                        event.version,
                    )
                    self.dispatches[event.dispatch] = self.current
            case "assistant.message":
                self.turns += 1
                self.usage = _sum(self.usage, data.get("usage") or {})
            case "tool.call":
                self.calls += 1
                if "key" in data:
                    self.called[data["key"]] = event
        dispatch = self.dispatches.get(event.dispatch or "")
        if dispatch is not None:
            dispatch.apply(event)
        if event.type == "dispatch.started" and before is not None and before is not self.current:
            before.followed_by(self.dispatches[event.dispatch or ""])
        self.context.apply(event)

    def moved(self, workspace: str) -> None:
        """The workspace lies elsewhere now than when the session began in it: it was moved, or restored."""
        if self.root == self.home:
            self.root = self.home = workspace

    @property
    def running(self) -> Dispatch | None:
        """The dispatch that has begun and not ended, whether or not anybody holds it."""
        return self.current if self.current is not None and self.current.running else None

    @property
    def phase(self) -> Phase:
        if self.running is not None:
            return "dispatched"
        return "interrupted" if self.current is not None and self.current.status == "interrupted" else "idle"

    def holder(self) -> str | None:
        """A sentence part: who holds the running dispatch, and until when."""
        if self.running is None or self.lease is None:
            return None
        if self.lease.holder is not None:
            client = self.running.client
            return f"{client.get('notebook') or client.get('name') or 'a client'} (process {self.lease.holder.pid})"
        left = (self.lease.until or 0.0) - asyncio.get_running_loop().time()
        return f"nobody now; kept for {max(0.0, left):.0f} s for the client that lost its connection"

    def tell(self, data: dict[str, Any]) -> None:
        """Live deltas for those who follow; facts come from the log."""
        for listener in list(self.listeners):
            listener(data)

    def info(self) -> SessionInfo:
        return SessionInfo(
            id=self.id,
            name=self.name,
            root=self.root,
            phase=self.phase,
            model=self.model,
            created=self.created.isoformat() if self.created else "",
            turns=self.turns,
            dispatches=len(self.dispatches),
            holder=self.holder(),
            unfinished=self.running.id if self.running else None,
            agent=self.agent,
            limits=dict(self.limits),
            usage=self.usage,
        )


def unfinished(dispatch: Dispatch, started_running: bool = True) -> list[NewEvent]:
    """Results for the calls of a dispatch that nobody will answer any more.

    Calls run in order, so the first allowed call may have run (`unknown`) and the later ones have not.
    """
    events = []
    for number, call in enumerate(dispatch.pending.values()):
        first = number == 0 and started_running
        text = (
            "It is unknown whether this command ran or how far it came: its result was lost. Look at the files before you repeat it."
            if first
            else "This command was not run."
        )
        data = {
            "id": call.data["id"],
            "name": call.data["name"],
            "status": "unknown" if first else "not_run",
            "text": text,
        }
        events.append(NewEvent("tool.result", data, "system", dispatch.id))
    return events
