"""Secrets out of text, before it becomes a fact: known formats by pattern, known keys by value.

A pattern costs nothing where none of its `hints` (plain substrings) occurs, and every shipped expression is linear:
runs are possessive or bounded, and a token begins only where another character class ends. What skills add is data
(`token`), from which no slow expression can be made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

LEAST_EXACT = 8
"""Shorter key values are not looked for: they would match ordinary words."""

MAX_DEPTH = 250
PIECE, MOST_HELD = 1 << 18, 1 << 22
"""Bytes of a file that are looked at together, and that wait for the end of a word or a key."""

_EDGE = r"(?<![A-Za-z0-9_+/-])"
_PEM = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One secret format: what it is called, its expression, and substrings of which a match contains one.

    Where the expression has a group `secret`, only that group is replaced.
    """

    kind: str
    expression: re.Pattern[str]
    hints: tuple[str, ...]


def token(kind: str, prefix: str, chars: str = "A-Za-z0-9_-", least: int = 16) -> Pattern:
    """The pattern of a token: `prefix` (at least 3 characters), then at least `least` of `chars`.

    `chars` are letters, digits, `+ / = _ . ~ -` and the ranges `A-Z`, `a-z`, `0-9`. Raises `ValueError`.
    """
    if len(prefix) < 3 or len(prefix) > 64:
        raise ValueError(f"The prefix {prefix!r} of the secret pattern {kind!r} must have 3 to 64 characters.")
    if not re.fullmatch(r"[A-Za-z0-9+/=_.~-]{1,100}", chars):
        raise ValueError(f"The characters {chars!r} of the pattern {kind!r} may be letters, digits and +/=_.~- only.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", kind):
        raise ValueError(f"The kind {kind!r} of a secret pattern is a lower-case word.")
    ranges = [part for part in ("A-Z", "a-z", "0-9") if part in chars]
    for part in ranges:
        chars = chars.replace(part, "")
    body = "".join(ranges) + "".join(re.escape(char) for char in sorted(set(chars)))
    return Pattern(kind, re.compile(f"{_EDGE}{re.escape(prefix)}[{body}]{{{max(least, 4)},}}+"), (prefix,))


def _pattern(kind: str, expression: str, *hints: str) -> Pattern:
    return Pattern(kind, re.compile(expression), hints)


PATTERNS: tuple[Pattern, ...] = (
    _pattern(
        "private-key",
        rf"-----BEGIN {_PEM}(?>(?:[^-]++|-(?!----))*+-----END {_PEM}|(?>(?:\s|\\[nr])*+[A-Za-z0-9+/=]{{16,}}+)*+)",
        "PRIVATE KEY",
    ),
    _pattern(
        "api-key",
        _EDGE + r"sk-(?:(?:ant|or|proj|svcacct|admin)-[A-Za-z0-9_-]{16,}+|[0-9a-z]{32,}+"
        r"|(?=[A-Za-z_-]*+[0-9])(?=[a-z0-9_-]*+[A-Z])[A-Za-z0-9_-]{20,}+)",
        "sk-",
    ),
    _pattern(
        "github-token",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}+|github_pat_[A-Za-z0-9_]{40,}+)",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
    ),
    _pattern("aws-key", r"(?<![A-Za-z0-9+/])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9+/])", "AKIA", "ASIA"),
    _pattern(
        "aws-secret",
        r"(?i:secret_?access_?key)[\"']?\s{0,4}[=:]\s{0,4}[\"']?(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        "ccess_key",
        "CCESS_KEY",
        "ccessKey",
        "ccesskey",
    ),
    _pattern(
        "slack-token",
        r"(?<![A-Za-z0-9])(?:xox[abeprs]-[A-Za-z0-9-]{10,}+|xapp-[A-Za-z0-9-]{20,}+)"
        r"|hooks\.slack\.com/services/(?P<secret>[A-Za-z0-9/]{20,}+)",
        "xox",
        "xapp-",
        "hooks.slack.com",
    ),
    _pattern("google-key", _EDGE + r"(?:AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}+)", "AIza", "ya29."),
    _pattern(
        "jwt",
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+",
        ".eyJ",
    ),
    _pattern(
        "bearer",
        r"(?i:bearer)[ \t]{1,3}(?P<secret>(?=[A-Za-z._~+/=-]*+[0-9])[A-Za-z0-9._~+/=-]{16,}+)",
        "earer",
        "EARER",
    ),
    _pattern(
        "authorization",
        r"(?i:authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?:basic|token|apikey))[ \t]{1,3}"
        r"(?P<secret>[A-Za-z0-9._~+/=-]{8,}+)",
        "uthorization",
        "UTHORIZATION",
    ),
    _pattern(
        "password",
        r"(?<=://)[^\s/:@\"'<>\\]{0,100}:(?P<secret>(?![$*{]|\[redacted)[^\s/@\"'<>\\]{1,200})@",
        "://",
    ),
    token("gitlab-token", "glpat-", least=20),
    token("hugging-face-token", "hf_", "A-Za-z0-9", 30),
    token("npm-token", "npm_", "A-Za-z0-9", 36),
    token("pypi-token", "pypi-", least=50),
    token("groq-key", "gsk_", "A-Za-z0-9", 40),
    token("xai-key", "xai-", "A-Za-z0-9", 40),
    token("stripe-key", "sk_live_", "A-Za-z0-9", 20),
    token("stripe-key", "rk_live_", "A-Za-z0-9", 20),
)


class Redactor:
    """Replaces secrets by `[redacted:<kind>]`, key values (`exact`, at least 8 characters) by `[redacted:key]`."""

    def __init__(self, patterns: Sequence[Pattern] = PATTERNS, exact: Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        self.exact = tuple(sorted({key for key in exact if len(key) >= LEAST_EXACT}, key=len, reverse=True))

    def extended(self, patterns: Iterable[Pattern] = (), exact: Iterable[str] = ()) -> Redactor:
        """A redactor that also knows these."""
        return Redactor((*self.patterns, *patterns), (*self.exact, *exact))

    def text(self, text: str) -> str:
        """`text` without secrets; the same object when there are none."""
        for key in self.exact:
            if key in text:
                text = text.replace(key, "[redacted:key]")
        for pattern in self.patterns:
            for hint in pattern.hints:
                if hint in text:
                    text = _replace(pattern, text)
                    break
        return text

    def file(self, source: BinaryIO) -> Iterator[bytes]:
        """The content of `source` without secrets, in pieces; whatever bytes it has, the others stay as they are."""
        for piece in _pieces(source):
            yield self.text(piece.decode("latin-1")).encode("latin-1")

    def data(self, value: Any) -> Any:
        """A JSON value without secrets in its strings and keys, however deep; the same object when there are none."""
        return self._data(value, 0)

    def _data(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value) if len(value) >= LEAST_EXACT else value
        if depth > MAX_DEPTH:
            return "[redacted:too-deep]"
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, list | tuple):
            items = [self._data(item, depth + 1) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        return value

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Mapping[Any, Any]:
        changed = False
        clean: dict[Any, Any] = {}
        for key, item in value.items():
            name, content = self._data(key, MAX_DEPTH) if isinstance(key, str) else key, self._data(item, depth)
            changed = changed or name is not key or content is not item
            clean[_free(name, clean) if name is not key else name] = content
        return clean if changed else value


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    """The content, cut where no secret can be: after a line or a word, and never inside an open private key."""
    held = b""
    while data := source.read(PIECE):
        data = held + data
        cut = max(data.rfind(b"\n"), data.rfind(b" ")) + 1
        opened = data.rfind(b"-----BEGIN ", 0, cut)
        if opened >= 0 and data.find(b"-----END ", opened) < 0:
            cut = opened
        if not cut and len(data) > MOST_HELD:
            cut = len(data)
        if cut:
            yield data[:cut]
        held = data[cut:]
    yield held


def _replace(pattern: Pattern, text: str) -> str:
    mark = f"[redacted:{pattern.kind}]"

    def one(found: re.Match[str]) -> str:
        secret = found.groupdict().get("secret")
        if secret is None:
            return mark
        start, end = found.span("secret")
        return found[0][: start - found.start()] + mark + found[0][end - found.start() :]

    return pattern.expression.sub(one, text)


def _free(name: str, taken: Mapping[Any, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
