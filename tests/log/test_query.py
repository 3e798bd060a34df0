"""SQL reads, and only reads: every way out that DuckDB offers is tried."""

# ruff: noqa: E501 - the attacks are easier to compare in one list

# ruff: noqa: ASYNC240 - a test may block

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.errors import SqlRefused
from agentos_jupyter.log import Log, QueryResult
from agentos_jupyter.records import NewEvent

ENDLESS = "select count(*) from range(1000000) a, range(1000000) b"


async def ask(log: Log, sql: str, rows: int = 1000, size: int = 1_000_000, seconds: float = 5) -> QueryResult:
    return await log.query(sql, max_rows=rows, max_bytes=size, seconds=seconds)


@pytest.fixture
async def filled(log: Log) -> Log:
    await log.append("session/a", "new", [NewEvent("x", {"n": n}) for n in range(500)])
    return log


async def test_an_answer_has_names_types_and_json_values(filled: Log) -> None:
    answer = await ask(
        filled,
        "select 1 as a, 2 as a, 1.50::decimal(10,2) as d, 'x'::blob as b, [1, null] as l, {'k': date '2026-01-02'} as s,"
        " map {'k': 1} as m, timestamp '2026-01-02 03:04:05' as t, timestamptz '2026-01-02 03:04:05+00' as z,"
        " 170141183460469231731687303715884105727::hugeint as h, 'nan'::double as f, null as n, interval 90 seconds as i,"
        " 'infinity'::timestamp as e, '{\"j\":1}'::json as j, uuid() is not null as u",
    )
    assert answer.columns[:4] == ("a", "a", "d", "b")
    assert answer.types[:3] == ("INTEGER", "INTEGER", "DECIMAL(10,2)")
    assert answer.types[8] == "TIMESTAMP WITH TIME ZONE"
    row = answer.rows[0]
    assert row[:7] == [1, 2, "1.50", "78", [1, None], {"k": "2026-01-02"}, {"k": 1}]
    assert row[7:9] == ["2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"]
    assert row[9:13] == ["170141183460469231731687303715884105727", "nan", None, 90.0]
    assert row[14:] == ['{"j":1}', True]
    assert json.loads(json.dumps(answer.rows, allow_nan=False)) == answer.rows


@pytest.mark.parametrize(
    "sql",
    ["from events limit 1", "select 1;", "select 1 -- ;", "values (1)", "describe events", "summarize events", "show tables",
     "explain select 1", "explain analyze select count(*) from events", "with a as (select 1) select * from a",
     "select * from json_each('[1]')", "select count(*) from duckdb_settings()", "table events", "select now() -- c", "select [now()]",
     "select current_setting('memory_limit')"],
)  # fmt: skip
async def test_reading_is_answered(filled: Log, sql: str) -> None:
    assert (await ask(filled, sql)).rows


ATTACKS = [
    "", "-- nothing", "select 1; select 2", "select 1; drop table events", "selec 1", "select * from nosuch",
    "with x as (insert into events select * from events returning *) select * from x",
    "with x as (delete from events returning *) select * from x", "insert into events select * from events",
    "update events set type = 'y'", "delete from events", "truncate events", "drop table events", "drop view history",
    "alter table events add column x int", "create table t (a int)", "create temp table t as select 1",
    "create macro m() as 1", "create secret s (type s3)", "comment on table events is 'x'", "merge into events using events e on true when matched then delete",
    "explain insert into events select * from events", "explain analyze delete from events",
    "explain (format json) delete from events",
    "copy events to '{dir}/exports/x.csv'", "copy (select 1) to '/tmp/agentos-x.csv'", "copy events from '/etc/passwd'",
    "export database '{dir}/exports'", "import database '/tmp'", "attach '/tmp/agentos-x.db'", "attach ':memory:' as x", "detach log", "use memory",
    "select * from read_csv('/etc/passwd')", "select * from read_text('/etc/passwd')", "from '/etc/passwd'",
    "from read_blob('/etc/passwd')", "from \"read_blob\"('{dir}/log.duckdb')", "from main.read_blob('{dir}/log.' || 'duckdb')",
    "from read_blob('{dir}/log.duckdb.wal')", "from read_duckdb('{dir}/log.duckdb')", "from '{dir}/log.duckdb'", "from 'log.duckdb'",
    "from '{dir}/exports/../log.duckdb'", "from query('from read_blob(''{dir}/log.duckdb'')')", "from query_table('events')",
    "select (select size from read_blob('{dir}/log.duckdb'))", "select * from range(1), lateral (from read_blob('{dir}/log.duckdb'))",
    "with a as materialized (from read_blob('{dir}/log.duckdb')) from a", "select 1 where exists (from read_text('{dir}/log.duckdb'))",
    "explain from read_blob('{dir}/log.duckdb')", "explain analyze from read_blob('{dir}/log.duckdb')",
    "explain (analyze) from read_blob('{dir}/log.duckdb')", "/* explain */ explain /* x */ analyze from read_blob('{dir}/log.duckdb')",
    "describe from read_blob('{dir}/log.duckdb')", "summarize from read_blob('{dir}/log.duckdb')",
    "from json_execute_serialized_sql(json_serialize_sql('from read_blob(''{dir}/log.duckdb'')'))",
    "from read_parquet('{dir}/*')", "from parquet_scan('x')", "from parquet_metadata('x')", "from read_json('/etc/passwd')", "from sniff_csv('/etc/passwd')",
    "from glob('/etc/*')", "from glob('{dir}/*')", "from sqlite_scan('a', 'b')", "from arrow_scan(1, 2, 3)", "from pandas_scan(1)",
    "from 'https://example.org/x.csv'", "from duckdb_secrets()", "from which_secret('s3://x', 's3')",
    "install httpfs", "load httpfs", "load '/tmp/x.duckdb_extension'", "update extensions",
    "pragma database_list", "pragma enable_profiling", "set memory_limit = '100GB'", "set enable_external_access = true",
    "set lock_configuration = false", "reset memory_limit", "set variable a = 1", "set threads = 100",
    "select getenv('HOME')", "call pragma_version()", "checkpoint", "from checkpoint()", "force checkpoint", "from force_checkpoint()",
    "from enable_logging()", "begin", "commit", "rollback", "vacuum", "analyze", "prepare p as select 1", "execute p", "deallocate p",
    "select ?", "select $a", "select 'x\ud800'", "select " + "(" * 5000 + "1" + ")" * 5000, "select " + "1+" * 60000 + "1",
    "select error('boom')", "pivot events on type using count(*)", "kill 1", "\0", "select '\0",
]  # fmt: skip


@pytest.mark.parametrize("sql", ATTACKS, ids=lambda sql: ascii(sql[:60]))
async def test_whatever_else_is_refused_with_a_sentence_and_changes_nothing(
    filled: Log, folder: Path, sql: str
) -> None:
    secret_in_this_frame = [["leak"]]
    files = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(SqlRefused) as caught:
        await ask(filled, sql.replace("{dir}", str(folder)))
    assert len(caught.value.message) > 10
    assert secret_in_this_frame
    assert sorted(path.name for path in folder.rglob("*")) == files
    assert (await ask(filled, "select count(*) from events")).rows == [[500]]
    [event] = await filled.append("session/a", 500, [NewEvent("x", {})])
    assert event.position == 501
    assert _second_process(folder) == "locked", "DuckDB's lock on its file was lost"


def _second_process(folder: Path) -> str:
    code = f"import duckdb\ntry: duckdb.connect({str(folder / 'log.duckdb')!r}); print('open')\nexcept duckdb.Error: print('locked')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


async def test_python_variables_are_no_tables(filled: Log) -> None:
    with pytest.raises(SqlRefused, match="does not exist"):
        await ask(filled, "select * from ATTACKS")


async def test_exports_may_be_read(filled: Log, folder: Path) -> None:
    (folder / "exports" / "x.csv").write_text("a,b\n1,2\n")
    assert (await ask(filled, f"from '{folder}/exports/x.csv'")).rows == [[1, 2]]


async def test_rows_and_bytes_are_capped_and_it_is_said(filled: Log) -> None:
    few = await ask(filled, "from events", rows=3)
    assert len(few.rows) == 3 and few.truncated is not None and "first 3 rows" in few.truncated
    assert (await ask(filled, "from events limit 3", rows=3)).truncated is None
    assert len((await ask(filled, "from range(1000)", rows=1000)).rows) == 1000
    small = await ask(filled, "select repeat('x', 1000) from range(100)", size=5000)
    assert len(small.rows) == 4 and small.truncated is not None and "5000 bytes" in small.truncated
    assert (await ask(filled, "select repeat('x', 10000)", size=5000)).rows == []
    assert (await ask(filled, "from events", rows=0)).rows == []


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
        "select list(a.range || b.range) from range(100000) a, range(100000) b",
        "select * from range(1000000000) order by random()",
    ],
)
async def test_a_query_that_takes_for_ever_or_all_memory_is_ended_and_appends_go_on(filled: Log, sql: str) -> None:
    started = time.monotonic()
    asked = asyncio.ensure_future(ask(filled, sql, seconds=1))
    while not asked.done():
        await filled.append("session/b", "any", [NewEvent("x", {"text": "x" * 1000})])
        await asyncio.sleep(0.01)
    with pytest.raises(SqlRefused, match=r"longer than 1 s|more memory|needs its memory"):
        await asked
    assert time.monotonic() - started < 10
    assert (await ask(filled, "select 1")).rows == [[1]]


async def test_a_query_that_eats_the_memory_never_fails_an_append(filled: Log) -> None:
    asked = [
        asyncio.ensure_future(ask(filled, "select string_agg(repeat('x', 1000000), '') from range(100000)"))
        for _ in range(2)
    ]
    for _ in range(100):
        await filled.append("session/b", "any", [NewEvent("x", {"text": "x" * 1000})])
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, SqlRefused) for answer in answers)
    assert await filled.verify("session/b") == 100


async def test_a_cancelled_query_stops_at_once_and_closing_does_not_wait(filled: Log) -> None:
    asked = asyncio.ensure_future(ask(filled, ENDLESS, seconds=50))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    again = asyncio.ensure_future(ask(filled, ENDLESS, seconds=50))
    await asyncio.sleep(0.2)
    await filled.aclose()
    with pytest.raises(SqlRefused, match="closing"):
        await again
    assert time.monotonic() - started < 5


async def test_queries_that_hang_hold_up_no_reading(filled: Log) -> None:
    asked = [asyncio.ensure_future(ask(filled, ENDLESS, seconds=2)) for _ in range(6)]
    await asyncio.sleep(0.2)
    started = time.monotonic()
    assert len(await filled.read("session/a")) == 500
    assert time.monotonic() - started < 1.5
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)


def test_every_float_is_json() -> None:
    from agentos_jupyter.log.query import json_value

    values: list[Any] = [math.inf, -math.inf, math.nan, 1e308, b"\xff", {1: {2: (3,)}}, 1 << 100, object]
    assert json.dumps([json_value(value) for value in values], allow_nan=False)
