"""What `append` promises: all or none, in order, without gaps, chained, and shared commits."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pytest

from agentos_jupyter.errors import Conflict, EventRefused, LogDamaged, LogError
from agentos_jupyter.log import Log
from agentos_jupyter.records import Event, NewEvent

HERE = "session/a"


def said(text: Any = "hello", **more: Any) -> NewEvent:
    return NewEvent("user.message", {"text": text, **more}, actor="person", dispatch="d1")


async def test_an_event_comes_back_as_it_was_stored(log: Log) -> None:
    [event] = await log.append(HERE, "new", [said(n=1, f=1.0, list=(1, 2), nested={"ü": None})])
    assert (event.position, event.stream, event.version) == (1, HERE, 1)
    assert (event.type, event.actor, event.dispatch) == ("user.message", "person", "d1")
    assert event.data == {"text": "hello", "n": 1, "f": 1.0, "list": [1, 2], "nested": {"ü": None}}
    assert timedelta(0) <= datetime.now(UTC) - event.time < timedelta(seconds=10)
    assert await log.read(HERE) == [event]


async def test_expected_versions_are_kept(log: Log) -> None:
    await log.append(HERE, "new", [said()])
    await log.append(HERE, 1, [said(), said()])
    await log.append(HERE, "any", [said()])
    for stale in ("new", 0, 3, 5):
        with pytest.raises(Conflict, match="is at version 4") as caught:
            await log.append(HERE, stale, [said()])
        assert caught.value.data == {"stream": HERE, "expected": stale, "actual": 4}
    assert log.head(HERE) == 4
    assert log.head("session/none") == 0


async def test_a_conflict_fails_only_its_own_request(log: Log) -> None:
    answers = await asyncio.gather(
        log.append("task/1", "new", [said("first")]),
        log.append("task/1", "new", [said("second")]),
        log.append("task/2", "new", [said("other")]),
        log.append("task/1", 1, [said("third")]),
        return_exceptions=True,
    )
    assert [isinstance(answer, Conflict) for answer in answers] == [False, True, False, False]
    assert [event.data["text"] for event in await log.read("task/1")] == ["first", "third"]
    assert [event.position for event in await log.since(0, 10)] == [1, 2, 3]


async def test_several_streams_are_written_all_or_none(log: Log) -> None:
    parts = await log.append_many([("a/1", "new", [said(), said()]), ("b/1", "any", [said()]), ("a/1", 2, [said()])])
    assert [[(event.stream, event.version) for event in part] for part in parts] == [
        [("a/1", 1), ("a/1", 2)],
        [("b/1", 1)],
        [("a/1", 3)],
    ]
    with pytest.raises(Conflict):
        await log.append_many([("c/1", "new", [said()]), ("b/1", "new", [said()])])
    assert log.streams() == ["a/1", "b/1"]
    assert log.position == 4


async def test_concurrent_appenders_share_commits_and_keep_every_order(log: Log) -> None:
    async def appender(name: int) -> None:
        for number in range(50):
            await log.append(f"session/{name}", number, [said(number)])

    before = log.commits
    await asyncio.gather(*(appender(name) for name in range(8)))
    assert log.commits - before < 200, "400 appends by 8 appenders share commits"
    events = await log.since(0, 1000)
    assert [event.position for event in events] == list(range(1, 401))
    for name in range(8):
        assert [event.data["text"] for event in await log.read(f"session/{name}")] == list(range(50))
        assert await log.verify(f"session/{name}") == 50


async def test_subscribers_hear_every_commit_in_order_and_fail_alone(log: Log) -> None:
    heard: list[Event] = []
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def broken(_: list[Event]) -> None:
        raise RuntimeError("mine alone")

    log.subscribe(broken)
    stop = log.subscribe(heard.extend)
    await asyncio.gather(*(log.append(f"s/{n % 3}", "any", [said(n), said(n)]) for n in range(20)))
    assert [event.position for event in heard] == list(range(1, 41))
    assert failures and all(isinstance(failure, RuntimeError) for failure in failures)
    stop()
    stop()
    await log.append(HERE, "any", [said()])
    assert len(heard) == 40


async def test_reading_by_version_from_the_end_and_by_position(log: Log) -> None:
    await log.append(HERE, "new", [said(n) for n in range(10)])
    await log.append("task/1", "new", [said("t")])
    assert [event.version for event in await log.read(HERE, after=7)] == [8, 9, 10]
    assert [event.version for event in await log.read(HERE, after=2, limit=3)] == [3, 4, 5]
    assert [event.version for event in await log.tail(HERE, 2)] == [9, 10]
    assert len(await log.tail(HERE, 100)) == 10
    assert await log.read("none/1") == await log.tail("none/1", 3) == []
    assert [event.position for event in await log.since(9, 10)] == [10, 11]
    assert [event.stream for event in await log.since(0, 10, prefix="task/")] == ["task/1"]
    assert log.streams("task/") == ["task/1"]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (math.inf, "Infinity"),
        ("a\ud800b", "a\ufffdb"),
        ("nul\0byte", "nul\0byte"),
        ("\x1b[31m\u2028\x7f", "\x1b[31m\u2028\x7f"),
        ("\ufeffmark", "\ufeffmark"),
        (2**80, 2**80),
        (-(10**300), -(10**300)),
        ([10**5000], [hex(10**5000)]),
        (5e-324, 5e-324),
        (0.1, 0.1),
        (-0.0, -0.0),
        ("😀 ünï", "😀 ünï"),
        (MappingProxyType({"k": (1,)}), {"k": [1]}),
        ({2: "a", None: "b", True: "c", "\udfff": "d"}, {"2": "a", "null": "b", "true": "c", "\ufffd": "d"}),
        ([[[[]]]], [[[[]]]]),
        ("{" * 1000, "{" * 1000),
    ],
)
async def test_what_json_cannot_hold_is_cleaned_by_the_stated_rule(log: Log, value: Any, stored: Any) -> None:
    [event] = await log.append(HERE, "any", [said(value)])
    assert event.data["text"] == stored
    assert await log.read(HERE) == [event]
    assert await log.verify(HERE) == 1
    await log.query("from history", max_rows=10, max_bytes=100_000, seconds=5)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (said("x" * (1 << 20)), "into a blob"),
        (said("ü" * (1 << 19)), "into a blob"),
        (said(b"bytes"), "bytes, which is not JSON"),
        (said({(1, 2): 3}), "keys are strings"),
        (NewEvent("", {}), "cannot be the type"),
        (NewEvent("a\0b", {}), "cannot be the type"),
        (NewEvent("a", {}, actor="\ud800"), "cannot be the actor"),
        (NewEvent("a", {}, dispatch="x" * 600), "cannot be the dispatch"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_an_event_the_log_cannot_hold_is_refused_with_the_cure(log: Log, event: NewEvent, sentence: str) -> None:
    with pytest.raises(EventRefused, match=sentence):
        await log.append(HERE, "any", [said(), event])
    assert log.position == 0


@pytest.mark.parametrize("depth", [300, 100_000])
async def test_nesting_without_end_is_refused(log: Log, depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    with pytest.raises(EventRefused, match="nested deeper"):
        await log.append(HERE, "any", [said(value)])


async def test_a_changed_event_breaks_the_chain(log: Log, folder: Path) -> None:
    await log.append(HERE, "any", [said(n) for n in range(5)])
    await log.aclose()
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("update events set data = replace(data::varchar, '2', '7')::json where version = 3")
    async with await Log.open(folder) as again:
        with pytest.raises(LogDamaged, match="version 3"):
            await again.verify(HERE)


async def test_a_log_goes_on_where_it_was(log: Log, folder: Path) -> None:
    events = await log.append(HERE, "any", [said(n) for n in range(5)])
    await log.aclose()
    await log.aclose()
    with pytest.raises(LogError, match="closed"):
        await log.append(HERE, "any", [said()])
    with pytest.raises(LogError, match="closed"):
        await log.read(HERE)
    async with await Log.open(folder) as again:
        assert (again.position, again.head(HERE), again.notes) == (5, 5, ())
        assert await again.read(HERE) == events
        await again.append(HERE, 5, [said()])
        assert await again.verify(HERE) == 6


async def test_a_cancelled_append_is_whole_or_absent_and_harms_nobody(log: Log) -> None:
    doomed = asyncio.ensure_future(log.append(HERE, "any", [said(1), said(2)]))
    await asyncio.sleep(0)
    doomed.cancel()
    await log.append("other/1", "any", [said()])
    assert len(await log.read(HERE)) in (0, 2)


async def test_appending_nothing_writes_nothing(log: Log) -> None:
    assert await log.append(HERE, "any", []) == []
    with pytest.raises(Conflict):
        await log.append(HERE, 3, [])
    assert (log.position, log.commits, log.streams()) == (0, 0, [])


async def test_closing_commits_what_was_asked(folder: Path) -> None:
    log = await Log.open(folder)
    asked = [asyncio.ensure_future(log.append(HERE, "any", [said(n)])) for n in range(20)]
    await asyncio.sleep(0)
    await log.aclose()
    assert sum(len(events) for events in await asyncio.gather(*asked)) == 20
