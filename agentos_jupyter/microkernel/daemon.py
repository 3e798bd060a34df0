"""The microkernel daemon: one per workspace, started on demand, gone when nobody needs it.

`python -m agentos_jupyter.microkernel.daemon WORKSPACE FD` writes one line to FD when it is ready, or
one line with the error that kept it from starting.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and os.fork():
    os._exit(0)  # the client must not become the parent of a process that outlives it

import asyncio
import contextlib
import importlib
import json
import logging
import signal
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.microkernel import memory
from agentos_jupyter.microkernel.kernel import Microkernel
from agentos_jupyter.microkernel.lock import Lock
from agentos_jupyter.microkernel.serving import Server
from agentos_jupyter.rpc.wire import error_to_wire, pack

log = logging.getLogger("agentos_jupyter.daemon")
LOG_BYTES = 2 * 1024 * 1024
LEAST_IDLE = 1.0
"""Seconds within which the client that started the daemon has certainly connected."""

LOOK_SECONDS = 5.0
"""How often the daemon looks whether it is still needed, and whether its state folder is still there."""


async def serve(workspace: Path, ready: int) -> None:
    """Own the workspace until told to stop, or until idle for limits.daemon_idle seconds."""
    async with Microkernel(workspace, os.environ) as kernel, Server(kernel, paths.socket_path(workspace)) as server:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, kernel.stopping.set)
        _say(ready, {"ready": os.getpid()})
        log.info("ready: workspace %s, process %s", workspace, os.getpid())
        asyncio.get_running_loop().call_later(0.2, _warm, kernel)
        await _until_stopped(kernel, server)
        log.info("stopping")
        await asyncio.sleep(0.02)  # let the answer to system.shutdown leave


def _warm(kernel: Microkernel) -> None:
    """Import what the first model call needs before somebody waits for it, and give back what only the start needed."""
    kernel.spawn(asyncio.to_thread(_settle))
    kernel.spawn(kernel.warm())


def _settle() -> None:
    importlib.import_module("aiohttp")
    memory.give_back()


async def _until_stopped(kernel: Microkernel, server: Server) -> None:
    idle_stop = max(kernel.limits().daemon_idle, LEAST_IDLE)
    lock = paths.state_dir(kernel.workspace) / "lock"
    ours = lock.stat().st_ino
    while not kernel.stopping.is_set():
        if server.clients or kernel.busy:
            wait = idle_stop
        else:
            wait = server.idle_since + idle_stop - asyncio.get_running_loop().time()
            if wait <= 0:
                return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(kernel.stopping.wait(), min(wait, LOOK_SECONDS))
        if not lock.exists() or lock.stat().st_ino != ours:
            log.warning("the state folder was removed or replaced: stopping, so that nobody writes into nothing")
            return
        with contextlib.suppress(OSError, AgentOSError):  # tried again at the next look
            if await server.mend():
                log.warning("the socket was removed: listening again")


def _say(descriptor: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, pack(message))
        os.close(descriptor)


class _Lines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the stack of an error."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, delay=True)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def main(workspace: Path, ready: int) -> int:
    """Run the daemon; exit code 0 after an orderly stop."""
    os.umask(0o077)
    try:
        with Lock(workspace):
            _log_to(paths.state_dir(workspace) / "daemon.log")
            asyncio.run(serve(workspace, ready))
    except AgentOSError as error:
        log.error("%s", error.message)
        _say(ready, {"error": error_to_wire(error)})
        return 1
    except Exception as error:
        log.exception("the daemon failed")
        _say(ready, {"error": error_to_wire(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
