"""Tab inside the magics of a Python notebook: IPython asks, the completion of the cell language answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext

_NAME = re.compile(r"[ \t]*(%{1,2})(aos[ \t]+)?([\w.-]+)?")


class Matcher:
    """A matcher of IPython's (API version 2) for cells and lines that begin with one of `names`."""

    def __init__(self, names: Callable[[], Set[str]], complete: Callable[[str, int], tuple[int, list[str]]]) -> None:
        from IPython.core.completer import context_matcher

        self._names, self._complete = names, complete

        @context_matcher(identifier="agentos")  # type: ignore[untyped-decorator]
        def match(context: CompletionContext) -> dict[str, Any]:
            return self._matched(context)

        self.match = match

    def _matched(self, context: CompletionContext) -> dict[str, Any]:
        from IPython.core.completer import SimpleCompletion

        asked = self._asked(context.full_text, context.cursor_line, context.cursor_position)
        if asked is None:
            return {"completions": []}
        code, position = asked
        start, matches = self._complete(code, position)
        found = [SimpleCompletion(text=match, type="agentos") for match in matches]
        return {"completions": found, "matched_fragment": code[start:position], "suppress": True, "ordered": True}

    def _asked(self, text: str, line: int, column: int) -> tuple[str, int] | None:
        """The command around the cursor as the agentos kernel would have it, and the cursor in it."""
        lines = text.split("\n")
        whole = text.lstrip().startswith("%%")
        before = text if whole else lines[line]
        position = sum(len(each) + 1 for each in lines[:line]) + column if whole else column
        match = _NAME.match(before)
        if match is None or not ((match[2] and "aos" in self._names()) or match[3] in self._names()):
            return None
        taken = len(match[2] or "")
        if position < match.end(1) + taken:
            return None
        return before[: match.end(1)] + before[match.end(1) + taken :], position - taken
