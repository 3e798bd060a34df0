"""Markdown written by a model, made safe for every renderer: no raw HTML, no remote image, no script link, no lost code.

Renderers disagree in corners (JupyterLab's marked, GitHub, nbconvert's mistune with its mathematics), so nothing here
relies on how one of them parses: outside code every `<` becomes `&lt;`; code keeps its `<` only where all of them
must see code, which is made sure by rewriting the fences and by refusing doubtful spans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentos_jupyter.jupyter.safe import plain

_OPENING = re.compile(r"^([ \t]*)(?:(`{3,})([^`]*)|(~{3,})(.*))$")
_RUN = re.compile(r"`+")
_FENCE_IN_PROSE = re.compile(r"`{3,}(?=[^`\n]*$)|~{3,}", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`(?!`)([^`\n]+)(?<!`)`(?!`)")
_SPAN_AT = re.compile(r"\x00(\d+)\x00")
_MATH = re.compile(r"\$|\\(?=\\[\[\](){}]|begin|end)")
_GOOD_LINK = re.compile(
    r"[ \t]*(?:https?://|mailto:|#|\.{0,2}/?[\w-][\w./-]*(?:[#?][\w=.#-]*)?[ \t]*\))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Fence:
    info: str
    code: str


def safe_markdown(text: str) -> str:
    """The same text as Markdown in which nothing can become markup of its author's own."""
    blocks = _blocks(plain(text).split("\n"))
    doubtful = _math_may_cut_code(blocks)
    return "\n\n".join(
        _fenced(block) if isinstance(block, _Fence) else _prose(block, doubtful) for block in blocks
    ).strip("\n")


def _blocks(lines: list[str]) -> list[_Fence | str]:
    """Properly closed fences and the prose between them."""
    blocks: list[_Fence | str] = []
    prose: list[str] = []
    position = 0
    closers = _Closers(lines)
    while position < len(lines):
        opening = _OPENING.match(lines[position])
        end = closers.after(position, opening[2] or opening[4]) if opening else None
        if opening is None or end is None:
            prose.append(lines[position])
            position += 1
            continue

        if any(prose):
            blocks.append("\n".join(prose))
        prose = []
        indent = len(opening[1])
        code = "\n".join(_dedent(line, indent) for line in lines[position + 1 : end])
        blocks.append(_Fence(re.sub(r"[^\w.+#-].*", "", (opening[3] or opening[5] or "").strip()), code))
        position = end + 1

    if any(prose):
        blocks.append("\n".join(prose))
    return blocks


class _Closers:
    """Where fences may close, found once: a long answer is read in linear time."""

    def __init__(self, lines: list[str]) -> None:
        bare = [line.strip() for line in lines]
        self._at = [
            (i, line) for i, line in enumerate(bare) if len(line) > 2 and line in ("`" * len(line), "~" * len(line))
        ]
        self._from = 0

    def after(self, position: int, fence: str) -> int | None:
        while self._from < len(self._at) and self._at[self._from][0] <= position:
            self._from += 1
        return next((i for i, line in self._at[self._from : self._from + 1000] if line.startswith(fence)), None)


def _dedent(line: str, indent: int) -> str:
    return line[min(indent, len(line) - len(line.lstrip(" \t"))) :]


def _fenced(block: _Fence) -> str:
    """The code between fences longer than any run of backticks in it, so nothing inside can close them."""
    fence = "`" * max(3, 1 + max((len(run) for run in _RUN.findall(block.code)), default=0))
    return f"{fence}{block.info}\n{block.code}\n{fence}"


def _math_may_cut_code(blocks: list[_Fence | str]) -> bool:
    """Whether a renderer that looks for mathematics first could end some code elsewhere than we do, and expose a `<`."""
    code = [block.code if isinstance(block, _Fence) else " ".join(_SPAN.findall(block)) for block in blocks]
    return any("<" in part for part in code) and any(_MATH.search(part) for part in code)


def _prose(text: str, doubtful: bool) -> str:
    text = _FENCE_IN_PROSE.sub(lambda run: _entities(run[0]), text)
    return "".join(_paragraph(part, doubtful) for part in re.split(r"(?<=\n)(?=[ \t]*\n)", text))


def _paragraph(text: str, doubtful: bool) -> str:
    """One paragraph; its code spans are kept when every backtick in it belongs to a simple one."""
    found = _SPAN.findall(text)
    exposed = "\\`" in text or "`" in _SPAN.sub("", text) or ("<" in "".join(found) and "|" in text)
    if exposed:
        return _outside_code(text, doubtful)

    spans: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if doubtful and _MATH.search(match[1]):
            return f"&#96;{match[1]}&#96;"
        spans.append(match[0])
        return f"\0{len(spans) - 1}\0"

    return _SPAN_AT.sub(lambda match: spans[int(match[1])], _outside_code(_SPAN.sub(keep, text), doubtful))


def _outside_code(text: str, doubtful: bool) -> str:
    """Entities, not backslashes: the author may have written a backslash just before."""
    text = text.replace("<", "&lt;").replace("![", "&#33;[").replace("]:", "]&#58;")
    text = re.sub(r"\]\(", lambda match: "](" if _GOOD_LINK.match(match.string, match.end()) else "]&#40;", text)
    return _MATH.sub(lambda match: _entities(match[0]), text) if doubtful else text


def _entities(text: str) -> str:
    return "".join(f"&#{ord(mark)};" for mark in text)
