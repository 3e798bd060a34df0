"""What went wrong, said in the log's own words: DuckDB's and the system's errors become named conditions."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb

from agentos_jupyter.errors import AgentOSError, LogDamaged, LogError, LogUnwritable, WorkspaceBusy

CURE = "`agentos salvage` goes on with what is whole in it and says what is lost; `agentos restore` puts a backup in its place."
RESTORE = "`agentos restore` puts a backup in its place; to begin a new history, move log.duckdb, log.duckdb.wal and head away."

_DAMAGE = (
    "corrupt",
    "not a valid duckdb database",
    "could not read enough bytes",
    "while replaying wal",
    "checksum",
    "failed to deserialize",
    "serialization error",
)
_BUSY = ("set lock on file", "configuration has been locked", "different configuration than existing")
_FULL = ("no space left", "disk quota exceeded", "file too large", "could not write", "disk full")
_READ_ONLY = ("read-only file system", "permission denied", "operation not permitted", "cannot open file")


def explain(error: Exception, database: Path) -> AgentOSError:
    """The named condition behind an exception of DuckDB, or of the system, about the file `database`."""
    if isinstance(error, AgentOSError):
        return error
    text = str(error)
    low = text.lower()
    if any(word in low for word in _BUSY):
        return busy(database)
    if any(word in low for word in _DAMAGE):
        return LogDamaged(f"The log {database} is damaged: {first_line(text).rstrip('.')}. {CURE}")
    if any(word in low for word in _FULL) or isinstance(error, OSError):
        return unwritable(error, database)
    if any(word in low for word in _READ_ONLY):
        return unwritable(error, database)
    return LogError(f"The log {database} could not do this: {first_line(text)}")


def busy(database: Path) -> WorkspaceBusy:
    return WorkspaceBusy(
        f"Another process, or another Log in this one, holds {database}: "
        "stop it (agentos stop), or reach it by connect()."
    )


def unwritable(error: BaseException, where: Path) -> LogUnwritable:
    """The sentence for a disk that does not take writes."""
    code = error.errno if isinstance(error, OSError) else None
    low = str(error).lower()
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or any(word in low for word in _FULL):
        reason, cure = "the disk (or the quota) is full", "free some space"
    elif code in (errno.EROFS, errno.EACCES, errno.EPERM) or any(word in low for word in _READ_ONLY):
        reason = "it is read-only for this user"
        cure = "make it writable, or use a workspace elsewhere (AGENTOS_WORKSPACE)"
    else:
        reason, cure = "the system refused the write", "look at the disk"
    return LogUnwritable(
        f"{where} cannot be written: {reason} ({first_line(str(error))}). "
        f"Nothing that was acknowledged is lost; {cure}, then open the workspace again."
    )


def is_memory(error: Exception) -> bool:
    """Whether DuckDB only lacked memory, which a later try may find."""
    return isinstance(error, duckdb.OutOfMemoryException)


def first_line(text: str) -> str:
    """The first line of what a program said, bounded."""
    return text.strip().splitlines()[0][:300] if text.strip() else "no further reason given"
