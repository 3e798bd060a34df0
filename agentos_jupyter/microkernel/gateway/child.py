"""The gateway's process: it answers calls on its channel and is gone as soon as the daemon is.

`python -P -m agentos_jupyter.microkernel.gateway.child CHANNEL SIDE WORKSPACE` (two descriptors and a folder).
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import UnknownSyscall
from agentos_jupyter.microkernel.gateway.bodies import Bodies
from agentos_jupyter.rpc.peer import Peer, Stream

_SET_PARENT_DEATH_SIGNAL = 1


class Desk:
    """What the daemon may ask. Nothing heavy is imported before the first call that needs it."""

    def __init__(self, side: socket.socket, workspace: Path) -> None:
        self._bodies, self._workspace = Bodies(side), workspace

    async def answer(self, method: str, params: dict[str, Any], stream: Stream) -> Any:
        if method == "ping":
            return {}
        body = self._bodies.take(params["body"])
        match method:
            case "load":
                from agentos_jupyter.microkernel.gateway import asking

                await asking.loaded()
            case "complete":
                from agentos_jupyter.microkernel.gateway import asking

                await asking.complete(params, body, stream)
            case "python":
                from agentos_jupyter.microkernel.gateway import functions

                await functions.complete(params, body, stream, self._workspace)
            case "count":
                from agentos_jupyter.microkernel.gateway import counting

                return {"tokens": await asyncio.to_thread(counting.count, body)}
            case _:
                raise UnknownSyscall(f"the gateway answers ping, load, complete, python and count (not {method})")
        return {}


async def serve(channel: int, side: int, workspace: Path) -> None:
    """Answer until the daemon closes the channel."""
    desk = Desk(socket.socket(fileno=side), workspace)
    sock = socket.socket(fileno=channel)
    sock.setblocking(False)
    peer = await Peer.on(sock, desk.answer)
    await peer.closed


def forget(workspace: Path) -> None:
    """Import nothing from a folder that agents write, unless it holds the interpreter's own packages."""
    own = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}

    def written(entry: str) -> bool:
        path = Path(entry).resolve()
        return path.is_relative_to(workspace) and not any(path.is_relative_to(folder) for folder in own)

    sys.path[:] = [entry for entry in sys.path if entry and not written(entry)]


def main(channel: int, side: int, workspace: Path) -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # even if something here blocks for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon's business
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    forget(workspace)
    asyncio.run(serve(channel, side, workspace))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).resolve())
    os._exit(0)  # a thread that still runs must not keep the process
