"""A command's output at bounded memory: head and tail for the model, the whole in a file, live to a listener."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agentos_jupyter.sandbox.shapes import Limits

_SMALL, _LARGE = 1 << 16, 1 << 18
_PAUSE = 0.04
"""Seconds between two calls of a listener."""
_MARK = "\n[… {} bytes left out …]\n"
_MARK_ROOM = 64
_SET_PIPE_SIZE = 1031


class Capture:
    """Reads one pipe until its end on the running loop.

    `spool(size)` names a new file outside the sandbox; it is asked only when the output outgrows
    `limits.output`. `flooded` is called once, beyond `limits.flood`.
    """

    def __init__(
        self,
        limits: Limits,
        spool: Callable[[], Path],
        on_output: Callable[[bytes], object] | None,
        flooded: Callable[[], object],
    ) -> None:
        self._limits = limits
        self._spool = spool
        self._flooded = flooded
        self._loop = asyncio.get_running_loop()
        self._room = memoryview(bytearray(_SMALL))
        self._head = bytearray()
        self._tail = bytearray()
        self._file: int | None = None
        self._live = Live(on_output, limits.output) if on_output else None
        self._reading, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reading, False)
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.full: Path | None = None
        self.total = 0
        self.notes: list[str] = []
        self._loop.add_reader(self._reading, self._read)

    def close_write_end(self) -> None:
        """The sandbox has its own copy now; with ours open the end would never come."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Stops reading, whoever still holds the other end, and says the rest to the listener."""
        self.close_write_end()
        if self._reading >= 0:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._live:
            self._live.close()
            self.notes += self._live.notes
            self._live = None
        if not self.ended.done():
            self.ended.set_result(None)

    def head_tail(self) -> bytes:
        """The output, at most `limits.output` bytes of it, cut between characters, the gap said."""
        if self.total <= self._limits.output:
            return bytes(self._head)
        head = _finished(bytes(self._head))
        tail = _begun(bytes(self._tail[-self._half() :]))
        return head + _MARK.format(self.total - len(head) - len(tail)).encode() + tail

    def _half(self) -> int:
        return max(0, self._limits.output - _MARK_ROOM) // 2

    def _read(self) -> None:
        try:
            size = os.readv(self._reading, [self._room])
        except BlockingIOError:
            return
        if size == 0:
            self.close()
            return
        self._take(self._room[:size])
        if size == len(self._room) == _SMALL:
            self._widen()

    def _widen(self) -> None:
        """A command that fills the pipe gets a wider one: fewer, larger reads."""
        self._room = memoryview(bytearray(_LARGE))
        with suppress(OSError):  # refused where the user has many pipes; it works as it is
            fcntl.fcntl(self._reading, _SET_PIPE_SIZE, _LARGE)

    def _take(self, data: memoryview) -> None:
        before, self.total = self.total, self.total + len(data)
        if self._live:
            self._live.take(data)
        if self.total <= self._limits.output:
            self._head += data
            return
        if before <= self._limits.output:
            self._overflow()
        if self._file is not None and before < self._limits.full:
            self._store(data[: self._limits.full - before])
        if before < self._half():
            self._head += data[: self._half() - before]
            self._keep_tail(data[self._half() - before :])
        else:
            self._keep_tail(data)
        if before <= self._limits.flood < self.total:
            self._flooded()

    def _overflow(self) -> None:
        """The output no longer fits: what came so far goes to a file and falls into head and tail."""
        try:
            self.full = self._spool()
            self._file = os.open(self.full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._store(memoryview(bytes(self._head[: self._limits.full])))
        except OSError as error:
            self._no_file(error)
        half = self._half()
        self._tail = self._head[half:]
        del self._head[half:]

    def _store(self, data: memoryview) -> None:
        try:
            while data and self._file is not None:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._no_file(error)

    def _no_file(self, error: OSError) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = self.full = None
        self.notes.append(f"the whole output could not be stored: {error.strerror}")

    def _keep_tail(self, data: memoryview) -> None:
        half = self._half()
        if len(data) >= half:
            self._tail = bytearray(data[len(data) - half :])
            return
        self._tail += data
        if len(self._tail) > 4 * half:
            del self._tail[: len(self._tail) - half]


def _finished(head: bytes) -> bytes:
    """Without a character that the cut left unfinished."""
    for back in range(1, min(4, len(head)) + 1):
        byte = head[-back]
        if byte & 0xC0 == 0x80:
            continue
        size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return head[:-back] if size > back else head
    return head


def _begun(tail: bytes) -> bytes:
    """Without the rest of a character that the cut left at its start."""
    return tail[next((at for at, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0) :]


class Live:
    """Hands output to a listener, few times a second; what comes faster than that is cut, and the gap said."""

    def __init__(self, listener: Callable[[bytes], object], room: int) -> None:
        self._listener: Callable[[bytes], object] | None = listener
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self.notes: list[str] = []

    def take(self, data: memoryview) -> None:
        if self._listener is None:
            return
        over = max(0, len(data) - self._room)
        self._pending += data[over:]
        surplus = max(0, len(self._pending) - 2 * self._room)
        del self._pending[:surplus]
        self._left_out += over + surplus
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._next, self._loop.time()), self._hand_over)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._hand_over()

    def _hand_over(self) -> None:
        self._timer = None
        self._next = self._loop.time() + _PAUSE
        data = bytes(self._pending)
        if self._left_out:
            data = _MARK.format(self._left_out).encode() + data
        self._pending.clear()
        self._left_out = 0
        if not data or self._listener is None:
            return
        try:
            self._listener(data)
        except Exception as error:
            self._listener = None  # the command goes on; only its display ended
            self.notes.append(f"the live display failed: {type(error).__name__}: {error}")
