"""Show the manual of a verb, a command of the cell language, an option, limit, error code, agent, model or skill."""

from __future__ import annotations

import argparse
import asyncio

from agentos_jupyter import paths
from agentos_jupyter.jupyter.manual import looked_up
from agentos_jupyter.jupyter.safe import plain
from agentos_jupyter.rpc.link import Link


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to explain (default: list the verbs)")


def run(args: argparse.Namespace) -> int:
    from agentos_jupyter.cli.main import VERBS, main

    if args.name is None:
        return main([])
    if args.name in VERBS:
        try:
            return main([args.name, "--help"])
        except SystemExit as ended:  # argparse prints and leaves
            return int(ended.code or 0)
    print(plain(asyncio.run(_looked_up(args.name.lstrip("%?!")))))
    return 0


async def _looked_up(name: str) -> str:
    link: Link | None = None

    async def call(method: str, params: dict[str, object]) -> object:
        nonlocal link
        link = link or await Link.open(paths.workspace())
        return await link.call(method, params)

    try:
        return await looked_up(name, call)
    finally:
        if link is not None:
            await link.aclose()
