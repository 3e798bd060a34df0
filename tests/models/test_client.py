"""The direct client against a local server: every dialect and every way to fail."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import (
    AgentOSError,
    ContextTooLong,
    ModelMalformed,
    ModelRefused,
    ModelUnavailable,
)
from agentos_jupyter.models import CallPart, Models, RawCall, Reasoning, Request, Reset, Text, complete
from tests.models.conftest import ASK, KEY, Serve, message
from tests.servers import openai_server as server


async def test_a_reply_streams_as_text_with_its_usage(serve: Serve) -> None:
    async with serve(server.say("Grüße 🙂")) as asked:
        done = await asked.ask()
    assert (done.text, done.calls, done.finish, done.scripted) == ("Grüße 🙂", (), "stop", False)
    assert (done.model, done.served) == ("openai/local", "local")
    assert (done.usage.input, done.usage.output, done.usage.cached, done.usage.usd) == (120, 7, 100, 0.00042)
    assert Text("Grüße 🙂") in asked.deltas


async def test_the_body_is_joined_from_the_encoded_pieces(serve: Serve) -> None:
    strange = b'{"role": "user",   "content": "\\u00fc and \xc3\xbc"}'
    tools = b'[{"type":"function","function":{"name":"bash"}}]'
    request = Request([strange, message("assistant", "yes")], tools, {"temperature": 0, "model": "other"})
    async with serve(server.say("ok")) as asked:
        await asked.ask(request)
        got = asked.server.requests[0]
    assert strange in got.raw and tools in got.raw
    body = got.body
    assert (body["model"], body["stream"], body["temperature"]) == ("local", True, 0)
    assert body["stream_options"] == {"include_usage": True}
    assert got.headers["Authorization"] == f"Bearer {KEY}"


async def test_no_tools_are_not_sent_as_an_empty_list(serve: Serve) -> None:
    async with serve(server.say("ok")) as asked:
        await asked.ask()
        assert "tools" not in asked.server.requests[0].body


async def test_a_body_of_several_megabytes_is_sent_whole(serve: Serve) -> None:
    text = "ü" * 3_000_000
    async with serve(server.say("ok")) as asked:
        await asked.ask(Request([message("user", text)]))
        assert asked.server.requests[0].body["messages"][0]["content"] == text


async def test_connections_are_used_again(serve: Serve) -> None:
    async with serve(server.say("ok")) as asked:
        for _ in range(5):
            await asked.ask()
        assert len({request.peer for request in asked.server.requests}) == 1


def raw(*chunks: object, end: str = "\n\n") -> bytes:
    return "".join(f"data: {json.dumps(one, ensure_ascii=False)}{end}" for one in chunks).encode()


async def test_bytes_may_be_split_anywhere(serve: Serve) -> None:
    data = b": OPENROUTER PROCESSING\r\n\r\n" + raw(server.chunk({"content": "zwölf 🙂"}), end="\r\n\r\n")
    data += raw(server.chunk(finish="stop"), end="\r\n\r\n") + b"data: [DONE]\r\n\r\n"
    async with serve(server.pieces(*(data[at : at + 1] for at in range(len(data))), pause=0)) as asked:
        assert (await asked.ask()).text == "zwölf 🙂"


async def test_a_surrogate_pair_split_over_chunks_is_one_character(serve: Serve) -> None:
    halves = [
        b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ude42"}}]}\n\n',
    ]
    async with serve(server.pieces(*halves, raw(server.chunk(finish="stop")))) as asked:
        assert (await asked.ask()).text == "a🙂"


def part(arguments: str, **more: object) -> dict[str, object]:
    named = {name: more.pop(name) for name in ("name",) if name in more}
    return {"tool_calls": [{**more, "function": {"arguments": arguments, **named}}]}


LS = RawCall("bash", '{"command": "ls"}')
PWD = RawCall("bash", '{"command": "pwd"}')
DIALECTS: dict[str, list[dict[str, Any]]] = {
    "split over chunks": [
        part("", index=0, id="a", name="bash"),
        part('{"comm', index=0),
        part('and": "ls"}', index=0),
        part('{"command": ', index=1, id="b", name="bash"),
        part('"pwd"}', index=1),
    ],
    "interleaved": [
        part('{"comm', index=0, id="a", name="bash"),
        part('{"comm', index=1, id="b", name="bash"),
        part('and": "ls"}', index=0),
        part('and": "pwd"}', index=1),
    ],
    "without index": [
        part(LS.arguments[:5], id="a", name="bash"),
        part(LS.arguments[5:]),
        part(PWD.arguments, id="b", name="bash"),
    ],
    "without index and id": [part(LS.arguments, name="bash"), part(PWD.arguments, name="bash")],
    "whole, all with index 0": [
        part(LS.arguments, index=0, id="a", name="bash"),
        part(PWD.arguments, index=0, id="b", name="bash"),
    ],
    "name repeated": [
        part('{"comm', index=0, id="a", name="bash"),
        part('and": "ls"}', index=0, id="a", name="bash"),
        part(PWD.arguments, index=1, id="b", name="bash"),
    ],
    "both in one chunk": [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"name": "bash", "arguments": LS.arguments}},
                {"index": 1, "id": "b", "function": {"name": "bash", "arguments": PWD.arguments}},
            ]
        }
    ],
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_tool_calls_of_every_dialect(serve: Serve, dialect: str) -> None:
    chunks = [server.chunk(delta) for delta in DIALECTS[dialect]]
    async with serve(server.events(*chunks, server.chunk(finish="tool_calls"))) as asked:
        done = await asked.ask()
    assert done.calls == (LS, PWD)
    assert [delta.index for delta in asked.deltas if isinstance(delta, CallPart)][-1] == 1


async def test_arguments_may_be_an_object(serve: Serve) -> None:
    delta = {"tool_calls": [{"function": {"name": "bash", "arguments": {"command": "ls"}}}]}
    async with serve(server.events(server.chunk(delta), server.chunk(finish="tool_calls"))) as asked:
        assert (await asked.ask()).calls == (LS,)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_is_heard_but_is_no_answer(serve: Serve, name: str) -> None:
    script = server.events(server.chunk({name: "hm"}), server.chunk({"content": "Yes."}), server.chunk(finish="stop"))
    async with serve(script) as asked:
        assert (await asked.ask()).text == "Yes."
    assert Reasoning("hm") in asked.deltas


async def test_a_missing_done_is_no_error_after_a_finish(serve: Serve) -> None:
    async with serve(
        server.events(server.chunk({"content": "Yes."}), server.chunk(finish="stop"), done=False)
    ) as asked:
        assert (await asked.ask()).text == "Yes."


async def test_a_server_that_hangs_after_its_finish_loses_nothing(serve: Serve) -> None:
    async with serve(server.hang(server.chunk({"content": "Yes."}), server.chunk(finish="stop"))) as asked:
        assert (await asked.ask()).text == "Yes."
    assert asked.attempts == []


async def test_a_server_that_does_not_stream_is_understood(serve: Serve) -> None:
    calls = server.bash("ls")["tool_calls"]
    async with serve(server.whole({"content": "I look.", "tool_calls": calls}, "tool_calls")) as asked:
        done = await asked.ask()
    assert (done.text, done.calls, done.usage.input) == ("I look.", (LS,), 120)


async def test_a_wrong_content_type_does_not_matter(serve: Serve) -> None:
    data = raw(server.chunk({"content": "Yes."}), server.chunk(finish="stop")) + b"data: [DONE]\n\n"
    async with serve(server.pieces(data, content_type="text/html")) as asked:
        assert (await asked.ask()).text == "Yes."


REFUSALS = {
    400: (ModelRefused, "HTTP 400: bad thing"),
    401: (ModelRefused, "HTTP 401: bad thing. Check the key in OPENAI_API_KEY"),
    402: (ModelRefused, "Top up the account"),
    403: (ModelRefused, "Check the key in OPENAI_API_KEY"),
    404: (ModelRefused, "Check the model's id and the base URL"),
    422: (ModelRefused, "HTTP 422"),
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refusal_is_not_repeated(serve: Serve, status: int) -> None:
    kind, sentence = REFUSALS[status]
    async with serve(server.error(status, "bad thing")) as asked:
        with pytest.raises(kind) as caught:
            await asked.ask()
        assert len(asked.server.requests) == 1
    assert sentence in str(caught.value)


async def test_a_spent_account_is_not_asked_again(serve: Serve) -> None:
    async with serve(server.error(429, "You exceeded your current quota", "insufficient_quota")) as asked:
        with pytest.raises(ModelRefused, match="Top up the account"):
            await asked.ask()
        assert len(asked.server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_an_overloaded_server_is_asked_again(serve: Serve, status: int) -> None:
    async with serve(server.error(status, "slow down"), server.say("Now.")) as asked:
        done = await asked.ask()
        assert len(asked.server.requests) == 2
    assert done.text == "Now."
    assert [(attempt.model, attempt.code) for attempt in asked.attempts] == [("openai/local", "model.unavailable")]
    assert done.attempts == tuple(asked.attempts)


async def test_retry_after_is_waited_out(serve: Serve) -> None:
    async with serve(server.error(429, "slow down", Retry_After="0.4"), server.say("Now.")) as asked:
        await asked.ask()
        first, second = asked.server.requests
    assert second.time - first.time >= 0.4


async def test_too_long_a_retry_after_is_not_waited_for(serve: Serve) -> None:
    async with serve(server.error(429, "tomorrow", Retry_After="86400"), server.say("Now.")) as asked:
        with pytest.raises(ModelUnavailable, match="HTTP 429: tomorrow"):
            await asked.ask()


async def test_a_status_that_is_not_in_the_table_is_not_repeated(serve: Serve) -> None:
    async with serve(server.error(501, "never"), server.say("Now.")) as asked:
        with pytest.raises(ModelUnavailable, match="HTTP 501: never"):
            await asked.ask()


async def test_a_web_page_becomes_one_sentence(serve: Serve) -> None:
    page = "<html><head><title>502 Bad\nGateway</title></head><body>" + "x" * 100_000 + "</body></html>"
    async with serve(server.text(502, page, "text/html"), attempts=1) as asked:
        with pytest.raises(ModelUnavailable) as caught:
            await asked.ask()
    assert str(caught.value) == "openai/local answered HTTP 502: 502 Bad Gateway."


async def test_a_web_page_with_status_200_is_malformed(serve: Serve) -> None:
    async with serve(server.text(200, "<html><title>Login</title></html>", "text/html"), attempts=1) as asked:
        with pytest.raises(ModelMalformed, match=r"a web page \(Login\): check the base URL"):
            await asked.ask()


async def test_what_an_endpoint_says_is_bounded_and_escaped(serve: Serve) -> None:
    async with serve(server.error(400, "a\x1b[31mred\x00\n" + "b" * 10_000)) as asked:
        with pytest.raises(ModelRefused) as caught:
            await asked.ask()
    said = str(caught.value)
    assert said.isprintable() and len(said) < 500
    assert "\\x1b[31mred\\x00" in said


LONG = [
    (
        400,
        {"error": {"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"}},
    ),
    (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
    (400, {"error": {"message": "the request exceeds the available context size. try increasing it", "n_ctx": 4096}}),
    (400, {"object": "error", "message": "Please reduce the length of the messages", "code": 400}),
    (400, [{"error": {"code": 400, "message": "The input token count exceeds the maximum number of tokens allowed"}}]),
    (413, {"error": "Request too large"}),
]


@pytest.mark.parametrize("status, body", LONG)
async def test_too_long_a_context_has_its_own_error(serve: Serve, status: int, body: object) -> None:
    async with serve(server.text(status, json.dumps(body))) as asked:
        with pytest.raises(ContextTooLong):
            await asked.ask()
        assert len(asked.server.requests) == 1


async def test_an_error_in_the_stream_is_an_error(serve: Serve) -> None:
    broken = {"error": {"code": 502, "message": "upstream died", "metadata": {"raw": "out of memory"}}, "choices": []}
    async with serve(server.events(server.chunk({"content": "Let me"}), broken), server.say("Now.")) as asked:
        done = await asked.ask()
    assert done.text == "Now."
    assert asked.attempts[0].error == "openai/local answered HTTP 502: upstream died (out of memory)."
    assert Reset() in asked.deltas


async def test_a_refusal_in_the_stream_is_not_repeated(serve: Serve) -> None:
    async with serve(server.events({"error": {"code": 401, "message": "No auth"}})) as asked:
        with pytest.raises(ModelRefused, match="HTTP 401: No auth"):
            await asked.ask()


async def test_silence_before_the_first_token_ends(serve: Serve) -> None:
    async with serve(server.silent(), attempts=1, first_token=0.2) as asked:
        with pytest.raises(ModelUnavailable, match=r"said nothing for 0.2 s \(limit `first_token`\)"):
            await asked.ask()


async def test_comments_are_not_taken_for_an_answer(serve: Serve) -> None:
    async with serve(server.keep_alive(), attempts=1, first_token=0.2) as asked:
        with pytest.raises(ModelUnavailable, match="first_token"):
            await asked.ask()


async def test_silence_in_the_middle_ends_and_is_repeated(serve: Serve) -> None:
    async with serve(server.hang(server.chunk({"content": "Let me"})), server.say("Now."), idle=0.2) as asked:
        done = await asked.ask()
    assert done.text == "Now."
    assert asked.attempts[0].error == "openai/local said nothing for 0.2 s (limit `idle`)."
    assert asked.deltas.index(Reset()) == 2


async def test_an_endless_stream_ends_at_the_limit_of_a_reply(serve: Serve) -> None:
    for delta in ({"content": "and on "}, {"reasoning": "and on "}, part("and on ", index=0, name="bash")):
        async with serve(server.endless(delta), server.say("never asked")) as asked:
            with pytest.raises(ModelMalformed, match="limit `reply`"):
                await asked.ask()
            await asyncio.wait_for(asked.server.requests[0].closed.wait(), 5)
            assert len(asked.server.requests) == 1


async def test_an_endless_line_ends_too(serve: Serve) -> None:
    async def answer(exchange: server.Exchange) -> None:
        await exchange.write(b"data: ")
        while True:
            await exchange.write(b"x" * 10_000)

    async with serve(answer) as asked:
        with pytest.raises(ModelMalformed, match="one event of more than"):
            await asked.ask()


async def test_endless_json_ends_too(serve: Serve) -> None:
    async def answer(exchange: server.Exchange) -> None:
        await exchange.write(b'{"choices": [')
        while True:
            await exchange.write(b" " * 10_000)

    async with serve(answer) as asked:
        with pytest.raises(ModelMalformed, match="bytes of JSON"):
            await asked.ask()


async def test_ten_thousand_calls_are_cut_to_the_limit(serve: Serve) -> None:
    async with serve(server.many_calls(10_000), reply="4M") as asked:
        done = await asked.ask()
    assert len(done.calls) == 8
    assert done.dropped_calls == 9_992


GARBAGE = {
    "bytes": server.pieces(b"\x00\xff\xfe\x80" * 100),
    "no JSON": server.pieces(b"data: {nope\n\n"),
    "no object": server.pieces(b"data: 42\n\n"),
    "wrong shape": server.pieces(b'data: {"choices": [17]}\n\n'),
    "wrong calls": server.pieces(b'data: {"choices": [{"delta": {"tool_calls": {"a": 1}}}]}\n\n'),
    "deep JSON": server.pieces(b"data: " + b"[" * 100_000 + b"\n\n"),
    "other JSON": server.text(200, '{"hello": 1}'),
    "broken JSON": server.text(200, '{"choices": [{"mess'),
    "nothing": server.text(200, ""),
    "only done": server.pieces(b"data: [DONE]\n\n"),
    "empty reply": server.events(server.chunk({"content": ""}), server.chunk(finish="stop")),
    "white space": server.say(" \n "),
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_is_malformed_and_asked_again(serve: Serve, what: str) -> None:
    async with serve(GARBAGE[what], server.say("Now.")) as asked:
        assert (await asked.ask()).text == "Now."
    assert [attempt.code for attempt in asked.attempts] == ["model.malformed"]
    assert asked.attempts[0].error.isprintable() and len(asked.attempts[0].error) < 400


async def test_a_reset_is_asked_again(serve: Serve) -> None:
    async with serve(server.reset(), server.reset(server.chunk({"content": "Let"})), server.say("Now.")) as asked:
        assert (await asked.ask()).text == "Now."
    assert [attempt.code for attempt in asked.attempts] == ["model.unavailable"] * 2


async def test_a_stream_that_stops_without_an_end_is_asked_again(serve: Serve) -> None:
    async with serve(server.events(server.chunk({"content": "Let"}), done=False), server.say("Now.")) as asked:
        assert (await asked.ask()).text == "Now."
    assert "broke off in the middle" in asked.attempts[0].error


async def test_something_that_is_no_http_is_malformed(serve: Serve) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with listener, serve(server.say("unused"), attempts=1) as asked:
        asked.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(ModelMalformed, match="does not speak HTTP as it should"):
            await asked.ask()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("http://127.0.0.1:PORT/v1", "nothing answers at 127.0.0.1:"),
        ("http://nowhere.invalid/v1", "no address of nowhere.invalid is known"),
    ],
)
async def test_an_unreachable_host_is_named_with_the_cure(workspace: Path, url: str, sentence: str) -> None:
    url = url.replace("PORT", str(closed_port()))
    settings = config.load(workspace, {})
    limits = config.limits(settings, {"attempts": 1, "connect": 5})
    models = Models(settings, {"OLLAMA_BASE_URL": url}, limits)
    with pytest.raises(ModelUnavailable) as caught:
        await complete(models.resolve("ollama/x"), ASK, limits)
    await models.aclose()
    assert sentence in str(caught.value) and url in str(caught.value)


async def test_tls_to_a_server_without_it_is_named(serve: Serve) -> None:
    async with serve(server.say("ok"), attempts=1) as asked:
        asked.environ["OPENAI_BASE_URL"] = asked.server.base_url.replace("http:", "https:")
        with pytest.raises(ModelUnavailable, match="no secure connection to 127"):
            await asked.ask()


async def test_a_redirect_gets_no_key(serve: Serve) -> None:
    async with serve(server.say("stolen")) as other:
        target = other.server.base_url + "/chat/completions"
        for status in (301, 302, 307, 308):
            async with serve(server.text(status, "", Location=target)) as asked:
                with pytest.raises(ModelRefused, match="Redirects are not followed"):
                    await asked.ask()
        assert other.server.requests == []


async def test_a_key_never_shows(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serve(server.error(401, f"Incorrect API key provided: {KEY}")) as asked:
        model = asked.models.resolve("openai/local")[0]
        with pytest.raises(ModelRefused) as caught:
            await asked.ask()
    assert "provided: ***" in str(caught.value)
    shown = [
        str(caught.value),
        repr(caught.value),
        repr(caught.value.data),
        repr(model),
        repr(vars(model)),
        caplog.text,
    ]
    assert not [text for text in shown if KEY in text]


async def test_cancelling_hangs_up_at_once(serve: Serve) -> None:
    async with serve(server.hang(server.chunk({"content": "Let me"})), idle=60) as asked:
        work = asyncio.create_task(asked.ask())
        await asked.server.arrived.wait()
        await asyncio.sleep(0.1)
        assert asked.deltas
        started = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.wait_for(asked.server.requests[0].closed.wait(), 2)
    assert time.monotonic() - started < 0.5
    assert Reset() not in asked.deltas


async def test_cancelling_before_the_answer_hangs_up_too(serve: Serve) -> None:
    async with serve(server.silent(), first_token=60) as asked:
        work = asyncio.create_task(asked.ask())
        await asked.server.arrived.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.wait_for(asked.server.requests[0].closed.wait(), 2)


def test_each_event_loop_has_its_own_connections(workspace: Path) -> None:
    settings = config.load(workspace, {})
    limits = config.limits(settings)
    environ: dict[str, str] = {}
    models = Models(settings, environ, limits)

    async def once(close: bool) -> str:
        async with server.FakeOpenAI(server.say("ok")) as local:
            environ["OLLAMA_BASE_URL"] = local.base_url
            done = await complete(models.resolve("ollama/x"), ASK, limits)
            if close:
                await models.aclose()
        return done.text

    assert [asyncio.run(once(False)), asyncio.run(once(False)), asyncio.run(once(True))] == ["ok"] * 3


async def test_many_at_once_do_not_wait_for_each_other(serve: Serve) -> None:
    async def slow(exchange: server.Exchange) -> None:
        await asyncio.sleep(0.2)
        await exchange.events(server.chunk({"content": "ok"}), server.chunk(finish="stop"))

    async with serve(slow, first_token=10) as asked:
        started = time.monotonic()
        done = await asyncio.gather(*(asked.ask() for _ in range(150)))
    assert {one.text for one in done} == {"ok"}
    assert time.monotonic() - started < 5


async def test_every_failure_is_one_of_ours(serve: Serve) -> None:
    async with serve(server.reset(), attempts=1) as asked:
        with pytest.raises(AgentOSError):
            await asked.ask()
