"""Overhead per turn through litellm: a provider that takes the messages as they are, and one for which they are rewritten.

python -m tests.bench gateway
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

from tests.bench.common import Asked, around, private, run, server, table, workspace

AT = (10, 200, 390, 1000)
WAYS = ("direct", "litellm:openai", "litellm:anthropic")


def once(base: Path, asked: Asked, way: str, name: str, turns: int) -> dict[str, Any]:
    """One dispatch of `turns` turns; what the driver found."""
    url = asked.base_url(name, turns)
    provider = "anthropic" if way.endswith("anthropic") else "openai"
    with workspace(base) as folder:
        os.environ.update(
            {
                "AGENTOS_MODEL": f"{provider}/bench" if way == "direct" else f"{way}/bench",
                f"{provider.upper()}_BASE_URL": url if provider == "openai" else url.removesuffix("/v1"),
                f"{provider.upper()}_API_KEY": "sk-bench",
            }
        )
        found: dict[str, Any] = json.loads(run("-m", "tests.bench.drive", str(folder)))
    assert found["status"] == "ok" and found["turns"] == turns + 1, found
    return found


def measure(rounds: int = 3, turns: int = 1000) -> str:
    """The table: at each turn, the median over the rounds of their median around it; the ways take turns."""
    spans: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    memories: dict[str, list[float]] = {way: [] for way in WAYS}
    with private() as base, server() as asked:
        for number in range(rounds):
            for way in WAYS:
                name = f"{way.replace(':', '-')}-{number}"
                found = once(base, asked, way, name, turns)
                spans[way].append(asked.overhead(name))
                memories[way] += [each["rss"] for each in found["gateway"]]
    at = [turn for turn in AT if turn <= turns]
    rows = [
        [
            f"{way}, ms",
            *(statistics.median(around(each, turn) for each in spans[way]) for turn in at),
            statistics.median(memories[way]) if memories[way] else None,
        ]
        for way in WAYS
    ]
    return table("Through litellm", ["", *(f"turn {turn}" for turn in at), "gateway RSS MB"], rows)
