"""Overhead per turn with a growing history: this project, the floor and mini-swe-agent, one after the other."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.common import Asked, around, private, run, server, table, workspace

AT = (10, 200, 390, 1000)


def agentos(base: Path, asked: Asked, name: str, turns: int) -> dict[str, Any]:
    """One dispatch of `turns` turns; what the driver found."""
    with workspace(base, asked.base_url(name, turns)) as folder:
        found: dict[str, Any] = json.loads(run("-m", "tests.bench.drive", str(folder)))
    assert found["status"] == "ok" and found["turns"] == turns + 1, found
    return found


def floor(asked: Asked, name: str, turns: int) -> None:
    run("-m", "tests.bench.floor", asked.base_url(name, turns))


def mini(asked: Asked, name: str, turns: int) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    script = str(Path(__file__).parent / "mini.py")
    subprocess.run(
        [peers.python(), script, asked.base_url(name, turns), str(turns)],
        check=True,
        env={**environ, "MSWEA_SILENT_STARTUP": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(rounds: int = 3, turns: int = 1000, with_mini: bool = True) -> str:
    """The table: medians over the rounds of medians around each turn."""
    spans: dict[str, list[list[float]]] = {"agentos": [], "floor": [], "mini": []}
    memories: list[dict[str, Any]] = []
    if with_mini:
        peers.python()
    with private() as base, server() as asked:
        for number in range(rounds):
            memories.append(agentos(base, asked, f"agentos{number}", turns))
            spans["agentos"].append(asked.overhead(f"agentos{number}"))
            floor(asked, f"floor{number}", turns)
            spans["floor"].append(asked.overhead(f"floor{number}"))
            if with_mini and number == 0:
                mini(asked, "mini", turns)
                spans["mini"].append(asked.overhead("mini"))
        sizes = [size for _, _, size in asked.times("agentos0")]
    return _tables(spans, memories, sizes, [at for at in AT if at <= turns])


def _tables(
    spans: dict[str, list[list[float]]], memories: list[dict[str, Any]], sizes: list[int], at: list[int]
) -> str:
    figures = {
        name: [statistics.median(around(one, turn) for one in each) if each else None for turn in at]
        for name, each in spans.items()
    }
    ours, bare, peer = figures["agentos"], figures["floor"], figures["mini"]
    rows = [
        ["floor: httpx + `bash -c`, ms", *bare],
        ["mini-swe-agent 2.4, ms", *peer],
        ["**AgentOS**, everything on, ms", *ours],
        ["AgentOS ÷ floor", *(a / b for a, b in zip(ours, bare, strict=True))],
        ["AgentOS ÷ mini-swe-agent", *(a / b if b else None for a, b in zip(ours, peer, strict=True))],
        ["AgentOS, fastest round, ms", *(min(around(one, turn) for one in spans["agentos"]) for turn in at)],
        ["AgentOS, slowest round, ms", *(max(around(one, turn) for one in spans["agentos"]) for turn in at)],
        ["AgentOS, body of the request, kB", *(sizes[turn] / 1000 for turn in at)],
    ]
    daemon = [each["daemon"] for each in memories]
    inside = [each["supervisor"][0] for each in memories if each["supervisor"]]
    service = [each["service"][0] for each in memories if each["service"]]
    memory = [
        [name, *(statistics.median(each[kind] for each in found) if found else None for kind in ("rss", "pss"))]
        for name, found in (
            ("daemon after the work", daemon),
            ("context engine (service)", service),
            ("sandbox supervisor", inside),
        )
    ]
    return "\n".join(
        [
            table("Overhead per turn, history growing", ["", *(f"turn {turn}" for turn in at)], rows),
            table("Memory after these turns", ["", "RSS MB", "PSS MB"], memory),
        ]
    )
