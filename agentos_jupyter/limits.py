"""Every limit by name and unit; the numbers are data (`skills/aos-budget/defaults.yaml`), never here.

Stdlib only, because the notebook kernel imports it: limits travel to it as JSON (`dataclasses.asdict`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

from agentos_jupyter.errors import ConfigError, nearest

Count = Annotated[int, "count"]
"""A whole number; `400k` and `2M` are thousands and millions."""
Size = Annotated[int, "bytes"]
"""Bytes; `32k`, `16M`, `2G` are powers of 1024 (so are `kB`, `MiB`)."""
Seconds = Annotated[float, "seconds"]
"""Seconds; `250ms`, `30s`, `5m`, `2h` are durations."""
Dollars = Annotated[float, "dollars"]
"""US dollars."""
Statuses = Annotated[tuple[int, ...], "statuses"]
"""HTTP status codes."""

_SCALES: dict[str, dict[str, float]] = {
    "count": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6},
    "bytes": {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40},
    "dollars": {"": 1},
    "seconds": {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400},
}
_EXAMPLES = {"count": "50 or 400k", "bytes": "65536, 64k or 2G", "seconds": "30, 250ms or 5m", "dollars": "2 or 0.50"}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([a-z]{0,3})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a dispatch, its model calls, its commands, queries, the daemon and what it keeps."""

    turns: Count
    """Model calls in one dispatch."""
    wall: Seconds
    """One dispatch, all in all."""
    tokens: Count
    """Tokens of one dispatch, what went in and what came out, in all its turns."""
    usd: Dollars
    """What one dispatch may cost, where prices are known."""
    corrections: Count
    """How often a model is told that its answer does not have the form that was asked for."""
    calls: Count
    """Tool calls in one reply; of a longer list none is run, and the model is told."""
    prompt: Size
    """One prompt."""
    images: Count
    """Images attached to one prompt."""
    image: Size
    """One such image."""
    reply: Size
    """Text, reasoning and arguments of one reply."""
    window: Count
    """Tokens of context where nobody said how many a model takes."""

    answer: Count
    """Tokens of a model's window that are kept free for its answer."""

    compute: Seconds
    """One model call with all its attempts, waits and fallbacks."""
    queue: Seconds
    """Until it is a request's turn at a provider whose rate is limited; `compute` does not count it."""
    connect: Seconds
    """Until an endpoint accepts the connection."""
    first_token: Seconds
    """Until the first piece of a reply; keep-alive comments do not count."""
    idle: Seconds
    """Between two pieces of a reply."""
    attempts: Count
    """Requests to one model before the next fallback."""
    backoff: Seconds
    """Wait before the second attempt; doubles with each further one, with jitter."""
    backoff_max: Seconds
    """The longest such wait."""
    retry_after: Seconds
    """The longest `Retry-After` that is waited out; a longer one goes to the fallback."""
    retry_status: Statuses
    """Answers that are worth another attempt."""
    recording: Size
    """One recording that is replayed."""
    pattern: Seconds
    """One match of a pattern that came as data."""

    command: Seconds
    """One command in the sandbox."""
    cpu: Seconds
    """Processor time of one process in a sandbox."""
    output: Size
    """Output that a model reads: head and tail."""
    output_full: Size
    """Output that is stored whole."""
    output_flood: Size
    """Output after which a command is killed."""
    memory: Size
    """Memory of one sandbox."""
    processes: Count
    """Processes in one sandbox."""
    open_files: Count
    """Open files of one process in a sandbox."""
    file_size: Size
    """One file written in a sandbox."""
    tmp: Size
    """`/tmp` of a sandbox."""
    shm: Size
    """`/dev/shm` of a sandbox."""

    sql_rows: Count
    """Rows of one query's answer."""
    sql_bytes: Size
    """Bytes of one query's answer."""
    sql_seconds: Seconds
    """One query."""

    daemon_idle: Seconds
    """The daemon stops itself after nobody needed it for so long."""
    content: Size
    """One blob that is put by a client."""
    hook: Seconds
    """One answer of a hook's handler."""
    register: Seconds
    """Until a service that was started has registered its hooks."""
    lease: Seconds
    """A dispatch is kept for its unit for so long after the unit was last heard of."""

    look: Seconds
    """Between two looks at the free disk, and whether a backup or upkeep is due."""
    disk_low: Size
    """Free disk below which it is said: in cells, `status`, `doctor` and daemon.log."""
    backup: Seconds
    """The copy of the log for a backup; the log grows meanwhile, and is not put in order."""
    upkeep: Seconds
    """Between two upkeeps that the daemon does by itself, when no dispatch runs."""
    cluster: Count
    """Events since the rows were last ordered by session, after which an upkeep orders them again."""
    keep_blobs: Seconds
    """Content that no event names; the youngest may still be about to be named."""
    keep_runs: Seconds
    """Notebooks of background runs (`.agentos/runs/`)."""
    keep_logs: Seconds
    """What services printed (`.agentos/service-*.log`), after they last printed something."""


_KINDS: dict[str, str] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Limits, include_extras=True).items()
}


def merge(*layers: Mapping[str, Any]) -> Limits:
    """Limits out of layers, the later wins (shipped < agentos.yaml < agent < dispatch).

    Raises `ConfigError` for an unknown name, a wrong type, or a name that no layer gives; `error.data["key"]` names it.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {name: quantity(name, value) for name, value in layer.items()}

    missing = [field.name for field in fields(Limits) if field.name not in values]
    if missing:
        raise ConfigError(
            f"No limit is given for {', '.join(missing)}: the shipped skills/aos-budget/defaults.yaml is damaged."
        )
    return Limits(**values)


def quantity(name: str, value: Any) -> int | float | tuple[int, ...]:
    """The value of the limit `name` in its unit, from a number or a string such as `30m` or `2G`."""
    kind = _KINDS.get(name)
    if kind is None:
        raise ConfigError(nearest("limit", str(name), _KINDS), key=name)
    if kind == "statuses":
        return _statuses(name, value)

    number = _number(value, _SCALES[kind])
    if number is None or not math.isfinite(number) or number < 0:
        raise ConfigError(
            f"The limit {name!r} is in {kind}: write {_EXAMPLES[kind]}, not {str(value)[:40]!r}.", key=name
        )
    if kind in ("seconds", "dollars"):
        return number
    if number < 1:
        raise ConfigError(f"The limit {name!r} must be at least 1, not {str(value)[:40]}.", key=name)
    return round(number)


def count(value: Any) -> int | None:
    """A whole number from `128000` or `128k`; None where it is neither."""
    number = _number(value, _SCALES["count"])
    return None if number is None or not math.isfinite(number) or number < 1 else round(number)


def seconds(value: Any) -> float | None:
    """A span of time from `90` or `1d`; None where it is neither."""
    number = _number(value, _SCALES["seconds"])
    return None if number is None or not math.isfinite(number) or number <= 0 else number


def _number(value: Any, scales: Mapping[str, float]) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None

    unit = found[2] if scales is _SCALES["count"] else found[2].lower()  # 30m is minutes, never 30 million turns
    if scales is _SCALES["bytes"] and len(unit) > 1:
        unit = unit.removesuffix("b").removesuffix("i")
    scale = scales.get(unit)
    return None if scale is None else float(found[1]) * scale


def _statuses(name: str, value: Any) -> tuple[int, ...]:
    whole = isinstance(value, list | tuple) and all(type(code) is int and 400 <= code <= 599 for code in value)
    if not whole:
        raise ConfigError(
            f"The limit {name!r} is a list of HTTP status codes: write [429, 503], not {str(value)[:40]!r}.", key=name
        )
    return tuple(value)
