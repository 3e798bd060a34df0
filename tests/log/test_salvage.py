"""Salvage: every whole event up to the damage goes on, what is lost is said exactly, and the damaged files are kept."""

# ruff: noqa: ASYNC220, ASYNC240, ASYNC251 - a test may block

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import duckdb
import pytest

from agentos_jupyter.errors import LogDamaged, LogTooNew
from agentos_jupyter.log import Log
from agentos_jupyter.log.salvage import STREAM, salvage, salvages, told
from agentos_jupyter.records import NewEvent
from tests.log.damages import OF_DATABASE, OF_WAL, crash, flip, rewrite, wal

EVENTS = 100
KEPT = {
    "wal cut by one byte": 99,
    "wal with zeroed tail": 99,
    "wal cut in half": range(20, 60),
    "wal with zeroed middle": range(20, 60),
    "wal with a hole": range(20, 60),
    "wal with garbage inside": range(20, 60),
    "wal with a flipped byte": range(20, 60),
}
"""Events before the damage; none where the beginning of the WAL itself is gone, because all events are in it."""


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose events are all in its WAL."""
    folder = tmp_path_factory.mktemp("crashed") / ".agentos"
    crash(folder, EVENTS)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(("log.", "head"))}


@pytest.mark.parametrize("damage", OF_WAL)
async def test_what_is_whole_goes_on_and_what_is_lost_is_said(crashed: Path, folder: Path, damage: str) -> None:
    shutil.copytree(crashed, folder)
    OF_WAL[damage](folder)
    damaged = files(folder)
    with pytest.raises(LogDamaged, match="`agentos salvage`"):
        await Log.open(folder)

    found = await salvage(folder)
    expected = KEPT.get(damage, 0)
    assert found.kept in (expected if isinstance(expected, range) else [expected])
    assert (found.acknowledged, found.foreign) == (EVENTS, False)
    lost = f"of 100 acknowledged events {EVENTS - found.kept} are lost: {found.kept + 1} to 100"
    assert told(asdict(found)).endswith(f"{lost}.")
    assert files(folder / found.copy) == damaged, "the damaged files are kept whole"
    assert not (folder / "salvage").exists()

    async with await Log.open(folder) as log:
        assert log.notes == () and log.position == found.kept + 1
        assert await log.verify("session/a") == found.kept if found.kept else log.head("session/a") == 0
        assert [event.data["n"] for event in await log.read("session/a")] == list(range(found.kept))
        [fact] = await log.read(STREAM)
        assert (fact.type, fact.position, dict(fact.data)) == ("log.salvaged", found.kept + 1, asdict(found))
        [sentence] = await salvages(log)
        assert lost in sentence and found.copy in sentence
        await log.append("session/a", found.kept, [NewEvent("x", {})])


async def test_what_a_checkpoint_took_over_does_not_depend_on_the_wal(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("session/a", "any", [NewEvent("x", {"n": n}) for n in range(50)])
    crash(folder, 50)
    wal(lambda data: flip(data, 60))(folder)
    found = await salvage(folder)
    assert (found.kept, found.acknowledged) == (50, 100)
    assert "the last is x of session/a at 20" in told(asdict(found))


async def test_every_cut_keeps_exactly_the_events_before_it(crashed: Path, tmp_path: Path) -> None:
    size = (crashed / "log.duckdb.wal").stat().st_size
    kept = []
    for number, at in enumerate(range(size - 5000, size, 500)):
        folder = tmp_path / str(number)
        shutil.copytree(crashed, folder)
        wal(lambda data, at=at: data[:at])(folder)
        kept.append((await salvage(folder)).kept)
    assert kept == sorted(kept) and 90 < kept[0] < kept[-1] == 99


async def test_a_whole_log_is_verified_and_left_alone(crashed: Path, folder: Path) -> None:
    shutil.copytree(crashed, folder)
    before = files(folder)
    found = await salvage(folder)
    assert (found.kept, found.acknowledged, found.damage, found.copy) == (EVENTS, EVENTS, "", "")
    assert files(folder) == before and not list(folder.glob("damaged-*"))


async def test_a_look_changes_nothing(crashed: Path, folder: Path) -> None:
    shutil.copytree(crashed, folder)
    OF_WAL["wal cut in half"](folder)
    before = files(folder)
    found = await salvage(folder, look=True)
    assert found.kept > 0 and found.damage
    assert files(folder) == before and not list(folder.glob("damaged-*")) and not (folder / "salvage").exists()


@pytest.mark.parametrize("damage", OF_DATABASE)
async def test_a_database_that_cannot_be_opened_is_left_for_a_backup(crashed: Path, folder: Path, damage: str) -> None:
    shutil.copytree(crashed, folder)
    OF_DATABASE[damage](folder)
    before = files(folder)
    with pytest.raises(LogDamaged, match="`agentos restore` puts a backup in its place; to begin a new history"):
        await salvage(folder)
    assert files(folder) == before and not (folder / "salvage").exists()


async def test_a_damaged_block_costs_what_lies_behind_it(folder: Path) -> None:
    texts = [os.urandom(300).hex() for _ in range(6000)]
    async with await Log.open(folder) as log:
        for start in range(0, len(texts), 1000):
            await log.append(
                "session/a", "any", [NewEvent("x", {"text": text}) for text in texts[start : start + 1000]]
            )
    rewrite(folder / "log.duckdb", lambda data: flip(data, len(data) * 3 // 4))
    async with await Log.open(folder) as log:  # nobody reads the block yet
        with pytest.raises(LogDamaged, match="`agentos salvage`"):
            await log.read("session/a")
    found = await salvage(folder)
    assert "cannot be read" in found.damage and (found.acknowledged, found.kept) == (6000, 4096)
    async with await Log.open(folder) as log:
        assert [event.data["text"] for event in await log.read("session/a")] == texts[: found.kept]


async def test_an_event_that_was_changed_ends_what_is_believed(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("session/a", "any", [NewEvent("x", {"n": n}) for n in range(9)])
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("""update events set data = '{"n":99}' where position = 6""")
    found = await salvage(folder)
    assert (found.kept, found.damage) == (5, "event 6 was changed after it was written")
    async with await Log.open(folder) as log:
        assert await log.verify("session/a") == 5


async def test_a_missing_event_ends_what_is_believed(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("session/a", "any", [NewEvent("x", {"n": n}) for n in range(9)])
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("delete from events where position = 6")
    found = await salvage(folder)
    assert (found.kept, found.damage) == (5, "event 6 is missing")


async def test_another_history_is_said_to_be_one(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("session/a", "any", [NewEvent("x", {"n": n}) for n in range(9)])
    mark = json.loads((folder / "head").read_bytes())
    (folder / "head").write_text(json.dumps({**mark, "digest": "0" * 64}))
    found = await salvage(folder)
    assert found.foreign and found.kept == 9
    assert "event 9 is not the one that was acknowledged" in told(asdict(found))
    async with await Log.open(folder) as log:
        assert log.position == 10


async def test_without_a_mark_nobody_claims_to_know_what_is_lost(crashed: Path, folder: Path) -> None:
    shutil.copytree(crashed, folder)
    OF_WAL["wal with a flipped byte"](folder)
    (folder / "head").unlink()
    found = await salvage(folder)
    assert found.kept > 0 and "is not known, because head is unreadable" in told(asdict(found))


async def test_a_newer_schema_is_not_salvaged_by_an_older_version(crashed: Path, folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("session/a", "any", [NewEvent("x", {})])
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("insert into migrations values ('0009-quantum', now()::timestamp)")
    before = files(folder)
    with pytest.raises(LogTooNew, match="0009-quantum"):
        await salvage(folder)
    assert files(folder) == before


async def test_nothing_but_events_lies_in_the_database(log: Log, folder: Path) -> None:
    """A salvaged log is written anew: a further table would have to be carried over."""
    tables = await log.query("select table_name from duckdb_tables() order by 1", max_rows=9, max_bytes=999, seconds=5)
    assert [row[0] for row in tables.rows] == ["events", "migrations"]


KILLED = """
import asyncio, os, pathlib, sys
from agentos_jupyter.log.salvage import salvage
print("go", flush=True)
asyncio.run(salvage(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
async def test_a_salvage_that_is_killed_is_made_again(crashed: Path, folder: Path, delay: float) -> None:
    shutil.copytree(crashed, folder)
    OF_WAL["wal with a flipped byte"](folder)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None and process.stdout.readline() == b"go\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    await salvage(folder)
    async with await Log.open(folder) as log:
        kept = await log.verify("session/a")
        assert 20 < kept < 60 and len(await salvages(log)) == 1
        assert log.position == kept + 1
