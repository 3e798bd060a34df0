"""Show a dispatch from the log, and follow it while it runs. Ctrl-C ends only the showing."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.jupyter.display import Screen
from agentos_jupyter.jupyter.safe import one_line, plain
from agentos_jupyter.jupyter.watch import Watch
from agentos_jupyter.rpc.link import Link


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="a dispatch; the beginning of its id is enough")


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_attach(args.id))


async def _attach(ref: str) -> int:
    link = await Link.open(paths.workspace())
    try:
        info = await link.call("dispatch.get", {"dispatch": ref})
        print(f"{info['id']}: {one_line(info['prompt'], 200)}", flush=True)
        screen = Screen(_Terminal(), "attach", live=False)
        watch = Watch(screen, quiet=info["kind"] == "person")
        ended = await link.call("dispatch.follow", {"dispatch": info["id"]}, watch.followed)
        return _shown(screen, watch, ended)
    finally:
        await link.aclose()


def _shown(screen: Screen, watch: Watch, ended: Mapping[str, Any]) -> int:
    """The end of it; the exit status says whether it went well."""
    if ended["status"] == "running":
        screen.note("The daemon stopped while this dispatch ran: attach again to follow it.")
    else:
        watch.end(ended)
    screen.draw()
    if ended["status"] == "ok":
        print(plain(ended["answer"]))
    elif ended.get("error"):
        print(f"It ended with {ended['error']['code']}: {plain(ended['error']['message'])}")
    return 0 if ended["status"] == "ok" else 1


class _Terminal:
    """Displays as lines: each step once, when it is over."""

    def show(self, data: Mapping[str, Any], metadata: Mapping[str, Any], display_id: str, update: bool) -> None:
        if data["text/plain"]:
            print(data["text/plain"], flush=True)

    def clear(self) -> None:
        """What a terminal has shown stays."""
