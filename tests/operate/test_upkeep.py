"""Upkeep removes what is past its time and nothing else, by hand and by itself, and tells of a disk that fills."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentos_jupyter
from agentos_jupyter import paths
from agentos_jupyter.log import Log
from agentos_jupyter.records import Event, NewEvent
from tests.jupyter.conftest import Notebook

from .conftest import Run

DAY = 86400.0


async def _append(workspace: Path, events: list[NewEvent]) -> None:
    async with await Log.open(paths.state_dir(workspace)) as log:
        for number, event in enumerate(events):
            await log.append(f"session/{number % 5}", "any", [event])


def append(workspace: Path, *events: NewEvent) -> None:
    asyncio.run(_append(workspace, list(events)))


async def _every(workspace: Path) -> list[Event]:
    async with await Log.open(paths.state_dir(workspace)) as log:
        return await log.since(0, 1_000_000)


def every_event(workspace: Path) -> list[Event]:
    return asyncio.run(_every(workspace))


def blob(workspace: Path, data: bytes, days: float) -> Path:
    """A blob that was put so many days ago."""
    name = hashlib.sha256(data).hexdigest()
    path = paths.state_dir(workspace) / "blobs" / name[:2] / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    return aged(path, days)


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


@pytest.fixture
def kept(workspace: Path) -> dict[str, Path]:
    """A state folder with something of everything."""
    state = paths.state_dir(workspace)
    append(workspace)
    whole = blob(workspace, b"the whole output", 400)
    inner = blob(workspace, b"a file of a snapshot", 400)
    manifest = blob(workspace, json.dumps({"files": [{"digest": f"sha256:{inner.name}"}]}).encode(), 400)
    named = [
        NewEvent("tool.result", {"full": f"sha256:{whole.name}"}),
        NewEvent("snapshot.taken", {"manifest": f"sha256:{manifest.name}"}),
    ]
    append(workspace, *named, *(NewEvent("x", {"n": n}) for n in range(40)))
    for name in ("runs", "damaged-1", "before-restore-1", "exports/mine", "exports/making-1", "restoring-1"):
        (state / name).mkdir()
    found = {
        "whole": whole,
        "inner": inner,
        "manifest": manifest,
        "unnamed": blob(workspace, b"nobody names this", 8),
        "young": blob(workspace, b"about to be named", 6),
        "old run": state / "runs" / "a.ipynb",
        "new run": state / "runs" / "b.ipynb",
        "old log": state / "service-gone.log",
        "damaged": state / "damaged-1" / "log.duckdb",
        "before": state / "before-restore-1" / "log.duckdb",
        "mine": state / "exports" / "mine" / "a.parquet",
        "half export": state / "exports" / "making-1" / "a.parquet",
        "half restore": state / "restoring-1" / "log.duckdb",
    }
    days = {"old run": 91, "new run": 89, "old log": 31}
    for name, path in found.items():
        if not path.exists():
            path.write_bytes(b"x" * 100)
            aged(path, days.get(name, 400))
    return found


def there(kept: dict[str, Path]) -> set[str]:
    return {name for name, path in kept.items() if path.exists()}


GARBAGE = {"unnamed", "half export", "half restore"}
PAST = {*GARBAGE, "old run", "old log"}


def test_maintain_removes_what_is_past_its_time_and_no_event(
    agentos: Run, workspace: Path, kept: dict[str, Path]
) -> None:
    before = every_event(workspace)
    said = agentos("maintain", "--dry-run").stdout
    assert "would remove 1 blobs that no event names, 17 B" in said
    assert "would order the rows of 42 new events" in said
    assert there(kept) == set(kept)
    done = agentos("maintain")
    assert done.returncode == 0, done.stderr
    assert there(kept) == set(kept) - PAST
    for name in ("damaged-1", "before-restore-1", "exports/mine"):
        assert f"yours to delete, when you need it no more: {paths.state_dir(workspace) / name}, 100 B" in done.stdout
    assert "ordered the rows of 42 new events by session" in done.stdout
    again = json.loads(agentos("maintain", "--json").stdout)
    assert again["removed"] == [] and again["ordered"] == 0
    agentos("stop")
    assert every_event(workspace) == before


def test_gc_removes_only_what_nobody_can_miss(agentos: Run, workspace: Path, kept: dict[str, Path]) -> None:
    dead = paths.runtime_dir() / f"{secrets.token_hex(8)}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    aged(dead, 1)
    assert "would remove the socket" in agentos("gc", "--dry-run").stdout
    assert there(kept) == set(kept) and dead.exists()
    assert "removed 1 blobs that no event names, 17 B" in agentos("gc").stdout
    assert there(kept) == set(kept) - GARBAGE
    assert not dead.exists()
    assert paths.socket_path(workspace).exists(), "a daemon listens there"


def test_how_long_things_are_kept_is_said_in_agentos_yaml(
    agentos: Run, workspace: Path, kept: dict[str, Path], configure: Callable[..., Path]
) -> None:
    configure(limits={"keep_blobs": "30d", "keep_runs": "88d", "keep_logs": "1000d"})
    agentos("maintain")
    assert there(kept) == set(kept) - {"half export", "half restore", "old run", "new run"}


def test_what_is_put_again_counts_as_young(agentos: Run, workspace: Path, kept: dict[str, Path]) -> None:
    with contextlib.closing(agentos_jupyter.connect(workspace)) as link:
        chunk = base64.b64encode(b"nobody names this").decode()
        link.call("content.put", {"upload": secrets.token_hex(8), "base64": chunk, "last": True})
        agentos("gc")
        assert kept["unnamed"].exists()


def test_the_daemon_keeps_order_by_itself_when_nobody_works(
    agentos: Run, workspace: Path, kept: dict[str, Path], configure: Callable[..., Path]
) -> None:
    before = every_event(workspace)
    configure(limits={"look": "200ms", "upkeep": "1s", "cluster": 10})
    agentos("start")
    deadline = time.monotonic() + 20
    notes = paths.state_dir(workspace) / "upkeep.json"
    while time.monotonic() < deadline and not (notes.exists() and json.loads(notes.read_text()).get("ordered")):
        time.sleep(0.1)
    assert json.loads(notes.read_text())["ordered"] == 42
    assert there(kept) == set(kept) - PAST
    agentos("stop")
    assert every_event(workspace) == before
    assert "42 events ordered" in agentos("log", "--daemon", "-n", "50").stdout


def test_rows_are_not_ordered_without_room(
    agentos: Run, workspace: Path, kept: dict[str, Path], configure: Callable[..., Path]
) -> None:
    configure(limits={"disk_low": "900T"})
    done = agentos("maintain")
    assert done.returncode == 0
    assert "the rows were not ordered: that needs" in done.stdout


@pytest.fixture
def notebook(workspace: Path, configure: Callable[..., Path], script: Callable[..., str]) -> Iterator[Notebook]:
    configure(model=script([{"say": "Done."}]), limits={"disk_low": "900T", "look": "100ms"})
    opened = Notebook(workspace, {**os.environ, "AGENTOS_WORKSPACE": str(workspace)})
    yield opened
    opened.close()


def test_a_disk_that_is_nearly_full_is_told_once_in_a_cell(notebook: Notebook, agentos: Run, workspace: Path) -> None:
    sentence = "GB are free on the disk of"
    assert sentence in notebook.run("%status").text
    assert sentence in notebook.run("one").text
    assert sentence not in notebook.run("two").text
    assert sentence in agentos("status").stdout
    doctor = agentos("doctor")
    assert doctor.returncode == 1 and doctor.stdout.count(sentence) == 1
    assert sentence in agentos("log", "--daemon", "-n", "50").stdout


def test_upkeep_is_done_one_at_a_time(agentos: Run, workspace: Path, tmp_path: Path, kept: dict[str, Path]) -> None:
    async def two() -> list[Any]:
        from agentos_jupyter.rpc.link import Link

        link = await Link.open(workspace)
        try:
            calls = [link.call("storage.maintain", {}), link.call("storage.backup", {"folder": str(tmp_path)})]
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await link.aclose()

    done, refused = asyncio.run(two())
    assert done["ordered"] == 42
    assert "wait until it has ended" in str(refused)
