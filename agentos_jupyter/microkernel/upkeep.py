"""Upkeep: backups when they are due, a look at the free disk, and order in the log when nobody is at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentos_jupyter import config, storage
from agentos_jupyter.config import BackupSettings
from agentos_jupyter.errors import AgentOSError, BackupRefused
from agentos_jupyter.log import backups
from agentos_jupyter.microkernel import backup

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel
    from agentos_jupyter.microkernel.sessions import Caller

log = logging.getLogger(__name__)
NO_FOLDER = (
    "Name a folder for backups: `agentos backup FOLDER`, or write `backup: {folder: ~/backups, every: 1d, keep: 7}` into "
    "config.yaml of your configuration folder (agentos help backup)."
)


class Upkeep:
    """One piece of upkeep at a time; `warning` is the sentence about a disk that is nearly full."""

    def __init__(self, kernel: Microkernel) -> None:
        self._kernel = kernel
        self._one = asyncio.Lock()
        self._told: weakref.WeakSet[Caller] = weakref.WeakSet()
        self._tried = 0.0
        self._began = time.monotonic()
        self.warning: str | None = None

    @property
    def busy(self) -> bool:
        return self._one.locked()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nothing else is kept up meanwhile. Raises `BackupRefused` when something is."""
        if self._one.locked():
            raise BackupRefused("A backup or other upkeep is being done in this workspace: wait until it has ended.")
        async with self._one:
            yield

    async def run(self) -> None:
        """Until cancelled: look, do what is due, wait."""
        while True:
            for work in (self._look_at_disk, self._back_up_when_due):
                try:
                    await work()
                except (AgentOSError, OSError) as error:
                    log.error("upkeep: %s", error)
            await asyncio.sleep(self._kernel.limits().look)

    # -- the disk

    async def _look_at_disk(self) -> None:
        workspace = self._kernel.workspace
        free = (await asyncio.to_thread(shutil.disk_usage, workspace)).free
        before, self.warning = self.warning, storage.little(free, self._kernel.limits().disk_low, workspace)
        if self.warning is None:
            self._told.clear()
        elif before is None:
            log.warning("%s", self.warning)

    def news(self, caller: Caller) -> list[str]:
        """What a client should tell its person now; each told once to each client."""
        if self.warning is None or caller in self._told:
            return []
        self._told.add(caller)
        return [self.warning]

    # -- backups

    async def back_up(self, folder: Path | None, keep: int | None) -> dict[str, Any]:
        """Make a backup, into the folder of the person's configuration when none is named."""
        settings = await asyncio.to_thread(config.user_backup)
        target = folder or (settings.target if settings else None)
        if target is None:
            raise BackupRefused(NO_FOLDER)
        if keep is None and settings is not None and target == settings.target:
            keep = settings.keep
        return await self._back_up(target, keep or 0)

    async def _back_up(self, target: Path, keep: int) -> dict[str, Any]:
        kernel = self._kernel
        async with self.alone():
            try:
                made = await backup.make(kernel.log, kernel.workspace, target, keep, kernel.limits().backup)
            except AgentOSError as error:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                storage.note(kernel.workspace, failed={"time": now, "message": error.message})
                raise
        noted = {name: made[name] for name in ("backup", "made", "position", "bytes", "seconds")}
        storage.note(kernel.workspace, backup=noted, failed=None)
        log.info("backup: %s, up to event %s, in %s s", made["backup"], made["position"], made["seconds"])
        return made

    async def _back_up_when_due(self) -> None:
        settings = await asyncio.to_thread(config.user_backup)
        if settings is None or settings.every is None or self._one.locked():
            return
        due = await asyncio.to_thread(self._due, settings, settings.every)
        if due and (not self._tried or time.monotonic() - self._tried > self._kernel.limits().look):
            self._tried = time.monotonic()
            await self._back_up(settings.target, settings.keep or 0)

    def _due(self, settings: BackupSettings, every: float) -> bool:
        """Whether the newest backup is older than `every`; one from the future (the clock was set back) counts from the
        start of this process, by a clock that nobody sets."""
        newest = backups.newest(backups.set_folder(settings.target, self._kernel.workspace))
        if newest is None:
            return True
        age = time.time() - datetime.fromisoformat(newest[1].made).timestamp()
        return (age if age >= 0 else time.monotonic() - self._began) >= every
