"""Ask the log a read-only question in SQL. `-` reads the statement from standard input."""

from __future__ import annotations

import argparse
import json
import sys

from agentos_jupyter.cli import text
from agentos_jupyter.rpc.sync import SyncLink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("statement", help="one SELECT, over: sessions history tool_calls dispatches costs events")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")


def run(args: argparse.Namespace) -> int:
    statement = sys.stdin.read() if args.statement == "-" else args.statement
    with SyncLink() as link:
        result = link.call("sql.query", {"sql": statement})
    if args.json:
        for row in result["rows"]:
            print(json.dumps(dict(zip(result["columns"], row, strict=True)), ensure_ascii=False))
    else:
        print(text.table(result["columns"], result["rows"]))
    if result["truncated"]:
        print("agentos: there are more rows than the limit allows; narrow the question.", file=sys.stderr)
    return 0
