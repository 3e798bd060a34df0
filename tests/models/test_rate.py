"""Turns at a provider: fair to sessions, never above the rate, clean after a cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import ConfigError, ModelUnavailable
from agentos_jupyter.limits import Limits
from agentos_jupyter.models import Delta, Models, Request, Waiting, complete
from agentos_jupyter.models.rate import Limiter, Limiters, Rate
from tests.models.conftest import QUICK, Serve, message
from tests.servers.openai_server import FakeOpenAI, error, say

PERIOD = 0.4


def nothing(_: str) -> None:
    """Nobody listens."""


class Log:
    """What a limiter let go, and when; how many were under way at a time."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.sent: list[tuple[float, str, float]] = []
        self.running = self.most = 0

    async def ask(self, who: str, tokens: float = 1, work: float = 0.0) -> None:
        async with self.limiter.turn(who, tokens, 30, nothing):
            self.sent.append((time.monotonic(), who, tokens))
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(work)
            self.running -= 1

    def heaviest(self, weigh: Callable[[float], float]) -> float:
        """The most that went within any period, by the clock of the limiter."""
        return max(
            sum(weigh(tokens) for at, _, tokens in self.sent if start <= at < start + PERIOD - 0.005)
            for start, _, _ in self.sent
        )


async def test_twenty_sessions_share_a_rate_in_turn_and_it_is_never_exceeded() -> None:
    log = Log(Limiter("here", Rate(requests=40, concurrent=4), PERIOD))
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(log.ask("greedy", work=random.uniform(0, 0.004)))
        await asyncio.sleep(0)
        for number in range(19):
            for _ in range(5):
                group.create_task(log.ask(f"s{number}", work=random.uniform(0, 0.004)))
    assert len(log.sent) == 50 + 19 * 5
    assert log.most == 4
    assert log.heaviest(lambda _: 1) <= 40
    order = [who for _, who, _ in log.sent]
    for number in range(19):
        places = [place for place, who in enumerate(order) if who == f"s{number}"]
        between = [order[a + 1 : b] for a, b in itertools.pairwise(places)]
        assert places[0] < 4 + 20  # what had begun before it came, and one round
        assert all(each.count("greedy") <= 1 for each in between)
    assert (log.limiter.waiting, log.limiter._running) == (0, 0)


async def test_tokens_count_within_every_period_and_what_was_used_corrects_the_guess() -> None:
    log = Log(Limiter("here", Rate(tokens=100), PERIOD))
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(log.ask(f"s{number % 3}", tokens=random.choice((20, 30, 45))))
    assert log.heaviest(lambda tokens: tokens) <= 100

    limiter = Limiter("here", Rate(tokens=100), PERIOD)
    async with limiter.turn("a", 10, 1, nothing) as place:
        place.used = 95
    began = time.monotonic()
    async with limiter.turn("b", 10, 1, nothing) as second:
        assert time.monotonic() - began >= PERIOD - 0.02
        assert second.waited >= PERIOD - 0.02


async def test_a_request_larger_than_the_rate_goes_when_nothing_else_did() -> None:
    limiter = Limiter("here", Rate(tokens=100), PERIOD)
    began = time.monotonic()
    for _ in range(2):
        async with limiter.turn("a", 1000, 5, nothing):
            pass
    assert PERIOD - 0.02 <= time.monotonic() - began < 3 * PERIOD


async def test_cancelling_leaves_the_queue_clean() -> None:
    limiter = Limiter("here", Rate(concurrent=1), PERIOD)
    async with limiter.turn("a", 1, 5, nothing):
        waiting = [asyncio.create_task(Log(limiter).ask(f"s{number % 7}")) for number in range(30)]
        await asyncio.sleep(0)
        assert limiter.waiting == 30
        for task in waiting[::2]:
            task.cancel()
        await asyncio.wait(waiting[::2])
        assert limiter.waiting == 15
    await asyncio.wait(waiting)
    assert sum(task.cancelled() for task in waiting) == 15
    assert (limiter.waiting, limiter._running, limiter._waiting) == (0, 0, {})


async def test_a_turn_that_comes_as_its_request_is_cancelled_goes_to_the_next() -> None:
    limiter = Limiter("here", Rate(concurrent=1, requests=3), PERIOD)
    log = Log(limiter)
    for cancel_first in (True, False):
        holding = limiter.turn("a", 1, 5, nothing)
        await holding.__aenter__()
        first, second = (asyncio.create_task(log.ask(who)) for who in "bc")
        await asyncio.sleep(0)
        if cancel_first:
            first.cancel()
        await holding.__aexit__(None, None, None)  # the turn goes on here
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        await second
        assert (limiter.waiting, limiter._running) == (0, 0)
    assert [who for _, who, _ in log.sent] == ["c", "c"]


async def test_who_waits_longer_than_the_limit_is_told_and_leaves() -> None:
    limiter = Limiter("here", Rate(concurrent=1), PERIOD)
    async with limiter.turn("a", 1, 5, nothing):
        with pytest.raises(ModelUnavailable, match=r"limits\.queue") as caught:
            await limiter.turn("b", 1, 0.05, nothing).__aenter__()
    assert caught.value.data["final"]
    assert (limiter.waiting, limiter._running) == (0, 0)


async def test_a_person_is_told_how_many_are_ahead() -> None:
    limiter = Limiter("here", Rate(concurrent=1), PERIOD)
    said: list[str] = []
    async with limiter.turn("a", 1, 5, said.append), asyncio.TaskGroup() as group:
        waiting = [group.create_task(limiter.turn(who, 1, 5, said.append).__aenter__()) for who in "aaab"]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
    places = ("this request is next", "1 request ahead", "2 requests ahead", "1 request ahead")
    assert said == [f"waiting for here: {place}" for place in places]


def test_new_settings_keep_what_was_sent() -> None:
    limiters = Limiters()
    first = limiters.of("here", Rate(requests=1))
    assert limiters.of("here", Rate(requests=5)) is first
    assert first.rate.requests == 5
    assert limiters.of("there", Rate()) is not first


# -- in front of every attempt


async def test_a_pause_that_one_session_is_told_of_holds_for_all(serve: Serve) -> None:
    script = [error(429, "slow down", **{"Retry-After": "1"}), say("ok")]
    async with serve(*script) as asked:
        first = asyncio.create_task(asked.ask(Request([message("user", "a")], who="a")))
        await asked.server.arrived.wait()
        while not asked.attempts:
            await asyncio.sleep(0.01)
        await asked.ask(Request([message("user", "b")], who="b"))
        await first
    refused, *others = [request.time for request in asked.server.requests]
    assert len(others) == 2
    assert min(others) - refused >= 0.95
    assert any(isinstance(each, Waiting) and "asked for a pause of 1 s" in each.text for each in asked.deltas)


async def test_waiting_for_a_turn_does_not_count_as_computing(workspace: Path) -> None:
    async with FakeOpenAI(say("ok")) as server:
        settings = config.load(workspace, {})
        limits = config.limits(settings, {**QUICK, "compute": 0.3, "first_token": 0.3})
        environ = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-x0123456789"}
        limiters = Limiters()
        models = Models(settings, environ, limits, limiters)
        chain = models.resolve("openai/local")
        heard: list[Delta] = []
        async with limiters.of("openai", Rate(concurrent=1)).turn("a", 1, 5, nothing):
            ask = asyncio.create_task(complete(chain, Request([message("user", "x")], who="b"), limits, heard.append))
            await asyncio.sleep(0.6)
            assert not ask.done()
        done = await ask
        await models.aclose()
    assert (done.text, done.attempts) == ("ok", ())
    assert heard[0] == Waiting("waiting for openai: this request is next")


async def test_an_attempt_that_gets_no_turn_goes_to_the_fallback(workspace: Path) -> None:
    limits, models = _limited(workspace, queue=0.05)
    chain = [*models.resolve("openai/local"), *models.resolve("scripted:demo")]
    async with models.limiter("openai").turn("a", 1, 5, nothing):
        done = await complete(chain, Request([message("user", "x")], who="b"), limits)
    await models.aclose()
    assert done.model == "scripted:demo"
    assert "limits.queue" in done.attempts[0].error


def _limited(workspace: Path, **more: Any) -> tuple[Limits, Models]:
    (workspace / "agentos.yaml").write_text("providers: {openai: {rate: {concurrent: 1, requests: 60, tokens: 100k}}}")
    settings = config.load(workspace, {"AGENTOS_TRUST": "1"})
    limits = config.limits(settings, {**QUICK, **more})
    return limits, Models(settings, {"OPENAI_API_KEY": "sk-x0123456789"}, limits)


def test_a_rate_is_written_in_agentos_yaml(workspace: Path) -> None:
    _, models = _limited(workspace)
    assert models.limiter("openai").rate == Rate(requests=60, tokens=100_000, concurrent=1)
    assert models.limiter("mistral").rate == Rate()
    for wrong in ("requests: 0", "request: 3", "concurrent: often"):
        (workspace / "agentos.yaml").write_text(f"providers: {{openai: {{rate: {{{wrong}}}}}}}")
        with pytest.raises(ConfigError, match=r"agentos\.yaml:1:"):
            config.load(workspace, {"AGENTOS_TRUST": "1"})
