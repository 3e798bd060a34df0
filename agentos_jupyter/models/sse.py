"""Server-sent events, parsed by bytes as they come (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from agentos_jupyter.errors import ModelMalformed


class EventParser:
    """Feed chunks of any size, get the data of the events they complete.

    Comments, `event:`, `id:` and `retry:` are skipped; lines may end in CRLF, LF or CR; data over several lines is
    joined by LF. A stream whose single event grows over `limit` bytes is malformed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            self._check(len(self._rest))
            return []

        events: list[bytes] = []
        for line in self._lines():
            self._take(line, events)
        self._check(len(self._rest) + self._size)
        return events

    def close(self) -> list[bytes]:
        """The last event of a stream that ended without its blank line."""
        events: list[bytes] = []
        for line in (*bytes(self._rest).splitlines(), b""):
            self._take(line, events)
        self._rest.clear()
        return events

    def _lines(self) -> list[bytes]:
        """Whole lines so far. A CR at the very end waits: its LF may be in the next chunk."""
        text = bytes(self._rest)
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1))
        if end < 0:
            return []
        del self._rest[: end + 1]
        return text[: end + 1].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._size = 0
            return

        if line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)
        elif line == b"data":
            self._data.append(b"")

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ModelMalformed(
                f"The endpoint sent one event of more than {self._limit} bytes, which is not a reply.", final=True
            )
