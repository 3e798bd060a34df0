"""Write a recording of a session: what the model was asked and what it answered, for `replay:FILE`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentos_jupyter.rpc.sync import SyncLink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", help="its id, the beginning of it, or its name")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="where to write it (default: standard output)"
    )


def run(args: argparse.Namespace) -> int:
    with SyncLink() as link:
        lines = list(_lines(link, args.session))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    turns = sum("turn" in line for line in lines)
    if args.output is None:
        sys.stdout.write(text)
        return 0
    _write(args.output, text)
    print(f"{turns} turns recorded: ask the model replay:{args.output} for them.")
    return 0


def _lines(link: SyncLink, session: str) -> Iterator[dict[str, Any]]:
    params: dict[str, Any] = {"session": session}
    while True:
        page = link.call("session.record", params)
        yield from page["lines"]
        if page["next"] is None:
            return
        params |= {"line": page["next"], "until": page["until"]}


def _write(path: Path, text: str) -> None:
    """All of it or nothing: a recording that was there before is replaced when the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
