"""The syscall table: each operation is one async function, and its signature and docstring are the contract.

A syscall takes `(kernel, caller, params)`, and `stream` when it streams; `params` and the result are pydantic
models. The table checks calls, serves them, and writes the typed clients and the reference page.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from agentos_jupyter.errors import InvalidParams, UnknownSyscall, nearest


class Shape(BaseModel):
    """Parameters or a result of a syscall: closed, frozen, built at first use."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Empty(Shape):
    """Nothing."""


class Sink(Protocol):
    """Where a streaming syscall sends its deltas."""

    def send(self, data: dict[str, Any]) -> None: ...

    async def caught_up(self) -> None:
        """Return when the reader has taken what was sent."""


@dataclass(frozen=True, slots=True)
class Syscall:
    """One row of the table."""

    name: str
    writes: bool
    streams: bool
    params: type[Shape]
    result: type[Shape]
    function: Callable[..., Awaitable[Any]]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""


Function = Callable[..., Awaitable[Any]]


def namespace(name: str, writes: tuple[Function, ...] = (), reads: tuple[Function, ...] = ()) -> dict[str, Syscall]:
    """The rows of one namespace; a trailing underscore in a function's name only avoids a builtin."""
    rows = [_row(name, function, True) for function in writes] + [_row(name, function, False) for function in reads]
    return {row.name: row for row in rows}


def _row(space: str, function: Function, writes: bool) -> Syscall:
    name = f"{space}.{function.__name__.rstrip('_')}"
    streams = "stream" in inspect.signature(function).parameters
    return Syscall(name, writes, streams, _annotation(function, "params"), _annotation(function, "return"), function)


def _annotation(function: Function, name: str) -> type[Shape]:
    """The shape an annotation names, read from the function's own module (other annotations may be for type checkers only)."""
    shape: type[Shape] = vars(sys.modules[function.__module__])[function.__annotations__[name]]
    return shape


def checked(table: Mapping[str, Syscall], method: str, params: dict[str, Any]) -> tuple[Syscall, Shape]:
    """The row and its validated parameters; raises `UnknownSyscall` or `InvalidParams` with the cure."""
    row = table.get(method)
    if row is None:
        raise UnknownSyscall(nearest("syscall", method, table))
    try:
        return row, row.params.model_validate(params)
    except ValidationError as error:
        raise InvalidParams(f"{method}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    parts = [f"{'.'.join(map(str, item['loc'])) or 'parameters'}: {item['msg'].lower()}" for item in error.errors()[:5]]
    return "; ".join(parts) + "."
