"""A command in the warm sandbox over a raw `bash -c`, alternating, both spawned and read from one event loop's process."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from agentos_jupyter.sandbox import Limits, Sandbox, probe
from tests.bench.common import COMMAND, private, table

MIB = 1 << 20
LIMITS = Limits(
    wall=120,
    cpu=300,
    processes=256,
    open_files=1024,
    memory=2048 * MIB,
    file_size=2048 * MIB,
    tmp=512 * MIB,
    shm=64 * MIB,
    output=32 << 10,
    full=16 * MIB,
    flood=1024 * MIB,
)


async def _alternate(root: Path, times: int) -> tuple[list[float], list[float], float]:
    inside: list[float] = []
    raw: list[float] = []
    started = time.perf_counter()
    async with Sandbox(root, await probe(), LIMITS) as box:
        await box.run("export A=1; f() { echo f; }")
        first = 1000 * (time.perf_counter() - started)
        for _ in range(times):
            began = time.perf_counter()
            await box.run(COMMAND)
            inside.append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            subprocess.run(["bash", "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: ASYNC221
            raw.append(1000 * (time.perf_counter() - began))
    return inside, raw, first


def measure(times: int = 300) -> str:
    with private(), tempfile.TemporaryDirectory(prefix="aosb-") as root:
        inside, raw, first = asyncio.run(_alternate(Path(root), times))
    over = statistics.median(a - b for a, b in zip(inside, raw, strict=True))
    quartiles = [statistics.quantiles(each, n=4)[0] for each in (inside, raw)]
    rows = [
        ["raw `bash -c`", statistics.median(raw), quartiles[1]],
        ["in the warm sandbox, state carried", statistics.median(inside), quartiles[0]],
        ["**over raw**", over, quartiles[0] - quartiles[1]],
        ["first command: probe, start, run", first, None],
    ]
    return table("Sandboxed command, ms", ["", "median", "lower quartile"], rows)
