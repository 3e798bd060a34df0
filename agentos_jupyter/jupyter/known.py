"""The names that may stand in a command, by kind: what the daemon knows, the variables, the files of the session's root."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import AgentOSError
from agentos_jupyter.jupyter.table import AGENT, DISPATCH, HOOK, LIMIT, LIMITS, MODEL, SESSION, SKILL

PATIENCE = 0.02
"""Seconds that a completion waits for the daemon; what comes later is there for the next one."""

FRESH = 2.0
"""Seconds in which names are not asked for again."""

LISTED, ENTRIES = 100, 5_000
"""Sessions and dispatches that are offered; entries of a folder that are looked at."""

Call = Callable[[str, dict[str, Any]], Coroutine[Any, Any, Any]]


class Known:
    """What the daemon knows, kept here: an answer that is late, or a daemon that is away, shows the names of last time."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._names: dict[str, list[str]] = {}
        self._asked: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def names(self, kind: str) -> list[str]:
        """The names of a kind, within `PATIENCE`."""
        if kind == LIMIT:
            return [f"{name}=" for name in LIMITS]
        if kind not in _ASK:
            return []
        if time.monotonic() - self._asked.get(kind, -FRESH) >= FRESH:
            await asyncio.wait([self._ask(kind)], timeout=PATIENCE)
        return self._names.get(kind, [])

    def warm(self) -> None:
        """Ask for all of them, for the completions to come."""
        for kind in _ASK:
            self._ask(kind)

    def _ask(self, kind: str) -> asyncio.Task[None]:
        task = self._asking.get(kind)
        if task is None or task.done():
            task = self._asking[kind] = asyncio.get_running_loop().create_task(self._learn(kind))
        return task

    async def _learn(self, kind: str) -> None:
        method, params, names = _ASK[kind]
        try:
            self._names[kind] = list(dict.fromkeys(names(await self._call(method, params))))
        except AgentOSError:
            return
        self._asked[kind] = time.monotonic()

    def close(self) -> None:
        for task in self._asking.values():
            task.cancel()


def _sessions(found: Mapping[str, Any]) -> list[str]:
    return [each["name"] for each in found["sessions"]] + [each["id"] for each in found["sessions"]]


def _models(found: Mapping[str, Any]) -> list[str]:
    """Short names and roles stand for a model as its own name does."""
    called = [each["role"] for each in found["models"] if each["role"] not in (None, "default")]
    return called + [each["name"] for each in found["models"]]


_ASK: dict[str, tuple[str, dict[str, Any], Callable[[Any], list[str]]]] = {
    SESSION: ("session.list", {"limit": LISTED}, _sessions),
    DISPATCH: ("dispatch.list", {"limit": LISTED}, lambda found: [each["id"] for each in found["dispatches"]]),
    MODEL: ("model.list", {}, _models),
    AGENT: ("agent.list", {}, lambda found: [each["name"] for each in found["agents"]]),
    HOOK: ("hook.list", {}, lambda found: [each["name"] for each in found["hooks"]]),
    SKILL: ("skill.list", {}, lambda found: [each["name"] for each in found["skills"]]),
}


def files(root: Path, beginning: str) -> list[str]:
    """Paths beneath `root` that begin so, folders with a `/`; no link is followed, and nothing outside is looked at."""
    folder, slash, start = beginning.rpartition("/")
    if beginning.startswith(("/", "~")) or ".." in Path(folder).parts or paths.in_state(folder):
        return []
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        here = paths.open_beneath(root, folder, flags) if folder else os.open(root, flags)
    except OSError:
        return []
    try:
        with os.scandir(here) as entries:
            found = [_shown(here, entry) for entry in islice(entries, ENTRIES) if entry.name.startswith(start)]
    except OSError:
        return []
    finally:
        os.close(here)
    visible = [name for name in found if start.startswith(".") or not name.startswith(".")]
    return [
        f"{folder}{slash}{name}" for name in sorted(visible) if not paths.in_state(f"{folder}{slash}{name}".rstrip("/"))
    ]


def _shown(folder: int, entry: os.DirEntry[str]) -> str:
    try:
        kind = os.stat(entry.name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return entry.name
    return f"{entry.name}/" if stat.S_ISDIR(kind) else entry.name
