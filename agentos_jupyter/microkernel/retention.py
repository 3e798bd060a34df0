"""What may go from the state folder, and what is a person's to remove: files by their age, never an event."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentos_jupyter.limits import Limits
from agentos_jupyter.log.exporting import MAKING


@dataclass(frozen=True, slots=True)
class Find:
    """Something that takes room: of which kind, its name, its bytes."""

    kind: str
    name: str
    bytes: int


def old(state: Path, limits: Limits) -> Iterator[tuple[str, Path]]:
    """Runs and services' output that are older than they are kept."""
    for kind, pattern, seconds in (
        ("runs", "runs/*", limits.keep_runs),
        ("logs", "service-*.log", limits.keep_logs),
        ("logs", "daemon.log.*", limits.keep_logs),
    ):
        for path in sorted(state.glob(pattern)):
            if _newest(path) < time.time() - seconds:
                yield kind, path


def cut_off(state: Path) -> Iterator[tuple[str, Path]]:
    """What restores and exports that were cut off left: none is at work while upkeep is."""
    for pattern in ("restoring-*", f"exports/{MAKING}*"):
        yield from (("cut off", path) for path in sorted(state.glob(pattern)))


def yours(state: Path) -> list[Find]:
    """What is kept until a person removes it: it may be the last copy of something."""
    paths = [*state.glob("damaged-*"), *state.glob("before-restore-*"), *state.glob("exports/*")]
    return [Find("yours", str(path), size(path)) for path in sorted(paths) if not path.name.startswith(MAKING)]


def size(path: Path) -> int:
    """Bytes of a file, or of all beneath a folder; no link is followed."""
    return sum(each.lstat().st_size for each in _files(path))


def _newest(path: Path) -> float:
    return max((each.lstat().st_mtime for each in _files(path)), default=path.lstat().st_mtime)


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for where, _, names in os.walk(path):
        yield from (Path(where, name) for name in names)


def remove(found: Iterable[tuple[str, Path]], dry: bool) -> list[Find]:
    """Remove what was found, or, when `dry`, only say so."""
    finds = []
    for kind, path in found:
        finds.append(Find(kind, path.name, size(path)))
        if not dry and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not dry:
            path.unlink(missing_ok=True)
    return finds


def summed(finds: Sequence[Find]) -> dict[str, tuple[int, int, list[str]]]:
    """For each kind: how many, how many bytes, and the first names."""
    kinds: dict[str, list[Find]] = {}
    for find in finds:
        kinds.setdefault(find.kind, []).append(find)
    return {
        kind: (len(each), sum(find.bytes for find in each), [find.name for find in each[:20]])
        for kind, each in kinds.items()
    }
