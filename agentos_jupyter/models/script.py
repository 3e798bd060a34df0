"""The YAML of a scripted model: data, never code, checked with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from agentos_jupyter import yamlfile
from agentos_jupyter.errors import ModelNotFound, nearest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _pattern(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 4_000:
        raise ValueError("a pattern is a text of at most 4000 characters")
    try:
        return regex.compile(value, regex.MULTILINE)
    except regex.error as error:
        raise ValueError(f"this is no pattern ({error})") from None


Pattern = Annotated[regex.Pattern[str], BeforeValidator(_pattern)]


class When(_Strict):
    """Conditions on the last observation, all of which must hold.

    `match` is searched in its text; `call` in the name, `arguments` in the command (or JSON) of the call it answers;
    `earlier` in what was said and printed before it, newest first; `turn` counts the replies since the last user
    message from 1.
    """

    role: Literal["user", "tool"] | None = None
    match: Pattern | None = None
    call: Pattern | None = None
    arguments: Pattern | None = None
    earlier: Pattern | None = None
    turn: int | None = Field(default=None, ge=1)


def _when(value: Any) -> Any:
    return {"match": value} if isinstance(value, str) else value


def _calls(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Rule(_Strict):
    """When this is seen, say that and ask for these calls. `delay` seconds pass before each streamed word."""

    when: Annotated[When, BeforeValidator(_when)] = When()
    say: str = ""
    calls: Annotated[list[dict[str, dict[str, Any]]], BeforeValidator(_calls)] = []
    delay: float = Field(default=0.0, ge=0, le=10)

    @field_validator("calls")
    @classmethod
    def _one_name_each(cls, value: list[dict[str, dict[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
        if any(len(call) != 1 for call in value):
            raise ValueError("each call is one name with its arguments: {bash: {command: ls}}")
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not self.say and not self.calls:
            raise ValueError("a rule says something, or calls something: add `say:` or `calls:`")
        return self


class Script(_Strict):
    """Rules, tried in order; `otherwise` is said when none matches."""

    about: str = ""
    rules: list[Rule] = Field(max_length=1_000)
    otherwise: str = ""


def read(path: Path) -> Script:
    """Raises `ModelNotFound` where there is no such file, `ConfigError` with file, line and cure where it is wrong."""
    try:
        document = yamlfile.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFound(f"The scripted model has no file {path}: write one, or use scripted:demo.") from None
    try:
        return Script.model_validate(document.data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
        location = [part for part in problem["loc"] if not str(part).startswith("function-")]
        if problem["type"] == "extra_forbidden":
            known = next(model for model in (When, Rule, Script) if _holds(model, location))
            raise document.error(nearest("key", str(location[-1]), known.model_fields), location, key=True) from None
        name = ".".join(str(part) for part in location) or "the file"
        said = problem["msg"].removeprefix("Value error, ")
        raise document.error(f"{name}: {said[:1].lower()}{said[1:]}.", location) from None


def _holds(model: type[BaseModel], location: list[int | str]) -> bool:
    """Which mapping an unknown key stands in: `rules.N.when.KEY`, `rules.N.KEY`, or `KEY`."""
    depth = {When: 4, Rule: 3, Script: 1}
    return len(location) == depth[model]
