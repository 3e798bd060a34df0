"""What an endpoint says when it fails, in one bounded sentence, as a named error with the cure."""

from __future__ import annotations

import email.utils
import html
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from agentos_jupyter.errors import AgentOSError, ContextTooLong, ModelRefused, ModelUnavailable

_TOO_LONG = re.compile(
    r"context.{0,3}length|maximum context|context window|context size|prompt is too long|input is too long"
    r"|too many (?:input )?tokens|reduce the length|max_model_len"
    r"|exceeds? the (?:model's )?(?:max|limit).{0,40}tokens?",
    re.IGNORECASE,
)
_SPENT = re.compile(
    r"insufficient_quota|insufficient.{0,10}(?:credit|balance|funds)|exceeded your current quota", re.IGNORECASE
)
_TRANSIENT = frozenset({408, 409, 425, 429})
_LONGEST = 300


def from_status(model: str, status: int, headers: Mapping[str, str], body: bytes, key_name: str | None) -> AgentOSError:
    """The error that an HTTP answer other than 200 means."""
    said = summary(body)
    wait = retry_after(headers)
    return _classify(model, status, said, body.decode("utf-8", "replace"), key_name, wait)


def in_stream(model: str, chunk: Mapping[str, Any]) -> AgentOSError | None:
    """The error that an object within a 200 answer means, or None where there is none."""
    error = chunk.get("error")
    if not error:
        return None
    code = error.get("code") or error.get("status") if isinstance(error, dict) else None
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else 0
    raw = json.dumps(error)[:20_000]
    return _classify(model, status if 400 <= status <= 599 else 0, summary(raw.encode()), raw, None, None)


def _classify(model: str, status: int, said: str, raw: str, key_name: str | None, wait: float | None) -> AgentOSError:
    heard = f"{model} answered HTTP {status}" if status else f"{model} reported an error in its stream"
    reason = f": {said}" if said else ""
    if status == 413 or (status in (0, 400, 422, 500) and _TOO_LONG.search(raw[:20_000])):
        return ContextTooLong(f"{heard}{reason}. The context is too long for this model.", status=status)
    if _SPENT.search(raw[:20_000]) or status == 402:
        return ModelRefused(
            f"{heard}{reason}. Top up the account, or choose another model (AGENTOS_MODEL).", status=status
        )
    if status in _TRANSIENT or status >= 500 or status == 0:
        return ModelUnavailable(f"{heard}{reason}.", status=status, retry_after=wait)
    return ModelRefused(f"{heard}{reason}. {_cure(status, key_name)}", status=status)


def _cure(status: int, key_name: str | None) -> str:
    if status in (401, 403):
        return (
            f"Check the key in {key_name}."
            if key_name
            else "The endpoint wants a key: name its variable in `providers:`."
        )
    if status == 404:
        return "Check the model's id and the base URL."
    if 300 <= status < 400:
        return (
            "Redirects are not followed, because a key goes only to its provider's host: "
            "set the base URL to the final address."
        )
    return "The request will not succeed by repeating it: check the model and its parameters."


def summary(body: bytes) -> str:
    """One bounded line out of a JSON or HTML or plain body."""
    text = body[:65_536].decode("utf-8", "replace").strip()
    try:
        said = _message(json.loads(text))
    except (ValueError, RecursionError):
        said = _without_markup(text) if text[:1] == "<" else text
    return clean(said)


def _message(data: Any) -> str:
    """The sentence in an error object; every provider nests it differently."""
    if isinstance(data, list):
        return _message(data[0]) if data else ""
    if not isinstance(data, dict):
        return str(data)
    inner = next((data[name] for name in ("error", "message", "detail", "msg", "title") if data.get(name)), None)
    if inner is None:
        return json.dumps(data)
    metadata = data.get("metadata")
    upstream = metadata.get("raw") if isinstance(metadata, dict) else None
    said = _message(inner) if isinstance(inner, dict | list) else str(inner)
    return f"{said} ({upstream})" if isinstance(upstream, str) and upstream else said


def _without_markup(text: str) -> str:
    title = re.search(r"<title[^>]{0,100}>(.{0,200}?)</title>", text, re.IGNORECASE | re.DOTALL)
    found = title[1] if title else re.sub(r"<[^<>]{0,2000}>", " ", text[:8_192])
    return html.unescape(found)


def clean(text: str) -> str:
    """One line: whitespace folded, control characters escaped, at most 300 characters, no full stop at the end."""
    line = " ".join(text[:4_000].split())
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
    return (line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…").rstrip(".")


def excerpt(data: bytes) -> str:
    """The first bytes of something unexpected, readable and short."""
    return repr(data[:60].decode("utf-8", "replace")) + ("…" if len(data) > 60 else "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, out of `Retry-After` (a number or a date, RFC 9110) or `retry-after-ms`; None where not said."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
