"""Opening: private, migrated, one at a time, and honest about damage; nothing is ever removed."""

# ruff: noqa: ASYNC221, ASYNC240 - a test may block

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from agentos_jupyter.errors import LogDamaged, LogTooNew, LogUnwritable, WorkspaceBusy
from agentos_jupyter.log import Log, Storage
from agentos_jupyter.log.migrations import MIGRATIONS, applied, migrate
from agentos_jupyter.records import NewEvent
from tests.log.damages import DAMAGES, crash, flip, wal


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_state_is_private_and_invisible_to_git(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        async with await Log.open(folder) as log:
            await log.append("s/1", "new", [NewEvent("x", {})])
            digest = await log.blobs.put(b"x")
            assert mode(folder) == mode(folder / "blobs") == mode(folder / "exports") == 0o700
            assert (folder / ".gitignore").read_text() == "*\n"
            for path in (folder / "log.duckdb", folder / "log.duckdb.wal", folder / "head", log.blobs.path(digest)):
                assert mode(path) == 0o600, path
    finally:
        os.umask(before)


async def test_a_second_opening_is_told_who_holds_it(log: Log, folder: Path) -> None:
    with pytest.raises(WorkspaceBusy, match="agentos stop"):
        await Log.open(folder)
    code = "import asyncio, pathlib, sys\nfrom agentos_jupyter.log import Log\nasyncio.run(Log.open(pathlib.Path(sys.argv[1])))"
    other = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=50)
    assert "WorkspaceBusy" in other.stderr and "Another process" in other.stderr
    await log.append("s/1", "new", [NewEvent("x", {})])


async def test_a_crash_loses_nothing_and_says_nothing(folder: Path) -> None:
    crash(folder)
    async with await Log.open(folder) as log:
        assert (log.position, log.head("session/a"), log.notes) == (100, 100, ())
        assert await log.verify("session/a") == 100


async def test_a_newer_schema_is_refused_with_both_names_and_nothing_is_written(log: Log, folder: Path) -> None:
    await log.aclose()
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("insert into migrations values ('0009-quantum', now()::timestamp)")
    before = content(folder)
    with pytest.raises(LogTooNew, match=f"0009-quantum.*{MIGRATIONS[-1][0]}.*Upgrade"):
        await Log.open(folder)
    assert content(folder) == before


async def test_a_newer_schema_still_in_the_wal_is_refused_too(folder: Path) -> None:
    crash(folder, 3)
    code = (
        "import duckdb, os, sys\ncon = duckdb.connect(sys.argv[1])\n"
        "con.execute(\"insert into migrations values ('0009-quantum', now()::timestamp)\")\nos._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "log.duckdb")], check=True)
    before = content(folder)
    with pytest.raises(LogTooNew, match="0009-quantum"):
        await Log.open(folder)
    assert content(folder) == before


def test_migrations_are_applied_once_in_order_and_all_or_none(tmp_path: Path) -> None:
    con = duckdb.connect(str(tmp_path / "x.duckdb"))
    migrate(con)
    first = applied(con)
    migrate(con)
    assert applied(con) == first
    assert first[: len(MIGRATIONS)] == [name for name, _ in MIGRATIONS]
    later = (*MIGRATIONS, ("0002-more", "alter table events add column more varchar"))
    with pytest.raises(duckdb.Error):
        migrate(con, (*later, ("0003-broken", "create nonsense")))
    assert applied(con) == first
    migrate(con, later)
    assert "0002-more" in applied(con)
    con.close()


async def test_views_are_made_anew_when_their_text_has_changed(log: Log, folder: Path) -> None:
    await log.aclose()
    with duckdb.connect(str(folder / "log.duckdb")) as con:
        con.execute("create or replace view costs as select 1 as old")
        con.execute("update migrations set name = 'views-0000' where starts_with(name, 'views-')")
    async with await Log.open(folder) as again:
        answer = await again.query("describe costs", max_rows=99, max_bytes=99999, seconds=5)
        assert "usd" in [row[0] for row in answer.rows]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashed") / ".agentos"
    crash(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_named_a_copy_is_kept_and_nothing_is_removed(crashed: Path, folder: Path, damage: str) -> None:
    shutil.copytree(crashed, folder)
    DAMAGES[damage](folder)
    before = content(folder)
    with pytest.raises(LogDamaged, match=r"log\.duckdb.*agentos restore.*damaged-1"):
        await Log.open(folder)
    after = content(folder)
    assert {name: data for name, data in after.items() if not name.startswith("damaged-")} == before
    kept = {name.removeprefix("damaged-1/"): data for name, data in after.items() if name.startswith("damaged-1/")}
    assert kept == {name: data for name, data in before.items() if name.startswith(("log.duckdb", "head"))}
    assert mode(folder / "damaged-1") == 0o700

    with pytest.raises(LogDamaged, match="damaged-1"):
        await Log.open(folder)
    assert not (folder / "damaged-2").exists(), "the same damage is kept once"


async def test_every_flipped_byte_of_the_wal_is_seen_or_harmless(crashed: Path, tmp_path: Path) -> None:
    size = (crashed / "log.duckdb.wal").stat().st_size
    seen = 0
    for number, at in enumerate(range(3, size, size // 40)):
        folder = tmp_path / str(number)
        shutil.copytree(crashed, folder)
        wal(lambda data, at=at: flip(data, at))(folder)
        try:
            async with await Log.open(folder) as log:
                assert log.position == await log.verify("session/a") == 100
        except LogDamaged:
            seen += 1
    assert seen >= 35


async def test_bytes_behind_the_last_entry_are_no_loss(crashed: Path, folder: Path) -> None:
    shutil.copytree(crashed, folder)
    wal(lambda data: data + os.urandom(300))(folder)
    async with await Log.open(folder) as log:
        assert await log.verify("session/a") == 100


async def test_a_damaged_block_is_named_when_it_is_read(folder: Path) -> None:
    async with await Log.open(folder) as log:
        for _ in range(5):
            await log.append("session/a", "any", [NewEvent("x", {"text": os.urandom(50_000).hex()}) for _ in range(10)])
    data = (folder / "log.duckdb").read_bytes()
    (folder / "log.duckdb").write_bytes(flip(data, len(data) // 2))
    with pytest.raises(LogDamaged, match="damaged"):
        async with await Log.open(folder) as log:
            await log.read("session/a")


async def test_an_older_copy_put_back_is_seen(folder: Path, tmp_path: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("s/1", "new", [NewEvent("x", {})])
    shutil.copy(folder / "log.duckdb", tmp_path / "old")
    async with await Log.open(folder) as log:
        await log.append("s/1", 1, [NewEvent("x", {})])
    shutil.copy(tmp_path / "old", folder / "log.duckdb")
    with pytest.raises(LogDamaged, match="events 2 to 2 were acknowledged"):
        await Log.open(folder)


async def test_a_mark_of_another_history_is_seen_and_a_missing_one_is_said(folder: Path) -> None:
    async with await Log.open(folder) as log:
        await log.append("s/1", "new", [NewEvent("x", {})])
    good = (folder / "head").read_bytes()
    (folder / "head").write_bytes(good.replace(b'"digest": "', b'"digest": "0')[:128])
    with pytest.raises(LogDamaged, match="another digest"):
        await Log.open(folder)
    for unreadable in (b"", b"{", b"\xff" * 128, b"[]"):
        (folder / "head").write_bytes(unreadable)
        async with await Log.open(folder) as log:
            assert "cannot be told" in log.notes[0]
    (folder / "head").unlink()
    async with await Log.open(folder) as log:
        assert "cannot be told" in log.notes[0]
    async with await Log.open(folder) as log:
        assert log.notes == ()


async def test_a_folder_that_may_not_be_written_is_said(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the read-only mount below is root's variant")
    folder.parent.chmod(0o500)
    try:
        with pytest.raises(LogUnwritable, match="read-only for this user"):
            await Log.open(folder)
    finally:
        folder.parent.chmod(0o700)
    async with await Log.open(folder):
        pass
    folder.chmod(0o500)
    (folder / "log.duckdb").chmod(0o400)
    try:
        with pytest.raises(LogUnwritable, match="read-only for this user"):
            await Log.open(folder)
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("state", ["new", "closed", "crashed"])
async def test_a_read_only_disk_is_said_and_heals(folder: Path, state: str) -> None:
    mount = folder.parent
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "x", mount], capture_output=True).returncode:
        pytest.skip("mounting takes root and its capability; the folder above is the unprivileged variant")
    try:
        if state != "new":
            crash(folder, 5)
        if state == "closed":
            await (await Log.open(folder)).aclose()
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        with pytest.raises(LogUnwritable, match="read-only"):
            await Log.open(folder)
        subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
        async with await Log.open(folder) as log:
            assert log.position == (0 if state == "new" else 5)
    finally:
        subprocess.run(["umount", mount], check=True)


async def test_storage_limits_are_in_force_and_locked(folder: Path) -> None:
    async with await Log.open(folder, Storage(memory="64MB", threads=1)) as log:
        answer = await log.query(
            "select name, value from duckdb_settings() where name in ('threads', 'lock_configuration', "
            "'enable_external_access', 'memory_limit') order by name",
            max_rows=9, max_bytes=9999, seconds=5,
        )  # fmt: skip
        assert answer.rows == [
            ["enable_external_access", "false"],
            ["lock_configuration", "true"],
            ["memory_limit", "61.0 MiB"],
            ["threads", "1"],
        ]
