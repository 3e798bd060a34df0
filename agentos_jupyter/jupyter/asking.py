"""The options of `%%agent` as a prompt: what is attached, which form the answer has, and what it is bound as."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import CommandError, nearest
from agentos_jupyter.jupyter.cells import fill, names
from agentos_jupyter.jupyter.reading import read
from agentos_jupyter.jupyter.table import LIMITS
from agentos_jupyter.unit import Asked, Image

MOST_BYTES = 64 * 1024
"""Of a file whose text is put beneath a prompt: more than that is left to the agent, which can read it itself."""

LARGEST = 32 * 1024 * 1024
"""Bytes of an image that are read at all; `limits.image` is the smaller bound."""

_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
_LIST_OF = re.compile(r"list\[(\w+)\]")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as it is sent; `value` makes what is bound out of the answer's JSON, where a form was asked for."""

    text: str
    asked: Asked
    value: Callable[[Any], Any] | None = None


def question(text: str, options: Mapping[str, str], variables: Mapping[str, Any], root: Path) -> Question:
    """The prompt with its options carried out; nothing has been sent when this raises `CommandError`."""
    schema, value = _form(options["schema"], variables) if "schema" in options else (None, None)
    attached = [_file(root, name) for name in _listed(options.get("files"))]
    asked = Asked(
        model=options.get("model"),
        schema=schema,
        limits={name: options[name] for name in LIMITS if name in options},
        images=[_image(root, name, variables) for name in _listed(options.get("images"))],
    )
    return Question("\n\n".join([fill(text, variables), *attached]), asked, value)


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


# -- what is attached


def _file(root: Path, name: str) -> str:
    """A file as it stands beneath a prompt: its name, size and text; of a binary or long one not all."""
    raw, size = read(root, name, MOST_BYTES)
    if b"\0" in raw:
        return f"File {name} ({size} bytes, binary: look at it with a tool)"
    text = raw.decode("utf-8", "replace")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    more = f"\n[… {size - len(raw)} bytes left out: read the rest yourself …]" if size > len(raw) else ""
    return f"File {name} ({size} bytes):\n{fence}\n{text.rstrip()}\n{fence}{more}"


def _image(root: Path, name: str, variables: Mapping[str, Any]) -> Image:
    if name in variables:
        return _from_variable(name, variables[name])
    if not Path(name).suffix and name.isidentifier():
        raise CommandError(nearest("variable", name, names(variables)[:200]) + " Or name a file: images=plot.png.")
    data, size = read(root, name, LARGEST)
    if size > LARGEST:
        raise CommandError(f"{name} has {size} bytes, more than any model takes: make it smaller.")
    return _checked(name, data)


def _from_variable(name: str, value: Any) -> Image:
    """Bytes, an image of PIL, or a figure of matplotlib: whatever can be one, or can write itself as PNG."""
    if isinstance(value, bytes | bytearray):
        return _checked(name, bytes(value))
    buffer = io.BytesIO()
    if hasattr(value, "savefig"):
        value.savefig(buffer, format="png")
    elif hasattr(value, "save") and hasattr(value, "mode"):
        value.save(buffer, format="PNG")
    else:
        raise CommandError(
            f"The variable {name} is no image: bytes, an image of PIL or a figure of matplotlib is meant."
        )
    return _checked(name, buffer.getvalue())


def _checked(name: str, data: bytes) -> Image:
    mime = next((mime for magic, mime in _MAGIC.items() if data.startswith(magic)), None)
    if mime is None:
        raise CommandError(f"{name} is no image that models read: PNG, JPEG, GIF or WebP is meant.")
    return Image(data, mime, name)


# -- the form of the answer


def _form(name: str, variables: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """The JSON Schema that a `schema=` stands for, and what makes the bound value."""
    if name == "json":
        return {"type": "object"}, lambda value: value
    if name == "table":
        return {"type": "array", "items": {"type": "object"}}, frame
    each = _LIST_OF.fullmatch(name)
    if each:
        schema, make = _form(each[1], variables)
        definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
        return {"type": "array", "items": schema, **definitions}, lambda value: [make(one) for one in value]
    if name not in variables:
        raise CommandError(nearest("form or variable", name, ["json", "table", *names(variables)[:200]]))
    return _of_variable(name, variables[name])


def _of_variable(name: str, value: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    if isinstance(value, dict):
        return dict(value), lambda found: found
    if hasattr(value, "model_json_schema") and hasattr(value, "model_validate"):
        return value.model_json_schema(), value.model_validate
    raise CommandError(
        f"The variable {name} is no form of an answer: a pydantic model or a JSON Schema in a dict is meant."
    )


def frame(rows: list[dict[str, Any]]) -> Any:
    """Rows as Python has them: a DataFrame where pandas is installed, else the list of dicts."""
    try:
        import pandas  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
