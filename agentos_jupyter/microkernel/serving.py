"""The owner's socket: clients come and go, each with its identity and its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.microkernel.kernel import Microkernel
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.rpc.peer import Params, Peer, Stream


class Server:
    """Serves a microkernel on a unix socket (0600, in a 0700 folder) as an async context manager."""

    def __init__(self, kernel: Microkernel, path: Path) -> None:
        self._kernel, self._path = kernel, path
        self._peers: set[Peer] = set()
        self.idle_since = asyncio.get_running_loop().time()
        self._calls = 0

    async def __aenter__(self) -> Server:
        await self._listen()
        return self

    async def _listen(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()  # the lock is ours, so a socket that is left is nobody's
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            sock.bind(os.fspath(self._path))
        finally:
            os.umask(mask)
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, sock=sock, backlog=256)
        self._inode = self._path.lstat().st_ino

    async def mend(self) -> bool:
        """Listen anew where the socket was removed, by a cleaner of temporary folders or a logout; whether it was."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.lstat().st_ino == self._inode:
                return False
        paths.runtime_dir()  # made again, if need be
        self._server.close()
        await self._listen()
        return True

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        for peer in list(self._peers):
            await peer.aclose()
        await self._server.wait_closed()

    @property
    def clients(self) -> int:
        return len(self._peers)

    def _accept(self) -> Peer:
        connection = _Connection(self._kernel)
        peer = Peer(connection.answer, lambda closed: self._gone(closed, connection))
        connection.peer = peer
        self._peers.add(peer)
        return peer

    def _gone(self, peer: Peer, connection: _Connection) -> None:
        self._peers.discard(peer)
        self.idle_since = asyncio.get_running_loop().time()
        connection.close()


class _Connection:
    """One owner connection: its caller, made when it first speaks."""

    def __init__(self, kernel: Microkernel) -> None:
        self._kernel = kernel
        self.peer: Peer | None = None
        self._caller: Caller | None = None
        self._process: int | None = None

    async def answer(self, method: str, params: Params, stream: Stream) -> Any:
        if self._caller is None:
            self._caller = self._identify()
        return await self._kernel.call(method, params, self._caller, stream)

    def _identify(self) -> Caller:
        assert self.peer is not None
        sock = self.peer.socket
        pid = (
            struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            if sock is not None
            else 0
        )
        with contextlib.suppress(OSError, AttributeError):
            self._process = os.pidfd_open(pid)
        return Caller("owner", pid, f"process {pid}", self.peer.notify)

    def close(self) -> None:
        if self._caller is None:
            return
        process, self._process = self._process, None
        self._kernel.gone(self._caller, process)
