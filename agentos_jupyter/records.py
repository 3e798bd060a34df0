"""The nouns: frozen, and they never act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Json = Any
"""A value that `json.dumps` writes."""

ToolStatus = Literal["ok", "failed", "timeout", "killed", "rejected", "unknown", "not_run", "withdrawn"]
DispatchStatus = Literal["ok", "failed", "interrupted", "limit", "lost", "waiting"]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact about to be appended; the log adds position, version, time and digest."""

    type: str
    data: Mapping[str, Json]
    actor: str = "system"
    dispatch: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A fact in the log. `position` is the global order, `version` counts 1..n within `stream`."""

    position: int
    stream: str
    version: int
    time: datetime
    type: str
    actor: str
    dispatch: str | None
    data: Mapping[str, Json]
    digest: str


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call that a model asked for, as it may be shown: without secrets, which only `Allow` has.

    `arguments` is None when `raw` is not a JSON object.
    """

    id: str
    name: str
    arguments: Mapping[str, Json] | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may run, with these final arguments."""

    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Reject:
    """The call must not run; `reason` is told to the model."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The call must not run yet: a person is asked."""

    approval: str


Verdict = Allow | Reject | Wait


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """A call and what the hooks said of it; `recorded` is what it came to in a recording, so that it does not run."""

    call: Call
    verdict: Verdict
    recorded: Observation | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call; `usd` is None where no price is known.

    Of `input`, `cached` were read from the provider's cache and `written` to it.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    usd: float | None = None
    written: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What one `compute.complete` brought, already committed. `more`: it is no final answer, although it calls nothing."""

    turn: int
    text: str
    tool_calls: tuple[JudgedCall, ...]
    model: str
    scripted: bool
    usage: Usage = field(default_factory=Usage)
    more: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tool call came to. `text` is what the model reads: head and tail, at most `output` bytes.

    `full` is the digest of the stored whole output where it was longer than `text`,
    `total` its size in bytes, `seconds` the wall time.
    """

    status: ToolStatus
    text: str
    exit_code: int | None = None
    seconds: float = 0.0
    total: int = 0
    full: str | None = None
    notes: Sequence[str] = ()
