"""What a running command prints, told to those who follow the dispatch elsewhere: whole lines, twice a second, the tail alone."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any, Protocol

from agentos_jupyter.errors import AgentOSError

PERIOD = 0.5
"""Seconds between two tellings; a command that is over before tells nothing."""

TAIL = 4096
"""Bytes told at once; what was printed before them is passed over."""


class Caller(Protocol):
    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: Any = None) -> Any: ...


class Telling:
    """For one call, as an async context manager. Nothing of it is kept, and nobody waits for it."""

    def __init__(self, link: Caller, call: dict[str, Any]) -> None:
        self._link, self._call = link, call
        self._printed = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def take(self, data: bytes) -> None:
        """More output."""
        self._printed += data
        if len(self._printed) > 4 * TAIL:
            del self._printed[: self._printed.find(b"\n", -2 * TAIL) + 1 or -TAIL]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PERIOD, self._tell)

    def _tell(self) -> None:
        self._timer = None
        end = self._printed.rfind(b"\n") + 1
        if not end or (self._sending is not None and not self._sending.done()):
            return
        start = max(0, end - TAIL)
        start = start and self._printed.find(b"\n", start) + 1  # a secret is told by the whole line
        text = bytes(self._printed[start:end]).decode("utf-8", "replace")
        del self._printed[:end]
        if text:
            self._sending = asyncio.get_running_loop().create_task(self._send(text))

    async def _send(self, text: str) -> None:
        with contextlib.suppress(AgentOSError):
            await self._link.call("tool.output", {**self._call, "text": text})

    async def __aenter__(self) -> Telling:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
