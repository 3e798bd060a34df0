"""Remove content for good: its bytes go, and a tombstone says when, who and why. No event is touched.

DIGEST is a content's sha256, or the beginning of one. Backups that were made before still hold it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli import text
from agentos_jupyter.errors import ConfigError, ContentNotFound
from agentos_jupyter.rpc.sync import SyncLink

LEAST = 8
"""Digits of a digest that are enough when they begin one only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("digest", help="sha256:… of the content, or its beginning")
    parser.add_argument("--reason", default="", help="why; it stays in the log")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    workspace = paths.workspace()
    digest = _whole(workspace, args.digest)
    with SyncLink(workspace) as link:
        if not args.yes and not _agreed(workspace, digest, link):
            print("Nothing was done.")
            return 1
        done = link.call("content.forget", {"digest": digest, "reason": args.reason})
    if args.json:
        print(json.dumps(done))
        return 0
    when = "Forgotten" if done["now"] else f"It was forgotten at {done['time'][:19]} already"
    print(f"{when}: {digest}, {text.size(done['bytes'])}. Backups that were made before still hold it.")
    return 0


def _whole(workspace: Path, named: str) -> str:
    """The digest that is meant."""
    digits = named.removeprefix("sha256:").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST},64}}", digits):
        raise ContentNotFound(
            f"{named[:80]!r} is no digest: it reads sha256: and 64 digits, of which the first {LEAST} may do."
        )
    if len(digits) == 64:
        return f"sha256:{digits}"
    found = [path.name for path in (paths.state_dir(workspace) / "blobs" / digits[:2]).glob(f"{digits}*")]
    if len(found) != 1:
        raise ContentNotFound(f"{named} begins {len(found)} digests of the content stored here: write more of it.")
    return f"sha256:{found[0]}"


def _agreed(workspace: Path, digest: str, link: SyncLink) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("Nobody can be asked here: `agentos forget DIGEST --yes` does it without asking.")
    sql = f"select count(*), count(distinct stream) from events where contains(data::varchar, '{digest}')"
    [[events, streams]] = link.call("sql.query", {"sql": sql})["rows"]
    path = paths.state_dir(workspace) / "blobs" / digest[7:9] / digest[7:]
    size = text.size(path.stat().st_size) if path.exists() else "not stored"
    print(f"{digest}: {size}, named by {events} events of {streams} streams.")
    print("Its bytes are removed for good; the events stay. Backups that were made before still hold it.")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
