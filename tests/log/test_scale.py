"""A long history stays quick: measured, with limits far above what is expected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import duckdb
import pytest

from agentos_jupyter.log import Log
from agentos_jupyter.records import NewEvent

BULK = """
insert into events select i + 1, 'session/' || (i % 100), i // 100 + 1, now()::timestamp, 'tool.result', 'agent', null,
       '{"text":"' || repeat(md5(i::varchar), 10) || '"}', sha256(i::varchar) from range(1000000) t(i)
"""


async def test_a_quiet_log_makes_its_checkpoint_and_keeps_its_wal_short(log: Log, folder: Path) -> None:
    for _ in range(3):
        await log.append("s/1", "any", [NewEvent("x", {"text": "x" * 500_000})])
    wal = folder / "log.duckdb.wal"
    assert wal.stat().st_size > 1_000_000
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not wal.exists() or wal.stat().st_size < 1_000_000:
            break
    assert not wal.exists() or wal.stat().st_size < 1_000_000
    await log.append("s/1", 3, [NewEvent("x", {})])
    assert await log.verify("s/1") == 4


@pytest.mark.slow
async def test_a_hundred_thousand_events_by_twenty_appenders(log: Log) -> None:
    worst = 0.0

    async def appender(name: int) -> None:
        nonlocal worst
        for number in range(500):
            started = time.perf_counter()
            await log.append(f"s/{name}", "any", [NewEvent("x", {"text": f"{number} " * 100}) for _ in range(10)])
            worst = max(worst, time.perf_counter() - started)

    await asyncio.gather(*map(appender, range(20)))
    assert log.position == 100_000
    assert await log.verify("s/7") == 5000
    assert worst < 3


@pytest.mark.slow
async def test_a_million_events_open_and_read_quickly(log: Log, folder: Path) -> None:
    await log.aclose()
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute(BULK)
    started = time.perf_counter()
    async with await Log.open(folder) as again:
        opened = time.perf_counter()
        assert again.position == 1_000_000
        assert len(await again.read("session/5")) == 10_000
        read = time.perf_counter()
        assert len(await again.tail("session/5", 200)) == 200
    assert opened - started < 2
    assert read - opened < 3
