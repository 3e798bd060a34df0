"""One warm sandbox for a session: started at the first command, kept, restarted when its walls moved."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from agentos_jupyter import paths
from agentos_jupyter.errors import SandboxUnavailable
from agentos_jupyter.sandbox import channel as wire
from agentos_jupyter.sandbox import launch, mounts
from agentos_jupyter.sandbox.capture import Capture
from agentos_jupyter.sandbox.channel import Channel, Exit, SandboxEnded
from agentos_jupyter.sandbox.protect import Protection
from agentos_jupyter.sandbox.scratch import Scratch
from agentos_jupyter.sandbox.shapes import Limits, Outcome, Status, Tier

STATE_RESET = "shell state was reset"
STATE_KEPT = (
    "this command ended before its shell state could be saved; folder, variables and functions are those before it"
)
GIT_READ_ONLY = (
    ".git is read-only in this sandbox: history can be read, but commits, branches, stashes and `git add` cannot be "
    "made here; the changed files are in place, and a person can commit them"
)
_KILL_SECONDS = 5.0
_DRAIN_SECONDS = 1.0


class Sandbox:
    """Runs bash commands on `root`, one after the other, under `tier`.

    `protected`: paths below the root that are read-only inside, beside the workspace's own. `read`: paths
    elsewhere on the host that are readable inside. `environ`: variables added to the cleared environment.
    `state`: the folder that records placeholders (default: the state folder of the root).
    """

    def __init__(
        self,
        root: Path,
        tier: Tier,
        limits: Limits,
        protected: Sequence[str] = (),
        read: Sequence[Path] = (),
        environ: Mapping[str, str] | None = None,
        state: Path | None = None,
    ) -> None:
        self.root = root.resolve()
        self.tier = tier
        self.limits = limits
        self.environ = dict(environ or {})
        binds = [
            *mounts.interpreter(self.root),
            *mounts.own_code(self.root),
            *(mounts.Bind(os.path.realpath(p), os.path.abspath(p)) for p in read),
        ]
        self._binds, own = mounts.split(binds, self.root)
        self._protection = Protection(
            self.root, state or paths.state_dir(self.root), (*paths.PROTECTED, *protected, *own)
        )
        git = re.escape(os.fsencode(self.root))
        self._git_refused = re.compile(rb"(?:^|[\s'\"])(?:" + git + rb"/|\./)?\.git\b[^\n]*: Read-only file system")
        self._scratch = Scratch()
        self._channel: Channel | None = None
        self._turn = asyncio.Lock()
        self._started_before = False
        self._killed = False
        self.intact = True
        """Whether every protected path was still the mounted one after the last command."""

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Starts the sandbox ahead of the first command. Raises `SandboxUnavailable`."""
        async with self._turn:
            await self._ready([])

    async def run(
        self,
        command: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the command's, and its end is an outcome, no exception
        on_output: Callable[[bytes], object] | None = None,
    ) -> Outcome:
        """Runs `command` in a fresh bash that continues where the last one left off.

        `timeout` in seconds (default: `limits.wall`); `on_output` gets the merged output as it comes.
        Cancelling kills the command. Raises `SandboxUnavailable` when there is no sandbox to run it in.
        """
        async with self._turn:
            notes: list[str] = []
            self._killed = False
            channel = await self._ready(notes)
            if self._killed:
                return Outcome("killed", None, b"", None, 0, 0.0, ("interrupted before it began",))
            return await self._run(channel, command, timeout, on_output, notes)

    async def interrupt(self) -> None:
        """Kills the running command's whole tree at once; its `run` returns with status `killed`."""
        self._killed = True
        if self._channel is not None:
            self._channel.kill()

    async def aclose(self) -> None:
        """Ends the sandbox: no process, placeholder or file of it is left."""
        await self._stop()
        await asyncio.to_thread(self._clean)

    def _clean(self) -> None:
        self._protection.release()
        self._scratch.remove()

    async def _ready(self, notes: list[str]) -> Channel:
        channel = self._channel
        if channel is not None and not channel.ended and self._intact():
            return channel
        await self._stop()
        self._channel = channel = await self._start_again()
        if self._started_before:
            notes.append(STATE_RESET)
        self._started_before = True
        self.intact = True
        return channel

    async def _start_again(self) -> Channel:
        """Start it, a second time where the first was ended from outside without a word."""
        try:
            return await self._start()
        except SandboxUnavailable as error:
            if not error.data.get("ended"):
                raise
            return await self._start()

    async def _start(self) -> Channel:
        if not self.root.is_dir():
            raise SandboxUnavailable(f"The folder {self.root} is gone: make it again, or start a session elsewhere.")
        if self.tier.name == "none-already-contained":
            return await launch.contained(self.root, self._scratch.home(), self.limits, self.environ)
        if self.tier.name != "namespaces" or self.tier.bwrap is None:
            raise SandboxUnavailable(f"bash is refused: {self.tier.reason} {self.tier.cure}".strip())
        for _ in range(3):
            guards = self._protection.prepare()
            channel = await launch.namespaces(
                self.tier.bwrap, self.root, guards, self._binds, self.limits, self.environ
            )
            if self._protection.intact():
                return channel
            await channel.aclose()
        raise SandboxUnavailable(
            "The workspace's protected files changed each time they were mounted: let whatever rewrites them end, "
            "then repeat."
        )

    async def _stop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()

    def _intact(self) -> bool:
        return self.tier.name != "namespaces" or self._protection.intact()

    async def _run(
        self,
        channel: Channel,
        command: str,
        limit: float | None,
        on_output: Callable[[bytes], object] | None,
        notes: list[str],
    ) -> Outcome:
        text = command.encode("utf-8", "surrogateescape")
        if b"\0" in text:
            return Outcome("failed", 2, b"bash: a command cannot contain a NUL byte\n", None, 0, 0.0, notes)
        seconds = self.limits.wall if limit is None else limit
        began = time.monotonic()
        flooded = False

        def flood() -> None:
            nonlocal flooded
            flooded = True
            channel.kill()

        capture = Capture(self.limits, self._scratch.spool, on_output, flood)
        try:
            ended = channel.execute(text, capture.write_end)
            capture.close_write_end()
            late = not await _within(ended, seconds)
            if late:
                channel.kill()
            found = await self._end_of(channel, ended)
            await _within(capture.ended, _DRAIN_SECONDS)
        except asyncio.CancelledError:
            channel.kill()
            await asyncio.shield(self._end_of(channel, ended))
            raise
        finally:
            capture.close()
        cut = found is None or os.WIFSIGNALED(found.status)  # else it ended by itself in the same moment
        late, flooded, interrupted = late and cut, flooded and cut, self._killed and cut
        self.intact = self._intact()
        notes += self._notes(found, capture, late, flooded, seconds)
        return Outcome(
            status=_status(found, late, flooded or interrupted),
            exit_code=_exit_code(found),
            head_tail=capture.head_tail(),
            full=capture.full,
            total=capture.total,
            seconds=time.monotonic() - began,
            notes=tuple(notes),
        )

    async def _end_of(self, channel: Channel, ended: asyncio.Future[Exit]) -> Exit | None:
        """The command's end, at most some seconds after it was told to; None: the sandbox went with it."""
        try:
            if ended.done() or await _within(ended, _KILL_SECONDS):
                return ended.result()
        except SandboxEnded:
            pass
        await channel.aclose()
        return None

    def _notes(self, found: Exit | None, capture: Capture, late: bool, flooded: bool, seconds: float) -> list[str]:
        limits, notes = self.limits, list(capture.notes)
        flags = found.flags if found else 0
        if flags & wire.STATE_GONE:
            notes.append(STATE_RESET)
        if late:
            notes.append(f"killed after {seconds:g} s; this is the output until then")
        if flooded:
            notes.append(f"killed: it wrote more than {limits.flood} bytes of output")
        if flags & wire.OVER_MEMORY:
            notes.append(f"killed: its processes used more than {limits.memory} bytes of memory")
        if flags & wire.OVER_PROCESSES:
            notes.append(f"killed: it ran more than {limits.processes} processes")
        if found is None:
            notes.append("the sandbox ended with this command; the next one starts in a new one")
        elif flags & wire.STATE_LOST:
            notes.append(STATE_KEPT)
        if found and found.status and self._git_refused.search(capture.head_tail()):
            notes.append(GIT_READ_ONLY)
        return notes


async def _within(future: asyncio.Future[object] | asyncio.Future[Exit] | asyncio.Future[None], seconds: float) -> bool:
    """Whether the future ends in time; it is left alone if not."""
    done, _ = await asyncio.wait([future], timeout=seconds)
    return bool(done)


def _status(found: Exit | None, late: bool, killed: bool) -> Status:
    if late:
        return "timeout"
    if killed or found is None or found.flags & (wire.OVER_MEMORY | wire.OVER_PROCESSES):
        return "killed"
    return "ok" if found.status == 0 else "failed"


def _exit_code(found: Exit | None) -> int | None:
    if found is None:
        return None
    if os.WIFSIGNALED(found.status):
        return 128 + os.WTERMSIG(found.status)
    return os.WEXITSTATUS(found.status)
