"""The acknowledgement mark: what the log has promised, kept outside DuckDB so that a silent loss is seen.

DuckDB 2.0 opens a torn, shortened, emptied or missing write-ahead log without a word, with fewer rows. So after each
commit, before anyone is told, the position and digest of the last event are written into the file `head` (one `pwrite`
of a fixed-size line, 1 µs). It is fsynced at open, at close, in quiet moments and once a second under load: after a
crash of the *process* it is exact; after a crash of the *machine* it may lag by that second, so it is a lower bound and
never accuses wrongly.

Detected at open: any loss of events up to the mark (WAL torn, cut, emptied, removed, a hole in it, an older copy of the
database put back), and a database that holds other events than those. Not detected: after a power failure, damage to
the last second alone; a mark removed together with the events; bits that flip in a block nobody reads (DuckDB's
checksums tell when it is read).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

_SIZE = 128
_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Mark:
    """The last acknowledged event: its position (0 = none) and digest."""

    position: int
    digest: str


def read_mark(path: Path) -> Mark | None:
    """The mark in `path`, None when there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
        return Mark(int(found["position"]), str(found["digest"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


class MarkFile:
    """The open file `head`; used by the writer thread alone."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._dirty = False
        self._synced = 0.0

    def write(self, mark: Mark) -> None:
        line = json.dumps({"position": mark.position, "digest": mark.digest})
        os.pwrite(self._fd, line.ljust(_SIZE - 1).encode() + b"\n", 0)
        self._dirty = True
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        if self._dirty:
            os.fdatasync(self._fd)
            self._dirty = False
            self._synced = time.monotonic()

    def close(self) -> None:
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1
