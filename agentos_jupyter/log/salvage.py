"""Salvage: a damaged log goes on with every whole event up to the damage; what is lost is said and is a fact of the log.

The damaged files are kept aside whole. The new log is made beside the damaged one and takes its place when it is whole, so
a salvage that is killed is simply made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.log.failure import explain
from agentos_jupyter.log.log import Log
from agentos_jupyter.log.mark import Mark, MarkFile, read_mark
from agentos_jupyter.log.migrations import applied, check, migrate
from agentos_jupyter.log.opening import DATABASE, MARK, WAL, keep_aside
from agentos_jupyter.log.rows import COLUMNS
from agentos_jupyter.log.whole import Whole, readable_copy
from agentos_jupyter.records import NewEvent

STREAM = "system/log"
"""Where the log keeps the facts about itself."""

WORK = "salvage"


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Events 1 to `kept` are whole, `damage` is what is wrong behind them (empty: nothing), `acknowledged` was the last
    one promised (0: unknown), `foreign` that the log holds another event there, `last` names the last one kept, and
    `copy` is the folder within the state folder that holds the damaged files."""

    kept: int
    acknowledged: int
    damage: str
    foreign: bool = False
    last: str = ""
    copy: str = ""


async def salvage(folder: Path, look: bool = False) -> Salvaged:
    """Put what is whole of the log in the state folder `folder` in its place; with `look`, only find it.

    The caller owns the workspace's lock. A log that is whole is left as it is. Raises `LogDamaged` when nothing can be
    read, `LogTooNew`, `LogUnwritable`; nothing is changed then.
    """
    work = folder / WORK
    try:
        found = await asyncio.to_thread(_find, folder, work)
        if look or not found.damage:
            return found
        found = replace(found, copy=(await asyncio.to_thread(keep_aside, folder)).name)
        async with await Log.open(work / "new") as log:
            await log.append(STREAM, "any", [NewEvent("log.salvaged", asdict(found), "system")])
        await asyncio.to_thread(_put_in_place, work / "new", folder)
        return found
    except (duckdb.Error, OSError) as error:
        raise explain(error, folder / DATABASE) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


def told(found: Mapping[str, Any]) -> str:
    """What a person must know of a salvage, from the data of its event."""
    last = f", the last is {found['last']}" if found["last"] else ""
    whole = f"events 1 to {found['kept']} are whole{last}" if found["kept"] else "no event is whole"
    return f"{found['damage'][:1].upper()}{found['damage'][1:]}; {whole}; {lost(found)}."


def lost(found: Mapping[str, Any]) -> str:
    """What a salvage cost, in a few words."""
    kept, acknowledged = found["kept"], found["acknowledged"]
    if not acknowledged:
        return f"how many are lost is not known, because {MARK} is unreadable"
    if acknowledged > kept:
        return f"of {acknowledged} acknowledged events {acknowledged - kept} are lost: {kept + 1} to {acknowledged}"
    if found["foreign"]:
        return f"event {acknowledged} is not the one that was acknowledged, so this is another history"
    return "no acknowledged event is lost"


async def salvages(log: Log) -> list[str]:
    """What this log lost in its life, a sentence for each salvage."""
    return [
        f"{event.time:%Y-%m-%d %H:%M} UTC: {lost(event.data)} (the damaged files are in {log.folder.name}/{event.data['copy']})"
        for event in await log.read(STREAM)
        if event.type == "log.salvaged"
    ]


def _find(folder: Path, work: Path) -> Salvaged:
    """Write the whole events of the log into `work/new`."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "new").mkdir(mode=0o700, parents=True)
    mark = read_mark(folder / MARK) or Mark(0, "")
    damage = readable_copy(folder, work)
    with contextlib.closing(duckdb.connect(str(work / DATABASE))) as con:
        check(applied(con), str(folder / DATABASE))
        migrate(con)
        whole = Whole(con, mark.position)
        _write(whole, work / "new")
    kept, acknowledged = whole.last.position, mark.position
    foreign = 0 < acknowledged <= kept and whole.promised != mark.digest
    if foreign:
        damage = damage or f"{DATABASE} is not the one that {MARK} describes"
    elif acknowledged > kept:
        damage = damage or whole.damage or "the write-ahead log is cut or missing"
    return Salvaged(kept, acknowledged, damage or whole.damage, foreign, _named(whole))


def _write(whole: Whole, folder: Path) -> None:
    insert = f"insert into events select {', '.join('unnest(?)' for _ in COLUMNS)}"
    with contextlib.closing(duckdb.connect(str(folder / DATABASE))) as new:
        migrate(new)
        for rows in whole:
            new.execute(insert, [list(column) for column in zip(*rows, strict=True)])
    mark = MarkFile(folder / MARK)
    mark.write(whole.last)
    mark.close()


def _named(whole: Whole) -> str:
    if whole.row is None:
        return ""
    _, stream, _, time, type_, *_ = whole.row
    return f"{type_} of {stream} at {time:%Y-%m-%d %H:%M:%S} UTC"


def _put_in_place(new: Path, folder: Path) -> None:
    """The old mark goes last: until then a salvage that was killed is seen, and made again."""
    os.replace(new / DATABASE, folder / DATABASE)
    (folder / WAL).unlink(missing_ok=True)
    sync_folder(folder)
    os.replace(new / MARK, folder / MARK)
    sync_folder(folder)
