"""A real sandbox on a folder of the test's own, with small limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentos_jupyter.sandbox import Limits, Sandbox, Tier, probe

MIB = 1 << 20


@pytest.fixture
def limits() -> Limits:
    return Limits(
        wall=20,
        cpu=30,
        processes=64,
        open_files=256,
        memory=256 * MIB,
        file_size=16 * MIB,
        tmp=8 * MIB,
        shm=4 * MIB,
        output=4096,
        full=1 * MIB,
        flood=1 << 40,
    )


@pytest.fixture
async def tier() -> Tier:
    found = await probe(allow_contained=False)
    if found.name != "namespaces":
        pytest.skip(f"no sandbox on this machine: {found.reason} {found.cure}")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
async def box(root: Path, tier: Tier, limits: Limits) -> AsyncIterator[Sandbox]:
    async with Sandbox(root, tier, limits) as sandbox:
        yield sandbox
