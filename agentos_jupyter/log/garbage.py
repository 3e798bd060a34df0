"""Blobs that nobody names any more: by no event, and by no JSON that an event names.

What is kept is decided generously. A digest is named wherever `sha256:…` stands in an event's data; a named blob that
is JSON (a manifest) names what stands in it. Whoever puts bytes again makes them young again, so what is about to be
named is not removed.
"""

from __future__ import annotations

import mmap
import re
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from agentos_jupyter.log.blobs import Blobs

_NAMED = re.compile(rb"sha256:[0-9a-f]{64}")
_IN_EVENTS = """
select distinct unnest(regexp_extract_all(data::varchar, 'sha256:[0-9a-f]{64}'))
from events where position > ? and contains(data::varchar, 'sha256:')
"""


def named(cursor: duckdb.DuckDBPyConnection, blobs: Blobs, after: int = 0) -> set[str]:
    """Every digest that events after a position name, and those that are named by what they name."""
    found: set[str] = set()
    new = {row[0] for row in cursor.execute(_IN_EVENTS, [after]).fetchall()}
    while new:
        found |= new
        new = {each for digest in new for each in _in_json(blobs.path(digest))} - found
    return found


def _in_json(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            if file.read(1) not in (b"{", b"["):
                return set()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                return {match[0].decode() for match in _NAMED.finditer(text)}
    except FileNotFoundError:
        return set()


def unnamed(blobs: Blobs, kept: set[str], seconds: float) -> Iterator[tuple[str, int]]:
    """Digest and size of each blob that is not in `kept` and was put longer ago than so many seconds."""
    for path in sorted(blobs.folder.glob("??/*")):
        digest = "sha256:" + path.name
        found = path.stat()
        if digest not in kept and found.st_mtime < time.time() - seconds:
            yield digest, found.st_size
