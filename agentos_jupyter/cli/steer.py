"""Say something to a dispatch at work: the agent reads it before its next turn. `-` reads the words from standard input."""

from __future__ import annotations

import argparse
import asyncio
import sys

from agentos_jupyter import paths
from agentos_jupyter.cli.text import visible
from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter.steering import say
from agentos_jupyter.rpc.link import Link


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a dispatch (the beginning of its id is enough), or a session")
    parser.add_argument("text", metavar="TEXT", nargs="+", help="what to say")


def run(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.text == ["-"] else " ".join(args.text)
    if not text.strip():
        raise CommandError("There is nothing to say: write the words behind the id, or pipe them in with `-`.")
    print(visible(asyncio.run(_say(args.id, text.strip()))))
    return 0


async def _say(ref: str, text: str) -> str:
    link = await Link.open(paths.workspace())
    try:
        return await say(link, ref, text)
    finally:
        await link.aclose()
