"""Whatever an agent, a model or a command prints is text: this makes it safe to show, never rendered as HTML or script.

`plain` neutralises what would steer a terminal, `escape` what would be markup, `markdown` what would be raw HTML,
a remote image or a script link in any Markdown renderer, and `clip` bounds what is shown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_SEQUENCES = re.compile(
    r"\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: titles, links, clipboards
    r"|\x1b[PX^_][^\x1b\x9c]*(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # what else begins with ESC
)
_BACKSPACE = re.compile(r"[^\n\x08]\x08")
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\ufeff]"
)


def plain(data: str | bytes) -> str:
    """Text without escape sequences; a carriage return overwrites its line, as on a terminal;
    other control and direction-changing characters are shown as `\\xNN`, `\\uNNNN`."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = _SEQUENCES.sub("", text.replace("\r\n", "\n"))
    if "\r" in text:
        text = "\n".join(_overwritten(line) for line in text.split("\n"))
    while "\x08" in text:
        text, count = _BACKSPACE.subn("", text)
        if not count:
            break

    return _CONTROL.sub(_visible, text)


def _overwritten(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def one_line(text: str | bytes, width: int = 100) -> str:
    """The text on one line of at most `width` characters."""
    line = " ".join(plain(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


_MATH = re.compile(r"[$\\]")
"""What begins every formula that MathJax, which JupyterLab and nbconvert run over HTML, would typeset; it never looks across an element."""


def escape(text: str) -> str:
    """The text as HTML, which stands for exactly this text; what looks like a formula is not typeset."""
    return _MATH.sub(lambda found: f"<span>{found[0]}</span>", html.escape(plain(text), quote=True))


def clip(text: str, characters: int, lines: int, head: float = 0.5) -> str:
    """At most so many characters and lines, the share `head` of them from the start, with a note of what was left out."""
    rows = text.split("\n")
    if len(text) <= characters and len(rows) <= lines:
        return text

    first, first_size = _take(rows, int(lines * head), int(characters * head))
    last, _ = _take(reversed(rows[len(first) :]), lines - len(first), characters - first_size)
    last.reverse()
    left = len(rows) - len(first) - len(last)
    note = [f"… {left} lines not shown …"] if left else []
    return "\n".join([*first, *note, *last]) if first or last else text[-characters:]


def _take(rows: Iterable[str], lines: int, characters: int) -> tuple[list[str], int]:
    taken: list[str] = []
    size = 0
    for row in rows:
        if len(taken) >= lines or size + len(row) > characters:
            break
        taken.append(row)
        size += len(row) + 1
    return taken, size
