"""Rows are ordered by session and every event stays what it was, whenever it is killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from agentos_jupyter.log import Log, ordering
from agentos_jupyter.log.rows import SELECT
from agentos_jupyter.records import Event, NewEvent
from tests.log.test_scale import BULK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".agentos"


async def mixed(log: Log, rounds: int) -> None:
    """Events of ten sessions, in turn."""
    for number in range(rounds):
        await log.append_many([(f"session/{name}", number, [NewEvent("x", {"n": number})]) for name in range(10)])


async def everything(log: Log) -> Sequence[Event]:
    return await log.since(0, 10_000_000)


def runs(folder: Path) -> int:
    """How often the session changes from one row to the next, as they lie in the file."""
    with duckdb.connect(str(folder / "log.duckdb"), read_only=True) as con:
        streams = [row[0] for row in con.execute("select stream from events order by rowid").fetchall()]
    return sum(one != two for one, two in itertools.pairwise(streams))


async def test_ordering_changes_no_event_and_brings_sessions_together(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await mixed(log, 50)
        before = await everything(log)
        assert await log.order()
        assert await everything(log) == before
        assert [await log.verify(name) for name in log.streams()] == [50] * 10
        await mixed_on(log)
        assert await log.order()
        assert await log.verify("session/3") == 51
        assert (await log.query("select count(*) from history", max_rows=1, max_bytes=100, seconds=9)).rows == [[510]]
    assert runs(folder) == 9
    async with await Log.open(folder) as again:
        assert [event.digest for event in await everything(again)][:500] == [event.digest for event in before]
        assert await again.verify("session/9") == 51


async def mixed_on(log: Log) -> None:
    for name in range(10):
        await log.append(f"session/{name}", 50, [NewEvent("x", {"n": 50})])


async def test_appends_and_reads_go_on_while_rows_are_ordered(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await mixed(log, 300)
        ordering_now = asyncio.ensure_future(log.order())
        done = 0
        while not ordering_now.done():
            await log.append("session/new", done, [NewEvent("x", {"n": done})])
            done += 1
            assert len(await log.read("session/5")) == 300
        assert await ordering_now
        assert done > 1
        assert await log.verify("session/new") == done
        assert [event.position for event in await everything(log)] == list(range(1, 3001 + done))


async def test_an_ordering_that_is_cancelled_leaves_the_log_as_it_was(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await mixed(log, 300)
        before = await everything(log)
        task = asyncio.ensure_future(log.order())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.tidy()
        assert await everything(log) == before
        tables = await log.query("select table_name from duckdb_tables()", max_rows=9, max_bytes=999, seconds=9)
        assert sorted(row[0] for row in tables.rows) == ["events", "migrations"]


async def test_a_piece_that_does_not_come_out_the_same_changes_nothing(folder: Path) -> None:
    """A row that appears in the new table alone is seen before it takes over."""
    from agentos_jupyter.errors import LogError

    async with await Log.open(folder) as log:
        await mixed(log, 10)
        before = await everything(log)
        cursor = log._root.cursor()
        ordering.build(cursor, log.position, lambda: False)
        cursor.execute("insert into ordered select * from events limit 1")
        with pytest.raises(LogError, match="nothing was changed"):
            await log.between(lambda con: ordering.take_over(con, before[-1].position))
        cursor.close()
        await log.tidy()
        assert await everything(log) == before


FULL = """
import asyncio, pathlib, resource, sys
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.log import Log

async def main():
    log = await Log.open(pathlib.Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        await log.order()
        print("ordered")
    except AgentOSError as error:
        print(error.code, error.message)
    await log.aclose()

asyncio.run(main())
"""


async def test_a_disk_that_is_full_changes_nothing(folder: Path) -> None:
    async with await Log.open(folder) as log:
        for number in range(60):
            parts = [(f"session/{name}", number, [NewEvent("x", {"t": os.urandom(2000).hex()})]) for name in range(10)]
            await log.append_many(parts)
        before = await everything(log)
    size = (folder / "log.duckdb").stat().st_size
    told = set()
    for limit in (size + 1000, size + 500_000, size + 1_500_000):
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FULL, str(folder), str(limit), stdout=asyncio.subprocess.PIPE
        )
        told.add((await run.communicate())[0].decode()[:14])
        async with await Log.open(folder) as log:
            assert await everything(log) == before
            assert [await log.verify(name) for name in log.streams()] == [60] * 10
            await log.tidy()
    assert "log.unwritable" in told, told


async def killed_once(folder: Path, delay: float) -> tuple[list[list[str]], int]:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.operate.orderer",
        str(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stdout is not None and worker.stderr is not None
    assert await worker.stdout.readline() == b"[]\n"
    reading = asyncio.gather(worker.stdout.read(), worker.stderr.read())
    await asyncio.sleep(delay)
    os.kill(worker.pid, signal.SIGKILL)
    out, errors = await reading
    await worker.wait()
    assert b"Error" not in errors, errors.decode()
    return [json.loads(line) for line in out.decode().split("\n")[:-1]], errors.count(b"ordered")


@pytest.mark.timeout(240)
async def test_killed_at_any_moment_the_log_is_whole(folder: Path) -> None:
    chance = random.Random(3)
    told: list[list[str]] = []
    ordered = cut = 0
    for _ in range(12):
        more, times = await killed_once(folder, chance.uniform(0.1, 0.9))
        told, ordered = told + more, ordered + times
        async with await Log.open(folder) as log:
            cut += await log._thread(log._ask, ordering.left_over)
            assert log.notes == ()
            streams = {stream: await log.read(stream) for stream in log.streams()}
            for stream, version, digest, position in told:
                event = streams[stream][int(version) - 1]
                assert (event.digest, event.position) == (digest, position)
            for stream in streams:
                await log.verify(stream)
            assert sum(map(len, streams.values())) == log.position
    assert ordered > 12 and cut > 0 and len(told) > 1000, (ordered, cut, len(told))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_session_of_a_long_mixed_log_is_read_several_times_as_fast(folder: Path) -> None:
    async with await Log.open(folder):
        pass
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute(BULK)
    before = await first_reads(folder)
    async with await Log.open(folder) as log:
        assert await log.order()
    after = await first_reads(folder)
    assert after < before / 2, f"{before:.3f} s, then {after:.3f} s"


async def first_reads(folder: Path) -> float:
    """The quickest first read of a session in a log that was just opened, as when it is resumed."""
    times = []
    for name in range(6):
        async with await Log.open(folder) as log:
            started = time.perf_counter()
            rows = await log._thread(log._rows, f"{SELECT} where stream = ? order by version", [f"session/{name}"])
            times.append(time.perf_counter() - started)
            assert len(rows) == 10_000
    return min(times)
