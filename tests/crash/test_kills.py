"""`kill -9` of the daemon at random instants under load: nothing acknowledged is lost, doubled or torn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.common import server
from tests.bench.kills import kill_at_random


async def _kills(workspace: Path, configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    configure(limits={"turns": "100k", "window": "10M", "tokens": "100000M"})
    with server() as asked:
        monkeypatch.setenv("AGENTOS_MODEL", "openai/bench")
        monkeypatch.setenv("OPENAI_BASE_URL", asked.base_url("kills", 1 << 30))
        found = await kill_at_random(workspace, times, seed=times)
    assert found.sentences == []
    assert found.errors == []
    assert found.told > 10 * times


async def test_five_kills_of_the_daemon_lose_nothing(
    workspace: Path, configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _kills(workspace, configure, monkeypatch, 5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_fifty_five_kills_of_the_daemon_lose_nothing(
    workspace: Path, configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _kills(workspace, configure, monkeypatch, 55)
