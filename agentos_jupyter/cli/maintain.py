"""Put the log in order and remove what is past its time: unnamed content, old runs, old output of services.

No event is ever deleted, and no content that an event names. The daemon does this by itself when it is at rest.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from agentos_jupyter.cli import text
from agentos_jupyter.jupyter.words import count
from agentos_jupyter.rpc.sync import SyncLink

KINDS = {
    "content": "blobs that no event names",
    "runs": "notebooks of background runs",
    "logs": "logs of services",
    "cut off": "leftovers of what was cut off",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    return upkept("storage.maintain", args)


def upkept(syscall: str, args: argparse.Namespace) -> int:
    with SyncLink(timeout=None) as link:
        done = link.call(syscall, {"dry": args.dry_run})
    print(json.dumps(done) if args.json else told(done, args.dry_run))
    return 0


def told(done: dict[str, Any], dry: bool) -> str:
    """What was done, a line each."""
    verb = "would remove" if dry else "removed"
    lines = [f"{verb} {each['count']} {KINDS[each['kind']]}, {text.size(each['bytes'])}" for each in done["removed"]]
    lines = lines or ["nothing is past its time"]
    if done["ordered"]:
        lines.append(
            f"{'would order' if dry else 'ordered'} the rows of {count(done['ordered'], 'new event')} by session"
        )
    if done["why"]:
        lines.append(done["why"])
    lines += [
        f"yours to delete, when you need it no more: {each['name']}, {text.size(each['bytes'])}"
        for each in done["yours"]
    ]
    return "\n".join(map(text.visible, lines))
