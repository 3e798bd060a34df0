"""The blocking twin of a peer, for the terminal and for Python cells: one call at a time."""

from __future__ import annotations

import contextlib
import itertools
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import ConnectionLost
from agentos_jupyter.rpc.client import SyncClient
from agentos_jupyter.rpc.start import connect, hello, offer, outdated, retried, spawn
from agentos_jupyter.rpc.wire import MAX_FRAME, error_from_wire, pack, unpack


class SyncLink:
    """A connection to the daemon of a workspace; `client` is the typed face of `call`.

    Raises `DaemonUnavailable` when `start` is false and none runs, `VersionMismatch` for another protocol.
    """

    def __init__(
        self,
        workspace: Path | None = None,
        start: bool = True,
        timeout: float | None = 60.0,
        sock: socket.socket | None = None,
    ) -> None:
        self.workspace = workspace or paths.workspace()
        self._ids = itertools.count(1)
        self.client = SyncClient(self.call)
        self.info = self._greet(False, timeout, sock) if sock else retried(lambda: self._greet(start, timeout))

    @classmethod
    def at(cls, path: Path) -> SyncLink:
        """A connection to whichever daemon serves this socket. Raises `OSError` where nobody does."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5.0)
        try:
            sock.connect(str(path))
            return cls(path, timeout=5.0, sock=sock)
        except BaseException:
            sock.close()
            raise

    def _greet(self, start: bool, timeout: float | None, sock: socket.socket | None = None) -> dict[str, Any]:
        self._sock = sock or (spawn(self.workspace) if start else connect(self.workspace))
        self._sock.settimeout(timeout)
        self._lines = self._sock.makefile("rb")
        try:
            greeting = self.call("system.hello", offer())
            if start and outdated(greeting):
                with contextlib.suppress(ConnectionLost, OSError):
                    self.call("system.shutdown")
                    self._lines.read()  # until it has hung up
                raise ConnectionLost("An older daemon makes room for this version's.")
            return hello(greeting)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The syscall's result; raises the `AgentOSError` it answered with."""
        request_id = next(self._ids)
        frame = pack({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        try:
            self._sock.sendall(frame)
            while line := self._lines.readline(MAX_FRAME + 1):
                message = unpack(line)
                if message.get("id") == request_id and "method" not in message:
                    if "error" in message:
                        raise error_from_wire(message["error"])
                    return message.get("result")
        except OSError as error:
            raise ConnectionLost(f"The daemon did not answer {method} ({error}): look at `agentos status`.") from error
        raise ConnectionLost(f"The daemon closed the connection before it answered {method}: look at `agentos status`.")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._lines.close()
            self._sock.close()

    def __enter__(self) -> SyncLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
