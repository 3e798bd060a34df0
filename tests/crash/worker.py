"""A unit in a process of its own: it runs one dispatch, or goes on with one, and writes down each fact it was told."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from agentos_jupyter.rpc.link import Link
from agentos_jupyter.unit import Unit


class Told:
    """An observer that writes each fact, before it returns, into a file."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def replied(self, reply: Any) -> None:
        self._write("assistant.message", str(reply.turn), reply.text)

    def result(self, judged: Any, observation: Any) -> None:
        self._write("tool.result", judged.call.id, observation.text)

    def _write(self, *fact: str) -> None:
        os.write(self._file, json.dumps(fact).encode() + b"\n")

    def __getattr__(self, name: str) -> Any:
        return lambda *what: None


async def main(workspace: str, session: str, dispatch: str, told: str) -> None:
    link = await Link.open(Path(workspace))
    unit = Unit(link, Told(Path(told)), {"name": "worker", "pid": os.getpid()})  # type: ignore[arg-type]
    outcome = await (unit.resume(session, dispatch) if dispatch else unit.prompt(session, "go"))
    print(json.dumps({"info": dict(outcome.info), "error": outcome.error and outcome.error.message}))
    await unit.aclose()
    await link.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
