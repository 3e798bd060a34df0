"""Whose turn it is: one limiter for each provider, in front of every attempt, fair to sessions and never above its rate.

A rate counts over every span of one minute, not on average, because that is how no provider's own count is exceeded.
Sessions that wait are served in turn, so one with fifty calls delays another by one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from agentos_jupyter.errors import ModelUnavailable

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What a provider takes: requests and tokens a minute, and requests at a time; infinite where nobody said."""

    requests: float = math.inf
    tokens: float = math.inf
    concurrent: float = math.inf


@dataclass(eq=False, slots=True)
class Place:
    """A request's place: who asks, its tokens (a guess, until `used` is known), how long it waited."""

    who: str
    tokens: float
    ready: asyncio.Future[None]
    since: float = field(default_factory=time.monotonic)
    sent: float = 0.0
    used: float | None = None

    @property
    def waited(self) -> float:
        """Seconds."""
        return self.sent - self.since


class Limiter:
    """One provider's turns. `period` is the span that its rate is about, in seconds."""

    def __init__(self, name: str, rate: Rate, period: float = MINUTE) -> None:
        self.name, self.rate = name, rate
        self._period = period
        self._waiting: dict[str, deque[Place]] = {}
        self._sent: deque[Place] = deque()
        self._running = 0
        self._paused = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self, who: str, tokens: float, patience: float, tell: Callable[[str], None]) -> AsyncIterator[Place]:
        """Wait for the turn of a request, and hold it; `tell` hears why where it has to wait.

        Raises `ModelUnavailable` after `patience` seconds of waiting; cancelling leaves the queue.
        """
        place = Place(who, tokens, asyncio.get_running_loop().create_future())
        await self._admitted(place, patience, tell)
        try:
            yield place
        finally:
            self._running -= 1
            if place.used is not None:
                place.tokens = place.used
            self._serve()

    def pause(self, seconds: float) -> None:
        """Nobody's turn for so long: the provider said so."""
        self._paused = max(self._paused, time.monotonic() + seconds)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    async def _admitted(self, place: Place, patience: float, tell: Callable[[str], None]) -> None:
        ahead = self._ahead(place.who)
        self._waiting.setdefault(place.who, deque()).append(place)
        self._serve()
        if place.ready.done():
            return
        try:
            tell(self._why(ahead))
            async with asyncio.timeout(patience):
                await place.ready
        except BaseException as error:
            self._leave(place)
            if isinstance(error, TimeoutError):
                raise ModelUnavailable(
                    f"{self.name} had no turn for this request within {patience:g} s (limits.queue): "
                    "wait, raise providers.NAME.rate in agentos.yaml, or name a fallback.",
                    final=True,
                ) from None
            raise

    def _leave(self, place: Place) -> None:
        """Give a place up, in the queue or when its turn has just come."""
        queue = self._waiting.get(place.who)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[place.who]
        elif place.sent:
            self._running -= 1
            self._sent.remove(place)  # nothing was sent
        self._serve()

    def _ahead(self, who: str) -> int:
        """How many are served before one more of `who`: those of its own, and as many rounds of the others."""
        own = len(self._waiting.get(who, ()))
        return own + sum(min(len(queue), own + 1) for name, queue in self._waiting.items() if name != who)

    def _why(self, ahead: int) -> str:
        left = self._paused - time.monotonic()
        if left > 0:
            return f"waiting for {self.name}: it asked for a pause of {left:.0f} s; {_place(ahead)}"
        return f"waiting for {self.name}: {_place(ahead)}"

    def _serve(self) -> None:
        """Let everybody go whose turn has come, in rounds over the sessions; look again when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            who, queue = next(iter(self._waiting.items()))
            if queue[0].ready.cancelled():  # it is about to leave
                queue.popleft()
                if not queue:
                    del self._waiting[who]
                continue
            delay = self._delay(queue[0].tokens)
            if delay > 0:
                if delay < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(delay, self._serve)
                return
            self._go(queue.popleft())
            del self._waiting[who]
            if queue:
                self._waiting[who] = queue  # behind the others

    def _go(self, place: Place) -> None:
        place.sent = time.monotonic()
        self._running += 1
        self._sent.append(place)
        place.ready.set_result(None)

    def _delay(self, tokens: float) -> float:
        """Seconds until a request of so many tokens may go; infinite where the end of another one has to come first."""
        now = time.monotonic()
        while self._sent and self._sent[0].sent <= now - self._period:
            self._sent.popleft()
        if self._running >= self.rate.concurrent:
            return math.inf
        return max(self._paused - now, self._after_requests() - now, self._after_tokens(tokens) - now)

    def _after_requests(self) -> float:
        over = len(self._sent) + 1 - self.rate.requests
        return self._sent[int(over) - 1].sent + self._period if over > 0 else 0.0

    def _after_tokens(self, tokens: float) -> float:
        """When enough of the last period has passed; a request larger than the whole rate goes when nothing else did."""
        total, free = sum(place.tokens for place in self._sent) + tokens, 0.0
        for place in self._sent:
            if total <= self.rate.tokens:
                break
            total -= place.tokens
            free = place.sent + self._period
        return free


def _place(ahead: int) -> str:
    return f"{ahead} request{'' if ahead == 1 else 's'} ahead" if ahead else "this request is next"


class Limiters:
    """The limiters of a workspace by provider. They outlive a change of agentos.yaml, which only changes their rates."""

    def __init__(self) -> None:
        self._of: dict[str, Limiter] = {}

    def of(self, provider: str, rate: Rate) -> Limiter:
        limiter = self._of.setdefault(provider, Limiter(provider, rate))
        limiter.rate = rate
        return limiter
