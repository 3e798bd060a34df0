"""Skill services: one subprocess each on an inherited socketpair; who speaks is known by the channel.

A service is started when first needed, registers its hooks before a deadline, and answers `hook.call`.
One that died is started again by the next call; what its silence means is the hook's kind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import (
    AgentOSError,
    ConnectionLost,
    HookFailed,
    InvalidParams,
    SkillNotFound,
    UnknownSyscall,
    nearest,
)
from agentos_jupyter.microkernel import children
from agentos_jupyter.microkernel.hooks import HOOKS, Handler, Hooks
from agentos_jupyter.microkernel.skills import Skill
from agentos_jupyter.rpc.peer import Peer, Stream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a service said of one hook."""

    priority: int
    tools: frozenset[str]


class Service:
    """The life of one service process: `ready` starts it when it is not running, `aclose` ends it."""

    def __init__(self, skill: Skill, log_file: Path, deadline: float) -> None:
        self.skill, self._log_file, self._deadline = skill, log_file, deadline
        self.digest = hashlib.sha256(skill.service.read_bytes()).hexdigest() if skill.service else ""
        self.hooks: dict[str, Registration] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._peer: Peer | None = None
        self._registered: asyncio.Future[dict[str, Registration]] | None = None
        self._refusal = ""
        self._draining: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        """Whether the process runs and has registered."""
        return self._peer is not None and self._peer.open and bool(self.hooks)

    async def ready(self) -> Peer:
        """The channel to a registered service. Raises `HookFailed` naming the skill and its log."""
        async with self._starting:
            if self._peer is not None and self._peer.open:
                return self._peer
            await self._end()
            await self._start()
            assert self._peer is not None
            return self._peer

    async def _start(self) -> None:
        assert self.skill.service is not None
        self._registered = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                self._process = await self._spawn(self.skill.service, theirs.fileno())
            assert self._process.stdout is not None
            self._draining = asyncio.create_task(children.keep_output(self._process.stdout, self._log_file))
            self._peer = await Peer.on(ours, self._answer)
        except BaseException:
            ours.close()
            raise
        await self._wait_for_registration()

    async def _spawn(self, file: Path, channel: int) -> asyncio.subprocess.Process:
        sdk = Path(__file__).parent.parent / "sdk" / "aos_sdk.py"
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            os.fspath(sdk),
            os.fspath(file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.skill.folder,
            env={"AOS_CHANNEL": str(channel), "LANG": "C.UTF-8", "PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            pass_fds=(channel,),
            start_new_session=True,
        )

    async def _wait_for_registration(self) -> None:
        assert self._registered is not None and self._peer is not None
        try:
            async with asyncio.timeout(self._deadline):
                await asyncio.wait({self._registered, self._peer.closed}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        if not self._registered.done():
            late = not self._peer.closed.done() if self._peer is not None else True
            await self._end()
            why = f"did not register within {self._deadline:g} s" if late else "ended before it had registered"
            sentence = f"The service of skill {self.skill.name} {why}{self._refusal}: see {self._log_file}."
            raise HookFailed(sentence, died=not late)
        self.hooks = self._registered.result()

    async def _answer(self, method: str, params: dict[str, Any], stream: Stream) -> Any:
        if method != "register":
            raise UnknownSyscall(f"a service may call: register (not {method})")
        try:
            registration = _registration(params)
        except InvalidParams as error:
            self._refusal = f" ({error.message.rstrip('.')})"
            raise
        if self._registered is not None and not self._registered.done():
            self._registered.set_result(registration)
        return {"skill": self.skill.name}

    async def invoke(self, hook: str, given: dict[str, Any], output: dict[str, Any]) -> Any:
        """The handler's answer; raises `HookFailed` when the service fails or is gone."""
        peer = await self.ready()
        try:
            return await peer.call("hook.call", {"hook": hook, "input": given, "output": output})
        except ConnectionLost:
            sentence = f"The service of skill {self.skill.name} died in {hook}: see {self._log_file}."
            raise HookFailed(sentence, died=True) from None
        except AgentOSError as error:
            raise HookFailed(f"{self.skill.name} in {hook}: {error.message}") from None

    async def _end(self) -> None:
        peer, self._peer = self._peer, None
        process, self._process = self._process, None
        draining, self._draining = self._draining, None
        await children.end(peer, process, draining)

    async def aclose(self) -> None:
        async with self._starting:
            await self._end()


def _registration(params: dict[str, Any]) -> dict[str, Registration]:
    hooks = params.get("hooks")
    if not isinstance(hooks, dict):
        raise InvalidParams("register needs hooks: an object of hook names.")
    found = {}
    for name, options in hooks.items():
        if name not in HOOKS:
            raise InvalidParams(nearest("hook", str(name), HOOKS))
        options = options if isinstance(options, dict) else {}
        when = options.get("when")
        tools = when.get("tools", []) if isinstance(when, dict) else []
        priority = options.get("priority", 100)
        if not isinstance(priority, int) or not isinstance(tools, list):
            raise InvalidParams(f"register: priority of {name} is a whole number, when.tools a list of names.")
        found[name] = Registration(priority, frozenset(map(str, tools)))
    return found


class Services:
    """The services in force, by skill name."""

    def __init__(self, hooks: Hooks, folder: Path, register_seconds: float, hook_seconds: float) -> None:
        self._hooks, self._folder = hooks, folder
        self._register_seconds, self._hook_seconds = register_seconds, hook_seconds
        self._services: dict[str, Service] = {}

    async def start(self, skill: Skill) -> None:
        """Start a skill's service and put its hooks in force."""
        if skill.service is None:
            raise SkillNotFound(f"The skill {skill.name} has no service.")
        before = self._services.pop(skill.name, None)
        if before is not None:
            await before.aclose()
        service = Service(skill, self._folder / f"service-{skill.name}.log", self._register_seconds)
        self._services[skill.name] = service
        await service.ready()
        self._hooks.unregister(skill.name)
        for hook, registration in service.hooks.items():
            self._hooks.register(
                Handler(
                    hook,
                    skill.name,
                    service.digest,
                    service.invoke,
                    registration.priority,
                    self._hook_seconds,
                    registration.tools,
                )
            )

    def running(self, name: str) -> bool:
        service = self._services.get(name)
        return service is not None and service.alive

    async def aclose(self) -> None:
        await asyncio.gather(*(service.aclose() for service in self._services.values()))
        self._services.clear()
