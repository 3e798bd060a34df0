"""Make a backup of this workspace while it works, or list those there are.

A backup holds the log, all content and whatever else is state (.agentos), not the files you work on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agentos_jupyter import config, paths
from agentos_jupyter.cli import text
from agentos_jupyter.errors import AgentOSError, BackupRefused, ConfigError
from agentos_jupyter.rpc.sync import SyncLink

NO_FOLDER = (
    "Name a folder for backups, or write `backup: {folder: ~/backups, every: 1d, keep: 7}` into your config.yaml."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, help="where to (default: backup.folder of your config.yaml)")
    parser.add_argument("--list", action="store_true", help="the backups of this workspace that are there")
    parser.add_argument("--keep", type=int, metavar="N", help="then remove all but the newest N of this workspace")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    if args.keep is not None and args.keep < 1:
        raise ConfigError(f"--keep is a number of backups from 1 on, not {args.keep}.")
    if args.list:
        return _list(_folder(args.folder), args.json)
    folder = None if args.folder is None else args.folder.expanduser().resolve()
    if folder is not None and folder.parent.is_dir():
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
    with SyncLink(timeout=None) as link:
        given = {"folder": None if folder is None else str(folder), "keep": args.keep}
        made = link.call("storage.backup", {name: value for name, value in given.items() if value is not None})
    print(json.dumps(made) if args.json else _told(made))
    return 1 if made["missing"] else 0


def _told(made: dict[str, Any]) -> str:
    held = f"{made['position']} events, {made['blobs']} blobs, {made['files']} other files, {text.size(made['bytes'])}"
    lines = [f"Backup {text.visible(made['backup'])}", f"  {held}, in {text.duration(made['seconds'])}"]
    if made["pruned"]:
        lines.append(f"  removed {len(made['pruned'])} older ones, which freed {text.size(made['freed'])} of content")
    lines += [f"  damaged or unreadable here, and not in it: {text.visible(each)}" for each in made["missing"]]
    return "\n".join(lines)


def _folder(named: Path | None) -> Path:
    settings = config.user_backup()
    folder = named or (settings.target if settings else None)
    if folder is None:
        raise BackupRefused(NO_FOLDER)
    return folder.expanduser().resolve()


def _list(folder: Path, as_json: bool) -> int:
    from agentos_jupyter.log.backup import backups

    place = backups.set_folder(folder, paths.workspace())
    rows: list[list[Any]] = []
    found: list[dict[str, Any]] = []
    for path in reversed(backups.whole(place if place.is_dir() else folder)):
        try:
            manifest = backups.read(path)
        except AgentOSError as error:
            rows.append([str(path), "", "", "", error.message])
            found.append({"backup": str(path), "problem": error.message})
            continue
        rows.append([path.name, manifest.position, manifest.blobs, text.size(manifest.bytes), manifest.agentos])
        found.append({"backup": str(path), **asdict(manifest)})
    if as_json:
        print(json.dumps(found))
    elif rows:
        print(f"in {text.visible(str(place))}")
        print(text.table(["backup", "events", "blobs", "size", "made by"], rows))
    else:
        print(f"No backup of this workspace is in {text.visible(str(folder))}.")
    return 0
