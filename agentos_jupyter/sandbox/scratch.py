"""A private folder on the host for what a sandbox's output outgrows; gone with it, even after a `kill -9`."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = f"agentos-{os.getuid()}-output-"
_YOUNG = 60.0
"""Seconds: a folder this new may not have got its lock yet."""


class Scratch:
    """Made at first use. A lock on the folder says that its owner lives; the next owner removes dead ones."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock = -1
        self._count = 0

    def spool(self) -> Path:
        """The path of a new file."""
        self._count += 1
        return self._made() / f"{self._count}.out"

    def home(self) -> Path:
        """A private folder for commands, where there is no file system of their own."""
        home = self._made() / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    def remove(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(self._lock)

    def _made(self) -> Path:
        if self._folder is None:
            _sweep()
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = _locked(self._folder)
        return self._folder


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Raises OSError when it is held, or not ours."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise PermissionError(folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError):
            if time.time() - folder.lstat().st_mtime < _YOUNG:
                continue
            lock = _locked(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
