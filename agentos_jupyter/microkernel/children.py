"""What every child process of the daemon has: output that is kept in bounds, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from io import FileIO
from pathlib import Path

from agentos_jupyter.rpc.peer import Peer

LOG_BYTES = 1024 * 1024
"""What is kept of a child's output, from each of its starts."""

PATIENCE = 1.0
"""Seconds in which a child may end by itself, once its channel is closed."""


def _opened(log_file: Path) -> FileIO:
    size = log_file.stat().st_size if log_file.exists() else 0
    return log_file.open("ab" if size < LOG_BYTES else "wb", buffering=0)


async def keep_output(output: asyncio.StreamReader, log_file: Path) -> None:
    """Keep the beginning of what a child prints; a flood is read and dropped."""
    with _opened(log_file) as file:
        left = LOG_BYTES
        while data := await output.read(65536):
            file.write(data[:left])
            left = max(0, left - len(data))


async def end(
    peer: Peer | None, process: asyncio.subprocess.Process | None, draining: asyncio.Task[None] | None
) -> None:
    """Close the channel, which is the request to end; then kill the process with whatever it started."""
    if peer is not None:
        await peer.aclose()
    if process is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if draining is not None:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
