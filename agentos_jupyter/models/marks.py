"""Prompt-cache marks: where a provider caches only what is marked, the pieces that end a stretch worth keeping get one.

Marks are put on when a request is sent, by encoding those few pieces again; they are never stored, and a recording
does not see them. Providers that cache by themselves, or refuse fields they do not know, get none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_MARK = {"type": "ephemeral"}
_ENDS = 2
"""Marked messages at the end: the next request shares all but what is new, so the last but one is found again."""
_SUPPORTED = re.compile(r"openrouter/anthropic/|litellm[:/].*(?:anthropic[/.]|claude)", re.IGNORECASE)


def supported(name: str) -> bool:
    """Whether a model of this name caches what is marked, and only that: Anthropic's, behind OpenRouter or litellm."""
    return _SUPPORTED.match(name) is not None


def marked(messages: Sequence[bytes]) -> list[bytes]:
    """The messages with marks on the last system message and on the last two that have content (of four allowed)."""
    pieces = list(messages)
    marks = [_first(pieces, reversed(range(_systems(pieces)))), *_last(pieces)]
    for position, piece in filter(None, marks):
        pieces[position] = piece
    return pieces


def _systems(pieces: Sequence[bytes]) -> int:
    """How many system messages there are; they come first."""
    return next((number for number, piece in enumerate(pieces) if _role(piece) != "system"), len(pieces))


def _role(piece: bytes) -> str:
    return str(json.loads(piece).get("role"))


def _last(pieces: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
    found: list[tuple[int, bytes] | None] = []
    end = len(pieces)
    while len(found) < _ENDS and (one := _first(pieces, reversed(range(end)))) is not None:
        if _role(pieces[one[0]]) == "system":
            break
        found.append(one)
        end = one[0]
    return found


def _first(pieces: Sequence[bytes], positions: Iterable[int]) -> tuple[int, bytes] | None:
    """The first of these messages that can carry a mark, with it."""
    for position in positions:
        message = json.loads(pieces[position])
        parts = _parts(message.get("content"))
        if parts:
            parts[-1] = {**parts[-1], "cache_control": _MARK}
            return position, json.dumps({**message, "content": parts}, ensure_ascii=False).encode()
    return None


def _parts(content: Any) -> list[dict[str, Any]]:
    """The content as a list of parts; empty where there is nothing that may carry a mark (empty text is refused)."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return list(content) if isinstance(content, list) else []
