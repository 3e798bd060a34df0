"""Chat completion chunks become deltas, whatever dialect of the protocol a server speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agentos_jupyter.errors import AgentOSError, ModelMalformed
from agentos_jupyter.models import failures
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Reasoning, Served, Text, UsageSeen
from agentos_jupyter.records import Usage


class ChunkReader:
    """Reads the JSON of one stream, chunk by chunk, or a whole answer at once.

    Tool calls are matched by index; where a server omits it or gives the same one to all, by id.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._served = ""
        self._calls: dict[Any, int] = {}
        self._ids: list[str] = []
        self._named: set[int] = set()
        self._half = ""
        self.finished = False
        self.chunks = 0

    def read(self, data: bytes) -> Iterator[Delta]:
        """The deltas of one event's data. Raises what an error object in it means, or `ModelMalformed`."""
        chunk = decode(data)
        if not isinstance(chunk, dict):
            raise ModelMalformed(f"{self._model} sent {failures.excerpt(data)} where an object was due.")
        yield from self.take(chunk, data)

    def take(self, chunk: Mapping[str, Any], data: bytes = b"") -> Iterator[Delta]:
        """The deltas of one chunk that is decoded already; `data` is what it was, for an error's sentence."""
        error = failures.in_stream(self._model, chunk)
        if error is not None:
            raise error

        try:
            yield from self._deltas(chunk)
        except AgentOSError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, IndexError):
            raise ModelMalformed(f"{self._model} sent a chunk of an unknown shape: {failures.excerpt(data)}.") from None

    def _deltas(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        served = chunk.get("model")
        if isinstance(served, str) and served and served != self._served:
            self._served = served
            yield Served(served[:200])

        for choice in chunk.get("choices") or ():
            self.chunks += 1
            if choice.get("index") in (0, None):
                yield from self._choice(choice)
        usage = chunk.get("usage")
        if usage:
            yield UsageSeen(read_usage(usage))

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Delta]:
        delta = choice.get("delta") or choice.get("message") or {}
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield Reasoning(_whole(thought))

        text = self._pair(_plain(delta.get("content")) or _plain(delta.get("refusal")))
        if text:
            yield Text(text)
        for part in delta.get("tool_calls") or ():
            yield self._part(part)
        reason = choice.get("finish_reason")
        if reason:
            self.finished = True
            yield Finish(str(reason)[:50])

    def _part(self, part: Mapping[str, Any]) -> CallPart:
        function = part.get("function") or {}
        index = self._index(part.get("index"), str(part.get("id") or "")[:200], bool(function.get("name")))
        name = "" if index in self._named else str(function.get("name") or "")[:200]
        if name:
            self._named.add(index)
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        return CallPart(index, self._ids[index], name, _whole(text))

    def _index(self, index: Any, id: str, named: bool) -> int:
        """Which call of the reply a fragment belongs to: the server's index, unless its id says otherwise."""
        known = self._calls.get(index)
        if index is None and known is not None and not id and named:
            known = None
        if known is not None and id and self._ids[known] and self._ids[known] != id:
            known = self._calls.get(("id", id))
        if known is None:
            known = len(self._ids)
            self._ids.append(id)
        self._calls[index] = known
        if id:
            self._calls["id", id] = known
            self._ids[known] = id
        return known

    def _pair(self, text: str) -> str:
        """Some servers split one character's surrogate pair over two chunks: the first half waits."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _whole(text)


def decode(data: bytes) -> Any:
    """JSON of a provider. Raises `ModelMalformed`."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise ModelMalformed(f"The endpoint sent {failures.excerpt(data)}, which is not JSON.") from None


_MOST = 1e12
"""No count and no cost is larger; infinity and NaN are not below it."""


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Token counts and, where the endpoint tells it, the cost in US dollars.

    `input` counts cached tokens, too. OpenAI tells them in `prompt_tokens_details`, DeepSeek as hits; Anthropic counts
    what was read from and written to its cache beside `input_tokens`.
    """
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    read = _number(usage.get("cache_read_input_tokens"))
    cached = _number(details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or usage.get("cached_tokens"))
    written = _number(usage.get("cache_creation_input_tokens"))
    fresh = _number(usage.get("input_tokens")) + read + written
    cost = usage.get("cost")
    return Usage(
        input=_number(usage.get("prompt_tokens")) or fresh,
        output=_number(usage.get("completion_tokens") or usage.get("output_tokens")),
        cached=cached or read,
        usd=float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < _MOST else None,
        written=written,
    )


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < _MOST else 0


def _plain(content: Any) -> str:
    """Text, or the text parts of a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if part.get("type") in ("text", "output_text"))
    return content if isinstance(content, str) else ""


def _whole(text: str) -> str:
    """Text that UTF-8 can write: pairs of surrogates joined, lone ones replaced."""
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
