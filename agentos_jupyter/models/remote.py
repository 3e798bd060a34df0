"""Models behind the gateway: what litellm speaks, and the person's own functions, asked over a channel that is handed in.

Which process is at its other end is not known here. The messages travel beside the call as one run of bytes, joined from
the encoded pieces, so a turn costs the same however long the history is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from agentos_jupyter.errors import ModelMalformed
from agentos_jupyter.models import marks
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Reasoning, Request, Served, Text, UsageSeen, Waiting
from agentos_jupyter.models.prices import Price
from agentos_jupyter.models.rate import Limiter
from agentos_jupyter.records import Usage

KINDS: dict[str, type[Delta]] = {
    "text": Text,
    "reasoning": Reasoning,
    "call": CallPart,
    "finish": Finish,
    "served": Served,
    "note": Waiting,
}


class Channel(Protocol):
    """The gateway as a model sees it."""

    def stream(self, method: str, params: Mapping[str, Any], body: bytes) -> AsyncGenerator[Mapping[str, Any], None]:
        """The deltas of one call. Raises its `AgentOSError`; closing it cancels the call."""
        ...


@dataclass(frozen=True, slots=True)
class Remote:
    """What is asked there: `method`, its parameters, and the `secrets` among them, which no repr shows."""

    method: str
    params: Mapping[str, Any]
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


class RemoteModel:
    """One model behind the channel. `window` is in tokens; `limiter` gives its provider's turns."""

    scripted = False

    def __init__(
        self,
        name: str,
        remote: Remote,
        channel: Channel,
        *,
        window: int,
        price: Price | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.name = name
        self.window = window
        self.limiter = limiter
        self.price = price
        self._remote = remote
        self._channel = channel
        self._marks = remote.method == "complete" and marks.supported(f"litellm:{remote.params.get('model')}")

    def __repr__(self) -> str:
        return f"RemoteModel({self.name!r})"

    @property
    def slow_to_start(self) -> bool:
        """Whether the first call has to wait for litellm to be imported."""
        return self._remote.method == "complete"

    async def aclose(self) -> None:
        """Nothing of its own: the channel belongs to whoever handed it in."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        params = {
            **self._remote.params,
            "name": self.name,
            "tools": json.loads(request.tools),
            "params": dict(request.params),
            "secrets": dict(self._remote.secrets),
        }
        pieces = marks.marked(request.messages) if self._marks else request.messages
        body = b"[" + b",".join(pieces) + b"]"
        async with contextlib.aclosing(self._channel.stream(self._remote.method, params, body)) as stream:
            async for data in stream:
                yield self._priced(unpack(self.name, data))

    def _priced(self, delta: Delta) -> Delta:
        if self.price is None or not isinstance(delta, UsageSeen) or delta.usage.usd is not None:
            return delta
        return UsageSeen(replace(delta.usage, usd=self.price.of(delta.usage)))


def pack(delta: Delta) -> dict[str, Any]:
    """A delta as it travels: its kind, and `text` under one name, so that a slow reader's pieces can be joined."""
    if isinstance(delta, UsageSeen):
        return {"kind": "usage", **asdict(delta.usage)}
    kind = next(name for name, cls in KINDS.items() if isinstance(delta, cls))
    data = asdict(delta)
    if kind == "call":
        data["text"] = data.pop("arguments")
    return {"kind": kind, **data}


def unpack(model: str, data: Mapping[str, Any]) -> Delta:
    """The delta that travelled. Raises `ModelMalformed` for anything else."""
    more = {name: value for name, value in data.items() if name != "kind"}
    kind = str(data.get("kind"))
    try:
        if kind == "usage":
            return UsageSeen(Usage(**more))
        if kind == "call":
            more["arguments"] = more.pop("text")
        return KINDS[kind](**more)
    except (KeyError, TypeError):
        raise ModelMalformed(f"{model}: the gateway sent a piece of an unknown kind ({kind[:40]!r}).") from None
