"""A local OpenAI-compatible server for tests and benchmarks: real sockets on 127.0.0.1, no model behind them.

    async with FakeOpenAI(say("Hello")) as server:
        …  # server.base_url, server.requests

    python tests/servers/openai_server.py --port 0 --turns 1000

What it answers is a script: a list of behaviours, one for each request (the last one repeats), or one behaviour.
A behaviour is an async function of the `Exchange`, which writes an answer or breaks the connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 120, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 100}, "cost": 0.00042}


@dataclass
class Received:
    """One request as it came in: for assertions."""

    path: str
    headers: dict[str, str]
    raw: bytes
    time: float
    peer: Any
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client hung up before the answer was whole."""

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(self, request: web.Request, received: Received, number: int) -> None:
        self.request = request
        self.received = received
        self.number = number
        self.response: web.StreamResponse | None = None

    async def start(self, content_type: str = "text/event-stream", status: int = 200) -> None:
        self.response = web.StreamResponse(status=status, headers={"Content-Type": content_type})
        await self.response.prepare(self.request)

    async def write(self, data: bytes) -> None:
        if self.response is None:
            await self.start()
        assert self.response is not None
        await self.response.write(data)

    async def events(self, *chunks: Any, end: str = "\n\n", done: bool = True) -> None:
        """All chunks as events in one write; `[DONE]` after them."""
        lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}{end}" for chunk in chunks]
        await self.write("".join([*lines, f"data: [DONE]{end}" if done else ""]).encode())

    def cut(self) -> None:
        """Reset the connection."""
        assert self.request.transport is not None
        self.request.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One `chat.completion.chunk`."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "local", "choices": [choice], **more}


def bash(command: str, id: str = "call_1", index: int = 0) -> dict[str, Any]:
    """A delta with one whole bash call."""
    function = {"name": "bash", "arguments": json.dumps({"command": command})}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


def usage(**more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {**USAGE, **more}}


def events(*chunks: Any, end: str = "\n\n", done: bool = True) -> Behaviour:
    """These chunks, at once."""

    async def answer(exchange: Exchange) -> None:
        await exchange.events(*chunks, end=end, done=done)

    return answer


def say(text: str) -> Behaviour:
    return events(chunk({"role": "assistant", "content": text}), chunk(finish="stop"), usage())


def call(command: str) -> Behaviour:
    return events(chunk(bash(command)), chunk(finish="tool_calls"), usage())


def pieces(*parts: bytes, pause: float = 0.005, content_type: str = "text/event-stream") -> Behaviour:
    """Raw bytes, each in a packet of its own."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start(content_type)
        for part in parts:
            await exchange.write(part)
            await asyncio.sleep(pause)

    return answer


def text(status: int, body: str | bytes, content_type: str = "application/json", **headers: str) -> Behaviour:
    """A whole answer that is no stream: an error, a page, a completion in one piece."""
    raw = body.encode() if isinstance(body, str) else body

    async def answer(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.response = web.Response(status=status, body=raw, headers={"Content-Type": content_type, **named})
        await exchange.response.prepare(exchange.request)
        await exchange.response.write_eof()

    return answer


def error(status: int, message: str, code: Any = None, **headers: str) -> Behaviour:
    return text(status, json.dumps({"error": {"message": message, "code": code}}), **headers)


def whole(message: dict[str, Any], finish: str = "stop") -> Behaviour:
    """A completion in one JSON object, from a server that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return text(200, json.dumps({"model": "local", "choices": [choice], "usage": USAGE}, indent=1))


def hang(*first: Any) -> Behaviour:
    """These chunks, then nothing, for ever."""

    async def answer(exchange: Exchange) -> None:
        await exchange.events(*first, done=False)
        await asyncio.sleep(3600)

    return answer


def silent() -> Behaviour:
    """Not even a status line."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(3600)

    return answer


def keep_alive() -> Behaviour:
    """Comments for ever, never a token."""

    async def answer(exchange: Exchange) -> None:
        while True:
            await exchange.write(b": OPENROUTER PROCESSING\n\n")
            await asyncio.sleep(0.02)

    return answer


def endless(delta: dict[str, Any]) -> Behaviour:
    """The same piece for ever."""
    packet = f"data: {json.dumps(chunk(delta))}\n\n".encode() * 50

    async def answer(exchange: Exchange) -> None:
        while True:
            await exchange.write(packet)

    return answer


def reset(*first: Any) -> Behaviour:
    """These chunks, then the connection is reset."""

    async def answer(exchange: Exchange) -> None:
        if first:
            await exchange.events(*first, done=False)
            await asyncio.sleep(0.02)
        exchange.cut()

    return answer


def many_calls(n: int) -> Behaviour:
    """One reply that asks for `n` tool calls."""
    return events(*(chunk(bash("true", f"call_{i}", i)) for i in range(n)), chunk(finish="tool_calls"))


def turns(n: int, command: str = "true", answer: str = "Done.") -> Behaviour:
    """One bash call a turn for `n` turns, then text: for benchmarks, so everything is encoded beforehand."""
    packet = _encoded(chunk(bash(command)), chunk(finish="tool_calls"), usage())
    last = _encoded(chunk({"content": answer}), chunk(finish="stop"), usage())

    async def behave(exchange: Exchange) -> None:
        replies = exchange.received.raw.count(b'"role":"assistant"') + exchange.received.raw.count(
            b'"role": "assistant"'
        )
        exchange.response = web.Response(
            body=packet if replies < n else last, headers={"Content-Type": "text/event-stream"}
        )
        await exchange.response.prepare(exchange.request)
        await exchange.response.write_eof()

    return behave


def _encoded(*chunks: Any) -> bytes:
    return "".join([*(f"data: {json.dumps(one)}\n\n" for one in chunks), "data: [DONE]\n\n"]).encode()


class FakeOpenAI:
    """The server: `base_url` to ask, `requests` to look at. `keep` is false in long benchmarks."""

    path = "/v1/chat/completions"

    def __init__(self, script: Behaviour | Sequence[Behaviour], port: int = 0, *, keep: bool = True) -> None:
        self._script = [script] if callable(script) else list(script)
        self._port = port
        self._keep = keep
        self._runner: web.AppRunner | None = None
        self._served = 0
        self.requests: list[Received] = []
        self.arrived = asyncio.Event()
        """Set by the first request."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def port(self) -> int:
        assert self._runner is not None
        port: int = self._runner.addresses[0][1]
        return port

    async def __aenter__(self) -> FakeOpenAI:
        application = web.Application(client_max_size=2**28)
        application.router.add_post(self.path, self._answer)
        application.router.add_get("/v1/models", self._models)
        # Handlers are cancelled when the client hangs up: that is how a test sees it.
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *what: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "local", "object": "model"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        peer = request.transport.get_extra_info("peername") if request.transport else None
        received = Received(request.path, dict(request.headers), raw, time.monotonic(), peer)
        if self._keep:
            self.requests.append(received)
        self.arrived.set()
        number, self._served = self._served, self._served + 1
        exchange = Exchange(request, received, number)
        try:
            await self._script[min(number, len(self._script) - 1)](exchange)
        except (asyncio.CancelledError, ConnectionResetError):
            received.closed.set()
            raise
        return exchange.response or web.Response(status=500)


async def serve(port: int, n: int, command: str) -> None:
    async with FakeOpenAI(turns(n, command), port, keep=False) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A local OpenAI-compatible server that answers at once.")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one; the port is the first line printed")
    parser.add_argument("--turns", type=int, default=10, help="bash calls, one a turn, before the final text")
    parser.add_argument("--command", default="true", help="the command of each call")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.port, arguments.turns, arguments.command))


if __name__ == "__main__":
    main()
