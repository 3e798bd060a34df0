"""The field in a running cell: what is written there goes to the dispatch at work; at the end it leaves no trace."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.display import Screen
from agentos_jupyter.jupyter.steering import Caller
from agentos_jupyter.jupyter.watch import Watch

if TYPE_CHECKING:
    import ipywidgets  # type: ignore[import-untyped]

AFTER = 2.0
"""Seconds of a dispatch before its field is shown: most are over by then."""

HINT = "Say something to the agent: it reads it before its next turn"
VIEW = "application/vnd.jupyter.widget-view+json"


class Field:
    """A text field and a button, shown while the dispatch that `watch` sees is at work.

    Use it as an async context manager around the dispatch. Nothing is imported before it is shown, and then off the loop.
    """

    def __init__(self, link: Caller, screen: Screen, watch: Watch) -> None:
        self._link, self._screen, self._watch = link, screen, watch
        self._box: _Box | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._spawn(self._appear())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._box is not None:
            self._screen.widget(None)
            self._box.close()

    async def _appear(self) -> None:
        await asyncio.sleep(AFTER)
        await asyncio.to_thread(__import__, "ipywidgets")
        self._box = _Box(asyncio.get_running_loop(), self._submit)
        self._screen.widget({VIEW: self._box.view(), "text/plain": ""})

    def _submit(self, text: str) -> None:
        if text.strip():
            self._spawn(self._say(text.strip()))

    async def _say(self, text: str) -> None:
        """Show the words as waiting, and hand them over; refused ones say why."""
        step = self._watch.said(text)
        session = self._screen.metadata.get("session", "")
        try:
            await self._link.call("session.steer", {"session": session, "text": text, "key": uuid.uuid4().hex})
        except AgentOSError as error:
            step.finish(f"not heard: {error.message}")
            self._screen.touch(step)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """A field that cannot be shown (no widgets here) must not keep the dispatch from working."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._screen.note(f"The field for words to the agent cannot be shown here ({task.exception()}).")


class _Box:
    """The widgets; a front end may answer for them in another thread (a subshell), so all goes through the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, submit: Callable[[str], None]) -> None:
        import ipywidgets

        self._loop, self._submit = loop, submit
        self._text = ipywidgets.Text(placeholder=HINT, layout={"flex": "1 1 auto", "width": "auto"})
        self._button = ipywidgets.Button(description="Send", layout={"width": "5em"})
        self._all = ipywidgets.HBox([self._text, self._button], layout={"max_width": "50em"})
        self._button.on_click(lambda button: self._send())
        self._text.on_msg(self._entered)

    def view(self) -> dict[str, Any]:
        """What a front end needs to draw it."""
        return {"version_major": 2, "version_minor": 0, "model_id": self._all.model_id}

    def _entered(self, text: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if content.get("event") == "submit":
            self._send()

    def _send(self) -> None:
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        said, self._text.value = self._text.value, ""
        self._submit(said)

    def close(self) -> None:
        """Every model goes, those of layouts and styles too: none may stay in the notebook's widget state."""
        widgets: list[ipywidgets.Widget] = [self._all, self._text, self._button]
        for widget in widgets:
            for part in (widget.layout, getattr(widget, "style", None), widget):
                if part is not None:
                    part.close()
