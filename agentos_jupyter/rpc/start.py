"""Find the daemon of a workspace, or start it: what every client does first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from agentos_jupyter import __version__, keys, paths
from agentos_jupyter.errors import ConnectionLost, DaemonUnavailable, VersionMismatch, WorkspaceBusy
from agentos_jupyter.rpc.wire import PROTOCOL, error_from_wire, unpack

START_SECONDS = 20.0
LAST_WORDS = 5.0
"""Seconds for a daemon that is started late to say at least why it cannot."""

T = TypeVar("T")


def connect(workspace: Path) -> socket.socket:
    """A socket to the running daemon; raises `DaemonUnavailable` when there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(os.fspath(paths.socket_path(workspace)))
    except OSError as error:
        sock.close()
        raise DaemonUnavailable(
            f"No daemon runs for {workspace} ({error.strerror}): `agentos start` starts one."
        ) from None
    return sock


def spawn(workspace: Path) -> socket.socket:
    """A socket to the daemon, started when none answers.

    A daemon that is just stopping, or started by somebody else at this moment, is waited for.
    Raises the error that kept the daemon from starting.
    """
    deadline = time.monotonic() + START_SECONDS
    with _queue(workspace) as ahead:
        while True:
            with contextlib.suppress(DaemonUnavailable):
                return connect(workspace)
            if time.monotonic() < deadline and not ahead():
                time.sleep(0.05)  # another client starts it
                continue
            try:
                start_process(workspace, max(deadline, time.monotonic() + LAST_WORDS))
            except WorkspaceBusy as busy:
                if time.monotonic() > deadline or busy.data.get("elsewhere"):
                    raise
                time.sleep(0.05)  # the owner of the lock is about to listen, or about to be gone


@contextlib.contextmanager
def _queue(workspace: Path) -> Iterator[Callable[[], bool]]:
    """Whether it is our turn to start the daemon: of many clients at once one starts it, and the others wait."""
    descriptor = -1

    def ahead() -> bool:
        nonlocal descriptor
        if descriptor < 0:
            path = paths.socket_path(workspace).with_suffix(".start")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        yield ahead
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def retried(greet: Callable[[], T]) -> T:
    """What `greet` brings, tried again when the daemon it reached was just stopping."""
    for _ in range(3):
        with contextlib.suppress(ConnectionLost):
            return greet()
    return greet()


def start_process(workspace: Path, deadline: float) -> None:
    """Start a daemon, detached from this process, and wait for its ready line."""
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentos_jupyter.microkernel.daemon", os.fspath(workspace), str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_safe_environment(),
            pass_fds=(writer,),
            start_new_session=True,
        )
    finally:
        os.close(writer)
    with open(reader, "rb") as ready:
        line = _read_line(ready.fileno(), deadline)
    status = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = process.wait(1.0)  # of the process that forked the daemon and ended at once
    if not line:
        raise DaemonUnavailable(
            f"The daemon for {workspace} did not get ready (exit status {status}): "
            f"its log is {paths.state_dir(workspace) / 'daemon.log'}; `agentos doctor` checks the parts."
        )
    message = unpack(line)
    if "error" in message:
        raise error_from_wire(message["error"])


def _safe_environment() -> dict[str, str]:
    """Our environment, without what would make Python import modules from the workspace."""
    unsafe = {"PYTHONSTARTUP", "PYTHONINSPECT"}
    return {**{k: v for k, v in os.environ.items() if k not in unsafe}, "PYTHONSAFEPATH": "1"}


def _read_line(descriptor: int, deadline: float) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(descriptor, 65536) if ready else b""
        if not chunk:
            return b""
        data += chunk
    return data


_OFFERED = ("AGENTOS_MODEL", "AGENTOS_TRUST", "OPENAI_MODEL")


def offer() -> dict[str, Any]:
    """What a client tells the daemon of itself; keys stay in the daemon's memory and go nowhere else."""
    environ = {k: v for k, v in os.environ.items() if k in _OFFERED or keys.reaches(k)}
    return {"version": __version__, "protocol": PROTOCOL, "environ": environ, "pid": os.getpid()}


def hello(info: dict[str, Any]) -> dict[str, Any]:
    """The daemon's answer to the offer, checked; raises `VersionMismatch`."""
    version, protocol = info.get("version", "unknown"), info.get("protocol", "unknown")
    if protocol != PROTOCOL:
        older = _numbers(str(version)) < _numbers(__version__)
        cure = (
            "it is at work; wait for it, or run `agentos stop` with that version"
            if older
            else "install that version here, or run `agentos stop` with it"
        )
        raise VersionMismatch(
            f"The daemon of this workspace is AgentOS {version} (protocol {protocol}), this is {__version__} "
            f"(protocol {PROTOCOL}): {cure}, then try again."
        )
    return info


def outdated(info: dict[str, Any]) -> bool:
    """Whether the daemon that greeted us is of an older version and at rest: then it makes room for ours.

    `running` and `system.shutdown` mean the same in every protocol.
    """
    return _numbers(str(info.get("version", ""))) < _numbers(__version__) and info.get("running") == 0


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
