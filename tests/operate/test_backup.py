"""Backups of a workspace at work, and their way back: whole, checked, and never over what is there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentos_jupyter
from agentos_jupyter import paths
from agentos_jupyter.log import Log
from agentos_jupyter.log.backup import backups
from agentos_jupyter.records import Event, NewEvent

from .conftest import Run

Made = dict[str, Any]


def backup(agentos: Run, target: Path, *more: str) -> Made:
    done = agentos("backup", str(target), "--json", *more)
    assert done.returncode == 0, done.stderr
    made: Made = json.loads(done.stdout)
    return made


async def _every(workspace: Path) -> list[Event]:
    async with await Log.open(paths.state_dir(workspace)) as log:
        return await log.since(0, 1_000_000)


def every_event(workspace: Path) -> list[Event]:
    return asyncio.run(_every(workspace))


def put_blobs(workspace: Path, number: int, size: int) -> list[str]:
    """Blobs as the daemon writes them."""
    digests = []
    for _ in range(number):
        data = os.urandom(size)
        name = hashlib.sha256(data).hexdigest()
        path = paths.state_dir(workspace) / "blobs" / name[:2] / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        digests.append("sha256:" + name)
    return digests


@pytest.fixture
def load(workspace: Path) -> Iterator[Callable[[float], list[list[str]]]]:
    """Lets a client work for so many seconds; what was acknowledged until then. It goes on until the test's end."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.operate.load", str(workspace)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stdout is not None
    os.set_blocking(worker.stdout.fileno(), False)
    told = b""

    def work(seconds: float) -> list[list[str]]:
        nonlocal told
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or told.count(b"\n") < 3:
            assert worker.stdout is not None
            told += worker.stdout.read() or b""
            time.sleep(0.02)
        return [json.loads(line) for line in told.split(b"\n")[:-1]]

    yield work
    worker.kill()
    worker.wait()
    worker.stdout.close()


def test_a_backup_under_load_holds_everything_acknowledged_before_it_began(
    agentos: Run, workspace: Path, target: Path, load: Callable[[float], list[list[str]]]
) -> None:
    told = load(1.0)
    made = backup(agentos, target)
    later = load(0.2)
    assert len(later) > len(told), "the client worked on"
    other = workspace / "elsewhere"
    done = agentos("restore", made["backup"], "--into", str(other))
    assert done.returncode == 0, done.stderr
    assert "every chain" in done.stdout
    events = {event.stream: event for event in every_event(other)}
    assert len(events) == made["position"]
    for session, name, digest in told:
        assert events[f"session/{session}"].data["name"] == name
        path = paths.state_dir(other) / "blobs" / digest[7:9] / digest[7:]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest[7:]


def test_only_what_is_new_is_copied_and_old_backups_go(agentos: Run, workspace: Path, target: Path) -> None:
    agentos("start")
    [first] = put_blobs(workspace, 1, 5000)
    (home := paths.state_dir(workspace) / "homes" / "a").mkdir(parents=True)
    (home / "notes").write_text("kept")
    (home / "way").symlink_to("/etc/passwd")
    (home / "notes").chmod(0o640)
    made = backup(agentos, target)
    pool = Path(made["backup"]).parent / "pool"
    before = {path: path.stat().st_mtime_ns for path in pool.glob("??/*")}
    assert len(before) == 2, "the blob and the note, not what the link leads to"
    [second] = put_blobs(workspace, 1, 5000)
    again = backup(agentos, target)
    after = {path: path.stat().st_mtime_ns for path in pool.glob("??/*")}
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after} - {path.name for path in before} == {second[7:]}
    (paths.state_dir(workspace) / "blobs" / first[7:9] / first[7:]).unlink()
    last = backup(agentos, target, "--keep", "1")
    assert sorted(last["pruned"]) == sorted([Path(made["backup"]).name, Path(again["backup"]).name])
    assert last["freed"] == 5000
    listed = json.loads(agentos("backup", "--list", "--json", str(target)).stdout)
    assert [each["backup"] for each in listed] == [last["backup"]]
    agentos("stop")
    done = agentos("restore", str(target))
    assert done.returncode == 0, done.stderr
    assert (home / "notes").read_text() == "kept"
    assert (home / "notes").stat().st_mode & 0o777 == 0o640
    assert os.readlink(home / "way") == "/etc/passwd"


def making(target: Path) -> Path:
    """The folder of a backup that is being made, once it copies blobs."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = list(target.glob("*/making-*"))
        if found and len(list(found[0].parent.glob("pool/??/*"))) > 20:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("no backup was begun")


@pytest.mark.parametrize("victim", ["maker", "daemon"])
def test_a_backup_that_was_killed_does_not_count(agentos: Run, workspace: Path, target: Path, victim: str) -> None:
    agentos("start")
    put_blobs(workspace, 1500, 30_000)
    client = subprocess.Popen(
        [sys.executable, "-m", "agentos_jupyter.cli", "backup", str(target)],
        cwd=workspace,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = making(target)
    lock = json.loads((paths.state_dir(workspace) / "lock").read_text())
    os.kill(int(folder.name[7:]) if victim == "maker" else int(lock["pid"]), signal.SIGKILL)
    _, said = client.communicate(timeout=30)
    assert client.returncode == 1
    assert "agentos: " in said and "Traceback" not in said
    assert not backups.whole(folder.parent)
    assert "No backup" in agentos("backup", "--list", str(target)).stdout
    with contextlib.suppress(OSError):
        os.kill(int(folder.name[7:]), signal.SIGKILL)  # else it would end by itself a little later
    made = backup(agentos, target)
    assert made["blobs"] == 1500
    assert not list(target.glob("*/making-*")) and not list(target.glob("*/pool/new-*"))


CORRUPTIONS = {
    "manifest.json": "manifest.json is not what was written",
    "contents.json": "contents.json is not what was written",
    "log.duckdb": "log.duckdb is not what was written",
    "pool": "is not what was written",
}


@pytest.mark.parametrize("part", CORRUPTIONS)
def test_a_damaged_backup_is_refused_and_nothing_is_changed(
    agentos: Run, workspace: Path, target: Path, part: str
) -> None:
    agentos("start")
    put_blobs(workspace, 1, 5000)
    session(workspace, "first")
    made = backup(agentos, target)
    folder = Path(made["backup"])
    path = next((folder.parent / "pool").glob("??/*")) if part == "pool" else folder / part
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    agentos("stop")
    before = every_event(workspace)
    done = agentos("restore", str(target))
    assert done.returncode == 1
    assert CORRUPTIONS[part] in done.stderr and "Traceback" not in done.stderr
    assert every_event(workspace) == before
    assert not list(paths.state_dir(workspace).glob("restoring-*"))


def session(workspace: Path, name: str) -> None:
    with contextlib.closing(agentos_jupyter.connect(workspace)) as link:
        link.call("session.create", {"key": f"key-of-{name}", "name": name})


def test_a_restore_moves_aside_what_was_there_and_can_be_undone(agentos: Run, workspace: Path, target: Path) -> None:
    session(workspace, "first")
    backup(agentos, target)
    session(workspace, "second")
    refused = agentos("restore", str(target))
    assert refused.returncode == 1 and "agentos stop" in refused.stderr
    agentos("stop")
    assert "before-restore-1" in agentos("restore", str(target)).stdout
    assert [event.data["name"] for event in every_event(workspace)] == ["first"]
    assert "before-restore-2" in agentos("restore", str(target)).stdout
    assert agentos("restore", "--undo").returncode == 0
    assert agentos("restore", str(target)).returncode == 0
    kept = sorted(path.name for path in paths.state_dir(workspace).glob("before-restore-*"))
    assert kept[:2] == ["before-restore-1", "before-restore-3"]
    shutil.rmtree(paths.state_dir(workspace) / "before-restore-4")
    shutil.rmtree(paths.state_dir(workspace) / "before-restore-3")
    assert agentos("restore", "--undo").returncode == 0
    assert [event.data["name"] for event in every_event(workspace)] == ["first", "second"]


def test_a_restore_that_was_killed_changed_nothing(agentos: Run, workspace: Path, target: Path) -> None:
    session(workspace, "first")
    put_blobs(workspace, 1500, 30_000)
    backup(agentos, target)
    session(workspace, "second")
    agentos("stop")
    before = every_event(workspace)
    client = subprocess.Popen([sys.executable, "-m", "agentos_jupyter.cli", "restore", str(target)], cwd=workspace)
    deadline = time.monotonic() + 20
    state = paths.state_dir(workspace)
    while len(list(state.glob("restoring-*/blobs/??/*"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    client.kill()
    client.wait()
    assert every_event(workspace) == before
    assert list(state.glob("restoring-*"))
    assert agentos("restore", str(target)).returncode == 0
    assert not list(state.glob("restoring-*"))
    assert [event.data["name"] for event in every_event(workspace)] == ["first"]


def test_a_restore_that_was_killed_between_its_renames_is_finished(agentos: Run, workspace: Path, target: Path) -> None:
    session(workspace, "first")
    backup(agentos, target)
    session(workspace, "second")
    agentos("stop")
    agentos("restore", str(target))
    paths.state_dir(workspace).rename(workspace / ".agentos-restored")  # as before the last rename
    assert agentos("restore", "--undo").returncode == 0
    assert [event.data["name"] for event in every_event(workspace)] == ["first", "second"]
    (workspace / ".agentos-restored").mkdir()
    assert "keep the one you need" in agentos("restore", str(target)).stderr


def test_where_a_backup_may_not_go(agentos: Run, workspace: Path, target: Path, tmp_path: Path) -> None:
    agentos("start")
    (inside := workspace / "backups").mkdir()
    (other := tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "agentos.yaml").write_text("")
    (tmp_path / "way").symlink_to(inside)
    for folder in (workspace, inside, tmp_path / "way", paths.state_dir(workspace) / "exports", other):
        done = agentos("backup", str(folder))
        assert done.returncode == 1 and "lies in the workspace" in done.stderr, folder
    assert "is not there" in agentos("backup", str(tmp_path / "no" / "such")).stderr
    assert "Name a folder" in agentos("backup").stderr
    [digest] = put_blobs(workspace, 1, 10)
    os.truncate(paths.state_dir(workspace) / "blobs" / digest[7:9] / digest[7:], 8 << 40)  # a hole of 8 TB
    done = agentos("backup", str(target))
    assert done.returncode == 1
    assert "needs 8796093.1 MB" in done.stderr and "free some space" in done.stderr


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_told(agentos: Run, workspace: Path, target: Path) -> None:
    agentos("start")
    (shut := paths.state_dir(workspace) / "homes" / "shut").mkdir(parents=True)
    (shut / "a").write_text("x")
    shut.chmod(0)
    done = agentos("backup", str(target))
    shut.chmod(0o700)
    assert done.returncode == 1 and "homes/shut (Permission denied)" in done.stdout


def test_a_damaged_blob_is_told_and_the_rest_is_kept(agentos: Run, workspace: Path, target: Path) -> None:
    agentos("start")
    digests = put_blobs(workspace, 3, 1000)
    (paths.state_dir(workspace) / "blobs" / digests[1][7:9] / digests[1][7:]).write_bytes(b"x" * 1000)
    done = agentos("backup", str(target))
    assert done.returncode == 1
    assert digests[1] in done.stdout and "2 blobs" in done.stdout


def planted(digest: str) -> backups.Contents:
    return backups.Contents({digest: 1}, ())


def files(*paths: str) -> backups.Contents:
    return backups.Contents({}, tuple(backups.File(path, 0o40755) for path in paths))


OUTSIDE = [backups.File("way", 0o120777, link=".."), backups.File("way/planted", 0o120777, link="/etc")]
EVIL = {
    "a path upwards": (files("../../planted"), "it names the path"),
    "an absolute path": (files("/tmp/planted"), "it names the path"),
    "a path down and up": (files("a/../../../planted"), "it names the path"),
    "a link behind a link": (backups.Contents({}, tuple(OUTSIDE)), "it lies behind a link"),
    "a digest that is a path": (planted("sha256:../../../planted"), "it names the digest"),
}


@pytest.mark.parametrize("how", EVIL)
def test_a_restored_backup_cannot_write_outside(agentos: Run, target: Path, tmp_path: Path, how: str) -> None:
    """Whoever can write a backup may choose what it says: nothing of it leads out."""
    agentos("start")
    folder = Path(backup(agentos, target)["backup"])
    (folder.parent.parent / "planted").write_text("x")
    manifest = backups.read(folder)
    (folder / "contents.json").unlink()
    (folder / "manifest.json").unlink()
    contents, said = EVIL[how]
    parts = {**manifest.parts, "contents.json": backups.write_contents(folder, contents)}
    backups.write(folder, backups.Manifest(**{**_fields(manifest), "parts": parts}))
    done = agentos("restore", str(folder), "--into", str(tmp_path / "into"))
    assert done.returncode == 1 and said in done.stderr
    assert not list((tmp_path / "into").rglob("planted"))


def _fields(manifest: backups.Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}


def test_the_daemon_makes_backups_when_they_are_due_and_tells_when_it_cannot(
    agentos: Run, workspace: Path, target: Path, tmp_path: Path, configure: Callable[..., Path]
) -> None:
    configure(limits={"look": "200ms"})
    (tmp_path / "agentos").mkdir()
    settings = tmp_path / "agentos" / "config.yaml"
    settings.write_text(f"backup: {{folder: {target}, every: 1s, keep: 2}}\n")
    agentos("start")
    place = backups.set_folder(target, workspace)
    deadline = time.monotonic() + 30
    names: set[str] = set()
    while len(names) < 4 and time.monotonic() < deadline:
        names |= {path.name for path in backups.whole(place)}
        time.sleep(0.05)
    assert len(names) >= 4
    assert len(backups.whole(place)) <= 3, "two are kept, and one may be new"
    target.rename(tmp_path / "unplugged")
    while not json.loads(agentos("status", "--json").stdout)["storage"]["failed"] and time.monotonic() < deadline:
        time.sleep(0.1)
    told = json.loads(agentos("status", "--json").stdout)["storage"]
    assert "is not there" in told["failed"]["message"]
    assert told["backup"]["backup"].startswith(str(place))
    assert "is not there" in agentos("status").stdout
    assert "is not there" in agentos("doctor").stdout
    settings.write_text("backup: {folder: backups}\n")
    assert "written from / or ~ on" in agentos("backup").stderr
    assert "written from / or ~ on" in agentos("doctor").stdout


async def test_no_checkpoint_is_made_while_the_log_is_held(tmp_path: Path) -> None:
    from agentos_jupyter.log import Storage

    async with await Log.open(tmp_path / "state", Storage(checkpoint="1MB")) as log:
        await log.append("s/1", "any", [NewEvent("x", {"text": "x" * 300_000})])
        async with log.held() as held:
            for _ in range(10):
                await log.append("s/1", "any", [NewEvent("x", {"text": "x" * 500_000})])
            await asyncio.sleep(2.5)  # longer than the quiet spell after which a checkpoint is made
            wal = (tmp_path / "state" / "log.duckdb.wal").stat().st_size
            assert wal > 5_000_000 > held.wal
            assert held.last.position == 1
        await log.append("s/1", "any", [NewEvent("x", {"text": "x" * 500_000})])
        deadline = time.monotonic() + 10
        while (tmp_path / "state" / "log.duckdb.wal").exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert not (tmp_path / "state" / "log.duckdb.wal").exists()
