"""One model call: what it commits, what becomes an observation, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import (
    AgentOSError,
    BudgetExceeded,
    ConfigError,
    ContextTooLong,
    ModelError,
    ModelKeyMissing,
    ModelMalformed,
    ModelNotFound,
    ModelUnavailable,
    WorkspaceUntrusted,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))
import openai_server as fake

SECRET = "sk-or-v1-" + "0123456789abcdef" * 4
SAY = [{"say": "ok"}]


@pytest.fixture
def serve() -> Iterator[Callable[..., fake.FakeOpenAI]]:
    """Runs a local OpenAI-compatible server on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running: list[fake.FakeOpenAI] = []

    def now(*script: fake.Behaviour) -> fake.FakeOpenAI:
        server = fake.FakeOpenAI(list(script))
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(5)
        running.append(server)
        return server

    yield now
    for server in running:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def calls(*pairs: tuple[str, str]) -> fake.Behaviour:
    """A reply that asks for these (name, raw arguments)."""
    deltas = [
        {
            "tool_calls": [
                {"index": at, "id": f"x{at}", "type": "function", "function": {"name": name, "arguments": raw}}
            ]
        }
        for at, (name, raw) in enumerate(pairs)
    ]
    return fake.events(*(fake.chunk(delta) for delta in deltas), fake.chunk(finish="tool_calls"), fake.usage())


# -- what is committed


def test_a_turn_with_a_call_is_exactly_two_commits(open_desk: Any) -> None:
    desk = open_desk(rules=[{"when": {"role": "tool"}, "say": "end"}, {"calls": [{"bash": {"command": "a"}}] * 3}])
    began = desk.begin(desk.session())
    before = desk.commits()
    desk.complete(began, 1)
    assert desk.commits() == before + 1
    for number in (1, 2, 3):
        desk.result(began, f"call-{number}")
    assert desk.commits() == before + 4


def test_failed_attempts_and_the_fallback_are_recorded_with_the_reply_in_one_commit(
    open_desk: Any, serve: Any, remote: Any, script: Any
) -> None:
    server = serve(fake.error(500, "out of order"), fake.error(429, "slow down"))
    settings = remote(server.base_url)
    settings.pop("model")
    desk = open_desk(
        roles={"orchestrator": {"model": "here/m", "fallbacks": [script([{"say": "I step in."}])]}}, **settings
    )
    session = desk.session()
    began = desk.begin(session)
    before = desk.commits()
    reply = desk.complete(began, 1)
    assert desk.commits() == before + 1
    assert (reply["text"], reply["scripted"]) == ("I step in.", True)
    attempts = [each["data"] for each in desk.events(session, "compute.attempt")]
    assert [each["model"] for each in attempts] == ["here/m", "here/m"]
    assert "out of order" in attempts[0]["error"]
    assert all(each["turn"] == 1 and each["code"] == "model.unavailable" for each in attempts)


def test_attempts_are_recorded_when_no_model_answers(open_desk: Any, serve: Any, remote: Any) -> None:
    server = serve(fake.error(503, "nobody home"))
    desk = open_desk(**remote(server.base_url))
    session = desk.session()
    with pytest.raises(ModelUnavailable, match="nobody home"):
        desk.complete(desk.begin(session), 1)
    assert len(desk.events(session, "compute.attempt")) == 2


def test_a_context_that_the_provider_finds_too_long_is_recorded_as_an_attempt(
    open_desk: Any, serve: Any, remote: Any
) -> None:
    server = serve(fake.error(400, "maximum context length is 10 tokens", "context_length_exceeded"))
    desk = open_desk(**remote(server.base_url))
    session = desk.session()
    with pytest.raises(ContextTooLong):
        desk.complete(desk.begin(session), 1)
    assert desk.events(session, "compute.attempt")[0]["data"]["code"] == "context.too_long"


def test_usage_and_cost_of_every_call_stand_in_the_views(open_desk: Any, serve: Any, remote: Any) -> None:
    server = serve(fake.call("ls"), fake.say("done"))
    desk = open_desk(**remote(server.base_url))
    session = desk.session()
    ended = desk.prompt(session)
    assert ended["usage"] == {"input": 240, "output": 14, "cached": 200, "usd": pytest.approx(0.00084)}
    rows = desk.call("sql.query", sql="select sum(input), sum(output), sum(usd) from costs")["rows"]
    assert rows == [[240, 14, pytest.approx(0.00084)]]
    sessions = desk.call("sql.query", sql="select turns, calls, tokens, usd from sessions")["rows"]
    assert sessions == [[2, 1, 254, pytest.approx(0.00084)]]


def test_the_request_is_the_context_as_it_is_told(open_desk: Any, serve: Any, remote: Any) -> None:
    server = serve(fake.call("ls"), fake.say("done"))
    desk = open_desk(**remote(server.base_url))
    session = desk.session()
    spec = {"name": "bash", "description": "d", "parameters": {"type": "object"}}
    began = desk.begin(session, "do it", tools=[spec])
    desk.complete(began, 1)
    desk.result(began, "call-1", "a file")
    told = desk.messages(session)
    desk.complete(began, 2)
    assert server.requests[1].body["messages"] == told
    assert [each["role"] for each in told] == ["system", "user", "assistant", "tool"]
    assert server.requests[1].body["tools"] == [{"type": "function", "function": spec}]
    assert b'"call-1"' in server.requests[1].raw


# -- what becomes an observation


@pytest.mark.parametrize(
    "raw",
    [
        "not json",
        '{"command": "ls"',
        '["ls"]',
        '"ls"',
        "null",
        '{"x": NaN}',
        '{"x": 1e999}',
        "{" + '"a":{' * 60 + "}" * 60 + "}",
        "[" * 5000,
        '{"n": ' + "9" * 5000 + "}",
    ],
)
def test_garbage_arguments_become_an_observation_the_model_reads(
    open_desk: Any, serve: Any, remote: Any, raw: str
) -> None:
    desk = open_desk(**remote(serve(calls(("bash", raw)), fake.say("sorry")).base_url))
    session = desk.session()
    began = desk.begin(session)
    link = desk.connect()
    [call] = desk.complete(began, 1, link=link)["tool_calls"]
    assert (call["verdict"], call["arguments"]) == ("reject", None)
    [result] = desk.events(session, "tool.result")
    assert result["data"]["status"] == "rejected"
    assert "not a JSON object" in result["data"]["text"]
    assert desk.complete(began, 2, link=link)["text"] == "sorry"
    asked = next(each for each in desk.messages(session) if each.get("tool_calls"))
    assert isinstance(json.loads(asked["tool_calls"][0]["function"]["arguments"]), dict)


def test_arguments_as_deep_as_allowed_travel_everywhere(open_desk: Any, serve: Any, remote: Any) -> None:
    raw = '{"a":' * 32 + "1" + "}" * 32
    desk = open_desk(**remote(serve(calls(("bash", raw))).base_url))
    session = desk.session()
    link = desk.connect()
    began = desk.begin(session, link=link)
    [call] = desk.complete(began, 1, link=link)["tool_calls"]
    assert call["arguments"] == json.loads(raw)
    assert link.call("session.history", {"session": session})["events"]


def test_ten_thousand_tool_calls_are_refused_as_a_whole_and_said(open_desk: Any, serve: Any, remote: Any) -> None:
    desk = open_desk(**remote(serve(fake.many_calls(10_000), fake.say("fewer")).base_url))
    session = desk.session()
    began = desk.begin(session)
    reply = desk.complete(began, 1)
    assert len(reply["tool_calls"]) == 32
    assert {each["verdict"] for each in reply["tool_calls"]} == {"reject"}
    assert "10000 calls" in reply["tool_calls"][0]["reason"]
    assert "limits.calls allows 32" in reply["tool_calls"][0]["reason"]
    assert desk.events(session, "assistant.message")[0]["data"]["dropped_calls"] == 9968
    assert desk.complete(began, 2)["text"] == "fewer"


# -- what ends a call


@pytest.mark.parametrize(
    ("behaviour", "error", "said"),
    [
        (fake.endless({"content": "word "}), ModelMalformed, "limit `reply`"),
        (fake.endless({"reasoning": "hm "}), ModelMalformed, "limit `reply`"),
        (fake.silent(), ModelUnavailable, "limit `first_token`"),
        (fake.hang(fake.chunk({"content": "I begin"})), ModelUnavailable, "limit `idle`"),
        (fake.keep_alive(), ModelUnavailable, "limit `first_token`"),
        (fake.pieces(b"\x00\xff garbage \n\n", b"data: {nope\n\n"), ModelMalformed, "."),
        (fake.text(200, "<html>login</html>", "text/html"), ModelMalformed, "."),
        (fake.reset(fake.chunk({"content": "cut"})), ModelUnavailable, "."),
        (fake.error(401, "who are you"), ModelError, "who are you"),
        (fake.events(fake.chunk(finish="stop")), ModelMalformed, "empty"),
    ],
    ids=["endless", "endless-reasoning", "silent", "hang", "keep-alive", "garbage", "html", "reset", "401", "empty"],
)
def test_whatever_a_model_does_ends_in_a_clear_error_and_the_dispatch_can_end(
    open_desk: Any, serve: Any, remote: Any, behaviour: fake.Behaviour, error: type[AgentOSError], said: str
) -> None:
    limits = {"attempts": 1, "first_token": "300ms", "idle": "300ms", "reply": "20k"}
    desk = open_desk(**remote(serve(behaviour).base_url, **limits))
    session = desk.session()
    began = desk.begin(session)
    with pytest.raises(error, match=said):
        desk.complete(began, 1)
    assert len(desk.events(session, "compute.attempt")) == 1
    assert desk.types(session).count("assistant.message") == 0
    assert desk.end(began, "failed", error={"code": "x", "message": "y"})["status"] == "failed"
    assert desk.call("session.get", session=session)["phase"] == "idle"


def test_turns_are_limited_and_the_sentence_names_the_limit(open_desk: Any) -> None:
    desk = open_desk(rules=[{"calls": [{"bash": {"command": "again"}}]}], limits={"turns": 2})
    began = desk.begin(desk.session())
    for turn in (1, 2):
        desk.complete(began, turn)
        desk.result(began, f"call-{turn}")
    with pytest.raises(BudgetExceeded, match=r"2 turns \(limits\.turns\)"):
        desk.complete(began, 3)


def test_wall_time_is_limited_and_a_dispatch_may_narrow_it(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    began = desk.begin(desk.session(), limits={"wall": "0ms"})
    with pytest.raises(BudgetExceeded, match=r"limits\.wall"):
        desk.complete(began, 1)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"model": "openrouter/auto"}, ModelKeyMissing, "OPENROUTER_API_KEY"),
        ({"model": "nobody/x"}, ModelNotFound, "nobody"),
        ({"model": "scripted:missing.yaml"}, ModelNotFound, r"missing\.yaml"),
    ],
)
def test_an_unknown_model_or_a_missing_key_is_said_before_anything_is_written(
    open_desk: Any, settings: dict[str, Any], error: type[AgentOSError], said: str
) -> None:
    desk = open_desk(**settings)
    session = desk.session()
    with pytest.raises(error, match=said):
        desk.begin(session)
    assert desk.types(session) == ["session.created"]


def test_a_change_of_agentos_yaml_is_in_force_at_the_next_dispatch_and_a_broken_one_is_said(
    open_desk: Any, configure: Any, script: Any
) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    assert desk.prompt(session)["answer"] == "ok"
    configure(model=script([{"say": "other"}], "other.yaml"))
    assert desk.prompt(session)["answer"] == "other"
    (desk.workspace / "agentos.yaml").write_text("model: x\nlimts: {}\n")
    with pytest.raises(ConfigError, match=r"agentos\.yaml:2:1: .*did you mean 'limits'"):
        desk.begin(session)
    os.environ["NEW_API_KEY"] = "something-new-here"
    try:
        assert desk.connect().call("session.get", {"session": session})["dispatches"] == 2
    finally:
        del os.environ["NEW_API_KEY"]
    configure(providers={"here": {"base_url": "http://x/v1"}})
    with pytest.raises(WorkspaceUntrusted, match="AGENTOS_TRUST=1"):
        desk.begin(session)
    (desk.workspace / "agentos.yaml").unlink()
    assert desk.begin(session)["scripted"]


# -- secrets


def test_secrets_stand_nowhere_but_in_the_hands_of_the_unit_once(open_desk: Any, serve: Any, remote: Any) -> None:
    command = f"curl -H 'Authorization: Bearer {SECRET}'"
    half = len(SECRET) // 2
    behaviour = fake.events(
        fake.chunk({"content": f"Your key is {SECRET[:half]}"}),
        fake.chunk({"content": f"{SECRET[half:]}, I use it. "}),
        fake.chunk(fake.bash(command)),
        fake.chunk(finish="tool_calls"),
        fake.usage(),
    )
    desk = open_desk(**remote(serve(behaviour, fake.say("done")).base_url))
    session = desk.session()
    began = desk.begin(session, f"use {SECRET} please")
    heard: list[Any] = []

    async def listen() -> Any:
        handle = {"dispatch": began["dispatch"], "epoch": 1, "turn": 1}
        return await desk.kernel.link().call("compute.complete", handle, heard.append)

    reply = desk.kernel.run(listen())
    [call] = reply["tool_calls"]
    assert call["arguments"] == {"command": command}
    assert "[redacted" in reply["text"]
    assert SECRET not in json.dumps({**reply, "tool_calls": []})
    spoken = "".join(each["text"] for each in heard)
    assert spoken == "Your key is [redacted:api-key], I use it. "
    stored = desk.result(began, call["id"], f"token={SECRET}\n")
    assert SECRET not in stored
    followed: list[Any] = []
    desk.end(began)
    desk.kernel.run(desk.kernel.link().client.dispatch.follow(dispatch=began["dispatch"], on_stream=followed.append))
    everything = json.dumps([desk.events(session), desk.messages(session), followed])
    assert SECRET not in everything
    assert everything.count("[redacted") > 5
    desk.close()
    for path in (desk.workspace / ".agentos").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    desk.reopen()


def test_a_call_whose_secret_arguments_were_lost_on_the_way_is_not_run(open_desk: Any) -> None:
    desk = open_desk(
        rules=[{"when": {"role": "tool"}, "say": "end"}, {"calls": [{"bash": {"command": f"use {SECRET}"}}]}]
    )
    session = desk.session()
    began = desk.begin(session)
    assert SECRET in desk.complete(began, 1)["tool_calls"][0]["arguments"]["command"]
    assert desk.complete(began, 1)["tool_calls"] == []
    [result] = desk.events(session, "tool.result")
    assert (result["data"]["status"], "Ask again" in result["data"]["text"]) == ("not_run", True)


def test_a_persons_command_with_a_secret_may_be_begun_again(open_desk: Any) -> None:
    desk = open_desk(rules=SAY)
    session = desk.session()
    began = desk.begin(session, f"use {SECRET}", kind="person")
    ask = {"name": "bash", "arguments": {"command": f"use {SECRET}"}, "key": "k" * 8}
    for _ in range(2):
        call = desk.call("tool.begin", dispatch=began["dispatch"], epoch=1, **ask)
        assert call["arguments"] == ask["arguments"]
    assert SECRET not in json.dumps(desk.events(session))


def test_the_key_of_a_provider_is_redacted_by_its_value(open_desk: Any, serve: Any, remote: Any) -> None:
    os.environ["HERE_API_KEY"] = "exactkeyvalue123"
    try:
        desk = open_desk(**remote(serve(fake.say("It is exactkeyvalue123.")).base_url))
        assert desk.complete(desk.begin(desk.session()), 1)["text"] == "It is [redacted:key]."
    finally:
        del os.environ["HERE_API_KEY"]


# -- the stream


def test_a_reset_tells_the_front_end_to_forget_the_words_of_a_failed_attempt(
    open_desk: Any, serve: Any, remote: Any
) -> None:
    server = serve(fake.reset(fake.chunk({"content": "half a "}), fake.chunk({"content": "word "})), fake.say("whole"))
    desk = open_desk(**remote(server.base_url))
    began = desk.begin(desk.session())
    heard: list[tuple[str, str]] = []

    async def listen() -> Any:
        handle = {"dispatch": began["dispatch"], "epoch": 1, "turn": 1}
        return await desk.kernel.link().call(
            "compute.complete", handle, lambda data: heard.append((data["kind"], data["text"]))
        )

    assert desk.kernel.run(listen())["text"] == "whole"
    kinds = [kind for kind, _ in heard]
    assert kinds.index("reset") < kinds.index("note") < len(kinds) - 1
    after = heard[kinds.index("reset") :]
    assert "".join(text for kind, text in after if kind == "text") == "whole"


def test_a_cancelled_call_keeps_the_record_of_its_attempts(open_desk: Any, serve: Any, remote: Any) -> None:
    server = serve(fake.error(500, "first fails"), fake.silent())
    desk = open_desk(**remote(server.base_url, first_token="20s"))
    session = desk.session()
    began = desk.begin(session)
    asking = threading.Thread(target=lambda: _suppressed(lambda: desk.complete(began, 1)))
    asking.start()
    while len(server.requests) < 2:
        threading.Event().wait(0.02)
    desk.end(began, "interrupted")
    asking.join()
    assert [each["data"]["code"] for each in desk.events(session, "compute.attempt")] == ["model.unavailable"]
    assert desk.types(session)[-1] == "dispatch.ended"


def _suppressed(work: Callable[[], Any]) -> None:
    with contextlib.suppress(BaseException):
        work()
