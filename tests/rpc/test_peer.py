"""One end of a channel: what it answers, what it refuses, and what it never does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentos_jupyter.errors import AgentOSError, Cancelled, ConnectionLost, FrameTooLarge, InternalError, SessionBusy
from agentos_jupyter.rpc.peer import MAX_BACKLOG, Params, Peer, Stream
from agentos_jupyter.rpc.wire import MAX_FRAME


class Side:
    """A handler with one method for each test, and what it saw."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def answer(self, method: str, params: Params, stream: Stream) -> Any:
        try:
            return await getattr(self, method)(params, stream)
        finally:
            self.ended.append(method)

    async def echo(self, params: Params, stream: Stream) -> Any:
        return params

    async def busy(self, params: Params, stream: Stream) -> Any:
        raise SessionBusy("held by somebody", session="s-1")

    async def defect(self, params: Params, stream: Stream) -> Any:
        raise ZeroDivisionError("no")

    async def odd(self, params: Params, stream: Stream) -> Any:
        return object()

    async def huge(self, params: Params, stream: Stream) -> Any:
        return "x" * MAX_FRAME

    async def wait(self, params: Params, stream: Stream) -> Any:
        await self.go.wait()
        return "went"

    async def count(self, params: Params, stream: Stream) -> Any:
        for number in range(params["n"]):
            stream.send({"kind": "text", "text": f"{number} "})
        return "counted"

    async def flood(self, params: Params, stream: Stream) -> Any:
        for _ in range(params["n"]):
            stream.send({"kind": "text", "text": "x" * 1000})
            await asyncio.sleep(0)
        return "flooded"

    async def facts(self, params: Params, stream: Stream) -> Any:
        for number in range(params["n"]):
            await stream.caught_up()
            stream.send({"kind": "event", "n": number, "text": "y" * 100_000})
            self.sent = number
        return "told"


class Raw:
    """The other end as bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(sock=self._sock, limit=1 << 20)

    def send(self, *messages: Any) -> None:
        self.writer.write(b"".join(m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages))

    async def line(self) -> Any:
        line = await asyncio.wait_for(self.reader.readline(), 5)
        return json.loads(line) if line else None

    async def lines(self) -> list[Any]:
        found = []
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while (message := await self.line()) is not None:
                found.append(message)
        return found


@pytest.fixture
def side() -> Side:
    return Side()


@pytest.fixture
async def raw(side: Side) -> AsyncIterator[Raw]:
    ours, theirs = socket.socketpair()
    peer = await Peer.on(ours, side.answer)
    raw = Raw(theirs)
    await raw.open()
    yield raw
    raw.writer.close()
    await peer.aclose()


@pytest.fixture
async def peers(side: Side) -> AsyncIterator[tuple[Peer, Peer]]:
    ours, theirs = socket.socketpair()
    server, client = await Peer.on(ours, side.answer), await Peer.on(theirs)
    yield server, client
    await client.aclose()
    await server.aclose()


def call(id: Any, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


async def test_a_call_is_answered_and_parameters_may_be_left_out(raw: Raw) -> None:
    raw.send(call(1, "echo", a=1), {"id": "two", "method": "echo"})
    answers = {each["id"]: each["result"] for each in (await raw.line(), await raw.line())}
    assert answers == {1: {"a": 1}, "two": {}}


async def test_parameters_as_a_list_are_an_error_of_that_call_only(raw: Raw) -> None:
    raw.send({"id": 1, "method": "echo", "params": [1]}, call(2, "echo"))
    answers = {each["id"]: each for each in (await raw.line(), await raw.line())}
    assert "as an object" in answers[1]["error"]["message"]
    assert answers[2]["result"] == {}


@pytest.mark.parametrize(
    "frame",
    [
        b"not json\n",
        b"[]\n",
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}\n",
        b'{"id": null, "method": "echo"}\n',
        b'{"id": {}, "method": "echo"}\n',
    ],
)
async def test_a_bad_frame_is_named_and_ends_the_channel(raw: Raw, frame: bytes) -> None:
    raw.send(frame, call(2, "echo"))
    [refusal] = await raw.lines()
    assert refusal["id"] is None
    assert refusal["error"]["data"]["code"] == "rpc.bad_frame"


async def test_a_line_without_end_is_refused_at_the_cap(raw: Raw) -> None:
    raw.send(b" " * (MAX_FRAME + 1))
    [refusal] = await raw.lines()
    assert refusal["error"]["data"]["code"] == "rpc.too_large"


async def test_a_whole_line_above_the_cap_is_refused_too(raw: Raw) -> None:
    raw.send(json.dumps(call(1, "echo", t="x" * MAX_FRAME)).encode() + b"\n")
    [refusal] = await raw.lines()
    assert refusal["error"]["data"]["code"] == "rpc.too_large"


async def test_an_id_that_is_in_use_ends_the_channel(raw: Raw, side: Side) -> None:
    raw.send(call(7, "wait"), call(7, "echo"))
    messages = await raw.lines()
    assert messages[0]["error"]["data"]["code"] == "rpc.bad_frame"
    assert "wait" in side.ended or not side.ended  # cancelled, or never begun


async def test_a_cancel_in_the_same_packet_as_its_call_is_still_answered(raw: Raw) -> None:
    raw.send(call(1, "wait"), {"method": "cancel", "params": {"id": 1}}, call(2, "echo"))
    answers = {each["id"]: each for each in (await raw.line(), await raw.line())}
    assert answers[1]["error"]["data"]["code"] == "cancelled"
    assert answers[2]["result"] == {}


async def test_a_cancel_ends_a_call_that_is_under_way(raw: Raw, side: Side) -> None:
    raw.send(call(1, "wait"))
    await asyncio.sleep(0.02)
    raw.send({"method": "cancel", "params": {"id": 1}})
    answer = await raw.line()
    assert answer["error"]["data"]["code"] == "cancelled"
    assert side.ended == ["wait"]


async def test_cancels_of_unknown_calls_and_unknown_notices_are_ignored(raw: Raw) -> None:
    for params in ({"id": 99}, {"id": []}, {}, [], None):
        raw.send({"method": "cancel", "params": params}, {"method": "nothing", "params": params})
    raw.send({"id": 12, "result": "nobody asked"}, {"id": [1], "error": {}}, call(1, "echo"))
    assert (await raw.line())["result"] == {}


async def test_deltas_come_in_order_before_the_answer(raw: Raw) -> None:
    raw.send(call(1, "count", n=3))
    messages = [await raw.line() for _ in range(4)]
    assert [m.get("method") for m in messages] == ["stream", "stream", "stream", None]
    assert [m["params"]["seq"] for m in messages[:3]] == [1, 2, 3]
    assert messages[3]["result"] == "counted"


async def test_errors_come_as_what_they_were(peers: tuple[Peer, Peer]) -> None:
    _, client = peers
    with pytest.raises(SessionBusy, match="held by somebody") as busy:
        await client.call("busy")
    assert busy.value.data == {"session": "s-1"}
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        await client.call("defect")
    with pytest.raises(InternalError, match="object"):
        await client.call("odd")
    with pytest.raises(FrameTooLarge):
        await client.call("huge")
    with pytest.raises(FrameTooLarge):
        await client.call("echo", {"t": "x" * MAX_FRAME})
    assert await client.call("echo", {"still": "there"}) == {"still": "there"}


async def test_cancelling_the_caller_cancels_the_call_over_there(peers: tuple[Peer, Peer], side: Side) -> None:
    _, client = peers
    task = asyncio.create_task(client.call("wait"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.call("echo")
    assert side.ended[0] == "wait"


async def test_a_slow_reader_gets_every_word_in_merged_deltas(raw: Raw) -> None:
    n = 20_000
    raw.send(call(1, "count", n=n))
    messages = []
    while (message := await raw.line()).get("method") == "stream":
        messages.append(message["params"])
    assert "".join(m["data"]["text"] for m in messages) == "".join(f"{i} " for i in range(n))
    assert [m["seq"] for m in messages] == list(range(1, len(messages) + 1))
    assert len(messages) < n


async def test_merged_deltas_stay_within_a_frame(raw: Raw) -> None:
    raw.send(call(1, "flood", n=10_000))
    await asyncio.sleep(0.5)
    size = 0
    while (message := await raw.line()).get("method") == "stream":
        size += len(message["params"]["data"]["text"])
    assert (size, message["result"]) == (10_000_000, "flooded")


async def test_a_handler_that_waits_for_a_slow_reader_queues_almost_nothing(raw: Raw, side: Side) -> None:
    tracemalloc.start()
    raw.send(call(1, "facts", n=500))
    await asyncio.sleep(0.3)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert side.sent < 60
    assert held < 20_000_000
    got = 0
    while (await raw.line()).get("method") == "stream":
        got += 1
    assert got == 500


async def test_who_asks_and_never_reads_is_hung_up_on(raw: Raw) -> None:
    asks = [call(number, "echo", t="x" * 1_000_000) for number in range(MAX_BACKLOG // 1_000_000 + 20)]
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for ask in asks:
            raw.send(ask)
            await raw.writer.drain()
            await asyncio.sleep(0)
    assert len(await raw.lines()) < len(asks)


async def test_a_channel_closed_in_mid_call_ends_the_call_on_both_sides(side: Side) -> None:
    ours, theirs = socket.socketpair()
    server, client = await Peer.on(ours, side.answer), await Peer.on(theirs)
    task = asyncio.create_task(client.call("wait"))
    await asyncio.sleep(0.02)
    await server.aclose()
    with pytest.raises(ConnectionLost):
        await task
    assert side.ended == ["wait"]
    with pytest.raises(ConnectionLost):
        await client.call("echo")
    client.notify("nobody", {})
    await client.aclose()


async def test_calls_may_go_both_ways_at_once_and_overtake_each_other(side: Side) -> None:
    ours, theirs = socket.socketpair()
    one, other = await Peer.on(ours, side.answer), await Peer.on(theirs, side.answer)
    slow = asyncio.create_task(one.call("wait"))
    answers = await asyncio.gather(*(peer.call("echo", {"n": n}) for n in range(50) for peer in (one, other)))
    assert sorted(each["n"] for each in answers) == sorted([*range(50), *range(50)])
    assert not slow.done()
    side.go.set()
    assert await slow == "went"
    await one.aclose()
    await other.aclose()


async def test_closing_ends_what_was_being_answered_and_leaves_no_task(side: Side) -> None:
    ours, theirs = socket.socketpair()
    server, client = await Peer.on(ours, side.answer), await Peer.on(theirs)
    waiting = [asyncio.create_task(client.call("wait")) for _ in range(3)]
    await asyncio.sleep(0.02)
    await server.aclose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, ConnectionLost | Cancelled) for each in results)
    await client.aclose()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_side_without_a_handler_answers_so(side: Side) -> None:
    ours, theirs = socket.socketpair()
    one, other = await Peer.on(ours), await Peer.on(theirs)
    with pytest.raises(AgentOSError, match="answers no calls"):
        await one.call("anything")
    await one.aclose()
    await other.aclose()
