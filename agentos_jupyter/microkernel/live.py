"""Text without secrets while it streams: told by whole words, because a secret comes in pieces."""

from __future__ import annotations

from collections.abc import Callable

HELD = 8192
"""Characters of one line, or of one word, that are looked at together."""

_WORD = "".join(map(chr, range(33, 127)))
_OPEN = "[redacted:private-key]"
"""What a key of several lines looks like while its lines still come."""


class Live:
    """Pieces in, clean pieces out; the last word waits for its end. `redact` is the daemon's own."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._raw = self._told = ""

    def take(self, piece: str) -> str:
        """What may be shown, now that this piece has come."""
        self._raw += piece
        word = len(self._raw) - len(self._raw.rstrip(_WORD))
        return self._show(len(self._raw) - word if word <= HELD else len(self._raw))

    def rest(self) -> str:
        """What was held back, once nothing follows."""
        shown = self._show(len(self._raw))
        self.clear()
        return shown

    def clear(self) -> None:
        self._raw = self._told = ""

    def _show(self, upto: int) -> str:
        clean = self._redact(self._raw[:upto])
        fresh = clean[_common(clean, self._told) :]
        self._told = clean
        settled = self._raw.rfind("\n", 0, upto) + 1
        if upto > HELD or (settled and not clean.rstrip().endswith(_OPEN)):
            self._forget(upto if upto > HELD else settled, upto)
        return fresh

    def _forget(self, settled: int, upto: int) -> None:
        """Lines that are whole are not looked at again."""
        self._told = self._redact(self._raw[settled:upto])
        self._raw = self._raw[settled:]


class Printed:
    """The tail of what a running call prints, for those who come to follow it later."""

    def __init__(self) -> None:
        self.tail = ""
        self._live: Live | None = None

    def take(self, redact: Callable[[str], str], text: str) -> str:
        """What of it may be shown."""
        self._live = self._live or Live(redact)
        clean = self._live.take(text)
        self.tail = (self.tail + clean)[-HELD:]
        return clean


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    if one.startswith(other):
        return len(other)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
