"""What a person sees of a cell that works: one display a step, redrawn ever more seldom while it runs, bounded.

A running step is open and shows the tail of its output; a finished one collapses to a line that can be opened.
Every display is `text/html` with a `text/plain` twin, and both hold escaped text alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from agentos_jupyter.errors import ModelAsksPerson
from agentos_jupyter.jupyter import tables
from agentos_jupyter.jupyter.safe import clip, escape, one_line, plain

PERIOD = 0.1
"""Seconds between redraws of a cell."""

SPENT = 100_000
"""Bytes a running step's redraws may have come to for each second of the wait before its next one: their sum grows
with the square root of the time and not with it."""

ENVELOPE = 1_000
"""Bytes of a message around the display in it."""

MOST, KEPT, FOLDED = 50, 10, 200
"""Outputs of a cell; the steps a fold leaves as they are; the lines a fold shows."""

WIDEST = 160
"""Characters of a command or text on a step's line."""

LIVE, DONE = (2_000, 30), (16_000, 200)
"""Characters and lines shown of a running and of a finished step."""

_WRAP = "font-family:monospace;white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
_PRE = f'<pre style="{_WRAP};max-height:30em;overflow:auto;margin:0 0 0 1em">'
_NOTE = f'<pre style="{_WRAP};margin:0">'


Ask = Callable[[str], Awaitable[str]]
"""Puts a question to the person and waits for what is written."""


class Port(Protocol):
    """Where displays go: the notebook, through the kernel."""

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str, update: bool) -> None: ...

    def clear(self) -> None: ...


class Step:
    """One display: a line, and what is beneath it."""

    def __init__(self, head: str, command: str = "") -> None:
        self.head = head
        self.mark = ""
        self.command = command
        self.state: Callable[[], str] = str
        self.done = False
        self._body = ""
        self._cut = False

    def rename(self, head: str) -> None:
        """Another line, and nothing beneath it."""
        self.head, self._body, self._cut = head, "", False

    def append(self, text: str) -> None:
        """More of the live output; only its tail is kept."""
        self._body += text
        if len(self._body) > 4 * LIVE[0]:
            self._body, self._cut = self._body[-2 * LIVE[0] :], True

    def finish(self, mark: str = "", body: str | None = None) -> None:
        """The step is over: what to say of it on its line, and its final text where it differs from the live one."""
        if body is not None:
            self._body, self._cut = body, False
        self.mark, self.done = mark, True

    def line(self) -> str:
        """The step on one line, plain."""
        marks = (self.mark,) if self.done else ("running …", self.state())
        return " · ".join(part for part in (one_line(self.head, 3 * WIDEST), *marks) if part)

    def text(self) -> str:
        """What is beneath the line, plain and bounded."""
        body = plain(self._body).strip("\n")
        if self.done:
            return clip(body, *DONE)
        shown = clip(body, *LIVE, head=0.0)
        return f"…\n{shown}" if self._cut and not shown.startswith("…") else shown

    def html(self) -> str:
        parts = [self._block(part) for part in (self._long_command(), self.text()) if part]
        if not parts:
            return f"<div>{escape(self.line())}</div>"
        return (
            f"<details{'' if self.done else ' open'}><summary>{escape(self.line())}</summary>{''.join(parts)}</details>"
        )

    def plain(self) -> str:
        """The step as text; while it runs, its line: what is beneath it would be sent twice with every redraw."""
        if not self.done:
            return self.line()
        line, text = self.line(), self.text()
        if not self.command and text.startswith(line):  # a text whose first line is its head: nothing folds here
            return text
        return "\n".join(part for part in (line, self._long_command(), text) if part)

    def data(self) -> dict[str, str]:
        """The display's MIME bundle."""
        return {"text/plain": self.plain(), "text/html": self.html()}

    @staticmethod
    def _block(text: str) -> str:
        return f"{_PRE}{escape(text)}</pre>"

    def _long_command(self) -> str:
        """The command, where its line cannot show all of it."""
        command = plain(self.command).strip("\n")
        return clip(command, *DONE) if "\n" in command or len(command) > WIDEST else ""


class Note(Step):
    """A display that is finished from the start: text, or HTML made here."""

    def __init__(self, text: str, html: str | None = None) -> None:
        super().__init__(text)
        self.done = True
        self._html = html

    def line(self) -> str:
        return one_line(self.head, 3 * WIDEST)

    def plain(self) -> str:
        return plain(self.head)

    def html(self) -> str:
        return self._html if self._html is not None else f"{_NOTE}{escape(self.head)}</pre>"


class Screen:
    """The displays of one cell.

    `ask` puts a question to the person at the front end; None where nobody is there.
    `live` is false for a front end that cannot redraw (a terminal): then each step is shown once, when it is over.
    """

    def __init__(self, port: Port, prefix: str, live: bool = True, ask: Ask | None = None) -> None:
        self._ask = ask
        self.metadata: dict[str, Any] = {}
        self._port, self._prefix, self._live = port, prefix, live
        self._shown: dict[Step, _Shown] = {}
        self._dirty: dict[Step, None] = {}
        self._widget: Mapping[str, Any] | None = None
        self._folded: list[str] = []
        self._lost = 0
        self._count = 0
        self._drawn = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def steps(self) -> list[Step]:
        """What is on the screen, but for what was folded."""
        return list(self._shown)

    def turn_over(self) -> None:
        """What comes now belongs to another command of the cell."""
        self.draw()
        self.metadata = {}

    def add(self, step: Step) -> Step:
        self.touch(step)
        return step

    def note(self, text: str) -> None:
        """Text that is finished from the start."""
        self.add(Note(text))

    async def ask(self, question: str) -> str:
        """What the person writes. Raises `ModelAsksPerson` where nobody is there to be asked."""
        if self._ask is None:
            raise ModelAsksPerson(
                "The model `human` asks a person what comes next, and nobody can be asked here (a run in batch, or a front end "
                "without input): choose another model with %model, or run the cell in JupyterLab or a console."
            )
        self.draw()
        return await self._ask(question)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """Rows, as HTML and as plain text."""
        self.add(Note(tables.text(columns, rows, note), tables.html(columns, rows, note)))

    def touch(self, step: Step) -> None:
        """The step has changed: it is drawn with the next redraw that it is due for."""
        self._dirty[step] = None
        if self._timer is None:
            self._draw_in(self._drawn + PERIOD - time.monotonic())

    def mark(self, step: Step | None) -> None:
        """Give a step that was drawn before its dispatch ended the metadata of the end."""
        if self._live and step in self._shown:
            self.touch(step)

    def _draw_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._tick)

    def _tick(self) -> None:
        """Draw what is due; what is not waits for the next tick."""
        self._timer = None
        now = time.monotonic()
        late = [step for step in self._dirty if not step.done and step in self._shown and self._shown[step].due > now]
        if len(late) < len(self._dirty):
            self.draw(late)
        if late:
            self._draw_in(max(PERIOD, min(self._shown[step].due for step in late) - now))

    def draw(self, later: Sequence[Step] = ()) -> None:
        """Show what has changed since the last redraw, but for what is to be shown later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty = [step for step in self._dirty if (step.done or self._live) and step not in later]
        self._dirty = dict.fromkeys(later)
        if self._live and len(self._shown) + sum(step not in self._shown for step in dirty) > MOST - 3:
            self._fold(dirty)
        else:
            for step in dirty:
                self._draw(step)
        self._drawn = time.monotonic()

    def _draw(self, step: Step) -> None:
        shown = self._shown.get(step)
        if shown is None:
            self._count += 1
            shown = self._shown[step] = _Shown(f"{self._prefix}-{self._count}")
            shown.spend(self._show(step, shown.display_id))
            return
        shown.spend(self._show(step, shown.display_id, update=True))

    def _show(self, step: Step, display_id: str, update: bool = False) -> int:
        """Show it; about how many bytes were sent."""
        data = step.data()
        self._port.show(data, {"agentos": self.metadata} if self.metadata else {}, display_id, update)
        return ENVELOPE + sum(map(len, data.values()))

    def _fold(self, dirty: list[Step]) -> None:
        """Begin the outputs anew: the older steps a line each in one display, the last ones as they were."""
        steps = list(dict.fromkeys([*self._shown, *dirty]))
        old = [step for step in steps[:-KEPT] if step.done]
        self._folded += [step.line() for step in old]
        self._lost += max(0, len(self._folded) - FOLDED)
        del self._folded[:-FOLDED]
        self._anew([step for step in steps if step not in old])

    def _anew(self, steps: Sequence[Step]) -> None:
        """Clear the outputs and show what is folded, these steps, and the widget beneath them."""
        self._shown.clear()
        self._port.clear()
        if self._folded:
            self._count += 1
            self._show(fold(self._folded, self._lost), f"{self._prefix}-{self._count}")
        for step in steps:
            self._draw(step)
        self._show_widget()

    def widget(self, data: Mapping[str, Any] | None) -> None:
        """Show a widget among the outputs; None takes it away again, as if it had never been there."""
        had, self._widget = self._widget, data
        if data is not None:
            self._show_widget()
        elif had is not None:
            self._anew(list(self._shown))

    def _show_widget(self) -> None:
        if self._widget is not None:
            self._count += 1
            self._port.show(self._widget, {}, f"{self._prefix}-{self._count}", update=False)


def fold(lines: Sequence[str], lost: int) -> Step:
    """Earlier steps in one display: the last of their lines, and how many there were."""
    step = Step(f"{lost + len(lines)} earlier steps")
    step.finish(body="\n".join([f"… {lost} more, in the log"] * bool(lost) + list(lines)))
    return step


class _Shown:
    """A step on the screen: its display, what its redraws came to, and when the next one is due."""

    def __init__(self, display_id: str) -> None:
        self.display_id, self.sent, self.due = display_id, 0, 0.0

    def spend(self, size: int) -> None:
        self.sent += size
        self.due = time.monotonic() + self.sent / SPENT
