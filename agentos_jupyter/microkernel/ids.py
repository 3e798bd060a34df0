"""Ids: prefixed by kind, sortable by birth, short enough to type a prefix of."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_session_id(newest: str = "") -> str:
    """`s-` and 12 characters: milliseconds since 1970, then 15 random bits. It sorts behind the `newest` id there is, also
    when the clock was set back."""
    born = max(time.time_ns() // 1_000_000, _born(newest) + 1)
    return "s-" + _base32(born, 9) + _base32(secrets.randbits(15), 3)


def _born(session: str) -> int:
    """The milliseconds in an id; 0 for one that was not made here."""
    digits = [_ALPHABET.find(each) for each in session[2:11]]
    return 0 if -1 in digits else sum(digit << (5 * place) for place, digit in enumerate(reversed(digits)))


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
