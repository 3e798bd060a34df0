"""Writes the commands of the cell language into docs/reference/cells.md: `python -m agentos_jupyter.jupyter.reference`."""

from __future__ import annotations

import re
from pathlib import Path

from agentos_jupyter.jupyter.table import COMMANDS, Entry

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cells.md"
_SECTION = re.compile(r"## Commands\n.*?(?=^## )", re.DOTALL | re.MULTILINE)


def section() -> str:
    """The section `## Commands`, made of the table alone."""
    return "## Commands\n\n" + "\n".join(map(_entry, COMMANDS.values()))


def _entry(entry: Entry) -> str:
    usage = "\n".join(entry.usage)
    options = [f"| `{option.written}` | {option.does} |" for option in entry.options]
    table = ["| option | does |\n|---|---|\n" + "\n".join(options)] if options else []
    parts = [f"### `{entry.written}`", f"```text\n{usage}\n```", entry.does, entry.more, *table]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(text: str) -> str:
    """The page with its section made anew."""
    return _SECTION.sub(lambda _: section() + "\n", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
