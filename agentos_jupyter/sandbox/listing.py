"""Which files a dispatch changed: two listings of a root, without following a link or reading a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentos_jupyter.paths import PROTECTED, in_state

Stamp = tuple[int, int, int, int, int]
"""(size, mtime ns, ctime ns, inode, mode)"""
Listing = Mapping[str, Stamp]
"""Path below the root → stamp, for everything that is not a folder; a made folder (`.venv/`) is one entry."""

_GIT = ".git"
_MADE = frozenset({"__pycache__", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"})
"""Folders that programs make and fill: two thousand files of theirs would bury the three that somebody wrote."""
_VENV = "pyvenv.cfg"
"""What makes a folder a virtual environment."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths below the root, sorted; `more` counts those beyond the bound."""

    created: Sequence[str]
    modified: Sequence[str]
    deleted: Sequence[str]
    more: int = 0


def listing(root: Path) -> dict[str, Stamp]:
    """Every file below `root` but those of the state folder and of git. What vanishes meanwhile is left out."""
    found: dict[str, Stamp] = {}
    waiting = [("", "")]
    while waiting:
        below, made = waiting.pop()
        made = made or (below if _is_made(root, below) else "")
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                for entry in entries:
                    _note(entry, below + entry.name, made, found, waiting)
        except OSError:
            continue
    return found


def _is_made(root: Path, below: str) -> bool:
    """Whether programs made this folder: it then stands in the listing as one entry, whatever is in it."""
    if not below:
        return False
    return os.path.basename(below[:-1]) in _MADE or os.path.lexists(os.path.join(root, below, _VENV))


def _note(
    entry: os.DirEntry[str], path: str, made: str, found: dict[str, Stamp], waiting: list[tuple[str, str]]
) -> None:
    if entry.name == _GIT or in_state(path):
        return
    try:
        if entry.is_dir(follow_symlinks=False):
            waiting.append((path + "/", made))
            return
        seen = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if seen.st_size == 0 and path in PROTECTED and stat.S_ISREG(seen.st_mode):
        return  # a placeholder, which comes and goes with the sandbox
    stamp = (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_mode)
    found[made or path] = _together(found[made], stamp) if made in found else stamp


def _together(one: Stamp, other: Stamp) -> Stamp:
    """One stamp for several files: it changes when any of them does, comes or goes."""
    newest = max(one[1], other[1]), max(one[2], other[2])
    return one[0] + other[0], *newest, one[3] + other[3], one[4] + other[4]


def diff(before: Listing, after: Listing, most: int = 1000) -> Changes:
    """What changed between two listings, at most `most` paths of each sort."""
    created = sorted(after.keys() - before.keys())
    deleted = sorted(before.keys() - after.keys())
    modified = sorted(path for path, stamp in after.items() if path in before and before[path] != stamp)
    more = sum(max(0, len(paths) - most) for paths in (created, modified, deleted))
    first, second, third = ([_shown(path) for path in paths[:most]] for paths in (created, modified, deleted))
    return Changes(first, second, third, more)


def _shown(path: str) -> str:
    """A file name is bytes; one that is no text is written with escapes, so that any log can hold it."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
