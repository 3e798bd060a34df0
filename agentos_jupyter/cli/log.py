"""Show what happened in this workspace, an event a line; `--follow` goes on with what comes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.cli import text
from agentos_jupyter.errors import ConfigError, ConnectionLost, DaemonUnavailable
from agentos_jupyter.rpc.peer import Peer
from agentos_jupyter.rpc.start import connect, hello, offer, spawn

WIDEST = 120
"""Characters of an event's text on its line; `--json` has it whole."""

SHOWN = ("text", "prompt", "command", "answer", "name", "error", "reason", "status", "arguments")
"""What is told of an event's data, the first that is there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=int, default=20, metavar="N", help="the last N events (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until interrupted")
    parser.add_argument("--session", metavar="ID", help="of one session only (the beginning of its id is enough)")
    parser.add_argument("--type", metavar="TYPE", help="of one type only, such as tool.call")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--daemon", action="store_true", help="the daemon's own log instead: what it did and what failed"
    )


def run(args: argparse.Namespace) -> int:
    if args.n < 0:
        raise ConfigError(f"-n is a number of events, not {args.n}.")
    if args.daemon:
        return _daemon(paths.workspace(), args)
    asyncio.run(_Follower(paths.workspace(), args).run())
    return 0


class _Follower:
    """Events in the order of the log, each once: `position` is the last one shown, also across a daemon that died."""

    def __init__(self, workspace: Path, args: argparse.Namespace) -> None:
        self._workspace, self._args = workspace, args
        self._position = 0

    async def run(self) -> None:
        await self._last(await self._connected(spawn))
        while self._args.follow:
            with contextlib.suppress(ConnectionLost, DaemonUnavailable):
                await self._follow(await self._connected(connect))
            await asyncio.sleep(0.3)  # nobody needs the daemon now: it is not started for a reader, and waited for

    async def _connected(self, how: Any) -> Peer:
        sock = await asyncio.to_thread(how, self._workspace)
        sock.setblocking(False)
        peer = await Peer.on(sock)
        hello(await peer.call("system.hello", offer()))
        return peer

    async def _last(self, peer: Peer) -> None:
        """The last N events that are asked for."""
        wanted = [f"stream like '%/{_plain(self._args.session)}%'"] if self._args.session else []
        wanted += [f"type = '{_plain(self._args.type)}'"] if self._args.type else []
        where = f" where {' and '.join(wanted)}" if wanted else ""
        columns = "position, stream, version, time, type, actor, dispatch, data"
        sql = f"select {columns} from events{where} order by position desc limit {self._args.n}"
        found = await peer.call("sql.query", {"sql": sql})
        head = await peer.call("system.info", {})
        for row in reversed(found["rows"]):
            event = dict(zip(found["columns"], row, strict=True))
            self._show(
                {**event, "data": json.loads(event["data"]) if isinstance(event["data"], str) else event["data"]}
            )
        self._position = max(self._position, head["position"] if not found["rows"] else found["rows"][0][0])
        await peer.aclose()

    async def _follow(self, peer: Peer) -> None:
        try:
            await peer.call("event.subscribe", {"after": self._position}, self._news)
        finally:
            await peer.aclose()

    def _news(self, data: dict[str, Any]) -> None:
        for event in data["events"]:
            if event["position"] > self._position:
                self._position = event["position"]
                if self._wanted(event):
                    self._show(event)

    def _wanted(self, event: dict[str, Any]) -> bool:
        args = self._args
        return (not args.type or event["type"] == args.type) and (
            not args.session or event["stream"].partition("/")[2].startswith(args.session)
        )

    def _show(self, event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False, default=str) if self._args.json else line(event), flush=True)


def line(event: dict[str, Any]) -> str:
    """An event on one line, which cannot steer a terminal."""
    told = next((event["data"][name] for name in SHOWN if event["data"].get(name)), "")
    said = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    short = text.visible(said)
    cut = short if len(short) <= WIDEST else short[: WIDEST - 1] + "…"
    where = text.visible(str(event["stream"]).partition("/")[2])
    return f"{str(event['time'])[:19].replace('T', ' ')}  {where:<16}  {event['type']:<20}  {cut}".rstrip()


def _plain(value: str) -> str:
    if not all(each.isalnum() or each in "-._" for each in value):
        raise ConfigError(f"{value!r} is no id or type: letters, digits, - . and _ are in one.")
    return value


def _daemon(workspace: Path, args: argparse.Namespace) -> int:
    """The lines of daemon.log, readable."""
    path = paths.state_dir(workspace) / "daemon.log"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-args.n :] if args.n else []
    except FileNotFoundError:
        raise ConfigError(f"No daemon has run for {workspace} yet: {path} is not there.") from None
    for each in lines if args.json else map(_readable, lines):
        print(each)
    return 0


def _readable(raw: str) -> str:
    try:
        said = json.loads(raw)
        head = f"{said['time'][:19].replace('T', ' ')}  {said['level']:<7}  {text.visible(said['message'])}"
        return "\n".join([head, *("    " + text.visible(each) for each in said.get("error", "").splitlines())])
    except (ValueError, KeyError, TypeError):
        return text.visible(raw)
