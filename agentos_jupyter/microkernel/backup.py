"""Backups as the daemon makes them: a process of its own copies, while the log is held still for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentos_jupyter import paths
from agentos_jupyter.errors import BY_CODE, BackupRefused
from agentos_jupyter.log.backup import backups
from agentos_jupyter.log.backup.making import Job
from agentos_jupyter.log.migrations import MIGRATIONS

if TYPE_CHECKING:
    from agentos_jupyter.log import Log

_LONGEST = 16 << 20


async def make(log: Log, workspace: Path, target: Path, keep: int, seconds: float) -> dict[str, Any]:
    """Make a backup of a workspace into the folder `target`; what it came to (`log.backup.backups.Manifest`, and more).

    The log is held for at most `seconds`. Raises `BackupRefused`, and whatever is wrong with the log.
    """
    await asyncio.to_thread(backups.refuse_target, target, workspace)
    folder = backups.set_folder(target, workspace)
    job = Job(os.fspath(paths.state_dir(workspace)), os.fspath(workspace), os.fspath(folder), MIGRATIONS[-1][0], keep)
    async with _process() as maker:
        await maker.say(asdict(job))
        await maker.hear("ready")
        async with log.held() as held:
            await maker.say({"wal": held.wal, "position": held.last.position, "digest": held.last.digest})
            try:
                async with asyncio.timeout(seconds):
                    await maker.hear("copied")
            except TimeoutError:
                raise BackupRefused(
                    f"The log could not be copied to {target} within {seconds:g} s (limits.backup): use a faster disk."
                ) from None
        await maker.say({"held": True})
        done: dict[str, Any] = (await maker.hear("done"))["done"]
        return done


class _Maker:
    """Lines of JSON to and from the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the next `hear` tells why it has gone
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def hear(self, wanted: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        if "error" in said:
            raise BY_CODE[said["error"]["code"]](said["error"]["message"])
        if wanted not in said:
            raise BackupRefused("The process that makes the backup ended before it was whole: `agentos backup` again.")
        return said


@contextlib.asynccontextmanager
async def _process() -> AsyncIterator[_Maker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "agentos_jupyter.log.backup.making",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        limit=_LONGEST,
    )
    try:
        yield _Maker(process)
    finally:
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
