"""Through the real litellm to a server that speaks Anthropic's messages, and to an OpenAI-compatible one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import pytest

from agentos_jupyter.errors import (
    AgentOSError,
    ContextTooLong,
    ModelMalformed,
    ModelRefused,
    ModelUnavailable,
)
from agentos_jupyter.models import Reasoning, Request, Reset, Text
from tests.gateway.conftest import Asked, Through
from tests.models.conftest import KEY, message
from tests.servers import anthropic_server as anthropic
from tests.servers import openai_server as openai
from tests.servers.anthropic_server import FakeAnthropic
from tests.servers.openai_server import Behaviour, FakeOpenAI

CLAUDE = "litellm:anthropic/claude-sonnet-4-5"
LOCAL = "litellm:openai/local"
TOOLS = json.dumps(
    [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}]
).encode()
CALLED = {"id": "call-1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
TALK = [
    message("system", "You help."),
    message("user", "List it."),
    message("assistant", "", tool_calls=[CALLED]),
    message("tool", "a.txt", tool_call_id="call-1"),
]

pytestmark = pytest.mark.timeout(120)


async def refused(asked: Asked) -> AgentOSError:
    with pytest.raises(AgentOSError) as caught:
        await asked.ask()
    return caught.value


async def test_a_whole_turn_in_another_wire_format(through: Through) -> None:
    script = anthropic.stream(
        anthropic.started(),
        anthropic.thought(0, "hm"),
        anthropic.spoken(1, "Let me ", "look."),
        anthropic.called(2, '{"comm', 'and": "ls"}'),
        anthropic.called(3, '{"command": "pwd"}', id="toolu_2"),
        anthropic.ended("tool_use"),
    )
    async with through(FakeAnthropic(script), CLAUDE) as asked:
        done = await asked.ask(Request(TALK, TOOLS, {"temperature": 0.5}))
    assert done.text == "Let me look."
    assert [(call.name, json.loads(call.arguments)) for call in done.calls] == [
        ("bash", {"command": "ls"}),
        ("bash", {"command": "pwd"}),
    ]
    assert [delta.text for delta in asked.deltas if isinstance(delta, Text | Reasoning)] == ["hm", "Let me ", "look."]
    sent = asked.server.requests[0]
    assert sent.headers["x-api-key"] == KEY
    assert sent.body["temperature"] == 0.5
    assert sent.body["messages"][-1]["content"][0]["type"] == "tool_result"


async def test_usage_counts_the_cache_and_is_priced_by_the_map(through: Through) -> None:
    """20 fresh, 100 read, 30 written and 7 out, of a model moved to a server of ours: agentos.yaml tells its price."""
    prices = (
        "providers: {anthropic: {models: {claude-sonnet-4-5: {price_input: 3, price_output: 15, price_cached: 0.3}}}}"
    )
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE, yaml=prices) as asked:
        usage = (await asked.ask()).usage
    assert (usage.input, usage.cached, usage.written, usage.output) == (150, 100, 30, 7)
    assert usage.usd == pytest.approx((50 * 3 + 100 * 0.3 + 7 * 15) / 1e6)


async def test_a_moved_provider_has_no_price(through: Through) -> None:
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE) as asked:
        assert (await asked.ask()).usage.usd is None


async def test_the_prompt_is_marked_for_the_cache(through: Through) -> None:
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE) as asked:
        await asked.ask(Request(TALK, TOOLS))
    body = asked.server.requests[0].body
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" in json.dumps(body["messages"][-1])
    assert "cache_control" in json.dumps(body["messages"][0])


async def test_messages_reach_an_openai_compatible_server_byte_for_byte(through: Through) -> None:
    async with through(FakeOpenAI(openai.say("Hi")), LOCAL) as asked:
        done = await asked.ask(Request(TALK, TOOLS))
    sent = asked.server.requests[0]
    assert b'"messages":[' + b",".join(TALK) + b"]" in sent.raw
    assert sent.body["tools"] == json.loads(TOOLS)
    assert not [name for name in sent.headers if "agentos" in name.lower()]
    assert done.usage.usd == 0.00042


async def test_an_endpoint_that_counts_nothing_costs_nothing_that_is_known(through: Through) -> None:
    script = openai.events(openai.chunk({"content": "x"}), openai.chunk(finish="stop"))
    prices = "providers: {openai: {models: {local: {price_input: 3, price_output: 15}}}}"
    async with through(FakeOpenAI(script), LOCAL, yaml=prices) as asked:
        usage = (await asked.ask()).usage
    assert (usage.input, usage.output, usage.usd) == (0, 0, None)


async def test_a_context_larger_than_any_frame(through: Through) -> None:
    large = message("user", "ä" * 9_000_000)
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE) as asked:
        await asked.ask(Request([large]))
        assert len(asked.server.requests[0].raw) > 18_000_000


FAILURES: dict[str, tuple[Behaviour, type[AgentOSError], str]] = {
    "429": (
        anthropic.refusal(429, "rate_limit_error", "Slow down", retry_after="0.05"),
        ModelUnavailable,
        "answered HTTP 429: Slow down",
    ),
    "500": (anthropic.refusal(500, "api_error", "Boom"), ModelUnavailable, "answered HTTP 500: Boom"),
    "529": (anthropic.refusal(529, "overloaded_error", "Overloaded"), ModelUnavailable, "HTTP 529: Overloaded"),
    "401": (
        anthropic.refusal(401, "authentication_error", f"no such key {KEY}"),
        ModelRefused,
        "Check the key in ANTHROPIC_API_KEY",
    ),
    "404": (anthropic.refusal(404, "not_found_error", "model: x"), ModelRefused, "Check the model's id"),
    "too long": (
        anthropic.refusal(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
        ContextTooLong,
        "prompt is too long",
    ),
    "spent": (
        anthropic.refusal(400, "invalid_request_error", "insufficient credit balance"),
        ModelRefused,
        "Top up the account",
    ),
    "malformed": (
        anthropic.stream(anthropic.started(), b"data: {no json\n\n"),
        ModelUnavailable,
        "broke off in the middle",
    ),
    "web page": (openai.text(200, "<html></html>", "text/html"), ModelMalformed, "sent an empty reply"),
    "cut short": (
        anthropic.stream(anthropic.started(), anthropic.spoken(0, "Hal")),
        ModelUnavailable,
        "broke off in the middle",
    ),
    "error in the stream": (
        anthropic.stream(
            anthropic.started(), anthropic.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        ),
        ModelUnavailable,
        "reported an error in its stream: Overloaded",
    ),
    "reset": (openai.reset(), ModelUnavailable, "no answer"),
    "redirect": (
        openai.text(307, "", location="http://127.0.0.1:9/v1/messages"),
        ModelRefused,
        "Redirects are not followed",
    ),
}


async def test_failures_are_the_named_errors_of_the_direct_client(through: Through) -> None:
    """All with one gateway: each failure leaves it able to answer the next."""
    script = [behaviour for behaviour, _, _ in FAILURES.values()]
    async with through(FakeAnthropic([*script, anthropic.say("Hi")]), CLAUDE, attempts=1) as asked:
        for name, (_, kind, sentence) in FAILURES.items():
            error = await refused(asked)
            assert type(error) is kind, (name, error)
            assert sentence in error.message, name
            assert KEY not in error.message
        pid = asked.gateway.pid
        assert (await asked.ask()).text == "Hi"
        assert asked.gateway.pid == pid
        assert len(asked.server.requests) == len(FAILURES) + 1, "litellm repeats nothing by itself"


async def test_retry_after_is_heard(through: Through) -> None:
    refusal = anthropic.refusal(429, "rate_limit_error", "Slow down", retry_after="0.4")
    async with through(FakeAnthropic([refusal, anthropic.say("Hi")]), CLAUDE) as asked:
        assert (await asked.ask()).text == "Hi"
        first, second = (request.time for request in asked.server.requests)
    assert second - first >= 0.4
    assert [attempt.code for attempt in asked.attempts] == ["model.unavailable"]


@pytest.mark.parametrize(
    ("server", "name", "behaviour"),
    [
        (FakeAnthropic, CLAUDE, anthropic.hang(anthropic.started(), anthropic.spoken(0, "Hm"))),
        (FakeOpenAI, LOCAL, openai.hang(openai.chunk({"content": "Hm"}))),
    ],
    ids=["anthropic", "openai"],
)
async def test_a_cancelled_call_cuts_the_provider(
    through: Through, server: type[FakeOpenAI], name: str, behaviour: Behaviour
) -> None:
    async with through(server(behaviour), name, idle=30) as asked:
        task = asyncio.create_task(asked.ask())
        await until(lambda: any(isinstance(delta, Text) for delta in asked.deltas))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.wait_for(asked.server.requests[0].closed.wait(), 5)


async def test_silence_ends_by_the_limits(through: Through) -> None:
    started = anthropic.hang(anthropic.started(), anthropic.spoken(0, "Hm"))
    async with through(FakeAnthropic(started), CLAUDE, attempts=1, idle=0.5) as asked:
        error = await refused(asked)
        await asyncio.wait_for(asked.server.requests[0].closed.wait(), 5)
    assert "said nothing for 0.5 s (limit `idle`)" in error.message


async def test_many_calls_at_once(through: Through) -> None:
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE) as asked:
        done = await asyncio.gather(*(asked.ask(Request([message("user", str(n))])) for n in range(40)))
        words = {request.body["messages"][0]["content"][0]["text"] for request in asked.server.requests}
    assert {each.text for each in done} == {"Hi"}
    assert words == {str(n) for n in range(40)}


async def test_the_gateway_killed_in_mid_call_is_one_attempt(through: Through) -> None:
    script = [anthropic.hang(anthropic.started(), anthropic.spoken(0, "Hm")), anthropic.say("Hi")]
    async with through(FakeAnthropic(script), CLAUDE, idle=30) as asked:
        task = asyncio.create_task(asked.ask())
        await until(lambda: any(isinstance(delta, Text) for delta in asked.deltas))
        before = asked.gateway.pid
        assert before is not None
        kill(before)
        done = await task
        assert asked.gateway.pid not in (None, before)
    assert done.text == "Hi"
    assert any(isinstance(delta, Reset) for delta in asked.deltas), "what the dead one said is taken back"
    [attempt] = asked.attempts
    assert attempt.error.startswith("The gateway ended in the middle of the call")


async def test_a_skill_cannot_move_a_call(through: Through) -> None:
    async with through(FakeAnthropic(anthropic.say("Hi")), CLAUDE, attempts=1) as asked:
        with pytest.raises(ModelRefused, match="no parameter that a skill may set for litellm named 'api_base'"):
            await asked.ask(Request(TALK, params={"api_base": "http://127.0.0.1:9"}))
    assert not asked.server.requests


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def kill(pid: int) -> None:
    import os
    import signal

    os.kill(pid, signal.SIGKILL)
