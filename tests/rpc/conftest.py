"""Helpers over real daemons: who owns a workspace, and how to end it the hard way."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter.rpc.link import Link
from tests.rpc.versions import other

__all__ = ["other"]


@pytest.fixture
async def link(workspace: Path) -> AsyncIterator[Link]:
    """A link to the workspace's daemon, started for it."""
    link = await Link.open(workspace)
    yield link
    await link.aclose()


@pytest.fixture
def owner(workspace: Path) -> Callable[[], int]:
    """The process that the lock names."""
    return lambda: int(json.loads((workspace / ".agentos" / "lock").read_text())["pid"])


@pytest.fixture
def kill(owner: Callable[[], int]) -> Callable[[], int]:
    """Ends the daemon with -9; returns its process id."""

    def now() -> int:
        pid = owner()
        os.kill(pid, signal.SIGKILL)
        return pid

    return now


@pytest.fixture
def key() -> Callable[[], str]:
    """A key of a client."""
    return lambda: secrets.token_hex(8)


@pytest.fixture
def begin(key: Callable[[], str]) -> Callable[..., Any]:
    """Begins a dispatch: `await begin(link, session_id, "prompt", **more)`."""

    async def now(link: Any, session: str, prompt: str = "hi", **more: Any) -> Any:
        return await link.call("dispatch.begin", {"session": session, "prompt": prompt, "key": key(), **more})

    return now
