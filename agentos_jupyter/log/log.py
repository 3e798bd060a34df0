"""The log: the one place where facts are kept, in one table, appended to and never edited."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from agentos_jupyter.errors import ContentNotFound, LogDamaged, LogError
from agentos_jupyter.log import canonical, exporting, forgetting, garbage, ordering
from agentos_jupyter.log.blobs import Blobs
from agentos_jupyter.log.exporting import Exported, Format
from agentos_jupyter.log.failure import CURE, explain
from agentos_jupyter.log.holding import Held, Holding
from agentos_jupyter.log.opening import DATABASE, Heads, Storage, open_database
from agentos_jupyter.log.query import Caps, Query, QueryResult
from agentos_jupyter.log.rows import SELECT, to_events
from agentos_jupyter.log.writer import Expected, Outcome, Request, Writer
from agentos_jupyter.records import Event, NewEvent

T = TypeVar("T")
Subscriber = Callable[[list[Event]], None]
_READERS = 4
_ASKERS = 2
"""People's queries wait for each other, never the daemon's own reads for them."""


class Log:
    """An open log, used from the event loop it was opened on. One per state folder and machine (see `opening`)."""

    def __init__(self, folder: Path, con: duckdb.DuckDBPyConnection, heads: Heads) -> None:
        self.folder = folder
        self.blobs = Blobs(folder / "blobs")
        self.notes = heads.notes
        self._con = con
        self._loop = asyncio.get_running_loop()
        self._subscribers: list[Subscriber] = []
        self._writer = Writer(
            con, heads, folder, self._hand_over, lambda: self._stop_queries("the log needs its memory")
        )
        self._root = con.cursor()
        self._root_lock = threading.Lock()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="agentos-read")
        self._askers = ThreadPoolExecutor(_ASKERS, thread_name_prefix="agentos-sql")
        self._asking: set[Query] = set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, storage: Storage | None = None) -> Log:
        """Open or make the log in the state folder `path`; only the heads of the streams are read.

        Raises `LogDamaged`, `LogTooNew`, `LogUnwritable`, `WorkspaceBusy`.
        """
        folder = await asyncio.to_thread(path.absolute)
        con, heads = await asyncio.to_thread(open_database, folder, storage or Storage())
        try:
            log = cls(folder, con, heads)
        except BaseException as error:
            con.close()
            if isinstance(error, OSError | duckdb.Error):
                raise explain(error, folder / DATABASE) from error
            raise
        await asyncio.to_thread(log.blobs.sweep)
        return log

    async def __aenter__(self) -> Log:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def position(self) -> int:
        """The position of the last committed event; 0 in an empty log."""
        return self._writer.position

    @property
    def commits(self) -> int:
        """How many commits this process made."""
        return self._writer.commits

    async def append(self, stream: str, expected: Expected, events: Sequence[NewEvent]) -> list[Event]:
        """Append `events` to `stream`, all or none; they are durable when this returns.

        `expected` is the stream's version before (0 = none), `"new"`, or `"any"`. Raises `Conflict` when it is not
        so, `EventRefused` for an event the log cannot hold, `LogUnwritable` when the disk takes no writes. Cancelling
        the caller does not take the append back.
        """
        return (await self.append_many([(stream, expected, events)]))[0]

    async def append_many(self, parts: Iterable[tuple[str, Expected, Sequence[NewEvent]]]) -> list[list[Event]]:
        """`append` to several streams in one commit: all or none."""
        request = Request([_part(*part) for part in parts], self._loop.create_future())
        sizes = [len(data) for _, _, fresh in request.parts for _, data in fresh]
        request.count, request.size = len(sizes), sum(sizes)
        self._writer.submit(request)
        return await request.answer

    def head(self, stream: str) -> int:
        """The stream's version; 0 when it has no events."""
        return self._writer.heads.get(stream, (0, ""))[0]

    def streams(self, prefix: str = "") -> list[str]:
        """Names of all streams that begin with `prefix`, sorted."""
        return sorted(name for name in list(self._writer.heads) if name.startswith(prefix))

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Events of a stream with a version above `after`, at most `limit`, in order."""
        if self.head(stream) <= after:
            return []
        upto = (1 << 62) if limit is None else after + limit
        return await self._events(
            f"{SELECT} where stream = ? and version > ? and version <= ? order by version", [stream, after, upto]
        )

    async def tail(self, stream: str, n: int) -> list[Event]:
        """The last `n` events of a stream, in order."""
        return await self.read(stream, max(self.head(stream) - n, 0), n)

    async def since(self, position: int, limit: int, prefix: str = "") -> list[Event]:
        """Events of all streams that begin with `prefix`, after `position`, in global order, at most `limit`."""
        sql = f"{SELECT} where position > ? and starts_with(stream, ?) order by position limit ?"
        return await self._events(sql, [position, prefix, limit])

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` on the loop after each commit, with its events, in commit order; returns the way to stop.

        A callback that raises is reported to the loop's exception handler and hinders nobody.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback) if callback in self._subscribers else None

    async def verify(self, stream: str) -> int:
        """Recompute the stream's digest chain and return its length. Raises `LogDamaged` at the first wrong event."""
        version, head = self._writer.heads.get(stream, (0, stream))
        return await self._thread(self._verified, stream, version, head)

    async def query(self, sql: str, *, max_rows: int, max_bytes: int, seconds: float) -> QueryResult:
        """Answer one SELECT or EXPLAIN. Raises `SqlRefused` with a sentence for anything else, and at the time cap."""
        query = Query(self._cursor(), sql, Caps(max_rows, max_bytes, seconds), self.folder / "exports")
        running = self._loop.run_in_executor(self._askers, query.run)
        self._asking.add(query)
        running.add_done_callback(lambda _: self._asking.discard(query))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            query.stop("it was cancelled")
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()
            raise

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[Held]:
        """The log as it stands, in files that may be copied meanwhile; appends go on. Not twice at a time.

        The copying is another process's work: this one would drop DuckDB's lock when it closes the file.
        """
        holding = Holding(self.folder)
        try:
            yield await self.between(lambda con: holding.begin(con, self._writer.last))
        finally:
            await asyncio.shield(self.between(lambda con: holding.end()))

    async def order(self) -> bool:
        """Order the rows by stream (see `ordering`), while appends go on; cancelled, it leaves the log as it was.

        The last step, which appends wait for, is short. False where the log holds nothing.
        """
        upto, stop = self.position, threading.Event()
        cursor = self._cursor()
        building = self._submit(lambda: ordering.build(cursor, upto, stop.is_set))
        try:
            built = await asyncio.shield(building)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([building])
            raise
        except duckdb.Error as error:
            await self.between(ordering.drop)
            raise explain(error, self.folder / DATABASE) from error
        finally:
            cursor.close()
        if built:
            await self.between(lambda con: ordering.take_over(con, upto))
            await self.checkpoint()
        return built

    async def content(self, digest: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob. Raises `ContentForgotten` for one that was forgotten, `ContentNotFound` for one never put."""
        try:
            return await self.blobs.get(digest, offset, length)
        except ContentNotFound:
            await forgetting.refuse_forgotten(self, digest)
            raise

    async def collect(self, seconds: float, dry: bool) -> list[tuple[str, int]]:
        """Remove blobs that no event names and that were put longer ago than so many seconds; digests and bytes.

        With `dry` nothing is removed.
        """
        before, until = time.time() - seconds, self.position
        named = await self._thread(self._ask, lambda cursor: garbage.named(cursor, self.blobs))
        found = await self._thread(lambda: list(garbage.unnamed(self.blobs, named, seconds)))
        if dry or not found:
            return found
        named |= await self._thread(self._ask, lambda cursor: garbage.named(cursor, self.blobs, until))
        going = [(digest, size) for digest, size in found if digest not in named]
        return await self._thread(lambda: [each for each in going if self.blobs.remove(each[0], before)])

    async def export(self, kind: Format) -> list[Exported]:
        """Write the events and every view into a new folder in `exports/`, a file each."""
        work = functools.partial(exporting.export, exports=self.folder / "exports", kind=kind)
        return await self._thread(self._ask, work)

    async def tidy(self) -> None:
        """Remove what an ordering that was killed left."""
        if await self._thread(self._ask, ordering.left_over):
            await self.between(ordering.drop)

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database; appends wait for it."""
        await self.between(lambda con: con.execute("checkpoint"))

    async def between(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Have `work` done with the writer's connection between two commits; appends wait for it."""
        return await asyncio.wrap_future(self._writer.between(work))

    async def aclose(self) -> None:
        """Commit what was asked, close everything; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._stop_queries("the log is closing")
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown(wait=True)
        self._askers.shutdown(wait=True)
        self.blobs.close()
        self._root.close()
        self._con.close()

    def _stop_queries(self, why: str) -> None:
        for query in tuple(self._asking):
            query.stop(why)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._closed:
            raise LogError("The log is closed: open the workspace again.")
        with self._root_lock:
            return self._root.cursor()

    def _ask(self, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        cursor = self._cursor()
        try:
            return question(cursor)
        except duckdb.Error as error:
            raise explain(error, self.folder / DATABASE) from error
        finally:
            cursor.close()

    def _rows(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        return self._ask(lambda cursor: cursor.execute(sql, parameters).fetchall())

    def _verified(self, stream: str, version: int, head: str) -> int:
        previous = stream
        rows = self._rows(f"{SELECT} where stream = ? and version <= ? order by version", [stream, version])
        for number, row in enumerate(rows, start=1):
            digest = canonical.digest(previous, number, row[4], row[5], row[6], row[3], row[7])
            if row[2] != number or row[8] != digest:
                raise LogDamaged(
                    f"Stream {stream!r} was changed after it was written: the digest of version {number} is wrong in "
                    f"{self.folder / DATABASE}. {CURE}",
                    stream=stream,
                    version=number,
                )
            previous = digest
        if previous != head:
            raise LogDamaged(f"Stream {stream!r} ends before its version {version} in {self.folder / DATABASE}. {CURE}")
        return version

    async def _events(self, sql: str, parameters: list[Any]) -> list[Event]:
        return await self._thread(lambda: to_events(self._rows(sql, parameters)))

    def _submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise LogError("The log is closed: open the workspace again.")
        return self._loop.run_in_executor(self._readers, call)

    async def _thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await self._submit(functools.partial(call, *arguments))

    def _hand_over(self, events: list[Event], answers: list[tuple[Request, Outcome]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._tell, events, answers)

    def _tell(self, events: list[Event], answers: list[tuple[Request, Outcome]]) -> None:
        for callback in tuple(self._subscribers) if events else ():
            try:
                callback(events)
            except Exception as error:
                self._loop.call_exception_handler({"message": "a subscriber of the log failed", "exception": error})
        for request, outcome in answers:
            _answer(request, outcome)


def _part(
    stream: str, expected: Expected, events: Sequence[NewEvent]
) -> tuple[str, Expected, Sequence[tuple[NewEvent, str]]]:
    return canonical.name("stream", stream), expected, [_fresh(event) for event in events]


def _fresh(event: NewEvent) -> tuple[NewEvent, str]:
    canonical.name("type", event.type)
    canonical.name("actor", event.actor)
    if event.dispatch is not None:
        canonical.name("dispatch", event.dispatch)
    return event, canonical.data_text(event.data)


def _answer(request: Request, outcome: Outcome) -> None:
    if request.answer.done():
        return
    if isinstance(outcome, Exception):
        request.answer.set_exception(outcome)
    else:
        request.answer.set_result(outcome)
