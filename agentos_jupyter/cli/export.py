"""Write the events and every view as files for pandas, DuckDB, Polars or a spreadsheet; never over what is there.

Without FOLDER they stay in .agentos/exports. The rows of a file are in no order: sort by `position`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from agentos_jupyter.cli import text
from agentos_jupyter.errors import CommandError
from agentos_jupyter.rpc.sync import SyncLink


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, help="where to: a new or empty folder")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--parquet", dest="format", action="store_const", const="parquet", help="as Parquet files")
    kind.add_argument("--jsonl", dest="format", action="store_const", const="jsonl", help="as lines of JSON")
    parser.add_argument("--json", action="store_true", help="one JSON object about what was written")


def run(args: argparse.Namespace) -> int:
    folder = None if args.folder is None else _free(args.folder.expanduser().resolve())
    with SyncLink(timeout=None) as link:
        made = link.call("storage.export", {"format": args.format})
    if folder is not None:
        made["folder"] = str(_moved(Path(made["folder"]), folder))
    if args.json:
        print(json.dumps(made))
        return 0
    print(f"in {text.visible(made['folder'])}")
    rows = [[each["name"], each["rows"], text.size(each["bytes"])] for each in made["files"]]
    print(text.table(["file", "rows", "size"], rows))
    return 0


def _free(folder: Path) -> Path:
    """The folder, when nothing in it can be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is not empty, and an export overwrites nothing: name a new folder.")
    if not folder.parent.is_dir():
        raise CommandError(f"The folder {folder.parent} is not there: make it first.")
    return folder


def _moved(made: Path, folder: Path) -> Path:
    """Move the files, over a name that nobody takes for an export when it is cut off."""
    beside = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.move(made, beside)
    if folder.is_dir():
        folder.rmdir()
    return beside.rename(folder)
