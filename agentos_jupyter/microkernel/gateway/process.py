"""The daemon's side of the gateway: started by the first call, started again after its death, ended with the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import site
import socket
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import ConnectionLost, FrameTooLarge, ModelRefused, ModelUnavailable
from agentos_jupyter.microkernel import children
from agentos_jupyter.microkernel.gateway.bodies import hand_over
from agentos_jupyter.rpc.peer import Peer

log = logging.getLogger(__name__)
REACH = ("PATH", "LANG", "LC_ALL", "TZ", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What of the environment a child needs to reach the network, in capitals or small letters: no key, no home."""

START_SECONDS = 30.0
ANSWER_SECONDS = 5.0
"""How long a gateway may be busy with something that cannot be cancelled; then it is ended."""


class Gateway:
    """One child at a time. `folder` is for its log; of `workspace` it imports nothing."""

    def __init__(self, folder: Path, workspace: Path, environ: Mapping[str, str]) -> None:
        self.log_file = folder / "gateway.log"
        self._workspace, self._environ = workspace, environ
        self._process: asyncio.subprocess.Process | None = None
        self._peer: Peer | None = None
        self._side: socket.socket | None = None
        self._draining: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int | None:
        """Of the child, where one runs."""
        running = self._process is not None and self._peer is not None and self._peer.open
        return self._process.pid if running and self._process is not None else None

    async def stream(self, method: str, params: Mapping[str, Any], body: bytes) -> AsyncGenerator[dict[str, Any], None]:
        """The deltas of one call, the child being started for it where none runs.

        Raises its `AgentOSError`, or `ModelUnavailable` when the child died. Closing it cancels the call in the child.
        """
        peer = await self._ready()
        heard: deque[dict[str, Any]] = deque()
        news = asyncio.Event()

        def hear(data: dict[str, Any]) -> None:
            heard.append(data)
            news.set()

        call = asyncio.create_task(peer.call(method, {**params, "body": self._hand_over(body)}, hear))
        call.add_done_callback(lambda _: news.set())
        try:
            while not call.done() or heard:
                await news.wait()
                news.clear()
                while heard:
                    yield heard.popleft()
            self._checked(call)
        finally:
            await self._left(peer, call)

    async def call(self, method: str, params: Mapping[str, Any], body: bytes = b"[]") -> Any:
        """The result of a call that streams nothing. Raises as `stream` does."""
        peer = await self._ready()
        task = asyncio.create_task(peer.call(method, {**params, "body": self._hand_over(body)}))
        try:
            await asyncio.wait({task})
            return self._checked(task)
        finally:
            await self._left(peer, task)

    def _checked(self, call: asyncio.Task[Any]) -> Any:
        """The result of a call that has ended."""
        try:
            return call.result()
        except ConnectionLost:
            raise ModelUnavailable(
                f"The gateway ended in the middle of the call; the next attempt starts it again (its log: {self.log_file})."
            ) from None
        except FrameTooLarge as error:
            raise ModelRefused(f"The tools are too large for one call: {error.message}") from None

    async def _left(self, peer: Peer, call: asyncio.Task[Any]) -> None:
        """Cancel a call that nobody waits for any more, and look whether the child is still able to hear that."""
        if call.done():
            return
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(peer))

    async def _look(self, peer: Peer) -> None:
        """End a child that answers nothing: somebody's function blocks it, and with it every other call."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await peer.call("ping")
        except TimeoutError:
            log.warning("the gateway answered nothing for %s s and is ended", ANSWER_SECONDS)
            if self._peer is peer and self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        except ConnectionLost:
            pass

    def _hand_over(self, body: bytes) -> int:
        """Give the child these bytes under a number that its call names."""
        number = next(self._numbers)
        assert self._side is not None
        try:
            hand_over(self._side, number, body)
        except OSError as error:
            raise ModelUnavailable(f"The gateway takes no messages ({error.strerror}); see {self.log_file}.") from None
        return number

    async def _ready(self) -> Peer:
        async with self._starting:
            if self._peer is None or not self._peer.open:
                await self._end()
                await self._start()
            assert self._peer is not None
            return self._peer

    async def _start(self) -> None:
        channels, sides = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._side = sides[0]
        for ours in (channels[0], sides[0]):
            ours.setblocking(False)
        try:
            with channels[1], sides[1]:
                self._process = await self._spawn(channels[1].fileno(), sides[1].fileno())
            assert self._process.stdout is not None
            self._draining = asyncio.create_task(children.keep_output(self._process.stdout, self.log_file))
            self._peer = await Peer.on(channels[0])
            async with asyncio.timeout(START_SECONDS):
                await self._peer.call("ping")
        except BaseException as error:
            if self._peer is None:
                channels[0].close()
            await self._end()
            if isinstance(error, ConnectionLost | TimeoutError | OSError):
                raise ModelUnavailable(f"The gateway did not start: see {self.log_file}.", final=True) from None
            raise
        log.info("the gateway runs, process %s", self._process.pid)

    async def _spawn(self, channel: int, side: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "agentos_jupyter.microkernel.gateway.child",
            str(channel),
            str(side),
            os.fspath(self._workspace),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            env=self._clear_environment(),
            pass_fds=(channel, side),
            start_new_session=True,
        )

    def _clear_environment(self) -> dict[str, str]:
        package = os.fspath(Path(__file__).parent.parent.parent.parent)
        kept = {name: value for name, value in self._environ.items() if name.upper() in REACH}
        user = {"PYTHONUSERBASE": str(site.USER_BASE)} if site.ENABLE_USER_SITE and site.USER_BASE else {}
        found = {} if any(package == entry for entry in site.getsitepackages()) else {"PYTHONPATH": package}
        return {"LANG": "C.UTF-8", "PYTHONSAFEPATH": "1", **kept, **user, **found}

    async def _end(self) -> None:
        peer, self._peer = self._peer, None
        process, self._process = self._process, None
        draining, self._draining = self._draining, None
        side, self._side = self._side, None
        looking, self._looking = self._looking, None
        if side is not None:
            side.close()
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await children.end(peer, process, draining)

    async def aclose(self) -> None:
        async with self._starting:
            await self._end()
