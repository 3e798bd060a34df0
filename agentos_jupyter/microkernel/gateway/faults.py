"""What litellm raises, as the same named errors with the same cures that the direct client gives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentos_jupyter.errors import AgentOSError, ContextTooLong, ModelRefused, ModelUnavailable
from agentos_jupyter.models import failures

_PREFIX = re.compile(r"\A(?:litellm\.)?\w+(?:Error|Exception|Timeout)(?::| -)\s+", re.ASCII)
_BYTES = re.compile(r"\Ab(['\"])(.*)\1", re.DOTALL)
_HINT = re.compile(r"\.? ?Handle with `litellm\.\w+`\.?\Z")
_WIRE = re.compile(r"connection error|connect call failed|cannot connect|disconnected|server closed|timed? ?out", re.I)
_CUT = re.compile(r"before a finish_reason|before .{0,40}(?:received|complete)|incomplete chunked", re.I)
_NO_MODULE = re.compile(r"No module named '([\w.]+)'|pip install ['\"`]?([\w\[\]-]+)")

SEEN = frozenset(
    ("api_base", "api_version", "aws_region_name", "vertex_project", "vertex_location", "project_id", "space_id")
)
"""What goes with a call beside keys and may be seen in an error."""


def named(model: str, error: Exception, key_name: str | None) -> AgentOSError:
    """The error an exception means: by its HTTP status where a provider gave one, else by what broke on the way."""
    if isinstance(error, AgentOSError):
        return error
    said = _said(error)
    missing = _NO_MODULE.search(said)
    if missing:
        package = missing[1] or missing[2]
        return ModelRefused(f"{model} needs the package {package}: install it into the environment of AgentOS.")
    if _is(error, "ContextWindowExceededError"):
        return ContextTooLong(
            f"{model}: {failures.summary(said.encode('utf-8', 'replace'))}. The context is too long for this model.",
            status=400,
        )
    if _CUT.search(said):
        return ModelUnavailable(f"{model} broke off in the middle of its reply.")
    status, headers = _answer(error)
    if status is None:
        return _unanswered(model, error, said)
    return failures.from_status(model, status, headers, said.encode("utf-8", "replace"), key_name)


def _unanswered(model: str, error: Exception, said: str) -> AgentOSError:
    """No provider said a status: something on the wire, or within litellm."""
    told = failures.clean(said) or type(error).__name__
    if _WIRE.search(said):
        return ModelUnavailable(f"{model}: no answer ({told}): check the network and the base URL.")
    if _is(error, "APIConnectionError", "Timeout", "InternalServerError", "ServiceUnavailableError"):
        return ModelUnavailable(f"{model} reported an error in its stream: {told}.")
    return ModelRefused(
        f"{model}: litellm does not carry this request ({told}): check the model's name and parameters."
    )


def _answer(error: Exception) -> tuple[int | None, Mapping[str, str]]:
    """Status and headers of the provider's answer; litellm makes 500 of much that never was one, so the first cause counts."""
    for each in reversed(list(_chain(error))):
        response = getattr(each, "response", None)
        headers = getattr(response, "headers", None) or getattr(each, "headers", None)
        status = getattr(each, "status_code", None)
        if isinstance(status, int) and 300 <= status <= 599 and (headers or status not in (500, 503, 408)):
            return status, {str(name).lower(): str(value) for name, value in (headers or {}).items()}
    return None, {}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, the newest first."""
    seen: set[int] = set()
    inner: Any = error
    while isinstance(inner, BaseException) and id(inner) not in seen and len(seen) < 20:
        seen.add(id(inner))
        yield inner
        inner = getattr(inner, "original_exception", None) or inner.__cause__ or inner.__context__


def _said(error: Exception) -> str:
    """The provider's own words: without litellm's names in front and its advice behind."""
    text = str(getattr(error, "message", None) or error)
    while found := _PREFIX.match(text):
        text = text[found.end() :]
    text = _HINT.sub("", text)
    quoted = _BYTES.match(text)
    return quoted[2] if quoted else text


def _is(error: BaseException, *names: str) -> bool:
    """By name, so that this module needs no litellm."""
    return any(type(each).__name__ in names for each in _chain(error))


def scrubbed(error: AgentOSError, secrets: Any) -> AgentOSError:
    """The error without any of these values in its sentence."""
    message = error.message
    for value in sorted(_values(secrets), key=len, reverse=True):
        message = message.replace(value, "***")
    return error if message == error.message else type(error)(message, **error.data)


def _values(secrets: Any) -> Iterator[str]:
    if isinstance(secrets, dict):
        for name, value in secrets.items():
            if name not in SEEN:
                yield from _values(value)
    elif isinstance(secrets, str) and len(secrets) >= 6:
        yield secrets
