"""`aos.give`: Python's data as a file of the workspace, where the agent finds it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentos_jupyter import paths
from agentos_jupyter.errors import CommandError

FOLDER = "data"


def name_of(data: Any) -> str:
    """The file a value is given as: named after its variable, where one is found in the notebook."""
    notebook = vars(sys.modules["__main__"])
    found = next((name for name, value in notebook.items() if value is data and not name.startswith("_")), "given")
    return f"{FOLDER}/{found}{_suffix(data)}"


def _suffix(data: Any) -> str:
    if isinstance(data, str):
        return ".txt"
    return ".bin" if isinstance(data, bytes | bytearray) else ".parquet"


def give(data: Any, name: str, root: Path) -> str:
    """Write `data` to `name` beneath `root`, over what was there; returns the name. Raises `CommandError`."""
    if not Path(name).suffix:
        name += _suffix(data)
    content = data.encode() if isinstance(data, str) else data if isinstance(data, bytes | bytearray) else parquet(data)
    try:
        descriptor = paths.open_beneath(root, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as error:
        raise CommandError(f"{name} cannot be written: {error.strerror}.") from None
    with open(descriptor, "wb") as file:
        file.write(content)
    return name


def parquet(data: Any) -> bytes:
    """A table as Parquet. DuckDB writes it, with a database in memory of its own."""
    import duckdb

    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:") as con:
        file = os.path.join(folder, "table.parquet")
        try:
            relation = _relation(con, data, folder)
            relation.write_parquet(file)
        except (duckdb.Error, TypeError, ValueError) as error:
            raise CommandError(f"This cannot be written as a table: {str(error).splitlines()[0]}.") from None
        return Path(file).read_bytes()


def _relation(con: Any, data: Any, folder: str) -> Any:
    if isinstance(data, list | tuple):
        lines = Path(folder, "rows.json")
        lines.write_text("".join(json.dumps(row) + "\n" for row in data))
        return con.read_json(str(lines))
    if hasattr(data, "to_frame") and not hasattr(data, "columns"):
        data = data.to_frame()
    if hasattr(data, "to_arrow"):
        return con.from_arrow(data.to_arrow())
    if hasattr(data, "column_names"):
        return con.from_arrow(data)
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        return con.from_df(data)
    raise CommandError(
        f"A {type(data).__name__} is no table: a DataFrame, an Arrow table, a list of dicts, text or bytes can be given."
    )
