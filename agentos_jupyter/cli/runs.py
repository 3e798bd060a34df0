"""List the latest dispatches of this workspace, newest first."""

from __future__ import annotations

import argparse
import json
from typing import Any

from agentos_jupyter.cli import text
from agentos_jupyter.rpc.sync import SyncLink

SHOWN = ("id", "kind", "status", "model", "turns", "calls", "seconds", "prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--limit", type=_number, default=20, help="how many (default: 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object a dispatch")


def _number(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"a number from 1 to 1000, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    with SyncLink() as link:
        dispatches = link.call("dispatch.list", {"limit": args.limit})["dispatches"]
    if args.json:
        for dispatch in dispatches:
            print(json.dumps(dispatch, ensure_ascii=False))
    elif dispatches:
        print(text.table(SHOWN, [[_shown(dispatch, name) for name in SHOWN] for dispatch in dispatches]))
    else:
        print("No dispatch yet: open a notebook with the AgentOS kernel and type what you want.")
    return 0


def _shown(dispatch: dict[str, Any], name: str) -> Any:
    if name == "model" and dispatch["scripted"]:
        return f"{dispatch['model']} (scripted)"
    return round(dispatch[name], 1) if name == "seconds" else dispatch[name]
