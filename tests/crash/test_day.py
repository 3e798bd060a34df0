"""A part of a day's work: real units in processes of their own, blobs, steering, kills; every fact is there once."""

from __future__ import annotations

import pytest

from tests.bench.common import private, server, workspace
from tests.bench.day import COMMAND, TURNS, live


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_part_of_a_days_work_with_kills_loses_nothing() -> None:
    with (
        private() as base,
        server(COMMAND) as asked,
        workspace(base, asked.base_url("d", f"since{TURNS - 1}")) as folder,
    ):
        day = live(folder, base, 120, seed=1, every=0.2)
    assert day.problems == []
    assert day.kills.total() > 0
    assert day.turns > 100 * TURNS  # a dispatch that a kill cut short is an end, too
    assert day.blobs > 0
