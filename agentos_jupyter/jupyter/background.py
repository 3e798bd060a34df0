"""One thread with an event loop for as long as it is wanted: a sandbox dies with the thread that started it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Carries coroutines out beside the thread that waits for them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="agentos", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it. An interrupt of the wait cancels it, and is raised when it has come to its end."""
        ended = threading.Event()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self.loop.create_task(work))
            tasks[0].add_done_callback(lambda task: ended.set())

        self.loop.call_soon_threadsafe(start)
        while not ended.is_set():
            try:
                ended.wait()
            except KeyboardInterrupt:
                self.loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        if tasks[0].cancelled():
            raise KeyboardInterrupt
        return tasks[0].result()

    def close(self, last: Coroutine[Any, Any, None], seconds: float = 5.0) -> None:
        """Do the last thing, and end the thread; what takes longer than `seconds` is given up."""
        if not self._thread.is_alive():
            last.close()
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(last, self.loop).result(seconds)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(seconds)
