"""Between a row of the `events` table and an `Event`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from agentos_jupyter.records import Event

COLUMNS = ("position", "stream", "version", "time", "type", "actor", "dispatch", "data", "digest")
SELECT = f"select {', '.join(COLUMNS)} from events"


def to_event(row: Sequence[Any]) -> Event:
    """The event of a row in the order of `COLUMNS` (time is naive UTC)."""
    position, stream, version, time, type_, actor, dispatch, data, digest = row
    return Event(position, stream, version, time.replace(tzinfo=UTC), type_, actor, dispatch, json.loads(data), digest)
