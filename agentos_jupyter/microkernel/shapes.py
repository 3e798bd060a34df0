"""Shapes that more than one syscall speaks of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from agentos_jupyter.microkernel.table import Shape
from agentos_jupyter.records import DispatchStatus, Event, ToolStatus

Phase = Literal["idle", "dispatched", "waiting", "interrupted"]


class EventInfo(Shape):
    """A fact as the log holds it; `time` is ISO 8601 in UTC."""

    position: int
    stream: str
    version: int
    time: str
    type: str
    actor: str
    dispatch: str | None
    data: dict[str, Any]
    digest: str

    @classmethod
    def of(cls, event: Event) -> EventInfo:
        return cls.model_construct(
            position=event.position,
            stream=event.stream,
            version=event.version,
            time=event.time.isoformat(),
            type=event.type,
            actor=event.actor,
            dispatch=event.dispatch,
            data=dict(event.data),
            digest=event.digest,
        )


class Events(Shape):
    """A page of events: at most `limit`, and no more than a frame carries; an empty page is the end."""

    events: list[EventInfo]


PAGE = 2 * 1024 * 1024
"""Bytes of events told at once: with one more event, and escaped, they fit in a frame."""


def pages(events: Sequence[Event]) -> Iterator[list[Event]]:
    """The events in runs that a frame carries."""
    page: list[Event] = []
    size = 0
    for event in events:
        page.append(event)
        size += len(json.dumps(event.data)) + 500
        if size >= PAGE:
            yield page
            page, size = [], 0
    if page:
        yield page


def first_page(events: Sequence[Event]) -> Events:
    return Events(events=[EventInfo.of(each) for each in next(pages(events), [])])


class ClientInfo(Shape):
    """Who asks: a front end, its notebook and cell; what verify, branch and replay will need."""

    name: str = ""
    pid: int = 0
    notebook: str | None = None
    cell_id: str | None = None
    count: int | None = None
    cell_digest: str | None = None
    batch: bool = False


class ImageInfo(Shape):
    """An image attached to a prompt: content that was put, its media type, and what to call it."""

    digest: str
    mime: str
    name: str = "image"


class ToolInfo(Shape):
    """A tool as the model sees it; `parameters` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class ObservationInfo(Shape):
    """What a tool call came to; see `records.Observation`."""

    status: ToolStatus
    text: str
    exit_code: int | None = None
    seconds: float = 0.0
    total: int = 0
    full: str | None = None
    notes: list[str] = Field(default_factory=list)


class CallInfo(Shape):
    """A judged tool call. `arguments` is null when `raw` is not a JSON object; `shown` are the arguments for everybody's
    eyes, where they hold a secret; a call with `recorded` came out of a recording and is not run."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    shown: dict[str, Any] | None = None
    raw: str = ""
    verdict: Literal["allow", "reject", "wait"] = "allow"
    reason: str | None = None
    approval: str | None = None
    recorded: ObservationInfo | None = None


class UsageInfo(Shape):
    """Tokens; `usd` is null where no price is known."""

    input: int = 0
    output: int = 0
    cached: int = 0
    usd: float | None = None


class Changes(Shape):
    """Files a dispatch changed, relative to the root; `more` counts those beyond the lists."""

    created: list[str] = Field(default_factory=list)
    modified: list[str] = Field(default_factory=list)
    deleted: list[str] = Field(default_factory=list)
    more: int = 0


class ErrorInfo(Shape):
    code: str
    message: str


class SessionInfo(Shape):
    """A session: `phase` tells whether it is at work, `holder` who holds it and until when."""

    id: str
    name: str
    root: str
    phase: Phase
    model: str | None
    created: str
    turns: int
    dispatches: int
    holder: str | None = None
    unfinished: str | None = None
    agent: str | None = None
    limits: dict[str, Any] = Field(default_factory=dict)
    usage: UsageInfo = UsageInfo()


class DispatchInfo(Shape):
    """A dispatch; `first` and `last` are the versions of its events in the session's stream. `value` is the answer as
    JSON, where a schema was asked for and it is valid."""

    id: str
    session: str
    kind: str
    status: Literal["running"] | DispatchStatus
    started: str
    prompt: str = ""
    answer: str = ""
    model: str | None = None
    scripted: bool = False
    turns: int = 0
    calls: int = 0
    seconds: float = 0.0
    usage: UsageInfo = UsageInfo()
    changed: Changes | None = None
    error: ErrorInfo | None = None
    harness: str = ""
    agent: str = ""
    limits: dict[str, Any] = Field(default_factory=dict)
    value: Any = None
    first: int = 0
    last: int = 0
