"""The package as another version: the same code, which says that it is older or newer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import agentos_jupyter
from agentos_jupyter import __version__

PACKAGE = Path(agentos_jupyter.__file__).parent
CALL = """
import sys, json
from agentos_jupyter.rpc.sync import SyncLink
from agentos_jupyter.errors import AgentOSError
try:
    with SyncLink() as link:
        print(json.dumps(link.call("system.info")))
except AgentOSError as error:
    print(json.dumps({"error": error.message}))
"""
HOLD = """
import asyncio, secrets, sys
from pathlib import Path
from agentos_jupyter.rpc.link import Link
async def main():
    link = await Link.open(Path(sys.argv[1]))
    session = (await link.call("session.create", {"key": secrets.token_hex(8)}))["id"]
    await link.call("dispatch.begin", {"session": session, "prompt": "work", "key": secrets.token_hex(8)})
    print("held", flush=True)
    await asyncio.sleep(30)
asyncio.run(main())
"""

Other = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def other(tmp_path: Path, workspace: Path) -> Other:
    """Runs Python with the package as another version: the same code, which says that it is older or newer."""

    def run(code: str, version: str, protocol: int | None = None) -> subprocess.Popen[str]:
        folder = tmp_path / version
        if not folder.exists():
            shutil.copytree(PACKAGE, folder / "agentos_jupyter", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copytree(PACKAGE.parent / "skills", folder / "skills")
            start = folder / "agentos_jupyter" / "__init__.py"
            start.write_text(start.read_text().replace(f'"{__version__}"', f'"{version}"'))
            if protocol is not None:
                wire = folder / "agentos_jupyter" / "rpc" / "wire.py"
                wire.write_text(
                    re.sub(r"^PROTOCOL = \d+", f"PROTOCOL = {protocol}", wire.read_text(), flags=re.MULTILINE)
                )
        environ = {**os.environ, "PYTHONPATH": str(folder), "AGENTOS_WORKSPACE": str(workspace)}
        return subprocess.Popen(
            [sys.executable, "-c", code, str(workspace)], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )

    return run
