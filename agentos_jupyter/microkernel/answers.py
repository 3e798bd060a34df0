"""Answers with a form: JSON by a schema, asked for with the prompt, checked when the answer comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentos_jupyter.errors import InvalidParams

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
SHOWN = 5
"""Mistakes that are told to the model at once."""


class NoJson(ValueError):
    """An answer holds no JSON value."""


def request(schema: Mapping[str, Any]) -> str:
    """What is added to a prompt so that a model knows the form."""
    return (
        "When you are done, answer with one JSON value and nothing else, without any text around it. "
        f"It must be valid by this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )


def check(schema: Mapping[str, Any]) -> None:
    """Raise `InvalidParams` where the schema itself is wrong."""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise InvalidParams(f"The schema of the answer is no JSON Schema: {error.message} (at {where}).") from None


def value(text: str) -> Any:
    """The JSON value of an answer: the whole text, else its last fenced block. Raises `NoJson`."""
    for candidate in (text, *reversed(_FENCED.findall(text))):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    raise NoJson("the answer is not JSON")


def mistakes(schema: Mapping[str, Any], text: str) -> list[str]:
    """What is wrong with an answer, a line each; nothing for a valid one."""
    try:
        return list(_lines(schema, value(text)))
    except NoJson as error:
        return [str(error)]


def correction(lines: Sequence[str]) -> str:
    """What the model is told of its mistakes."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    listing = "\n".join(f"- {line}" for line in [*lines[:SHOWN], *more])
    return (
        f"Your answer does not have the form that was asked for:\n{listing}\nAnswer again, with the JSON value alone."
    )


def _lines(schema: Mapping[str, Any], found: Any) -> Iterator[str]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = Draft202012Validator(schema, registry=Registry())  # an own registry: nothing is ever fetched
    try:
        errors: list[ValidationError] = sorted(
            validator.iter_errors(found), key=lambda error: list(map(str, error.absolute_path))
        )
    except (Unresolvable, RecursionError) as error:
        raise InvalidParams(f"The schema of the answer refers to something outside itself ({error}).") from None
    for each in errors:
        yield f"{each.json_path}: {each.message[:300]}"
