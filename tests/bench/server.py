"""A local OpenAI-compatible server in a process of its own that answers at once and notes when it was asked.

`/RUN/TURNS/v1/chat/completions` asks for one bash call a turn, TURNS times, then says "Done."; `/RUN/TURNS/v1/messages`
does the same in Anthropic's words. Each RUN is counted for
itself, or, where TURNS is `each20`, every conversation by its own length, and where it is `since9`, by what was said
since a person spoke last. `/RUN` gives its times: `[asked, answered,
bytes]` for each request, in seconds of the monotonic clock, `asked` being the moment the whole request was there. So
what a client needs for a turn is `asked[n + 1] - answered[n]`, whatever the server itself needed, and it is measured in
the same way for everybody.

    python -m tests.bench.server COMMAND        # prints its port
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import Any

Times = list[tuple[float, float, int]]


class Server:
    """The replies, encoded beforehand, and the times of every run."""

    def __init__(self, command: str) -> None:
        self._arguments = json.dumps({"command": command})
        self.times: defaultdict[str, Times] = defaultdict(list)

    def answer(self, path: str, body: bytes) -> tuple[bytes, Times | None]:
        """A whole HTTP response, and where its time is to be noted."""
        run, *rest = path.strip("/").split("/")
        if not rest:
            return _http("application/json", json.dumps(self.times[run]).encode()), None
        times = self.times[run]
        turns = rest[0].removeprefix("each").removeprefix("since")
        asked = max(0, body.rfind(b'"role":"user"')) if rest[0].startswith("since") else 0
        number = len(times) + 1 if turns == rest[0] else body.count(b'"role":"assistant"', asked) + 1
        streaming = b'"stream"' in body[:300] or b'"stream"' in body[-300:]
        message = self._call(number) if number <= int(turns) else {"role": "assistant", "content": "Done."}
        finish = "tool_calls" if "tool_calls" in message else "stop"
        if path.endswith("/messages"):
            return _anthropic(message, number, len(body) // 4), times
        return (_stream if streaming else _whole)(message, finish, len(body) // 4), times

    def _call(self, number: int) -> dict[str, Any]:
        call = {
            "index": 0,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "bash", "arguments": self._arguments},
        }
        return {"role": "assistant", "content": "", "tool_calls": [call]}


def _whole(message: dict[str, object], finish: str, tokens: int) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "bench", "choices": [choice]}
    return _http("application/json", json.dumps({**reply, "usage": _usage(tokens)}).encode())


def _stream(message: dict[str, object], finish: str, tokens: int) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**chunk, "choices": [], "usage": _usage(tokens)},
    ]
    events = [f"data: {json.dumps(each)}\n\n" for each in chunks]
    return _http("text/event-stream", "".join([*events, "data: [DONE]\n\n"]).encode())


def _anthropic(message: dict[str, Any], number: int, tokens: int) -> bytes:
    if calls := message.get("tool_calls"):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": "bash", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": calls[0]["function"]["arguments"]}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": message["content"]}
    usage = {"input_tokens": tokens, "output_tokens": 20}
    start = {"id": "m", "type": "message", "role": "assistant", "model": "bench", "content": [], "usage": usage}
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 20},
        },
        {"type": "message_stop"},
    ]
    lines = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events]
    return _http("text/event-stream", "".join(lines).encode())


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}


def _http(kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.BufferedProtocol):
    """One client connection: requests with a Content-Length, one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._room = bytearray(1 << 20)
        self._data = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._data += memoryview(self._room)[:nbytes]
        if not self._needed:
            self._needed = _length(self._data)
        if self._needed and len(self._data) >= self._needed:
            asked = time.monotonic()
            self._reply(asked)

    def _reply(self, asked: float) -> None:
        request = bytes(self._data[: self._needed])
        del self._data[: self._needed]
        self._needed = 0
        head, _, body = request.partition(b"\r\n\r\n")
        response, times = self._server.answer(head.split(b" ", 2)[1].decode(), body)
        answered = time.monotonic()
        self._transport.write(response)
        if times is not None:
            times.append((asked, answered, len(body)))


def _length(data: bytearray) -> int:
    """Bytes of the request at the front of `data`; 0 while its head is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    for line in bytes(data[:end]).lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return end + 4 + int(line[15:])
    return end + 4


async def main(command: str) -> None:
    server = Server(command)
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
