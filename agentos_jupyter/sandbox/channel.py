"""One started sandbox, seen from outside: its process, and the frames to its supervisor.

What comes from inside is untrusted: a frame is at most 64 bytes, and one that cannot be read ends the
sandbox.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from agentos_jupyter.errors import SandboxUnavailable

_REQUEST = struct.Struct("<cI")
_REPLY = struct.Struct("<cIiB")
STATE_LOST, OVER_MEMORY, OVER_PROCESSES, STATE_GONE = 1, 2, 4, 8
_START_SECONDS = 20.0
_END_SECONDS = 3.0
_LOOK_SECONDS = 0.1


class SandboxEnded(Exception):
    """The process inside is gone, with whatever it was running."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command's shell ended: its wait status, and the supervisor's flags."""

    status: int
    flags: int


class Channel:
    """A running sandbox. `await Channel.start(…)`, then `execute`, one command at a time; then `aclose`."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, complaints: int) -> None:
        self._process = process
        self._control = control
        self._complaints = complaints
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._running: tuple[int, asyncio.Future[Exit]] | None = None
        self._number = 0
        self.ended = False
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._read)

    @classmethod
    async def start(cls, argv: Sequence[str], environ: dict[str, str], pass_fds: Sequence[int], cwd: str) -> Channel:
        """Spawns `argv` (the place of the control descriptor is marked `{control}`) and waits until it is ready.

        Spawned by the calling thread, because `--die-with-parent` fires when that *thread* ends.
        Raises `SandboxUnavailable` with what the process said when it does not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        complaints = anonymous(b"")
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - takes 1 ms, and must be this thread
                [arg.replace("{control}", str(theirs.fileno())) for arg in argv],
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(*pass_fds, theirs.fileno()),
                start_new_session=True,  # a person's Ctrl-C is not for it
            )
        except OSError as error:
            ours.close()
            os.close(complaints)
            raise SandboxUnavailable(f"The sandbox could not be started: {error}.") from error
        finally:
            theirs.close()
        channel = cls(process, ours, complaints)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await channel._came_up()
        except (SandboxEnded, TimeoutError) as error:
            ended = isinstance(error, SandboxEnded)
            silence = "it was ended at once, as by a lack of memory" if ended else "it did not answer"
            said = channel.complaint()
            raise SandboxUnavailable(
                f"The sandbox could not be started: {said or silence}.", ended=ended and not said
            ) from error
        finally:
            if not channel._ready.done() or channel._ready.cancelled() or channel._ready.exception():
                await channel.aclose()
        return channel

    async def _came_up(self) -> None:
        """Ready, or gone. A first process that is killed while it makes the walls may leave a child of its own behind,
        which waits for it for ever; so the whole group is ended, as long as its number is certainly its own."""
        while not self._ready.done():
            await asyncio.wait([self._ready], timeout=_LOOK_SECONDS)
            if self._died() and not self._ready.done():
                self._kill_group()
                self._end()
        await self._ready

    def _died(self) -> bool:
        """Whether the first process has ended; it is left to be reaped later, and keeps its number till then."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def execute(self, command: bytes, output: int) -> asyncio.Future[Exit]:
        """Starts a command; the future ends when every process of it is gone, or with `SandboxEnded`."""
        future: asyncio.Future[Exit] = self._loop.create_future()
        if self.ended:
            future.set_exception(SandboxEnded())
            return future
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._running = (self._number, future)
        text = anonymous(command)
        try:
            descriptors = array.array("i", [output, text])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            self._control.sendmsg([_REQUEST.pack(b"R", self._number)], rights)
        except OSError:
            self._end()
        finally:
            os.close(text)
        return future

    def kill(self) -> None:
        """Kills the running command's whole tree; its future then ends. Nothing runs: nothing happens."""
        if self._running is None or self.ended:
            return
        try:
            self._control.send(_REQUEST.pack(b"K", self._running[0]))
        except OSError:
            self._end()

    def complaint(self) -> str:
        """What the process wrote to its standard error last, bounded."""
        size = os.fstat(self._complaints).st_size
        text = os.pread(self._complaints, 500, max(0, size - 500)).decode(errors="replace")
        return next((line.strip().rstrip(".") for line in reversed(text.splitlines()) if line.strip()), "")

    async def aclose(self) -> None:
        """Ends the sandbox and waits until every process of it is gone."""
        self._end()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._gone()
        except TimeoutError:
            self._kill_group()
            await self._gone()
        finally:
            if self._complaints >= 0:
                os.close(self._complaints)
                self._complaints = -1

    async def _gone(self) -> None:
        pause = 0.0005
        while self._process.poll() is None:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.02)

    def _read(self) -> None:
        try:
            frame = self._control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            frame = b""
        if len(frame) != _REPLY.size:
            self._end()
            return
        kind, number, status, flags = _REPLY.unpack(frame)
        if kind == b"H" and not self._ready.done():
            self._ready.set_result(None)
        elif kind == b"X" and self._running is not None and self._running[0] == number:
            _, future = self._running
            self._running = None
            if not future.done():
                future.set_result(Exit(status, flags))
        elif kind != b"X":
            self._end()

    def _end(self) -> None:
        """Closing our end is the sandbox's sign to end."""
        if self.ended:
            return
        self.ended = True
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        waiting = [self._ready, *((self._running[1],) if self._running else ())]
        self._running = None
        for future in waiting:
            if not future.done():
                future.set_exception(SandboxEnded())
                future.exception()  # nobody may be waiting


def anonymous(content: bytes) -> int:
    """A descriptor of a nameless file that holds `content`, at its start."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("agentos", os.MFD_CLOEXEC)
    else:  # a Python built against an old C library
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def python() -> str:
    """The interpreter itself, past the links of virtual environments, which `-S` does not need."""
    return os.path.realpath(sys.executable)


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
