"""system: the daemon itself."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from agentos_jupyter import __version__
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace
from agentos_jupyter.rpc.wire import PROTOCOL

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class Hello(Shape):
    """What a client says first; `environ` holds its keys, base URLs, model and trust.

    A newer client may say more: it must learn our protocol from the answer.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    version: str
    protocol: int
    pid: int = 0
    name: str = ""
    environ: dict[str, str] = Field(default_factory=dict, repr=False)


class Info(Shape):
    """The daemon: `position` is the last event, `running` counts dispatches at work, `started` is seconds since 1970,
    `salvages` are sentences about damage that the log survived, and what it lost; of `sessions`, `loaded` are in memory,
    and `tasks` is how much the daemon does at this moment."""

    workspace: str
    version: str
    protocol: int
    pid: int
    sessions: int
    running: int
    position: int
    log_bytes: int
    model: str | None
    scripted: bool
    model_problem: str | None
    engine: str
    started: float
    salvages: list[str] = Field(default_factory=list)
    loaded: int = 0
    tasks: int = 0


class Health(Shape):
    """Whether the parts work; `problems` are sentences."""

    ok: bool
    problems: list[str]


async def hello(kernel: Microkernel, caller: Caller, params: Hello) -> Info:
    """The greeting: the client's version and what its environment offers, answered with the daemon's."""
    if params.protocol == PROTOCOL:
        kernel.greet(params.environ)
    caller.name = params.name or caller.name
    return await info(kernel, caller, Empty())


async def shutdown(kernel: Microkernel, caller: Caller, params: Empty) -> Empty:
    """Stop the daemon once this call is answered; running dispatches are kept in the log and can be continued."""
    kernel.stopping.set()
    return Empty()


async def info(kernel: Microkernel, caller: Caller, params: Empty) -> Info:
    """What and where this daemon is."""
    model = kernel.models.default()
    return Info(
        workspace=os.fspath(kernel.workspace),
        version=__version__,
        protocol=PROTOCOL,
        pid=os.getpid(),
        sessions=len(kernel.log.streams("session/")),
        running=sum(session.running is not None and session.lease is not None for session in kernel.live()),
        position=kernel.log.position,
        log_bytes=kernel.log_bytes(),
        model=model.name,
        scripted=model.scripted,
        model_problem=model.reason or None,
        engine=kernel.engine,
        started=kernel.started,
        salvages=kernel.salvages,
        loaded=len(kernel.live()),
        tasks=len(asyncio.all_tasks()),
    )


async def health(kernel: Microkernel, caller: Caller, params: Empty) -> Health:
    """Check that services are registered, the log can be written and a model resolves."""
    problems: list[str] = []
    try:
        await kernel.services_ready()
    except Exception as error:  # whatever kept a service from starting is the answer
        problems.append(str(error))
    problems += kernel.log.notes
    problems += [kernel.upkeep.warning] if kernel.upkeep.warning else []
    model = kernel.models.default()
    if not model.ready:
        problems.append(model.reason)
    return Health(ok=not problems, problems=problems)


CALLS = namespace("system", writes=(hello, shutdown), reads=(info, health))
