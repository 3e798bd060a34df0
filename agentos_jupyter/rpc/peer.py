"""One end of a JSON-RPC channel on asyncio: calls go out, calls come in, deltas stream back.

A peer owns its connection and every asyncio.Task it starts; `aclose` ends them all. A reader that is
slower than the stream it asked for gets merged deltas: nothing is queued without bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from agentos_jupyter.errors import BadFrame, Cancelled, ConnectionLost, FrameTooLarge, RpcError, UnknownSyscall
from agentos_jupyter.rpc.wire import MAX_FRAME, error_from_wire, error_to_wire, pack, unpack

MAX_BACKLOG = 16 * MAX_FRAME
"""Bytes written to a reader that takes none of them, after which it is hung up on."""

MERGED = MAX_FRAME // 16
"""Characters of merged deltas after which the next one begins: a frame holds them however they are escaped."""

Params = dict[str, Any]
OnStream = Callable[[dict[str, Any]], None]


class Stream:
    """Where a handler writes the deltas of one call: `{"kind": …, "text": …}` objects.

    While the reader lags, consecutive deltas of one kind are concatenated into one. A handler with more to send than
    one reply holds waits for `caught_up` between its deltas.
    """

    __slots__ = ("_id", "_peer", "_pending", "_seq")

    def __init__(self, peer: Peer, request_id: Any) -> None:
        self._peer, self._id, self._seq = peer, request_id, 0
        self._pending: list[dict[str, Any]] = []

    def send(self, data: dict[str, Any]) -> None:
        if not self._peer.lagging:
            self._write(data)
            return
        last = self._pending[-1] if self._pending else None
        if last is not None and _mergeable(last, data):
            last["text"] += data["text"]
            return
        if not self._pending:
            self._peer.when_writable(self.flush)
        self._pending.append(dict(data))

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        for data in pending:
            with contextlib.suppress(FrameTooLarge):
                self._write(data)

    async def caught_up(self) -> None:
        """Return when the reader has taken what was sent."""
        while self._peer.lagging:
            taken = asyncio.Event()
            self._peer.when_writable(taken.set)
            await taken.wait()

    def _write(self, data: dict[str, Any]) -> None:
        self._seq += 1
        self._peer.notify("stream", {"id": self._id, "seq": self._seq, "data": data})


def _mergeable(last: dict[str, Any], data: dict[str, Any]) -> bool:
    texts = last.get("text"), data.get("text")
    if not isinstance(texts[0], str) or not isinstance(texts[1], str) or len(texts[0]) + len(texts[1]) > MERGED:
        return False
    return {**last, "text": ""} == {**data, "text": ""}


Handler = Callable[[str, Params, Stream], Awaitable[Any]]
OnNotice = Callable[[str, Params], None]


async def _no_handler(method: str, params: Params, stream: Stream) -> Any:
    raise UnknownSyscall(f"this side of the channel answers no calls ({method})")


class Peer(asyncio.Protocol):
    """Calls and answers on one socket. Make it with `Peer.on(sock)` or as a server's protocol factory."""

    def __init__(
        self,
        handler: Handler = _no_handler,
        on_close: Callable[[Peer], None] | None = None,
        on_notice: OnNotice | None = None,
    ) -> None:
        self._handler, self._on_close, self._on_notice = handler, on_close, on_notice
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], OnStream | None]] = {}
        self._running: dict[Any, asyncio.Task[None]] = {}
        self._writable: list[Callable[[], None]] = []
        self.lagging = False
        self.closed = asyncio.get_running_loop().create_future()

    @classmethod
    async def on(cls, sock: socket.socket, handler: Handler = _no_handler, on_notice: OnNotice | None = None) -> Peer:
        """A peer on a connected socket, which it owns from now on; `on_notice` hears notifications it has no use for."""
        try:
            _, peer = await asyncio.get_running_loop().create_connection(
                lambda: cls(handler, on_notice=on_notice), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        return peer

    @property
    def open(self) -> bool:
        """Whether a call can be made: a channel that is about to be closed takes none any more."""
        return self._transport is not None and not self._transport.is_closing()

    # -- calls going out

    async def call(self, method: str, params: Params | None = None, on_stream: OnStream | None = None) -> Any:
        """The other side's result. Raises its `AgentOSError` or `ConnectionLost`.

        Cancelling the caller cancels the call on the other side.
        """
        request_id = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (future, on_stream)
        try:
            self._send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionLost):
                self.notify("cancel", {"id": request_id})
            raise
        finally:
            self._waiting.pop(request_id, None)

    def notify(self, method: str, params: Params) -> None:
        """A message without an answer; dropped when the channel is gone."""
        with contextlib.suppress(ConnectionLost):
            self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def when_writable(self, callback: Callable[[], None]) -> None:
        self._writable.append(callback)

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is None or not self.open:
            raise ConnectionLost("The channel is closed.")
        self._transport.write(pack(message))
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            self._transport.abort()  # it asks and never reads

    # -- the connection (asyncio.Protocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def socket(self) -> socket.socket | None:
        """The socket beneath, for peer credentials."""
        return None if self._transport is None else self._transport.get_extra_info("socket")

    def pause_writing(self) -> None:
        self.lagging = True

    def resume_writing(self) -> None:
        self.lagging = False
        callbacks, self._writable = self._writable, []
        for callback in callbacks:
            callback()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            if end >= MAX_FRAME or self._transport is None or self._transport.is_closing():
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
            try:
                self._received(unpack(line))
            except BadFrame as error:
                self._refuse(error)
        self._scanned = len(self._buffer)
        if self._scanned >= MAX_FRAME:
            self._refuse(FrameTooLarge(f"A line is longer than {MAX_FRAME} bytes; the channel is closed."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost("The other side closed the channel before it answered."))
        for task in self._running.values():
            task.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if self._on_close is not None:
            self._on_close(self)

    async def aclose(self) -> None:
        """Close the connection and wait until every call that was being answered has ended."""
        if self._transport is not None:
            self._transport.close()
        tasks = [task for task in self._running.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.shield(self.closed)

    def _refuse(self, error: RpcError) -> None:
        """Say why, and hang up: what follows on the line cannot be trusted."""
        self._buffer.clear()
        with contextlib.suppress(ConnectionLost):
            self._send({"jsonrpc": "2.0", "id": None, "error": error_to_wire(error)})
        if self._transport is not None:
            self._transport.close()

    # -- messages coming in

    def _received(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            self._answered(message)
        elif "id" in message:
            self._start(message["id"], str(method), message.get("params", {}))
        else:
            self._notified(str(method), message.get("params"))

    def _answered(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        future, _ = self._waiting.get(request_id, (None, None)) if isinstance(request_id, int) else (None, None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(error_from_wire(message["error"]))
            return
        future.set_result(message.get("result"))

    def _notified(self, method: str, params: Any) -> None:
        if not isinstance(params, dict):
            return
        request_id = params.get("id")
        if method == "cancel":
            task = self._running.get(request_id) if isinstance(request_id, int | str) else None
            if task is not None:
                task.cancel()
        elif method == "stream" and isinstance(request_id, int) and isinstance(params.get("data"), dict):
            _, on_stream = self._waiting.get(request_id, (None, None))
            if on_stream is not None:
                on_stream(params["data"])
        elif self._on_notice is not None:
            self._on_notice(method, params)

    def _start(self, request_id: Any, method: str, params: Any) -> None:
        if not isinstance(request_id, int | str) or request_id in self._running:
            self._refuse(BadFrame("A request needs an id (number or string) that is not in use."))
            return
        task = asyncio.get_running_loop().create_task(self._serve(request_id, method, params))
        self._running[request_id] = task
        task.add_done_callback(lambda done: self._served(request_id, method, done))

    def _served(self, request_id: Any, method: str, done: asyncio.Task[None]) -> None:
        self._running.pop(request_id, None)
        if done.cancelled():  # before it had begun: nothing in it could answer
            self._reply(request_id, {"error": error_to_wire(Cancelled(f"{method} was cancelled."))})

    async def _serve(self, request_id: Any, method: str, params: Any) -> None:
        stream = Stream(self, request_id)
        try:
            if not isinstance(params, dict):
                raise RpcError(f"{method} takes its parameters as an object.")
            answer = {"result": await self._handler(method, params, stream)}
        except asyncio.CancelledError:
            answer = {"error": error_to_wire(Cancelled(f"{method} was cancelled."))}
        except Exception as error:  # whatever goes wrong in a handler is the caller's answer
            answer = {"error": error_to_wire(error)}
        stream.flush()
        self._reply(request_id, answer)

    def _reply(self, request_id: Any, answer: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionLost):
            try:
                self._send({"jsonrpc": "2.0", "id": request_id, **answer})
            except (FrameTooLarge, TypeError, ValueError) as error:
                self._send({"jsonrpc": "2.0", "id": request_id, "error": error_to_wire(error)})
