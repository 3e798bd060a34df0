"""The daemon: one per workspace, there when it is needed, gone when it is not, and clear about what keeps it from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

import agentos_jupyter
from agentos_jupyter import paths
from agentos_jupyter.errors import (
    ConfigError,
    ConnectionLost,
    DaemonUnavailable,
    LogTooNew,
    LogUnwritable,
    WorkspaceBusy,
    WorkspaceUntrusted,
)
from agentos_jupyter.rpc.link import Link
from agentos_jupyter.rpc.sync import SyncLink


def owner(workspace: Path) -> int:
    """The process that the lock names."""
    return int(json.loads((workspace / ".agentos" / "lock").read_text())["pid"])


def gone(pid: int, seconds: float = 10) -> bool:
    """Whether the process ends in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def daemons(workspace: Path) -> list[int]:
    """Every daemon process of the workspace."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                if b"agentos_jupyter.microkernel.daemon" in command and os.fsencode(workspace) in command:
                    found.append(int(folder.name))
    return found


# -- coming and going


def test_twenty_clients_that_start_at_once_share_one_daemon(workspace: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        links = list(pool.map(lambda _: SyncLink(workspace), range(20)))
    pids = {link.call("system.info")["pid"] for link in links}
    assert pids == {owner(workspace)}
    deadline = time.monotonic() + 10
    while daemons(workspace) != list(pids):
        assert time.monotonic() < deadline, "a daemon too many"
        time.sleep(0.05)
    for link in links:
        link.close()


@pytest.mark.slow
def test_twenty_processes_that_start_at_once_share_one_daemon(workspace: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from agentos_jupyter.rpc.sync import SyncLink;"
        "print(SyncLink(Path(sys.argv[1])).call('system.info')['pid'])"
    )
    clients = [
        subprocess.Popen([sys.executable, "-c", code, str(workspace)], stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    pids = {client.communicate(timeout=50)[0].strip() for client in clients}
    assert pids == {str(owner(workspace))}


def test_a_second_owner_is_told_who_owns_the_workspace(workspace: Path) -> None:
    with SyncLink(workspace), pytest.raises(WorkspaceBusy, match=rf"process {owner(workspace)} .*connect\(\)"):
        agentos_jupyter.open(workspace)


def test_an_in_process_owner_excludes_a_second_one_and_serves_its_socket(workspace: Path) -> None:
    with agentos_jupyter.open(workspace) as mine:
        with pytest.raises(WorkspaceBusy, match=f"process {os.getpid()}"):
            agentos_jupyter.open(workspace)
        with SyncLink(workspace) as link:
            assert link.call("system.info")["pid"] == os.getpid()
        assert mine.client.system.info()["pid"] == os.getpid()
    with agentos_jupyter.open(workspace):
        pass
    assert daemons(workspace) == []


def test_a_daemon_that_nobody_needs_stops_by_itself(workspace: Path, configure: Any) -> None:
    configure(limits={"daemon_idle": "1s"})
    with SyncLink(workspace) as link:
        pid = link.call("system.info")["pid"]
        time.sleep(1.5)
        assert link.call("system.info")["pid"] == pid
    assert gone(pid)
    assert not paths.socket_path(workspace).exists()
    with pytest.raises(DaemonUnavailable):
        SyncLink(workspace, start=False)


def test_a_daemon_with_no_idle_time_at_all_can_still_be_reached(workspace: Path, configure: Any) -> None:
    configure(limits={"daemon_idle": 0})
    for _ in range(3):
        with SyncLink(workspace) as link:
            assert link.call("system.info")["workspace"] == str(workspace)


def test_a_dispatch_that_is_kept_for_its_unit_keeps_the_daemon_up(workspace: Path, configure: Any, script: Any) -> None:
    configure(limits={"daemon_idle": "1s", "lease": "3s"}, model=script([{"say": "ok"}]))
    with SyncLink(workspace) as link:
        pid = link.call("system.info")["pid"]
        session = link.client.session.create(key="k" * 8)["id"]
        link.client.dispatch.begin(session=session, prompt="hi", key="k" * 9)
    assert not gone(pid, 2)
    assert gone(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_daemon_in_order(workspace: Path, number: signal.Signals) -> None:
    with SyncLink(workspace) as link:
        link.client.session.create(key="k" * 8, name="kept")
        pid = owner(workspace)
        os.kill(pid, number)
        assert gone(pid)
    assert not paths.socket_path(workspace).exists()
    assert "stopping" in (workspace / ".agentos" / "daemon.log").read_text()
    with SyncLink(workspace) as link:
        assert link.client.session.get(session="kept")["name"] == "kept"


def test_after_kill_9_the_stale_socket_is_replaced_and_nothing_is_lost(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        link.client.session.create(key="k" * 8, name="kept")
        pid = owner(workspace)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            link.call("system.info")
    assert gone(pid)
    assert paths.socket_path(workspace).exists()
    with SyncLink(workspace) as link:
        assert link.client.session.get(session="kept")["name"] == "kept"
        assert link.call("system.info")["pid"] != pid


def test_the_services_of_a_killed_daemon_end_with_it(workspace: Path, configure: Any, script: Any) -> None:
    configure(model=script([{"say": "ok"}]))
    with SyncLink(workspace) as link:
        assert link.call("system.health")["ok"]
        pid = owner(workspace)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert children
        os.kill(pid, signal.SIGKILL)
    assert all(gone(int(child)) for child in children)


def test_a_socket_file_of_nobody_does_no_harm(workspace: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(os.fspath(paths.socket_path(workspace)))
    stale.close()
    with SyncLink(workspace) as link:
        assert link.call("system.info")["workspace"] == str(workspace)


@pytest.mark.slow
def test_a_daemon_whose_folder_was_removed_stops(workspace: Path) -> None:
    with SyncLink(workspace):
        pid = owner(workspace)
    (workspace / ".agentos").rename(workspace / "elsewhere")
    assert gone(pid, 15)
    with SyncLink(workspace) as link:
        assert link.call("session.list")["sessions"] == []


def test_starting_and_stopping_leaves_no_process_and_no_zombie(workspace: Path) -> None:
    for _ in range(3):
        with SyncLink(workspace) as link:
            pid = owner(workspace)
            link.call("system.shutdown")
        assert gone(pid)
    assert daemons(workspace) == []
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "stat="], capture_output=True, text=True)
    assert not [each for each in children.stdout.split() if each.startswith("Z")]


def test_a_stopped_service_does_not_outlive_a_daemon_that_is_killed(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        assert link.call("system.health")["ok"]
        pid = owner(workspace)
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    [service] = [int(each) for each in listed if "aos_sdk" in Path(f"/proc/{each}/cmdline").read_text()]
    os.kill(service, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid) and gone(service)


async def test_a_daemon_stops_although_somebody_follows_and_subscribes(workspace: Path) -> None:
    link = await Link.open(workspace)
    listening = [asyncio.create_task(link.call("event.subscribe", {})) for _ in range(3)]
    await asyncio.sleep(0.1)
    pid = owner(workspace)
    with SyncLink(workspace) as other:
        other.call("system.shutdown")
    assert await asyncio.to_thread(gone, pid, 5)
    await link.aclose()
    for each in listening:
        each.cancel()
    await asyncio.gather(*listening, return_exceptions=True)


# -- what is private


def test_everything_a_daemon_makes_is_private_to_its_owner(workspace: Path) -> None:
    os.umask(before := os.umask(0))
    os.umask(0)
    try:
        with SyncLink(workspace) as link:
            link.client.session.create(key="k" * 8)
            link.call("content.put", {"upload": "u" * 8, "base64": "aGk=", "last": True})
            assert link.call("system.health")["ok"]
            found = [workspace / ".agentos", *(workspace / ".agentos").rglob("*")]
            found += [paths.socket_path(workspace), paths.runtime_dir()]
            for path in found:
                mode = stat.S_IMODE(path.lstat().st_mode)
                assert not mode & 0o077, f"{path} {mode:o}"
    finally:
        os.umask(before)
    assert (workspace / ".agentos" / ".gitignore").read_text() == "*\n"


def test_the_daemon_does_not_import_from_the_workspace(workspace: Path) -> None:
    for name in ("duckdb", "yaml", "pydantic", "aiohttp", "sitecustomize"):
        (workspace / f"{name}.py").write_text("raise SystemExit('imported from the workspace')")
    before = os.getcwd()
    os.chdir(workspace)
    try:
        with SyncLink(workspace) as link:
            assert link.call("system.health")["ok"]
    finally:
        os.chdir(before)


# -- what keeps it from starting


def test_an_unreadable_agentos_yaml_reaches_the_client_with_file_line_and_cure(workspace: Path) -> None:
    (workspace / "agentos.yaml").write_text("model: x\nlimits:\n  turns: many\n")
    with pytest.raises(ConfigError, match=r"agentos\.yaml:3:\d+: .*'turns'.*50 or 400k"):
        SyncLink(workspace)
    (workspace / "agentos.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"agentos\.yaml:\d+:\d+"):
        SyncLink(workspace)
    (workspace / "agentos.yaml").write_text("providers:\n  x: {base_url: http://x/v1}\n")
    with pytest.raises(WorkspaceUntrusted, match=r"agentos\.yaml:1:1: .*AGENTOS_TRUST=1"):
        SyncLink(workspace)
    (workspace / "agentos.yaml").write_text("")
    with SyncLink(workspace) as link:
        assert link.call("system.health")["ok"]
    assert daemons(workspace) == [owner(workspace)] or daemons(workspace) == []


async def test_a_link_is_told_the_same(workspace: Path) -> None:
    (workspace / "agentos.yaml").write_text("colour: red\n")
    with pytest.raises(ConfigError, match=r"agentos\.yaml:1:1: no key named 'colour'"):
        await Link.open(workspace)


def test_a_newer_database_is_refused_with_one_sentence(workspace: Path) -> None:
    with SyncLink(workspace) as link:
        link.client.session.create(key="k" * 8)
        pid = owner(workspace)
        link.call("system.shutdown")
    assert gone(pid)
    with duckdb.connect(str(workspace / ".agentos" / "log.duckdb")) as con:
        tables = [row[0] for row in con.execute("select table_name from duckdb_tables()").fetchall()]
        [table] = [each for each in tables if each != "events"]
        columns = [
            row[0]
            for row in con.execute(f"select column_name from duckdb_columns() where table_name='{table}'").fetchall()
        ]
        con.execute(
            f"insert into {table} select * replace ('999-from-the-future' as {_name(columns)}) from {table} limit 1"
        )
    with pytest.raises(LogTooNew):
        SyncLink(workspace)


def _name(columns: list[str]) -> str:
    return next(each for each in columns if each in ("name", "migration"))


def test_a_file_that_is_no_database_is_refused_and_kept(workspace: Path) -> None:
    folder = workspace / ".agentos"
    folder.mkdir(mode=0o700)
    (folder / "log.duckdb").write_bytes(b"this is my diary" * 1000)
    with pytest.raises(Exception, match=r"log\.duckdb") as error:
        SyncLink(workspace)
    assert getattr(error.value, "code", "").startswith("log.")
    assert (folder / "log.duckdb").read_bytes() == b"this is my diary" * 1000


def mounted(folder: Path, size: str) -> Path:
    """A workspace on a small disk of its own, which whoever asked unmounts."""
    folder.mkdir()
    options = f"size={size},mode=700"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    (folder / "w").mkdir()
    return folder / "w"


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_read_only_workspace_is_one_sentence_with_the_cure(base: Path) -> None:
    workspace = mounted(base / "fixed", "1m")
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(base / "fixed")], check=True)
        with pytest.raises(
            LogUnwritable, match=r"The state folder .*Read-only.*free space or rights there, or work elsewhere"
        ):
            SyncLink(workspace)
        with pytest.raises(LogUnwritable):
            agentos_jupyter.open(workspace)
    finally:
        unmount(base / "fixed")


@pytest.fixture
def small_disk(base: Path) -> Iterator[Path]:
    """A workspace on a disk of 6 MB."""
    yield mounted(base / "disk", "6m")
    unmount(base / "disk")


@pytest.mark.slow
def test_a_full_disk_is_said_and_what_was_acknowledged_is_there_afterwards(small_disk: Path) -> None:
    names = []
    with contextlib.suppress(ConnectionLost), SyncLink(small_disk) as link, pytest.raises(LogUnwritable):
        for number in range(2000):
            link.client.session.create(key=f"key-number-{number}", name=f"{number} " + "x" * 190)
            names.append(number)
            if number == 5:
                free = os.statvfs(small_disk)
                (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_bsize - 100_000))
    assert 5 < len(names) < 2000
    assert gone(owner(small_disk))
    (small_disk / "filler").unlink()
    with SyncLink(small_disk) as link:
        stored = {int(each["name"].split()[0]) for each in link.client.session.list(limit=1000)["sessions"]}
        assert set(names) <= stored
        link.client.session.create(key="after-all", name="again")
        link.call("system.shutdown")
    assert gone(owner(small_disk))


def test_a_disk_that_is_full_from_the_start_is_said(small_disk: Path) -> None:
    free = os.statvfs(small_disk)
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_bsize))
    with pytest.raises(LogUnwritable):
        SyncLink(small_disk)
