"""The microkernel: the state of one workspace behind one syscall table."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import time
from collections import ChainMap, OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

from agentos_jupyter import config, keys, paths
from agentos_jupyter.config import AgentSettings
from agentos_jupyter.errors import (
    AgentNotFound,
    AgentOSError,
    ConfigError,
    ConnectionLost,
    LogUnwritable,
    SessionNotFound,
    WorkspaceUntrusted,
    closest,
    nearest,
)
from agentos_jupyter.limits import Limits
from agentos_jupyter.log import Log
from agentos_jupyter.log.salvage import salvages
from agentos_jupyter.microkernel import dispatches, ids, skills
from agentos_jupyter.microkernel.gateway.process import Gateway
from agentos_jupyter.microkernel.hooks import Hooks
from agentos_jupyter.microkernel.services import Services
from agentos_jupyter.microkernel.sessions import Caller, Lease, Session
from agentos_jupyter.microkernel.syscalls import TABLE
from agentos_jupyter.microkernel.table import Sink, checked
from agentos_jupyter.microkernel.upkeep import Upkeep
from agentos_jupyter.models import Models
from agentos_jupyter.models.remote import RemoteModel
from agentos_jupyter.records import Event, NewEvent
from agentos_jupyter.redact import Redactor

log = logging.getLogger(__name__)
REPEATED = 60.0
"""Seconds in which a client may repeat a call whose answer was lost with the daemon before."""

IDLE_SESSIONS = 32
IDLE_EVENTS = 10_000
"""Sessions, and events of theirs, kept in memory after their last use (about 1 kB each); others are folded from the log
again, ten thousand events in 0.15 s."""

REMEMBERED = 256
"""Keys of sessions that were just made: a client repeats its call within a minute."""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Stopping(asyncio.Event):
    """Set when the microkernel is to stop; those who wait for news are woken, so that they end in order."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes: set[asyncio.Event] = set()

    def set(self) -> None:
        super().set()
        for event in self.wakes:
            event.set()


class Microkernel:
    """One workspace: its log, sessions, hooks and services. Everything reaches it through `call`.

    Use it as an async context manager; the caller owns the workspace's lock.
    """

    def __init__(self, workspace: Path, environ: Mapping[str, str], skills_folder: Path | None = None) -> None:
        self.workspace = workspace
        self.keys: dict[str, str] = {}
        self.environ: MutableMapping[str, str] = ChainMap(dict(environ), self.keys)
        with contextlib.suppress(ConfigError):  # the next dispatch says what is wrong with keys.env
            self.keys.update(keys.load())
        self.started, self._began = time.time(), time.monotonic()
        self.settings = config.load(workspace, self.environ)
        self.skills = skills.find(skills_folder or paths.skills_dir())
        self.engine = self.settings.context
        self.gateway = Gateway(paths.state_dir(workspace), workspace, self.environ)
        self.models = Models(self.settings, self.environ, self.limits(), channel=self.gateway)
        self.redactor = Redactor(exact=self.models.secrets)
        self._outdated: list[Models] = []
        self.hooks = Hooks()
        limits = self.limits()
        self.services = Services(self.hooks, paths.state_dir(workspace), limits.register, limits.hook)
        self.stopping = Stopping()
        self.upkeep = Upkeep(self)
        self._failed = False
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._loading: dict[str, asyncio.Lock] = {}
        self._created: dict[str, str] = {}
        self._watched: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._services_ready: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Microkernel:
        self.log = await Log.open(paths.state_dir(self.workspace))
        self.salvages = await salvages(self.log)
        self._newest = max(self.log.streams("session/"), default="").removeprefix("session/")
        self.log.subscribe(self._committed)
        self._start_services_soon()
        self.spawn(self.upkeep.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [*self._tasks, self._services_ready]:
            if task is not None:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watched in tuple(self._watched):
            self._unwatch(watched)
        await self.hooks.aclose()
        await self.services.aclose()
        for models in (*self._outdated, self.models):
            await models.aclose()
        await self.gateway.aclose()
        await self.log.aclose()

    def _start_services_soon(self) -> None:
        self._services_ready = asyncio.create_task(self._start_services())
        self._services_ready.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _start_services(self) -> None:
        for skill in self.skills.values():
            if skill.service is not None and not self.services.running(skill.name):
                await self.services.start(skill)

    async def services_ready(self) -> None:
        """Wait until the services have registered; raises what kept one from it, and tries again when asked again."""
        assert self._services_ready is not None
        if self._services_ready.done() and self._services_ready.exception() is not None:
            self._start_services_soon()
        await asyncio.shield(self._services_ready)

    async def warm(self) -> None:
        """Start the gateway where the default model needs it: litellm takes some seconds to be imported."""
        with contextlib.suppress(AgentOSError):
            if any(isinstance(model, RemoteModel) and model.slow_to_start for model in self.models.resolve()):
                await self.gateway.call("load", {})

    # -- the table

    async def call(self, method: str, params: dict[str, Any], caller: Caller, sink: Sink) -> dict[str, Any]:
        """Carry out one syscall; raises the `AgentOSError` that the caller should see."""
        if self._failed and method != "system.hello":
            raise ConnectionLost("The log failed, so this daemon is about to end: connect again.")
        row, checked_params = checked(TABLE, method, params)
        extra = (sink,) if row.streams else ()
        result = await row.function(self, caller, checked_params, *extra)
        return result.model_dump(mode="json") if not isinstance(result, dict) else result

    def greet(self, environ: Mapping[str, str]) -> None:
        """Learn what a client's environment offers (keys, model, trust); a later offer wins over an earlier one.

        An `agentos.yaml` that cannot be read keeps nobody from connecting: the next dispatch says what is wrong with it.
        """
        if any(self.environ.get(name) != value for name, value in environ.items()):
            self.environ.update(environ)
            self.redactor = Redactor(exact=self.models.secrets)
            with contextlib.suppress(ConfigError, WorkspaceUntrusted):
                self.refresh()

    def refresh(self) -> None:
        """Read `agentos.yaml` again; running dispatches keep the limits they began with. Raises `ConfigError`."""
        kept = keys.load()
        if kept != self.keys:
            self.keys.clear()
            self.keys.update(kept)
        settings = config.load(self.workspace, self.environ)
        if settings != self.settings:
            self.settings, self.engine = settings, settings.context
            self._outdated.append(self.models)
            self.models = Models(settings, self.environ, self.limits(), self.models.limiters, self.gateway)
        self.redactor = Redactor(exact=self.models.secrets)

    def limits(self, *more: Mapping[str, Any] | None) -> Limits:
        """The limits in force, with those of an agent, a session and a dispatch on top. Raises `ConfigError`."""
        return config.limits(self.settings, *more)

    def agent(self, name: str | None) -> AgentSettings:
        """The agent of that name; None is that of agentos.yaml. Raises `AgentNotFound` or `ConfigError`."""
        if name is None or name == self.settings.agent.name:
            return self.settings.agent
        known = config.agents(self.settings)
        if name not in known:
            where = "" if self.settings.agents else " Write `agents: agents` into agentos.yaml, and agents/NAME.yaml."
            raise AgentNotFound(nearest("agent", name, known) + where)
        return known[name]

    def log_bytes(self) -> int:
        """What the log takes on disk, without blobs."""
        return sum(path.stat().st_size for path in paths.state_dir(self.workspace).glob("log.duckdb*"))

    # -- sessions

    async def session(self, ref: str) -> Session:
        """A session by id, unique prefix of an id, or name (the newest of that name). Raises `SessionNotFound`."""
        if ref in self._sessions:
            self._sessions.move_to_end(ref)
            return self._sessions[ref]
        return await self._load(await self._resolve(ref))

    async def _resolve(self, ref: str) -> str:
        if self.log.head(ids.stream_of(ref)):
            return ref
        stored = sorted(name.removeprefix("session/") for name in self.log.streams("session/"))
        matches = [name for name in stored if ref.startswith("s-") and len(ref) > 2 and name.startswith(ref)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise SessionNotFound(
                f"{ref!r} begins {len(matches)} session ids ({', '.join(matches[:5])}): write more of it."
            )
        named = await self._newest_named(ref)
        if named is None:
            hint = closest(ref, [*await self._newest_names(), *stored])
            gone = " What a salvage lost is gone (%status)." if self.salvages else ""
            raise SessionNotFound(
                f"No session {ref!r}{hint or ':'} `%session list` shows those there are, `%session new` begins one.{gone}"
            )
        return named

    async def _newest_names(self) -> list[str]:
        """Names of the newest sessions, for an error that tells the nearest."""
        sql = "select name from sessions order by session desc limit 200"
        found = await self.log.query(sql, max_rows=200, max_bytes=100_000, seconds=self.limits().sql_seconds)
        return [str(row[0]) for row in found.rows]

    async def _newest_named(self, name: str) -> str | None:
        return await self._first(
            f"select session from sessions where name = {_quoted(name)} order by session desc limit 1"
        )

    async def _first(self, sql: str) -> str | None:
        """The first value of a query's answer."""
        found = await self.log.query(sql, max_rows=1, max_bytes=10_000, seconds=self.limits().sql_seconds)
        return str(found.rows[0][0]) if found.rows else None

    async def _load(self, session_id: str) -> Session:
        lock = self._loading.setdefault(session_id, asyncio.Lock())
        async with lock:
            if session_id in self._sessions:
                return self._sessions[session_id]
            session = Session(session_id)
            for event in await self.log.read(session.stream):
                session.apply(event)
            session.moved(os.fspath(self.workspace))
            if session.running is not None:
                session.running.carry()
                session.lease = Lease(None)
                self.keep(session)
            self._remember(session)
        self._loading.pop(session_id, None)
        return session

    def _remember(self, session: Session) -> None:
        self._sessions[session.id] = session
        idle = [
            each
            for each in self._sessions.values()
            if each.running is None and not each.listeners and each is not session
        ]
        count, events = len(self._sessions), sum(each.version for each in self._sessions.values())
        for old in idle:
            if count <= IDLE_SESSIONS and events <= IDLE_EVENTS:
                return
            if not old.writing.locked():
                del self._sessions[old.id]
                count, events = count - 1, events - old.version

    async def create_session(self, key: str, data: dict[str, Any]) -> Session:
        """A new session, or the one that this key made."""
        lock = self._loading.setdefault(f"key {key}", asyncio.Lock())
        async with lock:
            made = self._created.get(key) or await self._created_before(key)
            if made is not None:
                return await self.session(made)
            session = Session(self._new_id())
            self._remember(session)
            try:
                clean = self.redactor.data({**data, "key": key})
                await self._append(session, "new", [NewEvent("session.created", clean, "person")])
            except BaseException:
                if not session.version:
                    del self._sessions[session.id]
                raise
            self._created[key] = session.id
            if len(self._created) > REMEMBERED:
                del self._created[next(iter(self._created))]
        self._loading.pop(f"key {key}", None)
        return session

    def _new_id(self) -> str:
        self._newest = ids.new_session_id(self._newest)
        return self._newest

    async def _created_before(self, key: str) -> str | None:
        """The session that this key made before this process began: a client repeats a call for less than a minute."""
        if time.monotonic() - self._began > REPEATED or not self.log.position:
            return None
        return await self._first(
            f"select substr(stream, 9) from events where type = 'session.created' and data->>'$.key' = {_quoted(key)}"
        )

    def live(self) -> list[Session]:
        """Sessions in memory."""
        return list(self._sessions.values())

    @property
    def busy(self) -> bool:
        """Whether a dispatch is held by a unit, or kept for one, or upkeep is done."""
        return self.upkeep.busy or self.at_work

    @property
    def at_work(self) -> bool:
        """Whether a dispatch is held by a unit, or kept for one."""
        return any(session.running is not None and session.lease is not None for session in self._sessions.values())

    async def record(self, session: Session, events: Sequence[NewEvent]) -> list[Event]:
        """Append to a session's history, without secrets and in one commit, and fold the events in."""
        if not events:
            return []
        clean = [
            NewEvent(event.type, self.redactor.data(dict(event.data)), event.actor, event.dispatch) for event in events
        ]
        return await self._append(session, "any", clean)

    async def _append(self, session: Session, expected: Literal["new", "any"], events: list[NewEvent]) -> list[Event]:
        """Append and wait until the events are folded in. Nothing can take an append back, so a cancelled caller waits too:
        what is done after it must see it."""
        appending = asyncio.ensure_future(self.log.append(session.stream, expected, events))
        try:
            return await asyncio.shield(appending)
        except LogUnwritable:
            self._failed = True  # a log that failed once takes no more writes; the next client starts afresh
            self.stopping.set()
            raise
        except asyncio.CancelledError:
            while not appending.done():  # cancelled again, perhaps
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([appending])
            appending.cancelled() or appending.exception()
            raise

    def _committed(self, events: list[Event]) -> None:
        """Fold what was committed into the sessions in memory, in commit order, before the appenders hear of it."""
        for event in events:
            session = self._sessions.get(event.stream.removeprefix("session/"))
            if session is not None:
                session.apply(event)

    # -- leases

    def gone(self, caller: Caller, process: int | None) -> None:
        """A client's channel closed: keep its dispatches for a while, or, when its process ended, no longer."""
        for session in self.live():
            if session.lease is not None and session.lease.holder is caller:
                self.keep(session)
                if process is not None:
                    self._watch(session, process)
        if process is not None:
            os.close(process)

    def keep(self, session: Session) -> None:
        """Nobody holds the session's dispatch: keep it for a while, then it is lost."""
        lease = session.lease
        assert lease is not None
        lease.expire_in(self.limits().lease, lambda: self.spawn(dispatches.lose(self, session, lease)))

    def _watch(self, session: Session, process: int) -> None:
        """Lose the session's dispatch as soon as the process behind this pidfd has ended."""
        lease, loop = session.lease, asyncio.get_running_loop()
        assert lease is not None
        if select.select([process], [], [], 0)[0]:
            self.spawn(dispatches.lose(self, session, lease))
            return
        watched = os.dup(process)

        def ended() -> None:
            self._unwatch(watched)
            self.spawn(dispatches.lose(self, session, lease))

        self._watched.add(watched)
        loop.add_reader(watched, ended)

    def _unwatch(self, watched: int) -> None:
        asyncio.get_running_loop().remove_reader(watched)
        self._watched.discard(watched)
        os.close(watched)

    def spawn(self, work: Any) -> None:
        """Run something beside the calls; it ends with the microkernel at the latest."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())
