"""Compare what a saved notebook shows with the log, cell by cell. The exit status is 1 when something differs."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from agentos_jupyter import paths
from agentos_jupyter.cli import text
from agentos_jupyter.jupyter import saved
from agentos_jupyter.jupyter.verify import COLUMNS, Report, verify
from agentos_jupyter.rpc.link import Link


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", metavar="NOTEBOOK", help="an .ipynb file")
    parser.add_argument("--json", action="store_true", help="one JSON object a cell")


def run(args: argparse.Namespace) -> int:
    workspace = paths.workspace()
    report = asyncio.run(_verified(workspace, saved.load(workspace, str(Path(args.notebook).expanduser().absolute()))))
    if args.json:
        for row in report.rows():
            print(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False))
    else:
        print("\n".join(filter(None, [text.table(COLUMNS, report.rows()) if report.findings else "", report.sentence])))
    return 1 if report.wrong else 0


async def _verified(workspace: Path, notebook: saved.Saved) -> Report:
    link = await Link.open(workspace)
    try:
        return await verify(link.call, notebook)
    finally:
        await link.aclose()
