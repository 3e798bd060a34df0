"""A dispatch told again from the log: what a cell that shows it must have as its outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentos_jupyter.errors import LogDamaged
from agentos_jupyter.jupyter import words
from agentos_jupyter.jupyter.display import FOLDED, Note, Screen, Step, fold
from agentos_jupyter.jupyter.safe import one_line
from agentos_jupyter.jupyter.saved import Output
from agentos_jupyter.jupyter.watch import Watch

Call = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Any]]
Event = Mapping[str, Any]

_EMPTY = {"text/plain": ""}
_PASSING = re.compile(r"waiting for [^\n]*|[^\n]* takes no tools: [^\n]*")
"""What is said while a model is waited for, and is no fact of the log."""

_FOLD = re.compile(r"(\d{1,9}) earlier steps$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Retold:
    """What the log knows of a dispatch: its begins (`dispatch.started`), its end (`dispatch.ended`), and its steps."""

    info: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    ended: Mapping[str, Any] | None
    steps: Sequence[Step]
    steered: bool

    @property
    def status(self) -> str:
        return str(self.ended["status"]) if self.ended else "running"

    @property
    def texts(self) -> set[str]:
        """Digests of the cells that asked for it."""
        return {start.get("client", {}).get("cell_digest") for start in self.starts} - {None}

    def answer(self) -> dict[str, str]:
        return words.answer({**self.info, **(self.ended or {})})

    # -- its steps

    def unlike(self, outputs: Sequence[Output]) -> str:
        """What is wrong with the displays of a cell; nothing where they are the log's."""
        shown = [each.data for each in outputs if each.kind == "display_data" and each.data != _EMPTY]
        folded = _folded(shown)
        if folded and not self._is_fold(folded, shown[0]):
            return "the log folds other steps"
        expected = Counter(_key(step.data()) for step in self.steps)
        found = Counter(_key(data) for data in shown[bool(folded) :])
        for plain, _ in found - expected - self._beside(found):
            return f"the log has no {one_line(plain, 60)!r}"
        missing = expected - found
        if len(self.starts) == 1 and missing.total() > folded:
            return f"the log has {one_line(next(iter(missing))[0], 60)!r}, too"
        return ""

    def _is_fold(self, count: int, data: Mapping[str, str]) -> bool:
        if self.steered:  # words enter the log later than they stand in the cell: the order may be another
            return count <= len(self.steps)
        lines = [step.line() for step in self.steps[:count]]
        return len(lines) == count and fold(lines[-FOLDED:], max(0, count - FOLDED)).data() == data

    def _beside(self, found: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
        """What a cell may show besides: the dispatch's title, the session's greeting, words that were not read, its end,
        and what was said in passing."""
        titles = [f"{self.info['id']}: {one_line(self.info['prompt'], 200)}"]
        if error := (self.ended or {}).get("error"):
            titles.append(f"It ended with {error['code']}: {error['message']}")
        allowed = {_key(Note(title).data()) for title in titles}
        greeting = f"({self.info['session']})"
        return Counter(
            {
                key: count
                for key, count in found.items()
                if key in allowed
                or (_PASSING.fullmatch(key[0]) and key == _key(Note(key[0]).data()))
                or (key[0].startswith("New session ") and greeting in key[0] and key == _key(Note(key[0]).data()))
                or (key[0].startswith("You: ") and "\n" not in key[0] and key == _key(Step(key[0]).data()))
            }
        )


def _key(data: Mapping[str, str]) -> tuple[str, str]:
    """A display as it is compared; one with anything but text and HTML is like none of ours."""
    known = set(data) <= {"text/plain", "text/html"}
    return data.get("text/plain", ""), data.get("text/html", "") if known else ", ".join(sorted(data))


def _folded(shown: Sequence[Mapping[str, str]]) -> int:
    """How many steps the first display folds."""
    match = _FOLD.match(shown[0].get("text/plain", "")) if shown else None
    return int(match[1]) if match else 0


async def retell(call: Call, info: Mapping[str, Any], until: int) -> Retold:
    """Tell a dispatch (as `dispatch.get` has it) from its events up to the version `until`."""
    events = [each for each in await _events(call, info, until) if each["dispatch"] == info["id"]]
    starts = [each["data"] for each in events if each["type"] == "dispatch.started"]
    ended = next((each for each in reversed(events) if each["type"] in ("dispatch.started", "dispatch.ended")), None)
    if ended is None:
        raise LogDamaged(f"The dispatch {info['id']} has no beginning in the log.")
    screen = Screen(_Nowhere(), "retold", live=False)
    watch = Watch(screen, quiet=info["kind"] == "person")
    for event in events:
        watch.followed({"kind": "event", "event": event})
    over = ended["data"] if ended["type"] == "dispatch.ended" else None
    if over is not None:
        watch.end({**info, **over, "last": ended["version"]})
    screen.draw()
    steered = any(each["data"].get("from") == "steer" for each in events)
    return Retold(info, starts, over, screen.steps, steered)


async def _events(call: Call, info: Mapping[str, Any], until: int) -> list[Event]:
    """The session's events from the dispatch's first one on."""
    events: list[Event] = []
    last = info["first"] - 1
    while last < until:
        page = await call(
            "session.history", {"session": info["session"], "after": last, "limit": min(until - last, 5000)}
        )
        if not page["events"]:
            break
        events += page["events"]
        last = events[-1]["version"]
    return events


class _Nowhere:
    """Displays that nobody sees."""

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str, update: bool) -> None:
        """Not needed: the steps are compared."""

    def clear(self) -> None:
        """Not needed either."""
