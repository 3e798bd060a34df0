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
SHORT = 30


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


def measure(long: int = 3, short: int = 6, turns: int = 1000) -> str:
    """The table: at each turn, the median over the runs that came so far of their median around it.

    `short` rounds of 30 turns alternate all three, so that turn 10 is compared under the same noise; then `long` rounds
    of `turns` turns, of which mini-swe-agent, being slow, takes part in the first.
    """
    spans: dict[str, list[list[float]]] = {"agentos": [], "floor": [], "mini": []}
    memories: list[dict[str, Any]] = []
    peers.python()
    with private() as base, server() as asked:
        for number in range(short + long):
            length = SHORT if number < short else turns
            found = agentos(base, asked, f"agentos{number}", length)
            floor(asked, f"floor{number}", length)
            if number <= short:
                mini(asked, f"mini{number}", length)
                spans["mini"].append(asked.overhead(f"mini{number}"))
            if number >= short:
                memories.append(found)
            for name in ("agentos", "floor"):
                spans[name].append(asked.overhead(f"{name}{number}"))
        sizes = [size for _, _, size in asked.times(f"agentos{short}")]
    return _tables(spans, memories, sizes, [at for at in AT if at <= turns])


def _runs(runs: list[list[float]], turn: int) -> list[float]:
    """The median around a turn in each run that came so far."""
    return [around(run, turn) for run in runs if len(run) >= turn]


def _tables(
    spans: dict[str, list[list[float]]], memories: list[dict[str, Any]], sizes: list[int], at: list[int]
) -> str:
    figures = {name: [statistics.median(_runs(each, turn)) for turn in at] for name, each in spans.items()}
    ours, bare, peer = figures["agentos"], figures["floor"], figures["mini"]
    rows = [
        ["floor: httpx + `bash -c`, ms", *bare],
        ["mini-swe-agent 2.4, ms", *peer],
        ["**AgentOS**, everything on, ms", *ours],
        ["AgentOS ÷ floor", *(a / b for a, b in zip(ours, bare, strict=True))],
        ["AgentOS ÷ mini-swe-agent", *(a / b for a, b in zip(ours, peer, strict=True))],
        ["mini-swe-agent, fastest run, ms", *(min(_runs(spans["mini"], turn)) for turn in at)],
        ["AgentOS, fastest run, ms", *(min(_runs(spans["agentos"], turn)) for turn in at)],
        ["AgentOS, slowest run, ms", *(max(_runs(spans["agentos"], turn)) for turn in at)],
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
