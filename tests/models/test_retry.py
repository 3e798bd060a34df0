"""Attempts, waits and fallbacks of `complete`."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
import yaml

from agentos_jupyter import config
from agentos_jupyter.errors import ContextTooLong, ModelMalformed, ModelRefused, ModelUnavailable
from agentos_jupyter.models import Attempt, Models, Request, Reset, Text, complete
from tests.models.conftest import ASK, QUICK, Serve, message
from tests.servers import openai_server as server


async def test_the_last_error_tells_every_attempt_once(serve: Serve) -> None:
    script = [server.error(500, "oops"), server.error(500, "oops"), server.text(200, "")]
    async with serve(*script) as asked:
        with pytest.raises(ModelMalformed) as caught:
            await asked.ask()
    said = str(caught.value)
    assert said.startswith("No model answered after 3 attempts. openai/local (")
    assert said.count("HTTP 500: oops") == 1 and "an empty body" in said
    assert [attempt.code for attempt in asked.attempts] == ["model.unavailable"] * 2 + ["model.malformed"]
    assert len(caught.value.data["attempts"]) == 3


async def test_waits_grow_with_each_attempt(serve: Serve) -> None:
    async with serve(server.error(503, "busy"), attempts=4, backoff=0.1, backoff_max=0.2) as asked:
        with pytest.raises(ModelUnavailable):
            await asked.ask()
        times = [request.time for request in asked.server.requests]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 4
    assert 0.05 <= waits[0] < 0.15 and 0.1 <= waits[1] < 0.3 and 0.1 <= waits[2] < 0.3


async def test_the_wall_of_one_model_call_holds_over_all_attempts(serve: Serve) -> None:
    async with serve(server.silent(), attempts=100, first_token=0.2, compute=0.7) as asked:
        started = time.monotonic()
        with pytest.raises(ModelUnavailable):
            await asked.ask()
    assert 0.5 < time.monotonic() - started < 1.5


async def test_a_single_slow_reply_ends_at_the_wall(serve: Serve) -> None:
    async with serve(server.endless({"content": ""}), attempts=1, first_token=60, compute=0.3) as asked:
        with pytest.raises(ModelUnavailable, match=r"was not done after 0.3 s \(limit `compute`\)"):
            await asked.ask()


async def chain_of(workspace: Path, *servers: server.FakeOpenAI, windows: tuple[int, ...] = ()) -> Models:
    """A role `orchestrator` over the servers in turn, as agentos.yaml says it."""
    names = ["one", "two", "three"][: len(servers)]
    providers = {
        name: {"base_url": local.base_url, "models": {"m": {"window": window}}}
        for name, local, window in zip(names, servers, windows or (1000,) * len(servers), strict=True)
    }
    first, *rest = (f"{name}/m" for name in names)
    text = yaml.safe_dump({"providers": providers, "roles": {"orchestrator": {"model": first, "fallbacks": rest}}})
    (workspace / "agentos.yaml").write_text(text)
    settings = config.load(workspace, {"AGENTOS_TRUST": "1"})
    return Models(settings, {}, config.limits(settings, QUICK))


async def test_the_fallback_answers_when_the_primary_cannot(workspace: Path) -> None:
    heard: list[Attempt] = []
    seen: list[object] = []

    async def note(attempt: Attempt) -> None:
        heard.append(attempt)

    broken = server.hang(server.chunk({"content": "Let me"}))
    async with server.FakeOpenAI(broken) as one, server.FakeOpenAI(server.say("I can.")) as two:
        models = await chain_of(workspace, one, two)
        limits = config.limits(config.load(workspace, {"AGENTOS_TRUST": "1"}), {**QUICK, "attempts": 2, "idle": 0.1})
        done = await complete(models.resolve(), ASK, limits, seen.append, note)
        await models.aclose()
    assert (done.model, done.text) == ("two/m", "I can.")
    assert [attempt.model for attempt in heard] == ["one/m", "one/m"]
    assert "".join("\0" if isinstance(one, Reset) else one.text for one in seen if isinstance(one, Reset | Text)) == (
        "Let me\0Let me\0I can."
    )


async def test_a_refusal_goes_straight_to_the_fallback(workspace: Path) -> None:
    async with server.FakeOpenAI(server.error(401, "no")) as one, server.FakeOpenAI(server.say("I can.")) as two:
        models = await chain_of(workspace, one, two)
        done = await complete(
            models.resolve(), ASK, config.limits(config.load(workspace, {"AGENTOS_TRUST": "1"}), QUICK)
        )
        await models.aclose()
        assert (done.model, len(one.requests), len(two.requests)) == ("two/m", 1, 1)


@pytest.mark.parametrize("windows, asked", [((1000, 1000), 0), ((1000, 2000), 1)])
async def test_too_long_a_context_goes_only_to_a_larger_window(
    workspace: Path, windows: tuple[int, int], asked: int
) -> None:
    long = server.error(400, "x", "context_length_exceeded")
    async with server.FakeOpenAI(long) as one, server.FakeOpenAI(long) as two:
        models = await chain_of(workspace, one, two, windows=windows)
        with pytest.raises(ContextTooLong):
            await complete(models.resolve(), ASK, config.limits(config.load(workspace, {"AGENTOS_TRUST": "1"}), QUICK))
        await models.aclose()
        assert len(two.requests) == asked


async def test_a_fallback_without_its_key_is_told_of(workspace: Path) -> None:
    (workspace / "agentos.yaml").write_text("roles: {orchestrator: {model: ollama/x, fallbacks: [groq/y]}}")
    settings = config.load(workspace, {})
    limits = config.limits(settings, QUICK)
    async with server.FakeOpenAI(server.error(400, "no")) as local:
        models = Models(settings, {"OLLAMA_BASE_URL": local.base_url}, limits)
        with pytest.raises(ModelRefused, match="no"):
            await complete(models.resolve()[:1], ASK, limits)
        with pytest.raises(Exception, match=r"ollama/x .*HTTP 400: no.*groq/y needs a key: set GROQ_API_KEY"):
            await complete(models.resolve(), ASK, limits)
        await models.aclose()


async def test_messages_of_a_long_history_are_sent_as_they_are(serve: Serve) -> None:
    pieces = [message("user" if i % 2 else "assistant", f"message {i}") for i in range(1000)]
    async with serve(server.say("ok")) as asked:
        await asked.ask(Request(pieces))
        body = asked.server.requests[0].body
    assert body["messages"] == [json.loads(piece) for piece in pieces]
