"""The sandbox's nouns: what it may use, what it is made of, what a command came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TierName = Literal["namespaces", "none", "none-already-contained"]
Status = Literal["ok", "failed", "timeout", "killed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use. There are no defaults here: the numbers are data, in a skill.

    Seconds: `wall` (a command without a timeout of its own), `cpu` (each process).
    Counts: `processes`, `open_files` (each process).
    Bytes: `memory` (the whole tree), `file_size` (each file), `tmp` (/tmp, and the same again for the
    home folder), `shm` (/dev/shm), `output` (head and tail kept for the model), `full` (stored whole),
    `flood` (the command is killed beyond it).
    """

    wall: float
    cpu: int
    processes: int
    open_files: int
    memory: int
    file_size: int
    tmp: int
    shm: int
    output: int
    full: int
    flood: int


@dataclass(frozen=True, slots=True)
class Tier:
    """How a command is isolated here, why, and what a person can do for a better answer."""

    name: TierName
    reason: str
    cure: str = ""
    bwrap: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command came to.

    `exit_code` is the shell's (128 + signal where a signal ended it). `head_tail` is the merged output,
    at most `limits.output` bytes. `full` is a file outside the sandbox with the first `limits.full`
    bytes, only where the output was longer than `head_tail`; it is removed when the sandbox closes.
    `total` is every byte that was read; `notes` are sentences for the model.
    """

    status: Status
    exit_code: int | None
    head_tail: bytes
    full: Path | None
    total: int
    seconds: float
    notes: Sequence[str] = ()
