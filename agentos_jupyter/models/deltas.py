"""The nouns of a model call: a request of encoded pieces, deltas on the way, a completion at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentos_jupyter.records import Usage


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks aloud: shown if somebody wants it, never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPart:
    """A piece of a tool call. `index` counts 0.. within the reply; `arguments` is a fragment of JSON text."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: `stop`, `tool_calls`, `length`, …"""

    reason: str


@dataclass(frozen=True, slots=True)
class UsageSeen:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Served:
    """Which model really answered, where the endpoint says so (a router chooses one)."""

    model: str


@dataclass(frozen=True, slots=True)
class Reset:
    """What was streamed so far belongs to a failed attempt: forget it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the call `index` came to when it was recorded: it is told to the unit, which does not run the call."""

    index: int
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the request has not been sent yet, for people."""

    text: str


Delta = Text | Reasoning | CallPart | Finish | UsageSeen | Served | Reset | Recorded | Waiting


@dataclass(frozen=True, slots=True)
class RawCall:
    """A tool call as the model wrote it; `arguments` is JSON text, or not; `recorded` is what it came to in a recording."""

    name: str
    arguments: str
    recorded: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RawReply:
    """What a person wrote in a model's place: text, or calls."""

    text: str = ""
    calls: tuple[RawCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One model call. `messages` are JSON objects, `tools` a JSON array, each encoded once and never decoded again.

    `params` are further fields of the body (`temperature`, …); `who` is the session that asks,
    `answer` what a person wrote, where a person is the model.
    """

    messages: Sequence[bytes]
    tools: bytes = b"[]"
    params: Mapping[str, Any] = field(default_factory=dict)
    who: str = ""
    answer: RawReply | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt: which model, what went wrong in one sentence, the error's code, and after how long."""

    model: str
    error: str
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply. `dropped_calls` were asked for beyond the limit; `served` is the model a router chose."""

    text: str
    calls: tuple[RawCall, ...]
    usage: Usage
    finish: str
    model: str
    scripted: bool
    seconds: float
    dropped_calls: int = 0
    served: str | None = None
    attempts: tuple[Attempt, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """Something that answers. `window` is in tokens; `scripted` is shown wherever its answers are."""

    @property
    def name(self) -> str: ...
    @property
    def scripted(self) -> bool: ...
    @property
    def window(self) -> int: ...

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """The reply as it comes. Raises `ModelError` or `ContextTooLong`; closing it cuts the connection."""
        ...

    async def aclose(self) -> None: ...
