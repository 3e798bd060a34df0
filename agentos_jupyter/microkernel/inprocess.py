"""The in-process twin: the same microkernel, table and sockets, in a thread of this process.

One immortal thread owns the event loop, and every process that the loop spawns belongs to it (a sandbox dies
with the thread that started it). For tests, library use, and many agents in one process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agentos_jupyter import paths
from agentos_jupyter.microkernel.kernel import Microkernel
from agentos_jupyter.microkernel.lock import Lock
from agentos_jupyter.microkernel.serving import Server
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.rpc.client import Client, SyncClient

T = TypeVar("T")
OnStream = Callable[[dict[str, Any]], None]


class LocalLink:
    """What `rpc.link.Link` is to a daemon, for coroutines on the twin's own loop."""

    def __init__(self, kernel: Microkernel, name: str) -> None:
        self._kernel = kernel
        self._caller = Caller("owner", os.getpid(), name, self._tell)
        self.client = Client(self.call)
        self.on_notice: Callable[[str, dict[str, Any]], None] = lambda method, params: None

    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: OnStream | None = None) -> Any:
        """The syscall's result, by the same table and checks as over a socket."""
        return await self._kernel.call(method, params or {}, self._caller, _Sink(on_stream))

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        self.on_notice(method, params)

    async def aclose(self) -> None:
        """What this link's units were doing is kept for a while, as when a socket closes."""
        self._kernel.gone(self._caller, None)


class _Sink:
    """Deltas to a callback."""

    def __init__(self, on_stream: OnStream | None) -> None:
        self._on_stream = on_stream

    def send(self, data: dict[str, Any]) -> None:
        if self._on_stream is not None:
            self._on_stream(data)

    async def caught_up(self) -> None:
        """A callback has taken what it was given."""


class Workspace:
    """An open workspace, as a context manager; `client` has each syscall as a blocking method.

    `run` carries a coroutine out on the twin's loop: that is where units and sandboxes belong.
    """

    def __init__(self, workspace: Path, skills: Path | None = None) -> None:
        self.workspace = workspace
        self._skills = skills
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._kernel: Microkernel | None = None
        self.client = SyncClient(self.call)
        self._thread = threading.Thread(target=self._live, name="agentos", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The syscall's result, from any thread but the twin's own."""
        return self.run(self.link().call(method, params))

    def link(self, name: str = "in-process") -> LocalLink:
        """A link for coroutines that `run` carries out."""
        assert self._kernel is not None
        return LocalLink(self._kernel, name)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine on the twin's loop; interrupting the wait cancels it."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close everything and release the lock; a second call does nothing."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live(self) -> None:
        try:
            with Lock(self.workspace):
                asyncio.run(self._serve())
        except BaseException as error:  # it belongs to the thread that waits for us
            self._failed = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            Microkernel(self.workspace, os.environ, self._skills) as kernel,
            Server(kernel, paths.socket_path(self.workspace)),
        ):
            self._kernel = kernel
            self._ready.set()
            stops = [asyncio.ensure_future(event.wait()) for event in (self._stop, kernel.stopping)]
            await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
            for stop in stops:
                stop.cancel()


def open_workspace(path: Path | str | None = None, skills: Path | None = None) -> Workspace:
    """Own a workspace in this process. Raises `WorkspaceBusy` when a daemon or another process does: use `connect()`."""
    return Workspace(paths.workspace(Path(path) if path is not None else None), skills)
