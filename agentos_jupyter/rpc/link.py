"""A connection that survives the daemon: it starts it, reconnects to it, and repeats calls that are safe to repeat.

Every write of the syscall table is idempotent (by dispatch and turn, by call id, or by a client's key), so
a call whose answer was lost is simply made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import Cancelled, ConnectionLost, DaemonUnavailable
from agentos_jupyter.rpc.client import Client
from agentos_jupyter.rpc.peer import OnStream, Peer
from agentos_jupyter.rpc.start import hello, offer, outdated, spawn

END_SECONDS = 5.0
"""Until a daemon that was told to stop has hung up."""

PATIENCE = 30.0
"""Seconds a call is repeated while the daemon comes and goes: as long as a lease is kept."""


class Link:
    """Calls to the daemon of one workspace; `client` is the typed face of `call`, `info` its last greeting."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.client = Client(self.call)
        self.info: dict[str, Any] = {}
        self._offer = offer()
        self._peer: Peer | None = None
        self._spawning: asyncio.Future[socket.socket] | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self.on_notice: Callable[[str, dict[str, Any]], None] = lambda method, params: None

    @classmethod
    async def open(cls, workspace: Path) -> Link:
        """Find or start the daemon and shake hands with it."""
        link = cls(workspace)
        for _ in range(3):
            with contextlib.suppress(ConnectionLost):  # it was just stopping
                await link._connected()
                return link
        await link._connected()
        return link

    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: OnStream | None = None) -> Any:
        """The syscall's result; raises the `AgentOSError` it answered with, `ConnectionLost` after `PATIENCE` seconds.

        A call that is repeated streams again behind a delta of kind `reset`: from where its deltas said that it can go on
        (`next`, parameters of a repeat), else from its beginning.
        """
        going_on: dict[str, Any] = {}

        def heard(data: dict[str, Any]) -> None:
            going_on.update(data.pop("next", {}))
            assert on_stream is not None
            on_stream(data)

        deadline = asyncio.get_running_loop().time() + PATIENCE
        pause, repeated = 0.02, False
        while True:
            try:
                peer = await self._connected()
                if on_stream is not None and repeated:
                    on_stream({"kind": "reset", "text": ""})
                repeated = True
                return await peer.call(method, {**(params or {}), **going_on}, heard if on_stream else None)
            except (ConnectionLost, DaemonUnavailable):
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def _connected(self) -> Peer:
        async with self._connecting:
            if self._peer is not None and self._peer.open:
                return self._peer
            if self._closed:
                raise Cancelled("The link was closed by this side.")
            sock = await self._socket()
            if self._closed:
                sock.close()
                raise Cancelled("The link was closed by this side.")
            sock.setblocking(False)
            peer = await Peer.on(sock, on_notice=lambda method, params: self.on_notice(method, params))
            try:
                greeting = await peer.call("system.hello", self._offer)
                if outdated(greeting):
                    with contextlib.suppress(ConnectionLost):
                        await peer.call("system.shutdown", {})
                    await asyncio.wait([peer.closed], timeout=END_SECONDS)
                    raise ConnectionLost("An older daemon makes room for this version's.")
                self.info = hello(greeting)
            except BaseException:
                await peer.aclose()
                raise
            self._peer = peer
            return peer

    async def aclose(self) -> None:
        """Hang up for good: calls that wait end with `cancelled`, and no daemon is started for them."""
        self._closed = True
        async with self._connecting:
            peer, self._peer = self._peer, None
        if peer is not None:
            await peer.aclose()
        if self._spawning is not None:
            await asyncio.wait([self._spawning])  # a thread ends when it ends; what it brings too late is closed

    async def _socket(self) -> socket.socket:
        """A socket to the daemon; one that comes after we were cancelled is closed."""
        self._spawning = asyncio.ensure_future(asyncio.to_thread(spawn, self.workspace))
        try:
            return await asyncio.shield(self._spawning)
        except asyncio.CancelledError:
            self._spawning.add_done_callback(_close)
            raise


def _close(done: asyncio.Future[socket.socket]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().close()
