"""A local server that speaks Anthropic's messages, for tests: the same sockets and scripts as the OpenAI-compatible one.

    async with FakeAnthropic(say("Hello")) as server:
        …  # server.base_url, server.requests

A script is a list of behaviours, as in `openai_server`; `error`, `text`, `hang`, `silent`, `reset` and `pieces` of it work
here as well. https://docs.claude.com/en/api/messages-streaming
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.servers.openai_server import Behaviour, Exchange, FakeOpenAI

USAGE = {"input_tokens": 20, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 1}
"""At the start of a message; what came out is told again at its end."""
CALL = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {}}


class FakeAnthropic(FakeOpenAI):
    """The same server with the other provider's path; litellm is given `base_url` and adds the rest."""

    path = "/v1/messages"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def started(**usage: Any) -> bytes:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-local",
        "content": [],
        "stop_reason": None,
        "usage": {**USAGE, **usage},
    }
    return event("message_start", message=message) + event("ping")


def ended(reason: str, output: int = 7) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": output}) + event("message_stop")


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    """One content block in pieces."""
    inner = b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
    return (
        event("content_block_start", index=index, content_block=start)
        + inner
        + event("content_block_stop", index=index)
    )


def spoken(index: int, *words: str) -> bytes:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": word} for word in words))


def thought(index: int, *words: str) -> bytes:
    deltas = [{"type": "thinking_delta", "thinking": word} for word in words]
    return block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def called(index: int, *fragments: str, id: str = "toolu_1") -> bytes:
    """A bash call whose arguments come in these fragments of JSON."""
    deltas = ({"type": "input_json_delta", "partial_json": fragment} for fragment in fragments)
    return block(index, {**CALL, "id": id}, *deltas)


def stream(*packets: bytes, pause: float = 0.0) -> Behaviour:
    """These packets as one event stream."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        for packet in packets:
            await exchange.write(packet)
            await asyncio.sleep(pause)

    return answer


def say(*words: str) -> Behaviour:
    return stream(started(), spoken(0, *words), ended("end_turn"))


def call(command: str) -> Behaviour:
    """One bash call, its arguments cut in two."""
    text = json.dumps({"command": command})
    return stream(started(), called(0, text[:5], text[5:]), ended("tool_use"))


def hang(*packets: bytes) -> Behaviour:
    """These packets, then nothing, for ever."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.write(b"".join(packets))
        await asyncio.sleep(3600)

    return answer


def refusal(status: int, kind: str, message: str, **headers: str) -> Behaviour:
    """An error as Anthropic writes it."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(exchange: Exchange) -> None:
        exchange.response = web.Response(status=status, body=body, content_type="application/json", headers=named)
        await exchange.response.prepare(exchange.request)
        await exchange.response.write_eof()

    return answer
