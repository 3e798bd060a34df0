"""Between a row of the `events` table and an `Event`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from agentos_jupyter.records import Event

COLUMNS = ("position", "stream", "version", "time", "type", "actor", "dispatch", "data", "digest")
SELECT = f"select {', '.join(COLUMNS)} from events"


def to_events(rows: Sequence[Sequence[Any]]) -> list[Event]:
    """The events of many rows, their data parsed at one stroke: half the time of one by one."""
    parsed = json.loads(f"[{','.join(row[7] for row in rows)}]")
    return [
        Event(row[0], row[1], row[2], row[3].replace(tzinfo=UTC), row[4], row[5], row[6], data, row[8])
        for row, data in zip(rows, parsed, strict=True)
    ]


def to_event(row: Sequence[Any]) -> Event:
    """The event of a row in the order of `COLUMNS` (time is naive UTC)."""
    position, stream, version, time, type_, actor, dispatch, data, digest = row
    return Event(position, stream, version, time.replace(tzinfo=UTC), type_, actor, dispatch, json.loads(data), digest)
