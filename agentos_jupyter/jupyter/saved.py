"""A notebook as its file has it: plain JSON that an agent may have written, so each field may be anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import CommandError
from agentos_jupyter.jupyter.reading import read

LARGEST = 64 * 1024 * 1024
"""Bytes of a notebook that is looked at."""


@dataclass(frozen=True, slots=True)
class Output:
    """An output: its kind, what it shows (a MIME bundle, the fields of an error), and what it says of its origin."""

    kind: str
    data: Mapping[str, str]
    mark: Mapping[str, Any]

    @property
    def dispatch(self) -> str:
        return _text(self.mark.get("dispatch"))


@dataclass(frozen=True, slots=True)
class SavedCell:
    """A code cell: its place among all cells, from 1 on."""

    number: int
    id: str
    count: int | None
    source: str
    outputs: tuple[Output, ...]

    @property
    def digest(self) -> str:
        return digest(self.source)


@dataclass(frozen=True, slots=True)
class Saved:
    """A notebook's language and its code cells."""

    path: Path
    language: str
    cells: tuple[SavedCell, ...]


def digest(source: str) -> str:
    """The digest of a cell's text, as `dispatch.started` has it."""
    return "sha256:" + hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def load(root: Path, name: str) -> Saved:
    """Read a notebook, its path relative to `root` or absolute. Raises `CommandError`."""
    given = root / Path(name).expanduser()
    path = given.parent.resolve() / given.name
    raw, size = read(root.resolve(), str(path), LARGEST)
    if size > LARGEST:
        raise CommandError(f"{name} has {size} bytes, more than the {LARGEST} that are looked at.")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise CommandError(f"{name} is no notebook: it is not JSON.") from None
    if not isinstance(found, dict) or found.get("nbformat") != 4 or not isinstance(found.get("cells"), list):
        raise CommandError(f"{name} is no notebook of format 4.")
    cells = [
        _cell(number, each) for number, each in enumerate(found["cells"], 1) if _object(each).get("cell_type") == "code"
    ]
    return Saved(path, _language(_object(found.get("metadata"))), tuple(cells))


def _language(metadata: Mapping[str, Any]) -> str:
    spec, info = _object(metadata.get("kernelspec")), _object(metadata.get("language_info"))
    return _text(spec.get("language")) or _text(info.get("name")) or "agentos"


def _cell(number: int, found: Mapping[str, Any]) -> SavedCell:
    count, outputs = found.get("execution_count"), found.get("outputs")
    made = tuple(_output(_object(each)) for each in outputs) if isinstance(outputs, list) else ()
    whole = count if isinstance(count, int) else None
    return SavedCell(number, _text(found.get("id")), whole, _text(found.get("source")), made)


def _output(found: Mapping[str, Any]) -> Output:
    kind = _text(found.get("output_type"))
    shown = found.get("data") if kind in ("display_data", "execute_result") else found
    data = {
        str(name): _text(value) for name, value in _object(shown).items() if name not in ("metadata", "output_type")
    }
    return Output(kind, data, _object(_object(found.get("metadata")).get("agentos")))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """Text of a notebook: a string, or its lines."""
    if isinstance(value, list):
        return "".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""
