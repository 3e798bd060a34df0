"""A log that was not closed, and what can happen to its files: a name for each damage, and how to do it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]

CRASH = """
import asyncio, os, pathlib, sys
from agentos_jupyter.log import Log
from agentos_jupyter.records import NewEvent

async def main():
    log = await Log.open(pathlib.Path(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        await log.append("session/a", "any", [NewEvent("x", {"n": number, "text": "x" * 200})])
    os._exit(0)

asyncio.run(main())
"""


def crash(folder: Path, events: int = 100) -> None:
    """Append `events` events in a process that ends without closing anything."""
    subprocess.run([sys.executable, "-c", CRASH, str(folder), str(events)], check=True, timeout=50)


def wal(change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: rewrite(folder / "log.duckdb.wal", change)


def database(change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: rewrite(folder / "log.duckdb", change)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]


def middle(data: bytes, change: Callable[[bytes], bytes], size: int = 64) -> bytes:
    half = len(data) // 2
    return data[:half] + change(data[half : half + size]) + data[half + size :]


OF_WAL: dict[str, Damage] = {
    "wal cut by one byte": wal(lambda data: data[:-1]),
    "wal cut in half": wal(lambda data: data[: len(data) // 2]),
    "wal cut to its head": wal(lambda data: data[:40]),
    "wal empty": wal(lambda data: b""),
    "wal garbage": wal(lambda data: os.urandom(len(data))),
    "wal zeroed": wal(lambda data: bytes(len(data))),
    "wal with zeroed tail": wal(lambda data: data[:-100] + bytes(100)),
    "wal with zeroed middle": wal(lambda data: middle(data, lambda part: bytes(len(part)))),
    "wal with a hole": wal(lambda data: middle(data, lambda part: b"", 500)),
    "wal with garbage inside": wal(lambda data: middle(data, lambda part: os.urandom(len(part)))),
    "wal with a flipped byte": wal(lambda data: flip(data, len(data) // 2)),
    "wal removed": lambda folder: (folder / "log.duckdb.wal").unlink(),
}
"""Damages behind which the database file itself is whole."""

OF_DATABASE: dict[str, Damage] = {
    "database empty": database(lambda data: b""),
    "database cut": database(lambda data: data[: len(data) // 2]),
    "database garbage": database(lambda data: os.urandom(len(data))),
    "database zeroed": database(lambda data: bytes(len(data))),
    "database is another file": database(lambda data: b"hello world, not a database"),
    "database header flipped": database(lambda data: flip(data, 10)),
    "database removed": lambda folder: (folder / "log.duckdb").unlink(),
    "both removed": lambda folder: [(folder / name).unlink() for name in ("log.duckdb", "log.duckdb.wal")] and None,
}
DAMAGES = {**OF_WAL, **OF_DATABASE}
