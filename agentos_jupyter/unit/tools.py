"""The tools a unit can run. Now there is one: bash, in the session's sandbox."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from agentos_jupyter.errors import BadArguments, EventRefused
from agentos_jupyter.records import Observation, ToolSpec
from agentos_jupyter.sandbox import Outcome, Sandbox

CHUNK = 2 * 1024 * 1024
"""Bytes of one content.put, as the syscall allows."""

PUT_TRIES = 3

OnOutput = Callable[[bytes], None]


class Stopped(asyncio.CancelledError):
    """A person stopped the tool; `observation` is what it came to until then."""

    def __init__(self, observation: Observation) -> None:
        super().__init__("stopped")
        self.observation = observation


class Tool(Protocol):
    """Something a model may ask for.

    `run` raises `BadArguments` for what the model can correct, and `Stopped` when it is cancelled;
    whatever else goes wrong with the work is its observation.
    """

    @property
    def spec(self) -> ToolSpec: ...

    async def run(self, arguments: Mapping[str, Any], on_output: OnOutput) -> Observation: ...


class Putter(Protocol):
    async def call(self, method: str, params: dict[str, Any] | None = None, on_stream: Any = None) -> Any: ...


BASH = ToolSpec(
    "bash",
    "Run a bash command in the sandbox and read its output (stdout and stderr together). "
    "The working folder, exported variables and functions carry over to the next command.",
    {
        "type": "object",
        "properties": {
            "command": {"type": "string", "description": "The command; several lines are fine."},
            "timeout": {"type": "number", "description": "Seconds after which it is killed."},
        },
        "required": ["command"],
    },
)


class Bash:
    """bash in one sandbox. `fresh` says that an earlier shell's state is gone, which the model is told once."""

    spec = BASH

    def __init__(self, box: Sandbox, link: Putter, seconds: float, fresh: bool) -> None:
        self._box, self._link, self._seconds, self._fresh = box, link, seconds, fresh

    async def run(self, arguments: Mapping[str, Any], on_output: OnOutput) -> Observation:
        """Run `arguments["command"]`, at most `arguments["timeout"]` seconds and never longer than the limit."""
        command, seconds = _checked(arguments, self._seconds)
        running = asyncio.ensure_future(self._box.run(command, timeout=seconds, on_output=on_output))
        try:
            return await self._observed(await asyncio.shield(running))
        except asyncio.CancelledError:
            await self._box.interrupt()
            raise Stopped(await self._observed(await running)) from None

    async def _observed(self, outcome: Outcome) -> Observation:
        notes = [*(["shell state was reset"] if self._fresh else []), *outcome.notes]
        self._fresh = False
        return Observation(
            status=outcome.status,
            text=_text(outcome, notes),
            exit_code=outcome.exit_code,
            seconds=round(outcome.seconds, 4),
            total=outcome.total,
            full=await self._keep(outcome.full) if outcome.full is not None else None,
            notes=notes,
        )

    async def _keep(self, full: Path) -> str:
        """The digest of the whole output, put into the content store in chunks."""
        with await asyncio.to_thread(full.open, "rb") as file:
            digest = await put(self._link, file)
        await asyncio.to_thread(full.unlink, missing_ok=True)
        return digest


async def put(link: Putter, file: BinaryIO) -> str:
    """Put everything in `file` into the content store, in chunks; its digest.

    A daemon that was started anew does not know the chunks it was sent before: then all are sent again.
    """
    for _ in range(PUT_TRIES - 1):
        try:
            return await _put(link, file)
        except EventRefused:
            if file.tell() <= CHUNK:
                raise
            await asyncio.to_thread(file.seek, 0)
    return await _put(link, file)


async def _put(link: Putter, file: BinaryIO) -> str:
    upload, offset = secrets.token_hex(8), 0
    chunk = await asyncio.to_thread(file.read, CHUNK)
    while True:
        following = await asyncio.to_thread(file.read, CHUNK)
        data = base64.b64encode(chunk).decode()
        params = {"upload": upload, "offset": offset, "base64": data, "last": not following}
        digest = (await link.call("content.put", params))["digest"]
        if not following:
            return str(digest)
        offset, chunk = offset + len(chunk), following


def _checked(arguments: Mapping[str, Any], limit: float) -> tuple[str, float]:
    unknown = set(arguments) - {"command", "timeout"}
    command, seconds = arguments.get("command"), arguments.get("timeout", limit)
    if unknown:
        raise BadArguments(f"bash takes command and timeout, not {', '.join(sorted(map(str, unknown)))}.")
    if not isinstance(command, str) or not command.strip():
        raise BadArguments('bash needs "command": a string with the command to run.')
    if "\0" in command:
        raise BadArguments("The command holds a NUL character, which no shell can take: write it without.")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise BadArguments('"timeout" is a number of seconds above 0.')
    return command, min(float(seconds), limit)


def _text(outcome: Outcome, notes: list[str]) -> str:
    """What the model reads: the output, then what it cannot see from it."""
    text = outcome.head_tail.decode("utf-8", "replace").replace("\0", "\ufffd").rstrip("\n")
    endings = {
        "killed": "[killed before it ended; this is the output so far]",
        "failed": f"[exit code {outcome.exit_code}]",
    }
    lines = [text, endings.get(outcome.status, ""), *(f"[{note}]" for note in notes)]
    return "\n".join(line for line in lines if line) or "[no output]"
