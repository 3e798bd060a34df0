"""Copies whose bytes are known: everything is hashed as it is copied, and is on the disk before it has its name."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agentos_jupyter.log.blobs import sync_folder

_CHUNK = 1 << 20


def copy(source: int, target: Path, length: int | None = None) -> tuple[str, int]:
    """Copy from a descriptor, at most `length` bytes, into a new file; its digest and size. Fsynced when it returns."""
    sha, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for chunk in _chunks(source, length):
            sha.update(chunk)
            size += len(chunk)
            while chunk:
                chunk = chunk[file.write(chunk) or 0 :]
        os.fsync(descriptor)
    return "sha256:" + sha.hexdigest(), size


def _chunks(source: int, length: int | None) -> Iterator[bytes]:
    left = length
    while left is None or left > 0:
        chunk = os.read(source, _CHUNK if left is None else min(_CHUNK, left))
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        yield chunk


def opened(path: Path) -> int:
    """A descriptor of a file that is no link. Raises `OSError`."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def copied(source: Path, target: Path, length: int | None = None) -> tuple[str, int]:
    """`copy` from a path."""
    descriptor = opened(source)
    try:
        return copy(descriptor, target, length)
    finally:
        os.close(descriptor)


class Pool:
    """Bytes by digest, each once, shared by the backups beside it; a name stands for a whole file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._touched: set[Path] = set()

    def path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.folder / name[:2] / name

    def has(self, digest: str, size: int) -> bool:
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def add(self, source: int) -> tuple[str, int]:
        """Take the bytes behind a descriptor; their digest and size."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        temporary = self.folder / f"new-{secrets.token_hex(8)}"
        try:
            digest, size = copy(source, temporary)
            final = self.path(digest)
            if not final.parent.is_dir():
                final.parent.mkdir(mode=0o700)
                self._touched.add(self.folder)
            os.replace(temporary, final)
            self._touched.add(final.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return digest, size

    def sync(self) -> None:
        """Make the names of what was added durable."""
        for folder in self._touched:
            sync_folder(folder)
        self._touched.clear()

    def sweep(self) -> None:
        """Remove what an interrupted `add` left."""
        for path in self.folder.glob("new-*"):
            path.unlink(missing_ok=True)

    def keep_only(self, digests: set[str]) -> int:
        """Remove everything else; the bytes that became free."""
        freed = 0
        for path in self.folder.glob("??/*"):
            if "sha256:" + path.name not in digests:
                with suppress(FileNotFoundError):
                    freed += path.stat().st_size
                    path.unlink()
        return freed
