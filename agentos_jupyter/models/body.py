"""The bytes of an answer become deltas: an event stream, or one JSON object from a server that does not stream.

What it is shows in the first byte, not in the content type, which servers and proxies get wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentos_jupyter.errors import ModelMalformed, ModelUnavailable
from agentos_jupyter.models import failures
from agentos_jupyter.models.chunks import ChunkReader
from agentos_jupyter.models.deltas import Delta
from agentos_jupyter.models.sse import EventParser


class Body:
    """Feed it chunks; `done` is true after `[DONE]`; call `end` when the answer ended."""

    def __init__(self, model: str, limit: int) -> None:
        self._model = model
        self._limit = limit
        self._reader = ChunkReader(model)
        self._events = EventParser(limit)
        self._start = b""
        self._json: bytearray | None = None
        self._streaming = False
        self.done = False

    def feed(self, chunk: bytes) -> Iterator[Delta]:
        if not self._streaming and self._json is None:
            chunk = self._begin(chunk)
        if self._json is not None:
            self._json += chunk
            if len(self._json) > self._limit:
                raise ModelMalformed(f"{self._model} answered with more than {self._limit} bytes of JSON.", final=True)
            return
        for event in self._events.feed(chunk):
            yield from self._event(event)

    def end(self) -> Iterator[Delta]:
        """What was left. Raises when the answer broke off or was none."""
        if self._json is not None:
            yield from self._whole(bytes(self._json))
            return

        for event in self._events.close():
            yield from self._event(event)
        if self.done or self._reader.finished:
            return
        if self._reader.chunks:
            raise ModelUnavailable(f"{self._model} broke off in the middle of its reply.")
        said = f"{failures.excerpt(self._start)}, which is not a stream of events" if self._start else "an empty body"
        raise ModelMalformed(f"{self._model} answered with {said}.")

    def _begin(self, chunk: bytes) -> bytes:
        """Decide at the first byte that is not white space."""
        if len(self._start) < 200:
            self._start = (self._start + chunk).lstrip()
        match self._start[:1]:
            case b"{" | b"[":
                self._json = bytearray()
                return self._start
            case b"<":
                said = failures.summary(self._start)
                raise ModelMalformed(f"{self._model} answered with a web page ({said}): check the base URL.")
            case b"":
                return b""
        self._streaming = True
        return self._start

    def _event(self, data: bytes) -> Iterator[Delta]:
        data = data.strip()
        if data == b"[DONE]":
            self.done = True
        elif data and not self.done:
            yield from self._reader.read(data)

    def _whole(self, data: bytes) -> Iterator[Delta]:
        yield from self._reader.read(data)
        if not self._reader.finished and not self._reader.chunks:
            raise ModelMalformed(f"{self._model} answered with JSON that holds no reply: {failures.excerpt(data)}.")
