"""What a workspace takes on the disk, and what its upkeep last did: read from files, with a daemon and without one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter import paths

NOTES = "upkeep.json"
"""A file of the state folder. It holds hints: what upkeep did last, and what went wrong. Lost, it costs one more upkeep."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Bytes of the log, of the blobs, of all else in the state folder, and free on its disk; the last backup
    (`made`, `folder`, …), and the last failure to make one (`time`, `message`)."""

    log: int
    blobs: int
    other: int
    free: int
    backup: Mapping[str, Any] | None
    failed: Mapping[str, Any] | None


def measure(workspace: Path) -> Facts:
    """`stat` alone: to open the database's file would drop its lock."""
    state = paths.state_dir(workspace)
    log = sum(map(_size, state.glob("log.duckdb*")))
    blobs = sum(map(_size, (state / "blobs").rglob("*")))
    every = sum(_size(Path(where, name)) for where, _, names in os.walk(state) for name in names)
    noted = notes(workspace)
    return Facts(
        log, blobs, every - log - blobs, shutil.disk_usage(workspace).free, noted.get("backup"), noted.get("failed")
    )


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_size if not path.is_dir() else 0
    return 0


def notes(workspace: Path) -> dict[str, Any]:
    """What upkeep noted; nothing where it noted nothing, or nothing that can be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((paths.state_dir(workspace) / NOTES).read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def note(workspace: Path, **more: Any) -> None:
    """Note more; a None takes a note away. A disk that refuses costs the note only."""
    path = paths.state_dir(workspace) / NOTES
    kept = {name: value for name, value in {**notes(workspace), **more}.items() if value is not None}
    with contextlib.suppress(OSError):
        path.with_suffix(".new").write_text(json.dumps(kept))
        path.with_suffix(".new").replace(path)


def little(free: int, low: float, where: Path) -> str | None:
    """The sentence for a disk that is nearly full."""
    if free >= low:
        return None
    return (
        f"Only {free / 1e9:.2f} GB are free on the disk of {where} (limits.disk_low is {low / 1e9:.2f} GB): when it is full, "
        "nothing more can be recorded. `agentos maintain` frees what nobody needs."
    )
