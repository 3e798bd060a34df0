"""Protected paths: what a sandbox may only read, kept even where it does not exist yet.

A path can only be protected by a mount, and a mount needs something to stand on, so a missing path gets
an empty placeholder on the host. A record beside the log says which were made; they are removed, if they
are still ours and still empty, when the last sandbox of the root ends or the next one starts.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from agentos_jupyter.errors import SandboxUnavailable
from agentos_jupyter.paths import STATE_NAME

GIT = ".git"
_RECORD_LIMIT = 1 << 20

Identity = tuple[int, int]
"""(device, inode)"""


@dataclass(frozen=True, slots=True)
class Guard:
    """A path below the root and what is mounted on it: itself read-only, itself (an ancestor), nothing."""

    path: str
    kind: Literal["read-only", "itself", "hidden"]


class Protection:
    """The guards of one root, and the placeholders some of them stand on."""

    def __init__(self, root: Path, state: Path, names: Iterable[str]) -> None:
        self.root = root
        self.state = state
        self.names = tuple(dict.fromkeys((*names, GIT)))
        self._lock: int | None = None
        self._mounted: dict[str, Identity] = {}

    def prepare(self) -> list[Guard]:
        """Makes what is missing, and says what to mount, parents before their children."""
        try:
            self._hold()
            guards, missing = self._survey()
            if missing:
                self._make(missing)
        except OSError as error:
            raise SandboxUnavailable(
                f"The sandbox cannot protect this workspace's own files: {error.strerror} ({error.filename}). "
                f"Make {self.root} writable, with free space, or work in another folder."
            ) from error
        self._mounted = {guard.path: self._identity(guard.path) for guard in guards}
        self._mounted["."] = self._identity(".")
        return guards

    def intact(self) -> bool:
        """Whether each path is still the one that was mounted: a rename over a mount point from outside
        (an editor that saves atomically, `git checkout`) silently takes the mount away."""
        return all(self._identity(path) == known for path, known in self._mounted.items())

    def release(self) -> None:
        """Removes the placeholders, unless another sandbox of this root still stands on them."""
        lock, self._lock, self._mounted = self._lock, None, {}
        if lock is None:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sweep()
        except OSError:
            pass  # another sandbox holds it and sweeps at its end
        finally:
            os.close(lock)

    def _hold(self) -> None:
        if self._lock is not None:
            return
        self._make_state()
        lock = os.open(self.state / "sandbox.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._sweep()
            fcntl.flock(lock, fcntl.LOCK_SH)
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def _make_state(self) -> None:
        for folder in (self.root / STATE_NAME, self.state):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                (folder / ".gitignore").write_text("*\n")
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise SandboxUnavailable(
                    f"{folder} is not a folder of its own, so it cannot be hidden from a sandbox: remove it, "
                    "and a new one is made."
                )

    def _survey(self) -> tuple[list[Guard], list[str]]:
        kinds: dict[str, Guard] = {STATE_NAME: Guard(STATE_NAME, "hidden")}
        missing: list[str] = []
        names = list(self.names)
        for name in names:  # which grows by what links lead to
            parts = _parts(name)
            for depth in range(1, len(parts) + 1):
                path = "/".join(parts[:depth])
                found = self._look(path)
                if found is not None and stat.S_ISLNK(found.st_mode):
                    leads = self._link(path, kinds)
                    names += [leads] if leads and leads not in names else []
                    break
                if found is None:
                    missing.append(path if depth < len(parts) or not _is_file(name) else path + "\0")
                if depth == len(parts) or (found is not None and not stat.S_ISDIR(found.st_mode)):
                    kinds[path] = Guard(path, "read-only")
                    break
                kinds.setdefault(path, Guard(path, "itself"))
        guards = [guard for path, guard in kinds.items() if not _below_read_only(path, kinds)]
        guards.sort(key=lambda guard: guard.path.count("/"))
        return guards, list(dict.fromkeys(missing))

    def _link(self, path: str, kinds: dict[str, Guard]) -> str | None:
        """Nothing can be mounted on a symbolic link, so the folder that holds it becomes read-only; so must be what it
        leads to, which is returned where it lies below the root."""
        parent, _, _ = path.rpartition("/")
        place = f"{self.root}/{path}"
        target = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
        below = os.path.relpath(target, self.root)
        if not parent or below in (".", STATE_NAME) or os.path.realpath(target) != os.path.realpath(place):
            raise SandboxUnavailable(
                f"{place} is a symbolic link, which a sandbox cannot protect: replace it with what it points to."
            )
        kinds[parent] = Guard(parent, "read-only")
        return None if below.startswith("../") else below

    def _look(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _identity(self, path: str) -> Identity:
        found = self._look(path)
        return (found.st_dev, found.st_ino) if found else (0, 0)

    def _make(self, missing: list[str]) -> None:
        """Writes the names down first: whatever is made is on record, even if we are killed between."""
        record = self._read()
        record.update(dict.fromkeys((name.rstrip("\0") for name in missing), (0, 0)))
        self._write(record)
        for name in missing:
            path = name.rstrip("\0")
            with self._parent(path) as (folder, last), suppress(FileExistsError):
                if name.endswith("\0"):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(last, flags, 0o644, dir_fd=folder))
                else:
                    os.mkdir(last, 0o755, dir_fd=folder)
            record[path] = self._identity(path)
        self._write(record)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder that holds `path`, reached without following a link."""
        *folders, last = path.split("/")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(self.root, flags)
        try:
            for name in folders:
                below = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, last
        finally:
            os.close(folder)

    def _sweep(self) -> None:
        record = self._read()
        if not record:
            return
        for path in sorted(record, key=lambda path: -path.count("/")):
            with suppress(OSError):
                self._remove(path, record[path])
        self._write({})

    def _remove(self, path: str, made: Identity) -> None:
        with self._parent(path) as (folder, last):
            found = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if made != (0, 0) and made != (found.st_dev, found.st_ino):
                return
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(last, dir_fd=folder)  # refuses unless it is empty
            elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
                os.unlink(last, dir_fd=folder)

    @property
    def _record(self) -> Path:
        return self.state / "placeholders.json"

    def _read(self) -> dict[str, Identity]:
        try:
            with self._record.open("rb") as file:
                found = json.loads(file.read(_RECORD_LIMIT))
            return {"/".join(_parts(path)): (int(made[0]), int(made[1])) for path, made in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError, IndexError):
            return {}  # torn by a full disk: whatever it named stays, which is the safe side

    def _write(self, record: dict[str, Identity]) -> None:
        draft = self._record.with_suffix(".new")
        draft.write_text(json.dumps(record))
        draft.replace(self._record)


def _parts(name: str) -> list[str]:
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    if not parts or ".." in parts or parts[0] == "/":
        raise ValueError(f"a protected path lies below the root, and {name!r} does not")
    return parts


def _is_file(name: str) -> bool:
    return not name.endswith("/") and PurePosixPath(name).suffix in (".yaml", ".yml", ".json", ".toml", ".md")


def _below_read_only(path: str, kinds: dict[str, Guard]) -> bool:
    return any(kinds[str(p)].kind == "read-only" for p in PurePosixPath(path).parents if str(p) in kinds)
