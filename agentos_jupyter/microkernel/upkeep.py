"""Upkeep: backups when they are due, a look at the free disk, and order in the log when nobody is at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentos_jupyter import config, paths, storage
from agentos_jupyter.config import BackupSettings
from agentos_jupyter.errors import AgentOSError, BackupRefused
from agentos_jupyter.limits import Limits
from agentos_jupyter.log import forgetting
from agentos_jupyter.log.backup import backups
from agentos_jupyter.log.exporting import Exported, Format
from agentos_jupyter.microkernel import backup, retention
from agentos_jupyter.microkernel.retention import Find

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel
    from agentos_jupyter.microkernel.sessions import Caller

log = logging.getLogger(__name__)
NO_FOLDER = (
    "Name a folder for backups: `agentos backup FOLDER`, or write `backup: {folder: ~/backups, every: 1d, keep: 7}` into "
    "config.yaml of your configuration folder (agentos help backup)."
)


@dataclass(frozen=True, slots=True)
class Upkept:
    """What upkeep came to: what was removed, what is a person's to remove, how many events were ordered, or why not."""

    removed: list[Find]
    yours: list[Find]
    ordered: int
    why: str


class Upkeep:
    """One piece of upkeep at a time; `warning` is the sentence about a disk that is nearly full."""

    def __init__(self, kernel: Microkernel) -> None:
        self._kernel = kernel
        self._one = asyncio.Lock()
        self._told: weakref.WeakSet[Caller] = weakref.WeakSet()
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
        await self._try(lambda: forgetting.carry_out(self._kernel.log))
        while True:
            await self._try(self._look_at_disk)
            await self._try(self._back_up_when_due)
            await asyncio.sleep(self._kernel.limits().look)
            await self._try(self._maintain_when_due)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """What fails is logged, and tried again at the next look."""
        try:
            await work()
        except (AgentOSError, OSError) as error:
            log.error("upkeep: %s", error)

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

    # -- order

    async def maintain(self, dry: bool = False, least: int = 1) -> Upkept:
        """Order the rows when `least` events came since, make a checkpoint, and remove what is past its time."""
        kernel = self._kernel
        async with self.alone():
            removed = await self._removed(dry, retention.old)
            since = self._unordered()
            ordered, why = (0, "") if since < least else (since, self._no_room())
            if ordered and not dry and not why:
                until = kernel.log.position
                await kernel.log.order()
                storage.note(kernel.workspace, ordered=until)
            elif not dry:
                await kernel.log.checkpoint()
            if not dry:
                storage.note(kernel.workspace, maintained=time.time())
            mine = await asyncio.to_thread(retention.yours, paths.state_dir(kernel.workspace))
        return Upkept(removed, mine, 0 if why else ordered, why)

    async def collect(self, dry: bool = False) -> Upkept:
        """Remove only what nobody can miss: content that no event names, and what was cut off."""
        async with self.alone():
            return Upkept(await self._removed(dry), [], 0, "")

    async def export(self, kind: Format) -> list[Exported]:
        """Write the events and every view as files into the state folder's `exports/`."""
        async with self.alone():
            return await self._kernel.log.export(kind)

    async def _removed(self, dry: bool, *more: Callable[[Path, Limits], Iterable[tuple[str, Path]]]) -> list[Find]:
        kernel, limits = self._kernel, self._kernel.limits()
        state = paths.state_dir(kernel.workspace)
        if not dry:
            await kernel.log.tidy()
        blobs = [Find("content", *each) for each in await kernel.log.collect(limits.keep_blobs, dry)]

        def files() -> list[Find]:
            return retention.remove(
                [*retention.cut_off(state), *(each for old in more for each in old(state, limits))], dry
            )

        return blobs + await asyncio.to_thread(files)

    def _unordered(self) -> int:
        """Events since the rows were last ordered; all, where the note is of another log."""
        position, ordered = self._kernel.log.position, storage.notes(self._kernel.workspace).get("ordered", 0)
        return position - ordered if isinstance(ordered, int) and 0 <= ordered <= position else position

    def _no_room(self) -> str:
        """Why the rows cannot be ordered; empty when they can."""
        kernel = self._kernel
        need = kernel.log_bytes() + kernel.limits().disk_low
        free = shutil.disk_usage(kernel.workspace).free
        if free >= need:
            return ""
        return f"the rows were not ordered: that needs {need / 1e9:.2f} GB and {free / 1e9:.2f} GB are free"

    async def _maintain_when_due(self) -> None:
        kernel, limits = self._kernel, self._kernel.limits()
        last = storage.notes(kernel.workspace).get("maintained", 0)
        due = not isinstance(last, int | float) or not 0 <= time.time() - last < limits.upkeep
        if due and not kernel.at_work and not self._one.locked():
            done = await self.maintain(least=limits.cluster)
            log.info("upkeep: %s events ordered, %s things removed %s", done.ordered, len(done.removed), done.why)

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
        if due:
            await self._back_up(settings.target, settings.keep or 0)

    def _due(self, settings: BackupSettings, every: float) -> bool:
        """Whether the newest backup is older than `every`; one from the future (the clock was set back) counts from the
        start of this process, by a clock that nobody sets."""
        newest = backups.newest(backups.set_folder(settings.target, self._kernel.workspace))
        if newest is None:
            return True
        age = time.time() - datetime.fromisoformat(newest[1].made).timestamp()
        return (age if age >= 0 else time.monotonic() - self._began) >= every
