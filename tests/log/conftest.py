"""A state folder and an open log in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentos_jupyter.log import Log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".agentos"


@pytest.fixture
async def log(folder: Path) -> AsyncIterator[Log]:
    async with await Log.open(folder) as opened:
        yield opened
