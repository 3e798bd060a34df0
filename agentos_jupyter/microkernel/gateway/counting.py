"""Tokens of a context, counted without the network: by the encoding that litellm carries in its package."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENCODING = "cl100k_base"


def count(body: bytes) -> int:
    """Tokens of the texts and calls of these messages (a JSON array), and four for each message around them."""
    messages = json.loads(body)
    texts = [text for message in messages for text in _texts(message)]
    return sum(map(len, _encoding().encode_ordinary_batch(texts, num_threads=1))) + 4 * len(messages)


def _encoding() -> Any:
    found = importlib.util.find_spec("litellm")
    folder = Path(next(iter(found.submodule_search_locations or ()))) if found else Path()
    os.environ["TIKTOKEN_CACHE_DIR"] = os.fspath(folder / "litellm_core_utils" / "tokenizers")
    import tiktoken

    return tiktoken.get_encoding(ENCODING)


def _texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else [{"text": content}]:
        yield str(part.get("text") or "")
    for call in message.get("tool_calls") or ():
        yield json.dumps(call.get("function"), ensure_ascii=False)
