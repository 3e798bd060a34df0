"""One JSON text for each value, and one digest for each event.

**Canonical JSON** is RFC 8785 in spirit: UTF-8, no white space, object keys sorted, strings escaped only where JSON
demands it. It differs from RFC 8785 in two points, so that nothing is lost: keys are sorted by code point (not by
UTF-16 unit), and numbers are written as Python writes them (`1.0` stays `1.0`, integers keep every digit).

**What JSON cannot hold** is cleaned by a fixed rule, never refused: NaN and the infinities become the strings `"NaN"`,
`"Infinity"`, `"-Infinity"`; a lone surrogate becomes U+FFFD; an integer of more than 1000 bits becomes its hexadecimal
string; keys that are not strings become what `json.dumps` makes of them. NUL is kept (`\\u0000`).

**Digest** of an event: the SHA-256, in hexadecimal, of the canonical JSON of the array
`[previous, version, type, actor, dispatch, time, data]`, where `previous` is the digest of the stream's event before,
or the stream's name for version 1, `dispatch` is a string or null, and `time` is UTC as `2026-01-31T12:00:00.000000Z`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agentos_jupyter.errors import EventRefused

MAX_DATA = 1 << 20
MAX_DEPTH = 200
MAX_NAME = 512
_MAX_BITS = 1000

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def canonical(value: Any) -> str:
    """The canonical JSON text of `value`, cleaned where JSON cannot hold it.

    Raises `EventRefused` for a value that is not JSON at all (bytes, objects) or nested deeper than 200 levels.
    """
    try:
        text = _encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return _encode(_clean(value, 0))
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _clean(value, 0)
    return text


def data_text(data: Mapping[str, Any]) -> str:
    """The canonical text of an event's data. Raises `EventRefused` above 1 MiB."""
    text = canonical(data)
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_DATA:
        raise EventRefused(
            f"An event holds at most {MAX_DATA} bytes of data, this one has {size}: "
            "put the large value into a blob (content.put) and name its digest in the event.",
            size=size,
        )
    return text


def name(kind: str, value: str) -> str:
    """`value` itself when it can name a stream, type, actor or dispatch; raises `EventRefused` otherwise."""
    if not value or len(value) > MAX_NAME or not value.isprintable():
        raise EventRefused(
            f"{value[:80]!r} cannot be the {kind} of an event: it takes 1 to {MAX_NAME} printable characters."
        )
    return value


def time_text(time: datetime) -> str:
    """UTC with microseconds, as it enters the digest. `time` is naive UTC or aware UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest(previous: str, version: int, type_: str, actor: str, dispatch: str | None, time: datetime, data: str) -> str:
    """The digest of one event (rule in the module docstring); `data` is its canonical text."""
    head = _encode([previous, version, type_, actor, dispatch, time_text(time)])
    return hashlib.sha256(f"{head[:-1]},{data}]".encode()).hexdigest()


def _clean(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise EventRefused(f"An event's data is nested deeper than {MAX_DEPTH} levels: flatten it, or make it a blob.")
    if isinstance(value, str):
        return _clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _MAX_BITS else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _not_finite(value)
    if isinstance(value, Mapping):
        return {_clean_key(key): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth + 1) for item in value]
    raise EventRefused(f"An event's data holds a {type(value).__name__}, which is not JSON: convert it first.")


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _clean_text(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _clean_key(key: Any) -> str:
    if isinstance(key, str):
        return _clean_text(key)
    if key is None or isinstance(key, bool | int | float):
        scalar = _clean(key, 0)
        return scalar if isinstance(scalar, str) else _encode(scalar)
    raise EventRefused(f"A key of an event's data is a {type(key).__name__}: keys are strings.")
