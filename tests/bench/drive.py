"""A real unit over the socket to the real daemon: one prompt, as a notebook kernel would dispatch it, with nothing shown.

python -m tests.bench.drive WORKSPACE       # prints a JSON object: the daemon's process, and memory of all
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from agentos_jupyter.rpc.link import Link
from agentos_jupyter.unit import Unit
from tests.bench.common import children, memory


class Silent:
    """An observer that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def _is_gateway(pid: int) -> bool:
    return b"gateway.child" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def main(workspace: Path) -> None:
    link = await Link.open(workspace)
    session = await link.client.session.create(key=secrets.token_hex(8))
    unit = Unit(link, Silent(), {"name": "bench"})
    outcome = await unit.prompt(session["id"], "Work.")
    pid = link.info["pid"]
    found = {"status": outcome.info["status"], "turns": outcome.info["turns"], "daemon": memory(pid)}
    found["gateway"] = [memory(each) for each in children(pid) if _is_gateway(each)]
    found["service"] = [memory(each) for each in children(pid) if not _is_gateway(each)]
    found["supervisor"] = [memory(inner) for bwrap in children(os.getpid()) for inner in children(bwrap)]
    print(json.dumps(found))
    await unit.aclose()
    await link.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
