"""The one writer: a thread that owns the connection and lets appends that arrive together share one commit.

Durability: one statement inserts the whole batch in a transaction of its own; at commit DuckDB appends to the WAL and
calls `fdatasync` before it returns; a WAL file that was newly made (after each checkpoint) has its folder entry fsynced
by us; then the acknowledgement mark is written; only then is anybody told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb

from agentos_jupyter.errors import AgentOSError, Conflict, LogError, LogUnwritable
from agentos_jupyter.log import canonical
from agentos_jupyter.log.blobs import sync_folder
from agentos_jupyter.log.failure import explain, is_memory
from agentos_jupyter.log.mark import Mark, MarkFile
from agentos_jupyter.log.opening import DATABASE, MARK, WAL, Heads
from agentos_jupyter.log.rows import COLUMNS, to_event
from agentos_jupyter.records import Event, NewEvent

T = TypeVar("T")
Expected = int | Literal["new", "any"]
MAX_BATCH = 1000
MAX_BATCH_BYTES = 8 << 20
IDLE_CHECKPOINT = 1 << 20
IDLE_SECONDS = 2.0
MEMORY_TRIES = 40
MEMORY_PAUSE = 0.05
Row = tuple[int, str, int, datetime, str, str, str | None, str, str]
Fresh = tuple[NewEvent, str]
"""An event and its canonical data."""


@dataclass(slots=True, eq=False)
class Request:
    """Events for one or more streams, all or none, and the future of who asked."""

    parts: Sequence[tuple[str, Expected, Sequence[Fresh]]]
    answer: asyncio.Future[list[list[Event]]]
    size: int = 0
    count: int = 0


Outcome = list[list[Event]] | Exception


class Writer:
    """Owns `con`. On its own thread it calls `deliver` after each commit, with the events and everybody's answers, and
    `relieve` when DuckDB has no memory left for an insert."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        heads: Heads,
        folder: Path,
        deliver: Callable[[list[Event], list[tuple[Request, Outcome]]], None],
        relieve: Callable[[], None],
    ) -> None:
        self.heads = heads.streams
        self.last = heads.last
        self.commits = 0
        self._con = con
        self._folder = folder
        self._deliver = deliver
        self._relieve = relieve
        self._insert = con.extract_statements("insert into events select " + ", ".join("unnest(?)" for _ in COLUMNS))[0]
        self._mark = MarkFile(folder / MARK)
        self._mark.write(heads.last)
        self._mark.sync()
        self._wal_inode = 0
        self._inode = os.stat(folder / DATABASE).st_ino
        self._wake = threading.Condition()
        self._queue: deque[Request] = deque()
        self._works: deque[Callable[[], None]] = deque()
        self._closing = False
        self._broken: AgentOSError | None = None
        self._thread = threading.Thread(target=self._run, name="agentos-log", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        return self.last.position

    def submit(self, request: Request) -> None:
        """Queue a request; its answer comes by `deliver`."""
        with self._wake:
            self._refuse_closed()
            self._queue.append(request)
            self._wake.notify()

    def between(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> Future[T]:
        """Have `work` done with the connection on this thread, between two commits: appends wait for it."""
        answer: Future[T] = Future()

        def do() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                if self._broken is not None:
                    raise self._broken_again()
                answer.set_result(work(self._con))
            except Exception as error:
                answer.set_exception(explain(error, self._folder / DATABASE))

        with self._wake:
            self._refuse_closed()
            self._works.append(do)
            self._wake.notify()
        return answer

    def _refuse_closed(self) -> None:
        if self._closing:
            raise LogError("The log is closed: open the workspace again.")

    def close(self) -> None:
        """Commit what is queued, then close the mark (blocking). The connection stays the caller's to close."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            if batch:
                self._commit(batch)
            elif not self._works:
                self._idle()
            while self._works:
                self._works.popleft()()
        with contextlib.suppress(OSError):  # a full or failing disk; the mark as last written stays true
            self._mark.close()

    def _take(self) -> list[Request] | None:
        """The next batch; an empty one after a quiet spell; None at the end."""
        with self._wake:
            if not self._queue and not self._works and not self._closing:
                self._wake.wait(IDLE_SECONDS)
            if not self._queue:
                return None if self._closing and not self._works else []
            batch: list[Request] = []
            count = size = 0
            while self._queue and (not batch or (count < MAX_BATCH and size < MAX_BATCH_BYTES)):
                request = self._queue.popleft()
                batch.append(request)
                count, size = count + request.count, size + request.size
            return batch

    def _commit(self, batch: list[Request]) -> None:
        answers: list[tuple[Request, Outcome]] = []
        committed: list[Event] = []
        try:
            committed = self._try(batch, answers)
        except Exception as error:
            named = explain(error, self._folder / DATABASE)
            if not is_memory(error):
                self._broken = named
            answers = [(request, named) for request in batch]
        self._deliver(committed, answers)

    def _try(self, batch: list[Request], answers: list[tuple[Request, Outcome]]) -> list[Event]:
        if self._broken is not None:
            raise self._broken_again()
        rows: list[Row] = []
        heads: dict[str, tuple[int, str]] = {}
        now = datetime.now(UTC).replace(tzinfo=None)
        for request in batch:
            try:
                made, moved = self._rows(request, heads, self.position + len(rows), now)
            except Conflict as conflict:
                answers.append((request, conflict))
                continue
            heads.update(moved)
            rows.extend(row for part in made for row in part)
            answers.append((request, [[to_event(row) for row in part] for part in made]))
        if not rows:
            return []

        self._store(rows)
        self.heads.update(heads)
        return [event for _, answer in answers if isinstance(answer, list) for part in answer for event in part]

    def _broken_again(self) -> AgentOSError:
        assert self._broken is not None
        return type(self._broken)(self._broken.message, **self._broken.data)

    def _rows(
        self, request: Request, heads: dict[str, tuple[int, str]], position: int, now: datetime
    ) -> tuple[list[list[Row]], dict[str, tuple[int, str]]]:
        moved: dict[str, tuple[int, str]] = {}
        made = []
        for stream, expected, fresh in request.parts:
            version, digest = moved.get(stream) or heads.get(stream) or self.heads.get(stream, (0, stream))
            _expect(stream, expected, version)
            part: list[Row] = []
            for event, data in fresh:
                version, position = version + 1, position + 1
                digest = canonical.digest(digest, version, event.type, event.actor, event.dispatch, now, data)
                part.append((position, stream, version, now, event.type, event.actor, event.dispatch, data, digest))
            moved[stream] = (version, digest)
            made.append(part)
        return made, {stream: head for stream, head in moved.items() if head[0]}

    def _store(self, rows: list[Row]) -> None:
        self._execute([list(column) for column in zip(*rows, strict=True)])
        self.commits += 1
        self._settle_wal()
        self.last = Mark(rows[-1][0], rows[-1][8])
        self._mark.write(self.last)

    def _execute(self, columns: list[list[Any]]) -> None:
        """Insert and commit. Queries share DuckDB's memory: where one left none, it is ended and we try again."""
        for _ in range(MEMORY_TRIES):
            try:
                self._con.execute(self._insert, columns)
                return
            except duckdb.OutOfMemoryException:
                self._relieve()
                time.sleep(MEMORY_PAUSE)
        self._con.execute(self._insert, columns)

    def _settle_wal(self) -> None:
        """DuckDB makes a new WAL after each checkpoint and leaves its name to the kernel's mercy."""
        try:
            found = os.stat(self._folder / WAL).st_ino
        except FileNotFoundError:
            found = 0  # this very commit made a checkpoint: all is in the database file, fsynced
        if found != self._wal_inode or not found:
            self._expect_database()
        if found and found != self._wal_inode:
            os.chmod(self._folder / WAL, 0o600)
            sync_folder(self._folder)
        self._wal_inode = found

    def _expect_database(self) -> None:
        """Raise where our files were removed: what is written then is nowhere, and must not be acknowledged."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._folder / DATABASE).st_ino == self._inode:
                return
        raise LogUnwritable(
            f"The state folder {self._folder} was removed or replaced while the daemon worked in it, so this was not stored: "
            "put the folder back, or go on with a new history (`%session new`)."
        )

    def _idle(self) -> None:
        """In a quiet moment, make the mark durable and keep the WAL short: a checkpoint stalls appends (16–500 ms)."""
        if self._broken is not None:
            return
        try:
            self._mark.sync()
            if _size(self._folder / WAL) > IDLE_CHECKPOINT:
                self._con.execute("checkpoint")
        except Exception as error:
            self._checkpoint_failed(error)

    def _checkpoint_failed(self, error: Exception) -> None:
        if not is_memory(error) and not isinstance(error, duckdb.TransactionException):
            self._broken = explain(error, self._folder / DATABASE)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _expect(stream: str, expected: Any, actual: int) -> None:
    if expected == "any" or expected == actual or (expected == "new" and actual == 0):
        return
    wanted = "to be new" if expected == "new" else f"at version {expected}"
    raise Conflict(
        f"Stream {stream!r} was expected {wanted}, but it is at version {actual}: read it again and retry.",
        stream=stream,
        expected=expected,
        actual=actual,
    )
