"""storage: what the workspace keeps on the disk, and its upkeep."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from agentos_jupyter import storage
from agentos_jupyter.errors import InvalidParams
from agentos_jupyter.microkernel.retention import summed
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace
from agentos_jupyter.microkernel.upkeep import Upkept

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Backup(Shape):
    """Where to (an absolute path; by default the folder of the person's config.yaml), and how many are kept."""

    folder: str | None = None
    keep: int | None = Field(None, ge=1)


class BackupInfo(Shape):
    """A backup: `made` is UTC, `position` its last event, `bytes` all it holds, `missing` the content that was damaged
    and the files that could not be read; `pruned` are older ones that were removed, `freed` their bytes."""

    backup: str
    made: str
    position: int
    blobs: int
    files: int
    bytes: int
    seconds: float
    missing: list[str] = Field(default_factory=list)
    pruned: list[str] = Field(default_factory=list)
    freed: int = 0


class LastBackup(Shape):
    """The last backup: `made` is UTC, `position` its last event."""

    backup: str
    made: str
    position: int
    bytes: int
    seconds: float


class Failure(Shape):
    """What kept the last backup from being made, and when (UTC)."""

    time: str
    message: str


class StorageInfo(Shape):
    """Bytes on the disk; `failed` is null when the last backup was made; `problems` are sentences."""

    log: int
    blobs: int
    other: int
    free: int
    backup: LastBackup | None
    failed: Failure | None
    problems: list[str]


class Keep(Shape):
    """With `dry` nothing is changed: what would be done is told."""

    dry: bool = False


class Removed(Shape):
    """Things of one kind (`content`, `runs`, `logs`, `cut off`): how many, their bytes, and the first names."""

    kind: str
    count: int
    bytes: int
    names: list[str]


class Kept(Shape):
    """Something that a person alone removes."""

    name: str
    bytes: int


class UpkeepInfo(Shape):
    """What upkeep came to: what was `removed`, what is `yours` to remove, how many events were `ordered`, or `why` not."""

    removed: list[Removed]
    yours: list[Kept]
    ordered: int
    why: str


def _told(done: Upkept) -> UpkeepInfo:
    removed = [
        Removed(kind=kind, count=count, bytes=size, names=names)
        for kind, (count, size, names) in summed(done.removed).items()
    ]
    yours = [Kept(name=each.name, bytes=each.bytes) for each in done.yours]
    return UpkeepInfo(removed=removed, yours=yours, ordered=done.ordered, why=done.why)


async def maintain(kernel: Microkernel, caller: Caller, params: Keep) -> UpkeepInfo:
    """Order the log's rows by session, make a checkpoint, and remove what is past its time (limits.keep_*); no event.

    Raises `backup.refused` while other upkeep is at work.
    """
    return _told(await kernel.upkeep.maintain(params.dry))


async def collect(kernel: Microkernel, caller: Caller, params: Keep) -> UpkeepInfo:
    """Remove what nobody can miss: content that no event names (after limits.keep_blobs), and what was cut off.

    Raises `backup.refused` while other upkeep is at work.
    """
    return _told(await kernel.upkeep.collect(params.dry))


class Export(Shape):
    """As which kind of file."""

    format: Literal["parquet", "jsonl"] = "parquet"


class ExportedFile(Shape):
    name: str
    rows: int
    bytes: int


class Exports(Shape):
    """The new folder, in `.agentos/exports`, and its files."""

    folder: str
    files: list[ExportedFile]


async def export(kernel: Microkernel, caller: Caller, params: Export) -> Exports:
    """Write the events and every view as files, all of one moment, into a new folder of the workspace's exports.

    Raises `backup.refused` while other upkeep is at work, `log.unwritable` when the disk is full.
    """
    made = await kernel.upkeep.export(params.format)
    files = [ExportedFile(name=each.path.name, rows=each.rows, bytes=each.bytes) for each in made]
    return Exports(folder=os.fspath(made[0].path.parent), files=files)


async def backup(kernel: Microkernel, caller: Caller, params: Backup) -> BackupInfo:
    """Make a backup of the log, all content and whatever else is state, while work goes on.

    Raises `backup.refused` for a folder within reach of an agent, without room, or not there.
    """
    folder = None if params.folder is None else Path(params.folder)
    if folder is not None and not folder.is_absolute():
        raise InvalidParams("storage.backup: folder is an absolute path.")
    made = await kernel.upkeep.back_up(folder, params.keep)
    return BackupInfo(**{name: value for name, value in made.items() if name in BackupInfo.model_fields})


async def get(kernel: Microkernel, caller: Caller, params: Empty) -> StorageInfo:
    """What the workspace takes on the disk, and its last backup."""
    facts = await asyncio.to_thread(storage.measure, kernel.workspace)
    problems = [kernel.upkeep.warning] if kernel.upkeep.warning else []
    return StorageInfo(
        log=facts.log,
        blobs=facts.blobs,
        other=facts.other,
        free=facts.free,
        backup=LastBackup(**facts.backup) if facts.backup else None,
        failed=Failure(**facts.failed) if facts.failed else None,
        problems=problems,
    )


CALLS = namespace("storage", writes=(backup, maintain, collect, export), reads=(get,))
