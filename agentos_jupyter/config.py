"""Settings: what `agentos.yaml` says, checked, with the line of every mistake.

A file that could send something somewhere (`base_url`, `providers`, `${VAR}`) is read only in a trusted workspace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from agentos_jupyter import limits as limit_table
from agentos_jupyter import paths, yamlfile
from agentos_jupyter.errors import AgentOSError, ConfigError, WorkspaceUntrusted, nearest
from agentos_jupyter.limits import Limits

VARIABLE = re.compile(r"\$\{([^}]*)\}")
"""`${NAME}`: the value of an environment variable, filled in when a provider is used, never kept here."""

_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


def _count(value: Any) -> Any:
    found = limit_table.count(value)
    return value if found is None else found


def _seconds(value: Any) -> Any:
    found = limit_table.seconds(value)
    return value if found is None else found


def _role(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1, max_length=200)]
Tokens = Annotated[int, BeforeValidator(_count), Field(ge=1)]


class _Strict(BaseModel):
    """A mapping that knows its keys: an unknown one is an error with the nearest name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for key in data:
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key", "{sentence}", {"key": key, "sentence": nearest("key", str(key), cls.model_fields)}
                )
        return data


class Role(_Strict):
    """The model that plays a role, and who steps in when it cannot answer."""

    model: Name
    fallbacks: tuple[Name, ...] = Field(default=(), strict=False)


class ModelSettings(_Strict):
    """What is known of one model. Prices are US dollars for a million tokens."""

    window: Tokens | None = None
    max_output: Tokens | None = None
    price_input: float | None = Field(default=None, ge=0, strict=False)
    price_output: float | None = Field(default=None, ge=0, strict=False)
    price_cached: float | None = Field(default=None, ge=0, strict=False)


class RateSettings(_Strict):
    """What a provider takes: requests and tokens a minute, and requests at a time."""

    requests: Tokens | None = None
    tokens: Tokens | None = None
    concurrent: Tokens | None = None


class ProviderSettings(_Strict):
    """An OpenAI-compatible endpoint. `key` is `${VARIABLE}`, never literal: agents can read the file."""

    base_url: str | None = None
    key: str | None = Field(default=None, repr=False)
    headers: dict[str, str] = Field(default={}, repr=False)
    models: dict[str, ModelSettings] = {}
    rate: RateSettings | None = None

    @field_validator("base_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return None if value is None else endpoint(value)

    @field_validator("key")
    @classmethod
    def _no_literal_key(cls, value: str | None) -> str | None:
        if value and not VARIABLE.fullmatch(value):
            raise PydanticCustomError(
                "literal_key", "a key does not belong in a file that agents can read: write ${NAME_OF_THE_VARIABLE}"
            )
        return value

    @field_validator("headers")
    @classmethod
    def _no_literal_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if _SECRET_HEADER.search(name) and not VARIABLE.search(text):
                raise PydanticCustomError(
                    "literal_key",
                    "the header looks secret and agents can read this file: write ${NAME_OF_THE_VARIABLE}",
                )
            if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not text.isprintable():
                raise PydanticCustomError("header", "a header has a plain name and one line of text")
        return value


class AgentSettings(_Strict):
    """An agent: `agent:` of agentos.yaml for a session that names none, else a file of the folder `agents:` names."""

    name: Name | None = None
    description: str = ""
    system: str | None = None
    model: Name | None = None
    limits: dict[str, Any] = {}


class Settings(_Strict):
    """`agentos.yaml` of one workspace; everything has a default, so no file is needed."""

    workspace: Path
    model: Name | None = None
    models: dict[str, Annotated[Role, BeforeValidator(_role)]] = {}
    roles: dict[str, Annotated[Role, BeforeValidator(_role)]] = {}
    providers: dict[str, ProviderSettings] = {}
    limits: dict[str, Any] = {}
    context: Name = "aos-context"
    agent: AgentSettings = AgentSettings()
    protect: tuple[Name, ...] = Field(default=(), strict=False)
    agents: Name | None = None
    tools: Name | None = None

    @property
    def protected(self) -> tuple[str, ...]:
        """Everything an agent may only read: the constant list and the folders this file names."""
        named = (*self.protect, self.agents, self.tools)
        return tuple(dict.fromkeys((*paths.PROTECTED, *(str(PurePosixPath(name)) for name in named if name))))

    @field_validator("models")
    @classmethod
    def _short(cls, value: dict[str, Role]) -> dict[str, Role]:
        for name in value:
            if not re.fullmatch(r"[\w.-]{1,100}", name) or name == "human":
                raise PydanticCustomError(
                    "model_name",
                    "{name} cannot name a model: letters, digits, - . and _ can, and human is one already",
                    {"name": repr(name)},
                )
        return value

    @field_validator("protect", "agents", "tools")
    @classmethod
    def _inside(cls, value: Any) -> Any:
        for name in (value,) if isinstance(value, str) else value or ():
            parts = PurePosixPath(name).parts
            if name.startswith("/") or ".." in parts or not parts or "\0" in name:
                raise PydanticCustomError(
                    "outside", "a path inside the workspace is meant: write it without / at the front and without .."
                )
        return value


def load(workspace: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of a workspace; defaults where there is no `agentos.yaml`.

    Raises `ConfigError` (file, line, column, cure), or `WorkspaceUntrusted` where the file could send something out.
    """
    try:
        document = yamlfile.read(workspace / paths.CONFIG_NAME)
    except FileNotFoundError:
        return Settings(workspace=workspace)

    if environ.get("AGENTOS_TRUST") != "1":
        _refuse_untrusted(document)
    return _validate(document, workspace)


def limits(settings: Settings, *more: Mapping[str, Any] | None) -> Limits:
    """The limits in force: shipped < agentos.yaml < agent < session < dispatch. Raises `ConfigError`."""
    return limit_table.merge(shipped_limits(), settings.limits, *(each or {} for each in more))


def agents(settings: Settings) -> dict[str, AgentSettings]:
    """The agents of the workspace by name: one YAML file each in the folder that `agents:` names. Raises `ConfigError`."""
    if settings.agents is None:
        return {}
    files = sorted((settings.workspace / settings.agents).glob("*.yaml"))
    return {path.stem: _agent(path) for path in files}


def _agent(path: Path) -> AgentSettings:
    document = yamlfile.read(path)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise document.error("an agent is a mapping, with lines such as `system: You review what others wrote.`.")
    try:
        found = AgentSettings.model_validate({"name": path.stem, **data})
    except ValidationError as error:
        raise _located(document, error.errors(include_url=False)[0], AgentSettings.model_fields) from None
    _check_limits(document, found.limits, ("limits",))
    return found


@lru_cache(maxsize=1)
def shipped_limits() -> Mapping[str, Any]:
    """`skills/aos-budget/defaults.yaml` of the installed package."""
    path = paths.skills_dir() / "aos-budget" / "defaults.yaml"
    try:
        document = yamlfile.read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}:1:1: the shipped limits are missing: install agentos-jupyter again.") from None
    _check_limits(document, document.data, ())
    values: Mapping[str, Any] = document.data
    return values


class BackupSettings(_Strict):
    """`backup:` of the person's own config.yaml: where to, how often by itself, and how many are kept."""

    folder: Name
    every: Annotated[float, BeforeValidator(_seconds)] | None = None
    keep: int | None = Field(default=None, ge=1)

    @property
    def target(self) -> Path:
        return Path(self.folder).expanduser()

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not Path(value).expanduser().is_absolute():
            raise PydanticCustomError("folder", "the folder for backups is written from / or ~ on")
        return value


def user_backup() -> BackupSettings | None:
    """Backups as the person wants them, for all workspaces. Raises `ConfigError`.

    No workspace can say it: a file that comes with a folder would have one's words copied where its sender likes.
    """
    document = _user_document()
    data = document.data if document is not None and isinstance(document.data, dict) else {}
    if document is None or "backup" not in data:
        return None
    try:
        return BackupSettings.model_validate(data["backup"])
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise _located(document, {**problem, "loc": ("backup", *problem["loc"])}, BackupSettings.model_fields) from None


def _user_document() -> yamlfile.Document | None:
    try:
        return yamlfile.read(user_config_file())
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Functions:
    """The person's own functions that may be models, `module:function`, and the folders their modules are found in."""

    models: tuple[str, ...] = ()
    path: tuple[str, ...] = ()


def user_config_file() -> Path:
    """The person's own configuration, which no workspace can extend."""
    return paths.user_config_dir() / "config.yaml"


def user_variables() -> frozenset[str]:
    """Variables that `${NAME}` in an agentos.yaml may read beside providers' keys: `variables:` of the person's own
    config.yaml. Raises `ConfigError`."""
    return frozenset(_own_list("variables", "names, such as [MY_PROXY_TOKEN]"))


def user_functions() -> Functions:
    """`python_models:` and `python_path:` of the person's own config.yaml. Raises `ConfigError`."""
    models = _own_list("python_models", "functions, such as [my_models:answer]")
    path = [os.path.expanduser(each) for each in _own_list("python_path", "folders, such as [~/models]")]
    return Functions(tuple(models), tuple(path))


def _own_list(key: str, of: str) -> list[str]:
    document = _user_document()
    if document is None:
        return []
    named = document.data.get(key, []) if isinstance(document.data, dict) else []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise document.error(f"{key}: is a list of {of}.", [key])
    return named


def endpoint(url: str) -> str:
    """A base URL as the client uses it. Raises `PydanticCustomError` (a ValueError) with the cure."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PydanticCustomError("base_url", "a base URL looks like https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise PydanticCustomError(
            "base_url", "a base URL has no user, password or query: a key goes into the environment"
        )
    return url.strip().rstrip("/").removesuffix("/chat/completions")


def _validate(document: yamlfile.Document, workspace: Path) -> Settings:
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        raise document.error("the file must be a mapping, with lines such as `model: openrouter/auto`.")
    if "workspace" in data:
        raise document.error(nearest("key", "workspace", _file_keys()), ["workspace"], key=True)
    try:
        settings = Settings.model_validate({**data, "workspace": workspace})
    except ValidationError as error:
        raise _located(document, error.errors(include_url=False)[0], _file_keys()) from None

    _check_limits(document, settings.limits, ("limits",))
    _check_limits(document, settings.agent.limits, ("agent", "limits"))
    return settings


def _file_keys() -> list[str]:
    return [name for name in Settings.model_fields if name != "workspace"]


def _located(document: yamlfile.Document, problem: ErrorDetails, keys: Iterable[str]) -> ConfigError:
    location = tuple(problem["loc"])
    if problem["type"] == "unknown_key":
        key = problem["ctx"]["key"]
        sentence = nearest("key", str(key), keys) if not location else problem["msg"]
        return document.error(sentence, (*location, key), key=True)

    name = ".".join(str(part) for part in location)
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return document.error(f"{name}: {message}{_shown(problem)}.", location)


def _shown(problem: ErrorDetails) -> str:
    value = problem["input"]
    secret = {"key", "headers", "base_url"} & {str(part) for part in problem["loc"]}
    if problem["type"] == "missing":
        return ""
    if secret or not isinstance(value, str | int | float | bool | None):
        return f" (this is a {type(value).__name__})" if problem["type"].endswith("_type") else ""
    return f", not {str(value)[:60]!r}"


def _check_limits(document: yamlfile.Document, values: Any, location: tuple[str, ...]) -> None:
    for name, value in values.items() if isinstance(values, dict) else ():
        try:
            limit_table.quantity(name, value)
        except AgentOSError as error:
            unknown = error.message.startswith("no limit named")
            raise document.error(error.message, (*location, name), key=unknown) from None


def _refuse_untrusted(document: yamlfile.Document) -> None:
    for node, why in _risky(document.node, set()):
        mark = node.start_mark
        raise WorkspaceUntrusted(
            f"{document.path}:{mark.line + 1}:{mark.column + 1}: {why} could send your words or keys somewhere, "
            "and this workspace is not trusted yet: read the file, then start again with AGENTOS_TRUST=1, "
            "or remove the line.",
            path=str(document.path),
            line=mark.line + 1,
        )


def _risky(node: yaml.Node | None, seen: set[int]) -> Any:
    """Every place that names an endpoint or a variable, in the order of the file."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if VARIABLE.search(node.value):
            yield node, "a ${VARIABLE}"
        elif node.value in ("base_url", "providers"):
            yield node, f"`{node.value}`"
        return
    for child in yamlfile.children(node):
        yield from _risky(child, seen)
