"""`%%parameters`: YAML in, Python variables out."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from typing import Any

from agentos_jupyter.errors import CommandError

MOST, DEEPEST = 1 << 20, 100
"""Characters of the YAML; levels of its nesting, with those of stream and document."""


def load(text: str) -> dict[str, Any]:
    """The parameters by name; raises `CommandError` with the line for what is not a YAML mapping of names."""
    import yaml

    if len(text) > MOST:
        raise CommandError(
            f"The parameters are {len(text)} characters long, {MOST} at most: put large data in a file and name it here."
        )
    try:
        _bounded(yaml.parse(text, Loader=yaml.SafeLoader))
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise CommandError(
            f"The parameters are not YAML: {_sentence(error)} Write a line `name: value` for each."
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise CommandError("The parameters are not a mapping: write a line `name: value` for each.")
    for name in values:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise CommandError(
                f"{name!r} cannot be the name of a parameter: use letters, digits and _, as for a Python variable."
            )
    return values


def _bounded(events: Iterator[Any]) -> None:
    """Refuse values nested so deeply that reading them would exhaust Python's stack."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise CommandError(f"The parameters are nested more than {DEEPEST - 2} deep: put such data in a file.")


def _sentence(error: Exception) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return f"{where}{problem or error}."
