"""Show the workspace, its daemon, model and sandbox. Starts nothing; exit status 3 when no daemon runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from agentos_jupyter import __version__, paths, storage
from agentos_jupyter.cli import text
from agentos_jupyter.errors import AgentOSError, DaemonUnavailable
from agentos_jupyter.jupyter.words import count
from agentos_jupyter.rpc.sync import SyncLink

NOT_RUNNING = 3
"""As the Linux Standard Base has it for a service that is not running."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--all", action="store_true", help="every daemon of yours, of all workspaces")


def run(args: argparse.Namespace) -> int:
    if args.all:
        return _all(args.json)
    facts = gather(paths.workspace())
    print(json.dumps(facts, ensure_ascii=False) if args.json else describe(facts))
    return 0 if facts["daemon"] else NOT_RUNNING


def _all(as_json: bool) -> int:
    """Every daemon that answers at a socket of this user."""
    found = list(running())
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return 0 if found else NOT_RUNNING
    columns = ["workspace", "version", "pid", "sessions", "at work", "log"]
    rows = [
        [
            each["workspace"],
            each["version"],
            each["pid"],
            each["sessions"],
            each["running"],
            text.size(each["log_bytes"]),
        ]
        for each in found
    ]
    print(text.table(columns, rows) if rows else "No daemon of yours runs.")
    return 0 if found else NOT_RUNNING


def running() -> Iterator[dict[str, Any]]:
    """`system.info` of every daemon of this user; a socket that nobody serves is passed over."""
    for path in sorted(paths.runtime_dir().glob("*.sock")):
        with contextlib.suppress(AgentOSError, OSError), SyncLink.at(path) as link:
            yield link.info


def gather(workspace: Path) -> dict[str, Any]:
    """Everything `status` shows; `daemon` is None when none runs."""
    try:
        with SyncLink(workspace, start=False) as link:
            daemon: dict[str, Any] | None = link.call("system.info")
            problems = list(link.call("storage.get")["problems"])
    except DaemonUnavailable:
        daemon, problems = None, []
    return {
        "workspace": str(workspace),
        "version": __version__,
        "daemon": daemon,
        "storage": asdict(storage.measure(workspace)) | {"problems": problems},
        "sandbox": sandbox(),
    }


def sandbox() -> dict[str, str]:
    """The sandbox tier, found by trying it."""
    from agentos_jupyter.sandbox import probe

    tier = asyncio.run(probe())
    return {"tier": tier.name, "reason": tier.reason, "cure": tier.cure}


def describe(facts: dict[str, Any]) -> str:
    daemon, tier = facts["daemon"], facts["sandbox"]
    lines = {
        "workspace": facts["workspace"],
        "daemon": _daemon(daemon) if daemon else "not running (the next client starts it)",
        "log": text.size(facts["storage"]["log"]) + (f", {daemon['position']} events" if daemon else ""),
        **kept(facts["storage"]),
        "sandbox": tier["tier"] + (f": {tier['reason']}" if tier["tier"] != "namespaces" else ""),
    }
    if daemon:
        lines["sessions"] = f"{daemon['sessions']}, {count(daemon['running'], 'dispatch') or 'no dispatch'} running"
        lines["model"] = model(daemon)
    said = [*lines.items(), *(("salvaged", each) for each in (daemon or {}).get("salvages", ()))]
    return "\n".join(f"{name:<10} {text.visible(value)}" for name, value in said)


def kept(found: dict[str, Any]) -> dict[str, str]:
    """Lines on what else lies on the disk, and on the last backup; a failure to make one is said until one is made."""
    lines = {
        "content": f"{text.size(found['blobs'])}, and {text.size(found['other'])} of other state",
        "disk": "; ".join([f"{text.size(found['free'])} free", *found["problems"]]),
        "backup": _backup(found["backup"]) if found["backup"] else "none yet",
    }
    if found["failed"]:
        lines["backup"] += f"; failed at {found['failed']['time']}: {found['failed']['message']}"
    return lines


def _backup(last: dict[str, Any]) -> str:
    age = max(0.0, time.time() - datetime.fromisoformat(last["made"]).timestamp())
    return f"{text.duration(age)} ago, up to event {last['position']}, {last['backup']}"


def _daemon(info: dict[str, Any]) -> str:
    up = text.duration(max(0.0, time.time() - info["started"]))
    return f"AgentOS {info['version']}, pid {info['pid']}, up {up}"


def model(info: dict[str, Any]) -> str:
    """The model a prompt would ask, as `system.info` knows it; a scripted one says so."""
    if info["model_problem"]:
        return f"{info['model'] or 'none'}: {info['model_problem']}"
    return f"{info['model']} (scripted)" if info["scripted"] else str(info["model"])
