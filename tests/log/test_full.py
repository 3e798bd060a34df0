"""A disk that fills up: the append that met it fails, what was acknowledged stays, and it heals by opening again."""

# ruff: noqa: ASYNC221 - a test may block

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter.errors import LogError, LogUnwritable
from agentos_jupyter.log import Log
from agentos_jupyter.records import NewEvent

LIMITED = """
import asyncio, json, os, pathlib, resource, sys
from agentos_jupyter.errors import AgentOSError, LogUnwritable
from agentos_jupyter.log import Log, Storage
from agentos_jupyter.records import NewEvent

async def main():
    folder, limit, how = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    log = await Log.open(folder, Storage(checkpoint="1MB"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    acknowledged, errors = 0, []
    for number in range(3000):
        try:
            if how == "blob" and number > 20:
                await log.blobs.put(bytes(limit + 1))
            else:
                await log.append("session/a", "any", [NewEvent("x", {"n": number, "text": os.urandom(2500).hex()})])
                acknowledged += 1
        except AgentOSError as error:
            errors.append([type(error).__name__, error.message])
            if len(errors) == 3:
                break
    try:
        readable = len(await log.read("session/a"))
    except LogUnwritable:  # DuckDB closes a database whose checkpoint failed
        readable = 0
    print(json.dumps([acknowledged, errors, readable]), flush=True)
    await log.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize("limit", [300_000, 900_000, 2_000_000, 5_000_000])
async def test_no_acknowledged_event_is_lost_when_no_file_may_grow(folder: Path, limit: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(limit), "append"], capture_output=True, text=True, timeout=50
    )
    acknowledged, errors, readable = json.loads(run.stdout)
    assert len(errors) == 3, run.stderr
    assert all(name == "LogUnwritable" and "is full" in text and "free some space" in text for name, text in errors)
    assert acknowledged > 0 and readable in (acknowledged, 0)
    async with await Log.open(folder) as log:
        assert log.position >= acknowledged
        assert await log.verify("session/a") == log.position
        assert [event.data["n"] for event in await log.read("session/a")][:acknowledged] == list(range(acknowledged))
        await log.append("session/a", log.head("session/a"), [NewEvent("x", {})])


async def test_a_blob_that_does_not_fit_is_refused_and_leaves_nothing(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), "900000", "blob"], capture_output=True, text=True, timeout=50
    )
    acknowledged, errors, _ = json.loads(run.stdout)
    assert acknowledged == 21 and [name for name, _ in errors] == ["LogUnwritable"] * 3
    assert list((folder / "blobs").iterdir()) == []
    async with await Log.open(folder) as log:
        assert log.position == 21


async def test_a_full_disk_is_said_and_heals_when_there_is_space(folder: Path) -> None:
    mount = folder.parent
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "x", mount]).returncode:
        pytest.skip("mounting a small disk takes root; the file size limit above is the unprivileged variant")
    try:
        ballast = mount / "ballast"
        log = await Log.open(folder)
        await log.append("session/a", "new", [NewEvent("x", {"n": 0})])
        ballast.write_bytes(bytes(3_000_000))
        acknowledged = 1
        with pytest.raises(LogUnwritable, match="is full"):
            while True:
                await log.append(
                    "session/a", "any", [NewEvent("x", {"n": acknowledged, "text": os.urandom(4000).hex()})]
                )
                acknowledged += 1
        ballast.unlink()
        with pytest.raises(LogUnwritable, match="open the workspace again"):
            await log.append("session/a", "any", [NewEvent("x", {})])
        await log.aclose()
        async with await Log.open(folder) as log:
            assert log.position >= acknowledged
            assert await log.verify("session/a") == log.position
            await log.append("session/a", "any", [NewEvent("x", {})])

        ballast.write_bytes(b"")
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        another = folder.parent / "another" / ".agentos"
        with pytest.raises(LogUnwritable, match="is full"):
            await Log.open(another)
        try:
            await (await Log.open(folder)).aclose()
        except LogError as error:
            assert isinstance(error, LogUnwritable)
        ballast.unlink()
        async with await Log.open(folder) as log:
            assert await log.verify("session/a") == log.position
        async with await Log.open(another) as log:
            assert log.position == 0
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
