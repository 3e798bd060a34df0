"""What a notebook kernel holds while it lives: its connection, its session, its sandbox. All of it can be lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentos_jupyter import keys, paths
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.client import Aos
from agentos_jupyter.jupyter.known import Known
from agentos_jupyter.rpc.link import Link

if TYPE_CHECKING:
    from agentos_jupyter.unit import Unit


class Desk:
    """The daemon's connection is opened in the background at the first `begin`, the session at its first use.

    `keys`: whether keys stay in the environment, which is right where the process is the person's own Python.
    """

    def __init__(self, keys: bool = False) -> None:
        self._keys = keys
        self.client = Aos()
        self.known = Known(self.call)
        self.session_info: dict[str, Any] | None = None
        self.agent: str | None = None
        self._of_agents: dict[str | None, dict[str, Any]] = {}
        self._unit: Unit | None = None
        self._opening: asyncio.Task[Link] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._choosing = asyncio.Lock()

    def root(self) -> Path:
        """The folder that the session works on; without one, the workspace."""
        return Path(self.session_info["root"]) if self.session_info else paths.workspace()

    def place(self) -> str:
        """The workspace, or why there is none, for people."""
        try:
            return str(paths.workspace())
        except AgentOSError as error:
            return f"no workspace: {error.message}"

    # -- the daemon

    def begin(self) -> None:
        """Start to connect; what goes wrong is told to the first cell that needs the daemon."""
        if self._opening is None or (self._opening.done() and (self._opening.cancelled() or self._opening.exception())):
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _open(self) -> Link:
        link = await Link.open(paths.workspace())
        for name in [name for name in os.environ if keys.is_key(name) and not self._keys]:
            del os.environ[name]  # the link has handed them to the daemon: nothing that runs here may read them
        self._warming = asyncio.get_running_loop().create_task(_warm())
        return link

    async def link(self) -> Link:
        """The connection; raises what keeps the daemon from starting."""
        self.begin()
        assert self._opening is not None
        return await asyncio.shield(self._opening)

    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: Any = None) -> Any:
        return await (await self.link()).call(method, params, on_stream)

    async def unit(self) -> Unit:
        """What runs dispatches here; its sandboxes live as long as this kernel."""
        link = await self.link()
        if self._unit is None:
            from agentos_jupyter.unit import Unit

            self._unit = Unit(link, _Nobody(), {"name": "notebook", "pid": os.getpid()})
            link.on_notice = self._unit.interrupted
        return self._unit

    @property
    def running(self) -> str | None:
        """The dispatch at work in this kernel."""
        return self._unit.running if self._unit is not None else None

    # -- the session

    async def session(self) -> dict[str, Any]:
        """This notebook's session, begun now when there is none."""
        async with self._choosing:
            if self.session_info is None:
                await self._new(self.notebook_name())
            assert self.session_info is not None
            return self.session_info

    async def use(self, session: dict[str, Any]) -> None:
        """Go on with this session, and with the agent it belongs to."""
        self.session_info, self.agent = session, session.get("agent")
        self._of_agents[self.agent] = session
        self.client.session, self.client.root = session["id"], session["root"]

    async def of_agent(self, name: str | None) -> dict[str, Any]:
        """This notebook's session of an agent, begun now when there is none; the notebook's own session stays what it is."""
        async with self._choosing:
            if name not in self._of_agents:
                self._of_agents[name] = await self._created(self.notebook_name(), name)
            return self._of_agents[name]

    async def new_session(self, name: str = "") -> dict[str, Any]:
        async with self._choosing:
            return await self._new(name or self.notebook_name())

    async def _new(self, name: str) -> dict[str, Any]:
        created = await self._created(name, self.agent)
        await self.use(created)
        return created

    async def _created(self, name: str, agent: str | None) -> dict[str, Any]:
        given = {"name": name[:200], "notebook": self.notebook(), "agent": agent, "key": uuid.uuid4().hex}
        created: dict[str, Any] = await self.call("session.create", given)
        return created

    def notebook(self) -> str | None:
        """The notebook's path, where the front end tells it."""
        return os.environ.get("JPY_SESSION_NAME") or None

    def notebook_name(self) -> str:
        return Path(self.notebook() or "").stem

    async def aclose(self) -> None:
        self.client.close()
        self.known.close()
        if self._warming is not None:
            self._warming.cancel()
        if self._unit is not None:
            await self._unit.aclose()
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        done, _ = await asyncio.wait([opening])
        for task in done:
            if not task.cancelled() and task.exception() is None:
                await task.result().aclose()


async def _warm() -> None:
    """Import and find out what the first prompt needs, before somebody waits for it; what is wrong it will tell itself."""
    from agentos_jupyter.unit.unit import sandbox_tier

    with contextlib.suppress(AgentOSError):
        await sandbox_tier()


class _Nobody:
    """The observer of a dispatch that nobody watches; each dispatch here brings its own."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None
