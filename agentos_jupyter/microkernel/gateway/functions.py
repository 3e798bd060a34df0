"""A person's own function as a model: `answer(messages, tools, params)`, run here because only here may it block or fail.

It returns text, `{"text": …, "calls": [{"name": …, "arguments": {…}}]}`, or yields such pieces; it may be async.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import AgentOSError, ModelMalformed, ModelNotFound, ModelRefused
from agentos_jupyter.models import failures
from agentos_jupyter.models.deltas import CallPart, Delta, Finish, Text
from agentos_jupyter.models.remote import pack
from agentos_jupyter.rpc.peer import Stream

_END = object()


async def complete(asked: dict[str, Any], body: bytes, stream: Stream, workspace: Path) -> None:
    """Ask the function. Raises `ModelNotFound` where there is none, `ModelRefused` for what it raises."""
    name = asked["name"]
    function = await asyncio.to_thread(find, name, asked["function"], asked["path"], workspace)
    calls = 0
    try:
        async with aclosing(_pieces(function, json.loads(body), asked["tools"], asked["params"])) as pieces:
            async for piece in pieces:
                for delta in _deltas(name, piece, calls):
                    calls += isinstance(delta, CallPart)
                    stream.send(pack(delta))
    except AgentOSError:
        raise
    except Exception as error:
        said = failures.clean(f"{type(error).__name__}: {error}")
        raise ModelRefused(f"{name} raised {said} ({_line(error)}). Correct the function.") from None
    stream.send(pack(Finish("tool_calls" if calls else "stop")))


def find(name: str, spoken: str, path: list[str], workspace: Path) -> Any:
    """The function itself, out of a module that agents cannot write. Raises `ModelNotFound`."""
    module, _, attribute = spoken.partition(":")
    for folder in path:
        if Path(folder).resolve().is_relative_to(workspace):
            raise ModelNotFound(
                f"python_path: {folder} lies in the workspace, where agents write: move it out of there."
            )
        if folder not in sys.path:
            sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        for each in dict.fromkeys((module.partition(".")[0], module)):  # a package is imported to find a module in it
            spec = importlib.util.find_spec(each)
            if spec is not None and spec.origin and _written(Path(spec.origin), workspace):
                raise ModelNotFound(f"{name}: {spec.origin} lies in the workspace, where agents write: move it out.")
        found = getattr(importlib.import_module(module), attribute)
    except AgentOSError:
        raise
    except BaseException as error:  # whatever a module does when it is imported
        said = failures.clean(f"{type(error).__name__}: {error}")
        raise ModelNotFound(f"{name} cannot be imported ({said}): name its folder under `python_path:`.") from None
    if not callable(found):
        raise ModelNotFound(f"{name} is no function: it is called with the messages, the tools and the parameters.")
    return found


def _written(file: Path, workspace: Path) -> bool:
    """Whether agents may have written a module; the interpreter's own packages count as the person's."""
    inside = file.resolve().is_relative_to(workspace)
    return inside and not file.resolve().is_relative_to(Path(sys.prefix).resolve())


async def _pieces(function: Any, *given: Any) -> AsyncGenerator[Any, None]:
    """What the function says, piece by piece, whichever of its kinds it is; what may block runs in a thread."""
    if inspect.isasyncgenfunction(function):
        async with aclosing(function(*given)) as pieces:
            async for piece in pieces:
                yield piece
        return
    said = function(*given) if inspect.iscoroutinefunction(function) else await asyncio.to_thread(function, *given)
    said = await said if inspect.isawaitable(said) else said
    if not isinstance(said, Iterator):
        yield said
        return
    while (piece := await asyncio.to_thread(next, said, _END)) is not _END:
        yield piece


def _deltas(name: str, piece: Any, calls: int) -> Iterator[Delta]:
    """Text is text; a mapping holds `text` and `calls`. Raises `ModelMalformed`."""
    said = {"text": piece} if isinstance(piece, str) else piece
    asked = said.get("calls", []) if isinstance(said, dict) else None
    if not isinstance(said, dict) or not set(said) <= {"text", "calls"} or not isinstance(asked, list):
        raise _malformed(name, piece)
    text = said.get("text") or ""
    if not isinstance(text, str):
        raise _malformed(name, piece)
    if text:
        yield Text(text)
    for index, call in enumerate(asked, calls):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise _malformed(name, call)
        arguments = call.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        yield CallPart(index, "", call["name"], written)


def _malformed(name: str, said: Any) -> ModelMalformed:
    shape = 'text, or {"text": …, "calls": [{"name": …, "arguments": {…}}]}'
    return ModelMalformed(f"{name} answered with {failures.clean(repr(said))[:100]}, which is not {shape}.", final=True)


def _line(error: BaseException) -> str:
    """Where it was raised, for its author."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "nowhere"
