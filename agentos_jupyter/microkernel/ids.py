"""Ids: prefixed by kind, sortable by birth, short enough to type a prefix of."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_session_id() -> str:
    """`s-` and 12 characters: milliseconds since 1970, then 15 random bits."""
    return "s-" + _base32(time.time_ns() // 1_000_000, 9) + _base32(secrets.randbits(15), 3)


def dispatch_id(session: str, number: int) -> str:
    """`d-`, the session's own characters, and the dispatch's number in it: a dispatch names its session."""
    return f"d-{session.removeprefix('s-')}-{number:04d}"


def session_of(dispatch: str) -> str:
    """The session a dispatch id names."""
    return "s-" + dispatch.removeprefix("d-").rpartition("-")[0]


def stream_of(session: str) -> str:
    return f"session/{session}"


def inbox_of(session: str) -> str:
    """The stream of what is said to a session from elsewhere."""
    return f"inbox/{session}"


def _base32(number: int, digits: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (digits - 1), -1, -5))
