"""Content-addressed bytes: a blob is on the disk, whole, before anything names it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from agentos_jupyter.errors import ContentNotFound, EventRefused
from agentos_jupyter.log.failure import unwritable

MAX_CHUNK = 2 << 20
MAX_UPLOADS = 64
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


Clean = Callable[[BinaryIO], Iterable[bytes]]
"""Bytes as they came → as they are stored, in pieces."""


@dataclass
class _Upload:
    file: BinaryIO
    path: Path
    size: int = 0
    sha: hashlib._Hash = field(default_factory=hashlib.sha256)


class Blobs:
    """The blobs below `folder`, sharded by the first two digits of their SHA-256, mode 0600, never changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._uploads: dict[str, _Upload] = {}
        self._finished: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()
        self._going = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where a digest's bytes are. Raises `ContentNotFound` for what is not `sha256:` and 64 hexadecimal digits."""
        if not _DIGEST.fullmatch(digest):
            raise ContentNotFound(
                f"{digest[:80]!r} is not a content digest: it reads sha256: and 64 lower-case hexadecimal digits."
            )
        name = digest[7:]
        return self.folder / name[:2] / name

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of a blob. Raises `ContentNotFound`."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise self._missing(digest) from None

    async def put(self, data: bytes) -> str:
        """Store bytes and return their digest; fsynced when it returns. Raises `LogUnwritable`."""
        return await asyncio.to_thread(self.put_now, data)

    async def get(self, digest: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes from `offset`, at most `length`. Raises `ContentNotFound`."""
        return await asyncio.to_thread(self.get_now, digest, offset, length)

    def put_now(self, data: bytes) -> str:
        """`put`, blocking."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if self._renewed(digest):
            return digest
        try:
            path, file = self._temporary()
            try:
                with file:
                    file.write(data)
                    _sync(file)
                self._install(path, digest)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise unwritable(error, self.folder) from error
        return digest

    def get_now(self, digest: str, offset: int = 0, length: int | None = None) -> bytes:
        """`get`, blocking."""
        if offset < 0 or (length is not None and length < 0):
            raise EventRefused("A blob is read from an offset of at least 0, with a length of at least 0.")
        try:
            with self.path(digest).open("rb") as file:
                file.seek(offset)
                return file.read() if length is None else file.read(length)
        except FileNotFoundError:
            raise self._missing(digest) from None

    async def upload(
        self, id: str, offset: int, data: bytes, last: bool, *, limit: int, clean: Clean | None = None
    ) -> str | None:
        """Add one chunk (at most 2 MiB) at `offset`, which must be where the last one ended; the digest once `last`.

        Repeating the chunk that was just taken is answered as the first time (a client that lost the answer).
        `limit` bounds the whole; what `clean` makes of it is what is stored.
        Raises `EventRefused`, after which the upload is forgotten, and `LogUnwritable`.
        """
        return await asyncio.to_thread(self._upload_now, id, offset, data, last, limit, clean)

    def abort(self, id: str) -> None:
        """Forget an unfinished upload."""
        upload = self._uploads.pop(id, None)
        if upload is not None:
            upload.file.close()
            upload.path.unlink(missing_ok=True)

    def remove(self, digest: str, before: float) -> int:
        """Remove a blob that was last put before a time (seconds since 1970); its bytes, 0 where it stays."""
        path = self.path(digest)
        with self._going, contextlib.suppress(FileNotFoundError):
            found = path.stat()
            if found.st_mtime < before:
                path.unlink()
                return found.st_size
        return 0

    def _renewed(self, digest: str) -> bool:
        """Whether it is stored already; it counts as just put, because somebody is about to name it."""
        with self._going, contextlib.suppress(FileNotFoundError):
            os.utime(self.path(digest))
            return True
        return False

    def close(self) -> None:
        """Forget all unfinished uploads."""
        for id in list(self._uploads):
            self.abort(id)

    def sweep(self) -> None:
        """Remove what unfinished writes of an earlier process left."""
        for path in self.folder.glob("upload-*"):
            path.unlink(missing_ok=True)

    def _upload_now(self, id: str, offset: int, data: bytes, last: bool, limit: int, clean: Clean | None) -> str | None:
        with self._lock:
            try:
                return self._take(id, offset, data, last, limit, clean)
            except OSError as error:
                self.abort(id)
                raise unwritable(error, self.folder) from error

    def _take(self, id: str, offset: int, data: bytes, last: bool, limit: int, clean: Clean | None) -> str | None:
        end = offset + len(data)
        size, digest = self._finished.get(id, (-1, ""))
        if last and offset and end == size:
            return digest
        upload = self._begin(id, offset)
        if offset and not last and end == upload.size:
            return None
        self._check(id, upload, offset, data, limit)
        upload.file.write(data)
        upload.sha.update(data)
        upload.size = end
        if last and clean is not None:
            self._clean(upload, clean)
        return self._finish(id, upload) if last else None

    def _begin(self, id: str, offset: int) -> _Upload:
        if offset == 0:
            self.abort(id)
        if id in self._uploads:
            return self._uploads[id]
        if offset != 0:
            raise EventRefused(
                f"Upload {id[:80]!r} is not known here (a restart or {MAX_UPLOADS} newer ones ended it): "
                "start again at offset 0."
            )
        if len(self._uploads) >= MAX_UPLOADS:
            self.abort(next(iter(self._uploads)))
        path, file = self._temporary()
        return self._uploads.setdefault(id, _Upload(file, path))

    def _check(self, id: str, upload: _Upload, offset: int, data: bytes, limit: int) -> None:
        if offset != upload.size:
            expected = upload.size
            self.abort(id)
            raise EventRefused(f"Upload {id[:80]!r} goes on at {expected}, not at {offset}: start again at offset 0.")
        if len(data) > MAX_CHUNK:
            self.abort(id)
            raise EventRefused(f"A chunk has at most {MAX_CHUNK} bytes, this one {len(data)}: send smaller chunks.")
        if offset + len(data) > limit:
            self.abort(id)
            raise EventRefused(f"This upload may have at most {limit} bytes: shorten the content.")

    def _clean(self, upload: _Upload, clean: Clean) -> None:
        """Replace the bytes by what `clean` makes of them."""
        upload.file.flush()
        path, file = self._temporary()
        sha = hashlib.sha256()
        try:
            with upload.path.open("rb") as source:
                for piece in clean(source):
                    file.write(piece)
                    sha.update(piece)
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise
        upload.file.close()
        upload.path.unlink()
        upload.file, upload.path, upload.sha = file, path, sha

    def _finish(self, id: str, upload: _Upload) -> str:
        digest = "sha256:" + upload.sha.hexdigest()
        _sync(upload.file)
        upload.file.close()
        self._uploads.pop(id, None)
        while len(self._finished) >= MAX_UPLOADS:
            self._finished.pop(next(iter(self._finished)))
        self._finished[id] = (upload.size, digest)
        if self._renewed(digest):
            upload.path.unlink(missing_ok=True)
        else:
            self._install(upload.path, digest)
        return digest

    def _temporary(self) -> tuple[Path, BinaryIO]:
        path = self.folder / f"upload-{secrets.token_hex(8)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return path, os.fdopen(fd, "wb")

    def _install(self, temporary: Path, digest: str) -> None:
        final = self.path(digest)
        new_shard = not final.parent.is_dir()
        final.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(temporary, final)
        sync_folder(final.parent)
        if new_shard:
            sync_folder(self.folder)

    def _missing(self, digest: str) -> ContentNotFound:
        return ContentNotFound(f"No content {digest} is stored here: never put, or forgotten.", digest=digest)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
