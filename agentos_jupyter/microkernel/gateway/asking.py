"""One call through litellm: the request made of what the daemon sent, the chunks of the reply sent back as deltas."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from typing import Any

from agentos_jupyter.errors import ModelRefused, nearest
from agentos_jupyter.microkernel.gateway import faults, library
from agentos_jupyter.microkernel.gateway.splice import HEADER, INSTEAD, TAKE_THEM_AS_THEY_ARE, Splice
from agentos_jupyter.models.chunks import ChunkReader, read_usage
from agentos_jupyter.models.deltas import UsageSeen, Waiting
from agentos_jupyter.models.remote import pack
from agentos_jupyter.rpc.peer import Stream

_NAMES = (
    "temperature top_p top_k min_p max_tokens max_completion_tokens stop seed presence_penalty frequency_penalty "
    "repetition_penalty logit_bias tool_choice parallel_tool_calls response_format reasoning_effort thinking verbosity "
    "service_tier"
)
PARAMS = frozenset(_NAMES.split())
"""What a skill may set: nothing that names an address, a key or a callback."""

_importing = asyncio.Lock()
_splice = Splice()


@lru_cache(maxsize=1)
def _library() -> Any:
    litellm = library.load()
    import httpx

    litellm.aclient_session = httpx.AsyncClient(event_hooks={"request": [_splice]}, timeout=None)
    return litellm


async def loaded() -> Any:
    """litellm; while it is imported, the channel is heard."""
    async with _importing:
        return await asyncio.to_thread(_library)


async def complete(asked: dict[str, Any], body: bytes, stream: Stream) -> None:
    """Carry one request to its provider. Raises the named error of whatever goes wrong."""
    try:
        litellm = await loaded()
        arguments = _arguments(litellm, asked, stream)
        if asked["provider"] in TAKE_THEM_AS_THEY_ARE and await _spliced(litellm, asked, arguments, body, stream):
            return
        response = await litellm.acompletion(**arguments, messages=json.loads(body))
        await _hear(asked["name"], response, stream)
    except Exception as error:
        named = faults.named(asked["name"], error, asked.get("key_name"))
        raise faults.scrubbed(named, asked["secrets"]) from None


def _arguments(litellm: Any, asked: dict[str, Any], stream: Stream) -> dict[str, Any]:
    import httpx

    for name in asked["params"]:
        if name not in PARAMS:
            raise ModelRefused(nearest("parameter that a skill may set for litellm", name, PARAMS))
    tools = {"tools": asked["tools"]} if asked["tools"] else {}
    if tools and not _takes_tools(litellm, asked):
        stream.send(pack(Waiting(f"{asked['name']} takes no tools: it answers in words alone")))
    return {
        "model": asked["model"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "num_retries": 0,
        "max_retries": 0,
        "timeout": httpx.Timeout(asked["timeout"], connect=asked["connect"]),
        **asked["extra"],
        **asked["params"],
        **tools,
        **asked["secrets"],
    }


def _takes_tools(litellm: Any, asked: dict[str, Any]) -> bool:
    """Whether the provider takes tools at all; litellm leaves out what one does not take."""
    model = asked["model"].partition("/")[2]
    known = litellm.get_supported_openai_params(model=model, custom_llm_provider=asked["provider"])
    return known is None or "tools" in known


async def _spliced(litellm: Any, asked: dict[str, Any], arguments: dict[str, Any], body: bytes, stream: Stream) -> bool:
    """Ask with the messages put in at the last moment; false where this model is asked in another way, and was not."""
    ticket = _splice.put(body)
    headers = {**arguments.get("extra_headers", {}), HEADER: ticket}
    try:
        response = await litellm.acompletion(**{**arguments, "messages": INSTEAD, "extra_headers": headers})
        if _splice.sent(ticket):
            await _hear(asked["name"], response, stream)
            return True
        await response.aclose()
    except Exception:
        if _splice.sent(ticket):
            raise
    finally:
        _splice.drop(ticket)
    return False


async def _hear(name: str, response: Any, stream: Stream) -> None:
    """Send what the model says as it comes, and at the end what it counted."""
    reader, usage = ChunkReader(name), None
    try:
        async for chunk in response:
            data = chunk.model_dump()
            usage = data.pop("usage", None) or usage
            for delta in reader.take(data):
                stream.send(pack(delta))
    finally:
        await response.aclose()
    counted = read_usage({**(usage or {}), "cost": _cost(response)})
    if counted.input or counted.output:  # zeros are litellm's word for a provider that told nothing
        stream.send(pack(UsageSeen(counted)))


def _cost(response: Any) -> Any:
    """What the provider itself said the call cost, in one of its chunks; what litellm made of it is not asked for."""
    told = [getattr(getattr(chunk, "usage", None), "cost", None) for chunk in response.chunks]
    return next((cost for cost in reversed(told) if cost is not None), None)
