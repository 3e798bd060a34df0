"""The first prompt of a notebook: from the moment the cell is sent to the moment the model is asked."""

from __future__ import annotations

import statistics
import time

from agentos_jupyter.cli.stop import stop
from tests.bench.common import private, server, table, workspace
from tests.bench.notebooks import notebook, offer_kernelspec

OPEN_SECONDS = 1.0
"""How long the notebook was open before."""


def measure(times: int = 7) -> str:
    cold: list[float] = []
    warm: list[float] = []
    again: list[float] = []
    with private() as base, server() as asked:
        offer_kernelspec(base)
        for number in range(times):
            with workspace(base, asked.base_url(f"f{number}", "each1")) as folder:
                with notebook("agentos", folder) as opened:
                    time.sleep(OPEN_SECONDS)
                    sent = opened.run("Work.")
                    cold.append(1000 * (asked.times(f"f{number}")[0][0] - sent))
                with notebook("agentos", folder) as opened:
                    time.sleep(OPEN_SECONDS)
                    for found in (warm, again):
                        before = len(asked.times(f"f{number}"))
                        sent = opened.run("Work.")
                        found.append(1000 * (asked.times(f"f{number}")[before][0] - sent))
                stop(folder)
    rows = [
        [name, statistics.median(found), min(found), max(found)]
        for name, found in (
            ("first prompt in a notebook opened 1 s before, no daemon before", cold),
            ("first prompt in a notebook opened 1 s before, daemon running", warm),
            ("its second prompt", again),
        )
    ]
    return table("Time before the model is asked, ms", ["", "median", "fastest", "slowest"], rows)
