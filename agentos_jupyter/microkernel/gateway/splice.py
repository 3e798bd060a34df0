"""The messages put into a request as they came, where the provider takes them as they are.

litellm and the client beneath it walk and encode every message again, so that a turn would cost more the longer the
history is. Instead they are shown one word, and the messages take its place in the body that is about to be sent.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

TAKE_THEM_AS_THEY_ARE = frozenset({"openai", "custom_openai", "hosted_vllm", "llamafile", "lm_studio"})
"""Providers that are asked with OpenAI's own client and get the messages unchanged."""

HEADER = "x-agentos-messages"
"""Names the messages of a request; it is taken off before anything is sent."""

INSTEAD = [{"role": "user", "content": "(the messages)"}]


class Splice:
    """Messages that wait for their request. `put` gives the header to send, `sent` says whether they went out."""

    def __init__(self) -> None:
        self._waiting: dict[str, bytes | None] = {}

    def put(self, messages: bytes) -> str:
        ticket = secrets.token_hex(8)
        self._waiting[ticket] = messages
        return ticket

    def sent(self, ticket: str) -> bool:
        """Whether the messages of this ticket were put into a request."""
        return self._waiting[ticket] is None

    def drop(self, ticket: str) -> None:
        del self._waiting[ticket]

    async def __call__(self, request: httpx.Request) -> None:
        """httpx's hook: a request is about to be sent. Raises `KeyError` for one that has no place for the messages."""
        ticket = request.headers.pop(HEADER, None)
        if ticket is None:
            return
        messages = self._waiting[ticket]
        if messages is None:
            raise KeyError("these messages were sent already")
        self._fill(request, messages)
        self._waiting[ticket] = None

    def _fill(self, request: httpx.Request, messages: bytes) -> None:
        import httpx

        fields: dict[str, Any] = json.loads(request.content)
        if fields.pop("messages", None) != INSTEAD:
            raise KeyError("messages")
        tools = json.dumps(fields.pop("tools", []), ensure_ascii=False).encode()
        head = json.dumps(fields, ensure_ascii=False).encode()
        more = b"" if tools == b"[]" else b',"tools":' + tools
        body = b"".join((head[:-1], b',"messages":', messages, more, b"}"))
        request.stream = httpx.ByteStream(body)
        request.headers["Content-Length"] = str(len(body))
